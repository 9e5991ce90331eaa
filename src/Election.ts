/**
 * Elections: one leader at a time among all who campaign under a name, and everybody may watch who it is.
 *
 * An election is a queue of keys under `/elections/<name>/`; whoever's key was created first leads, the value of that key
 * is what the leader proclaims, and the others follow in the order of their arrival. The layout and the algorithm are those
 * of etcd's Go recipe (`concurrency.Election`), so programs in Go and `etcdctl elect` stand in the same elections.
 *
 * A leader can lose its term while it works, as the holder of a lock can. It knows of that before etcd gives the term to
 * somebody else, the work is interrupted, and a `guard` has etcd itself refuse the writes of a leader that is late.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { EtcdClient } from "./EtcdClient.js"
import type { EtcdError, InvalidArgument } from "./EtcdError.js"
import * as Candidate from "./internal/election/candidate.js"
import * as Leaders from "./internal/election/leaders.js"
import * as Leaderships from "./internal/election/leadership.js"
import * as Leading from "./internal/election/leading.js"
import * as Holding from "./internal/lock/holding.js"
import * as Recipe from "./internal/lock/recipe.js"
import * as Stay from "./internal/lock/stay.js"
import { traced } from "./internal/traced.js"
import * as validate from "./internal/validate.js"
import * as Key from "./Key.js"
import type { Guard } from "./Lock.js"
import type { LockExpired, LockNotHeld, LockTimeout } from "./LockError.js"
import { Sessions } from "./Session.js"

/**
 * @since 0.1.0
 * @category options
 */
export interface CandidateOptions {
  /** What is proclaimed from the first moment of the term on, such as the leader's address. Default: nothing. */
  readonly value?: string | undefined
  /**
   * How long a leader that dies or loses etcd stays the leader; renewed automatically while it lives. Above zero; rounded
   * up to seconds, and raised by etcd to 2 or more. Default 30 seconds.
   */
  readonly ttl?: Duration.DurationInput | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface CampaignOptions extends CandidateOptions {
  /** How long to wait for the leadership. Default: as long as it takes. */
  readonly timeout?: Duration.DurationInput | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface WithLeadershipOptions extends CandidateOptions {
  /**
   * When to campaign again after the leadership was lost, or while etcd cannot be reached. It starts over with every term.
   * When it ends, what was the matter last is the failure; `Schedule.stop` campaigns once. Default: for ever, after 100
   * milliseconds at first and 5 seconds in the end, with jitter.
   */
  readonly retry?: Schedule.Schedule<unknown, LockExpired | EtcdError> | undefined
  /**
   * What happens when the leadership is lost while the body is in an uninterruptible region. `"wait"` (the default): the
   * body is waited for, so that it does not overlap with the next one in this process. `"abandon"`: this goes on (and
   * campaigns again) at once, and the body runs on alone until it can be interrupted.
   */
  readonly onLost?: "wait" | "abandon" | undefined
}

/**
 * A term of leadership that is held.
 *
 * @since 0.1.0
 * @category models
 */
export interface Leadership {
  /** The name of the election. */
  readonly name: string
  /** The key that stands for this leader in etcd. */
  readonly etcdKey: string
  /** The fencing token: grows with every leader. Hand it to what the leader writes to, to be compared there. */
  readonly term: bigint
  /** How long the lease still lasts if it is not renewed, as etcd says. */
  readonly ttl: Effect.Effect<Duration.Duration, LockExpired | EtcdError>
  /** Renews the lease now (it is renewed in the background anyway); returns its time to live. */
  readonly renew: Effect.Effect<Duration.Duration, LockExpired | EtcdError>
  /** Whether the leadership is lost or resigned, as etcd says. */
  readonly isExpired: Effect.Effect<boolean, EtcdError>
  /** Fails when the leadership is lost, before etcd can give it to somebody else. Never succeeds. */
  readonly lost: Effect.Effect<never, LockExpired>
  /** "Only if this leadership is still held": a condition for any transaction, checked by etcd itself. */
  readonly guard: Guard
  /**
   * Tells observers another value. Several at once are told in the order of the calls, and none after a later one. Fails
   * with `LockExpired` when the leadership is lost, as etcd itself says, or was resigned. An `EtcdError` may leave the value
   * told or not; it is safe to repeat.
   */
  readonly proclaim: (value: string) => Effect.Effect<void, LockExpired | InvalidArgument | EtcdError>
  /** Gives the leadership up before its scope closes. Fails when it is not held any more, so when called twice. */
  readonly resign: Effect.Effect<void, LockNotHeld>
}

/**
 * Somebody who leads, as others see it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Leader {
  /** The name of the election. */
  readonly name: string
  /** What the leader proclaimed last. */
  readonly value: string
  /** The key that stands for the leader in etcd. */
  readonly etcdKey: string
  /** Grows with every leader. */
  readonly term: bigint
  /** Grows with every value that is proclaimed; equal to `term` for the one that the leader came with. */
  readonly modRevision: bigint
}

/**
 * What a leader does: an effect, or one that is made from the leadership.
 *
 * @since 0.1.0
 * @category models
 */
export type Body<A, E, R> = Effect.Effect<A, E, R> | ((leadership: Leadership) => Effect.Effect<A, E, R>)

/**
 * @since 0.1.0
 * @category tags
 */
export class Election extends Context.Tag("effect-coord/Election")<Election, {
  /**
   * Waits for the leadership, in the order of arrival, and leads until the scope closes. Interruption, a timeout or a
   * failure take the candidate out of the election.
   */
  readonly campaign: (
    name: string,
    options?: CampaignOptions
  ) => Effect.Effect<Leadership, LockTimeout | InvalidArgument | EtcdError, Scope.Scope>
  /**
   * Runs the body while leading, and returns what it returns. When the leadership is lost the body is interrupted, and
   * this campaigns again and runs it once more, as often as that happens; an etcd that cannot be reached is waited for
   * (see `retry`).
   *
   * A body that fails ends all, unless it fails with the loss itself (`LockExpired` of this term, as of a write under its
   * `guard`). What the body returns after the loss is dropped, and it is run again. So it may run more than once, and must
   * be written for that. Whatever ends it, the leadership is given up.
   */
  readonly withLeadership: (
    name: string,
    options?: WithLeadershipOptions
  ) => <A, E, R>(body: Body<A, E, R>) => Effect.Effect<A, E | LockExpired | InvalidArgument | EtcdError, R>
  /** Who leads now, by a quorum read. A leader that died is seen until its time to live is over. */
  readonly leader: (name: string) => Effect.Effect<Option.Option<Leader>, InvalidArgument | EtcdError>
  /**
   * The present leader (none, if there is none), then every other one, and every value that one proclaims, in order.
   *
   * The stream goes on through outages and restarts of etcd, and a slow reader misses nothing: it reads on from etcd's
   * history. Only what was compacted away before it was read is left out, and what an etcd that lost its data has
   * forgotten; what is there then comes next. While etcd cannot be reached nothing comes, so the last leader may be gone.
   */
  readonly observe: (name: string) => Stream.Stream<Option.Option<Leader>, InvalidArgument | EtcdError>
}>() {}

/**
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** Where elections stand in etcd. Default `/elections`. */
  readonly prefix?: string | undefined
}

const defaultTtl = Duration.seconds(30)

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<Election["Type"], InvalidArgument, EtcdClient | Sessions | Scope.Scope> =>
  Effect.gen(function*() {
    if (!validate.isOptions(options)) return yield* validate.noOptions(options)
    const client = yield* EtcdClient
    const sessions = yield* Sessions
    const scope = yield* Effect.scope
    const prefix = yield* validate.keyPrefix("prefix", options.prefix ?? "/elections")
    const holding = Holding.make(client, Candidate.kind)
    const stay = yield* Stay.make(client, sessions, Candidate.kind, Recipe.lock)

    const folderOf = (name: string): string => `${prefix}/${name}/`

    const placeOf = (name: string, { ttl = defaultTtl, value = "" }: CandidateOptions): Stay.Place => ({
      key: name,
      folder: folderOf(name),
      value: () => value,
      ttl: Duration.decode(ttl)
    })

    return {
      campaign: (name, options = {}) =>
        Effect.suspend(() => {
          const problem = Candidate.badInput(name, options)
          if (problem !== undefined) return Effect.fail(problem)
          const timeout = options.timeout === undefined ? undefined : Duration.decode(options.timeout)
          return Effect.map(
            holding.scoped("Election.campaign", name, stay.wait(placeOf(name, options), timeout)),
            (held) => Leaderships.make(client, name, held)
          )
        }),
      withLeadership: (name, options = {}) => (body) =>
        Effect.suspend(() => {
          const problem = Candidate.badInput(name, options) ?? Candidate.badRetry(options.retry)
          if (problem !== undefined) return Effect.fail(problem)
          const win = stay.wait(placeOf(name, options), undefined)
          return Leading.lead(client, holding, name, win, body, options)
        }),
      leader: (name) =>
        Effect.zipRight(
          Key.validate("name", name),
          Effect.withFiberRuntime<Option.Option<Leader>, EtcdError>((fiber) =>
            traced(fiber, "Election.leader", { "lock.key": name }, Leaders.find(client, name, folderOf(name)))
          )
        ),
      observe: (name) =>
        Stream.unwrap(Effect.map(Key.validate("name", name), () => Leaders.follow(name, folderOf(name), scope))).pipe(
          Stream.provideService(EtcdClient, client)
        )
    }
  })

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<Election, InvalidArgument, EtcdClient | Sessions> =>
  Layer.scoped(Election, make(options))

/**
 * Waits for the leadership and leads until the scope closes. See {@link Election}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const campaign = (
  name: string,
  options?: CampaignOptions
): Effect.Effect<Leadership, LockTimeout | InvalidArgument | EtcdError, Election | Scope.Scope> =>
  Effect.flatMap(Election, (election) => election.campaign(name, options))

/**
 * Runs the body while leading; interrupts it when the leadership is lost, campaigns again, and runs it once more. See
 * {@link Election}.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Election } from "effect-coord"
 *
 * const scheduler = Election.withLeadership("scheduler", { ttl: "10 seconds", value: "10.0.0.7:8080" })((leadership) =>
 *   Effect.zipRight(
 *     Effect.log(`leading term ${leadership.term}`),
 *     Effect.never
 *   )
 * )
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const withLeadership = (
  name: string,
  options?: WithLeadershipOptions
) =>
<A, E, R>(
  body: Body<A, E, R>
): Effect.Effect<A, E | LockExpired | InvalidArgument | EtcdError, R | Election> =>
  Effect.flatMap(Election, (election) => election.withLeadership(name, options)(body))

/**
 * Who leads now, by a quorum read. See {@link Election}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const leader = (name: string): Effect.Effect<Option.Option<Leader>, InvalidArgument | EtcdError, Election> =>
  Effect.flatMap(Election, (election) => election.leader(name))

/**
 * The present leader, then every other one, and every value that one proclaims. See {@link Election}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const observe = (
  name: string
): Stream.Stream<Option.Option<Leader>, InvalidArgument | EtcdError, Election> =>
  Stream.unwrap(Effect.map(Election, (election) => election.observe(name)))
