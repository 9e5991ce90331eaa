/**
 * Distributed semaphores: so many permits among all processes, handed out in the order of arrival.
 *
 * A semaphore is a queue of keys under `/semaphores/<name>/`; those hold who are first in it and whose permits together are
 * within the limit. Several permits are taken at once or not at all, and whoever wants many is not overtaken by those who
 * want few: so nobody starves, and nobody waits with some permits for others.
 *
 * There is nothing to set up: the limit is said by everybody who uses the semaphore, and stands in every entry. As long as
 * somebody is in the queue, who says something else is refused. As with locks, a lease can be lost while work goes on; the
 * holder hears of that before etcd hands its permits to somebody else, and its `guard` has etcd refuse late writes.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { EtcdClient } from "./EtcdClient.js"
import type { EtcdError } from "./EtcdError.js"
import { InvalidArgument } from "./EtcdError.js"
import { toText } from "./internal/bytes.js"
import { aroundIfAvailable } from "./internal/lock/available.js"
import type { Win } from "./internal/lock/holding.js"
import * as Holding from "./internal/lock/holding.js"
import { badInput, onLostOf } from "./internal/lock/input.js"
import * as Permits from "./internal/lock/permits.js"
import * as QueueState from "./internal/lock/queueState.js"
import * as Stay from "./internal/lock/stay.js"
import * as Owner from "./internal/owner.js"
import { traced } from "./internal/traced.js"
import * as validate from "./internal/validate.js"
import * as Key from "./Key.js"
import type { Body, LockEntry, LockHandle, WithLockOptions } from "./Lock.js"
import type { LockConflict, LockExpired, LockTimeout } from "./LockError.js"
import { Sessions } from "./Session.js"
import type { KeyValue } from "./Txn.js"

/**
 * Others use the semaphore with another limit. All who use it at the same time have to say the same: a limit can be changed
 * when nobody holds permits or waits for them.
 *
 * @since 0.1.0
 * @category errors
 */
export class SemaphoreLimitMismatch extends Schema.TaggedError<SemaphoreLimitMismatch>(
  "effect-coord/SemaphoreLimitMismatch"
)("SemaphoreLimitMismatch", {
  /** The name of the semaphore. */
  key: Schema.String,
  /** What was asked for. */
  limit: Schema.Number,
  /** What the others say. */
  limitInUse: Schema.Number,
  /** The key in etcd of the first of them. */
  holder: Schema.String
}) {
  override get message(): string {
    return `the semaphore ${
      JSON.stringify(this.key)
    } has a limit of ${this.limitInUse}, as the entry ${this.holder} says, not of ${this.limit}`
  }
}

/**
 * @since 0.1.0
 * @category options
 */
export interface SemaphoreOptions {
  /** How many permits there are, the same for all who use the semaphore. A whole number above zero. */
  readonly limit: number
  /** How many of them to take, at once. A whole number above zero, and within the limit. Default 1. */
  readonly permits?: number | undefined
  /**
   * How long the permits outlive a holder that dies or loses etcd; renewed automatically while the holder lives. Above
   * zero; rounded up to seconds, and raised by etcd to 2 or more. Default 30 seconds.
   */
  readonly ttl?: Duration.DurationInput | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface AcquireOptions extends SemaphoreOptions {
  /** How long to wait for the permits. Default: as long as it takes. */
  readonly timeout?: Duration.DurationInput | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface WithPermitsOptions extends AcquireOptions, Pick<WithLockOptions, "onLost"> {}

/**
 * Somebody in the queue of a semaphore.
 *
 * @since 0.1.0
 * @category models
 */
export interface SemaphoreEntry extends LockEntry {
  /** How many permits it takes, of how many; none for an entry that cannot be read, which takes all. */
  readonly permits: Option.Option<{ readonly permits: number; readonly limit: number }>
}

/**
 * The queue of a semaphore.
 *
 * @since 0.1.0
 * @category models
 */
export interface SemaphoreState {
  readonly holders: ReadonlyArray<SemaphoreEntry>
  /** In the order in which they will get their permits. */
  readonly waiters: ReadonlyArray<SemaphoreEntry>
}

type AcquireError = LockTimeout | SemaphoreLimitMismatch | InvalidArgument | EtcdError
type TryError = LockConflict | SemaphoreLimitMismatch | InvalidArgument | EtcdError

/**
 * The handles are those of locks: with a fencing token that grows with everybody who enters the queue, a `guard` that holds
 * while the permits are held, and the signal of their loss.
 *
 * @since 0.1.0
 * @category tags
 */
export class Semaphore extends Context.Tag("effect-coord/Semaphore")<Semaphore, {
  /**
   * Waits for the permits, in the order of arrival, and holds them until the scope closes. Interruption, a timeout or a
   * failure take the waiter out of the queue.
   *
   * Fails with `SemaphoreLimitMismatch` when others who hold or wait say another limit.
   */
  readonly acquire: (
    name: string,
    options: AcquireOptions
  ) => Effect.Effect<LockHandle, AcquireError, Scope.Scope>
  /** Takes the permits if so many are free and nobody waits. */
  readonly tryAcquire: (
    name: string,
    options: SemaphoreOptions
  ) => Effect.Effect<LockHandle, TryError, Scope.Scope>
  /**
   * Runs the body while holding the permits. When they are lost the body is interrupted, and the result is `LockExpired`.
   */
  readonly withPermits: (
    name: string,
    options: WithPermitsOptions
  ) => <A, E, R>(body: Body<A, E, R>) => Effect.Effect<A, E | LockExpired | AcquireError, R>
  /** Runs the body if the permits are free; none if they are taken. */
  readonly withPermitsIfAvailable: (
    name: string,
    options: Omit<WithPermitsOptions, "timeout">
  ) => <A, E, R>(
    body: Body<A, E, R>
  ) => Effect.Effect<Option.Option<A>, E | LockExpired | Exclude<TryError, LockConflict>, R>
  /** Who holds permits, and who waits for them. */
  readonly inspect: (name: string) => Effect.Effect<SemaphoreState, InvalidArgument | EtcdError>
}>() {}

/**
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** Where semaphores stand in etcd. Default `/semaphores`. */
  readonly prefix?: string | undefined
  /** What `inspect` shows as the name of this program. Default: the name of the script. */
  readonly name?: string | undefined
}

const kind = "semaphore"

const defaultTtl = Duration.seconds(30)

const badCount = (argument: string, count: number, limit: number): InvalidArgument | undefined => {
  const problem = !(Number.isSafeInteger(count) && count > 0)
    ? "must be a whole number above zero"
    : count > limit
    ? `must not be above the limit of ${limit}`
    : undefined
  return problem === undefined ? undefined : new InvalidArgument({ argument, value: validate.render(count), problem })
}

const entryOf = (kv: KeyValue): SemaphoreEntry => ({ ...QueueState.entryOf(kv), permits: Permits.parse(kv.value) })

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<Semaphore["Type"], InvalidArgument, EtcdClient | Sessions | Scope.Scope> =>
  Effect.gen(function*() {
    if (!validate.isOptions(options)) return yield* validate.noOptions(options)
    const client = yield* EtcdClient
    const sessions = yield* Sessions
    const prefix = yield* validate.keyPrefix("prefix", options.prefix ?? "/semaphores")
    const valueFor = yield* Owner.values(options.name)
    const holding = Holding.make(client, kind)
    const stay = yield* Stay.make(client, sessions, kind, Permits.semaphore)

    const folderOf = (name: string): string => `${prefix}/${name}/`

    const placeOf = (
      key: string,
      options: AcquireOptions
    ): Either.Either<Stay.Place<SemaphoreLimitMismatch>, InvalidArgument> => {
      const bad = badInput("name", key, options)
      if (bad !== undefined) return Either.left(bad)
      const { limit, permits = 1, ttl = defaultTtl } = options
      const problem = badCount("limit", limit, Infinity) ?? badCount("permits", permits, limit)
      if (problem !== undefined) return Either.left(problem)
      const says = Permits.encode({ permits, limit })
      return Either.right({
        key,
        folder: folderOf(key),
        value: () => valueFor(says),
        ttl: Duration.decode(ttl),
        objection: (first) => {
          const other = Option.getOrUndefined(Permits.parse(first.value))
          return other === undefined || other.limit === limit
            ? undefined
            : new SemaphoreLimitMismatch({ key, limit, limitInUse: other.limit, holder: toText(first.key) })
        }
      })
    }

    const winning = (name: string, options: AcquireOptions): Win<AcquireError> =>
      Either.match(placeOf(name, options), {
        onLeft: (problem): Win<AcquireError> => Holding.failing(problem),
        onRight: (place) =>
          stay.wait(place, options.timeout === undefined ? undefined : Duration.decode(options.timeout))
      })

    const trying = (name: string, options: SemaphoreOptions): Win<TryError> =>
      Either.match(placeOf(name, options), {
        onLeft: (problem): Win<TryError> => Holding.failing(problem),
        onRight: stay.attempt
      })

    const inspect: Semaphore["Type"]["inspect"] = (name) =>
      Effect.withFiberRuntime((fiber) =>
        Key.validate("name", name).pipe(
          Effect.flatMap(() => QueueState.read(client, folderOf(name), Permits.semaphore, entryOf)),
          (effect) => traced(fiber, "Semaphore.inspect", { "semaphore.name": name }, effect)
        )
      )

    return {
      acquire: (name, options) => holding.scoped("Semaphore.acquire", name, winning(name, options)),
      tryAcquire: (name, options) => holding.scoped("Semaphore.tryAcquire", name, trying(name, options)),
      withPermits: (name, options) => (body) =>
        holding.around("Semaphore.acquire", name, winning(name, options), body, onLostOf(options)),
      withPermitsIfAvailable: (name, options) => (body) =>
        aroundIfAvailable(holding, "Semaphore.tryAcquire", name, trying(name, options), body, onLostOf(options)),
      inspect
    }
  })

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<Semaphore, InvalidArgument, EtcdClient | Sessions> =>
  Layer.scoped(Semaphore, make(options))

/**
 * Waits for permits and holds them until the scope closes. See {@link Semaphore}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const acquire = (
  name: string,
  options: AcquireOptions
): Effect.Effect<LockHandle, AcquireError, Semaphore | Scope.Scope> =>
  Effect.flatMap(Semaphore, (semaphore) => semaphore.acquire(name, options))

/**
 * Takes permits if they are free. See {@link Semaphore}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const tryAcquire = (
  name: string,
  options: SemaphoreOptions
): Effect.Effect<LockHandle, TryError, Semaphore | Scope.Scope> =>
  Effect.flatMap(Semaphore, (semaphore) => semaphore.tryAcquire(name, options))

/**
 * Runs the body while holding permits, and interrupts it when they are lost. See {@link Semaphore}.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Semaphore } from "effect-coord"
 *
 * // At most five exports at a time, whatever the number of processes; a full one counts for three.
 * const smallExport = Effect.log("exporting").pipe(Semaphore.withPermits("exports", { limit: 5 }))
 * const fullExport = Effect.log("exporting").pipe(Semaphore.withPermits("exports", { limit: 5, permits: 3 }))
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const withPermits = (
  name: string,
  options: WithPermitsOptions
) =>
<A, E, R>(body: Body<A, E, R>): Effect.Effect<A, E | LockExpired | AcquireError, R | Semaphore> =>
  Effect.flatMap(Semaphore, (semaphore) => semaphore.withPermits(name, options)(body))

/**
 * Runs the body if permits are free. See {@link Semaphore}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const withPermitsIfAvailable = (
  name: string,
  options: Omit<WithPermitsOptions, "timeout">
) =>
<A, E, R>(
  body: Body<A, E, R>
): Effect.Effect<Option.Option<A>, E | LockExpired | Exclude<TryError, LockConflict>, R | Semaphore> =>
  Effect.flatMap(Semaphore, (semaphore) => semaphore.withPermitsIfAvailable(name, options)(body))

/**
 * Who holds permits, and who waits. See {@link Semaphore}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const inspect = (name: string): Effect.Effect<SemaphoreState, InvalidArgument | EtcdError, Semaphore> =>
  Effect.flatMap(Semaphore, (semaphore) => semaphore.inspect(name))
