/**
 * Distributed locks: fair, fenced, and honest about the moment a lease is lost.
 *
 * A lock is a queue of keys under `/locks/<key>/`; whoever's key was created first holds it, and everybody else waits for
 * the one before. The layout and the algorithm are those of etcd's Go recipe (`concurrency.Mutex`), so programs in Go and
 * `etcdctl lock` exclude us and are excluded by us.
 *
 * A lease can be lost while work goes on, and no lock can prevent that. What this one does: it knows of the loss before
 * etcd gives the lock to somebody else, interrupts the work, and offers a `guard` with which etcd itself refuses the writes
 * of a holder that is late. Not re-entrant: acquiring a lock that one holds waits for oneself.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { EtcdClient } from "./EtcdClient.js"
import type { EtcdError, InvalidArgument } from "./EtcdError.js"
import { toText } from "./internal/bytes.js"
import type { Held, Won } from "./internal/lock/handle.js"
import * as Handle from "./internal/lock/handle.js"
import type { Win } from "./internal/lock/holding.js"
import * as Holding from "./internal/lock/holding.js"
import * as LockQueue from "./internal/lock/queue.js"
import type { Obligations } from "./internal/obligations.js"
import * as Owner from "./internal/owner.js"
import { traced } from "./internal/traced.js"
import * as validate from "./internal/validate.js"
import * as Key from "./Key.js"
import type { LockExpired, LockNotHeld } from "./LockError.js"
import { LockConflict, LockTimeout } from "./LockError.js"
import type { SessionExpired } from "./Session.js"
import { Sessions } from "./Session.js"
import type { Compare, KeyValue } from "./Txn.js"

export {
  /**
   * @since 0.1.0
   * @category errors
   */
  LockConflict,
  /**
   * @since 0.1.0
   * @category errors
   */
  LockExpired,
  /**
   * @since 0.1.0
   * @category errors
   */
  LockNotHeld,
  /**
   * @since 0.1.0
   * @category errors
   */
  LockTimeout
} from "./LockError.js"

/**
 * @since 0.1.0
 * @category options
 */
export interface LockOptions {
  /**
   * How long the lock outlives a holder that dies or loses etcd; renewed automatically while the holder lives. Above zero;
   * rounded up to seconds, and raised by etcd to 2 or more. Default 30 seconds.
   */
  readonly ttl?: Duration.DurationInput | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface AcquireOptions extends LockOptions {
  /** How long to wait for the lock. Default: as long as it takes. */
  readonly timeout?: Duration.DurationInput | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface WithLockOptions extends AcquireOptions {
  /**
   * What happens when the lock is lost while the body is in an uninterruptible region. `"wait"` (the default): the body is
   * waited for, so that it does not overlap with the next holder in this process. `"abandon"`: the failure is reported at
   * once, and the body runs on alone until it can be interrupted.
   */
  readonly onLost?: "wait" | "abandon" | undefined
}

/**
 * A lock that is held.
 *
 * @since 0.1.0
 * @category models
 */
export interface LockHandle {
  readonly key: string
  /** The key that stands for this holder in etcd. */
  readonly etcdKey: string
  /** Grows with every holder of the lock. Hand it to what the lock protects, to be compared there. */
  readonly fencingToken: bigint
  /** How long the lease still lasts if it is not renewed, as etcd says. */
  readonly ttl: Effect.Effect<Duration.Duration, LockExpired | EtcdError>
  /** Renews the lease now (it is renewed in the background anyway); returns its time to live. */
  readonly renew: Effect.Effect<Duration.Duration, LockExpired | EtcdError>
  /** Whether the lock is lost or released, as etcd says. */
  readonly isExpired: Effect.Effect<boolean, EtcdError>
  /** Releases the lock before its scope closes. Fails when it is not held any more, so when called twice. */
  readonly release: Effect.Effect<void, LockNotHeld>
  /** Fails when the lock is lost, before etcd can give it to somebody else. Never succeeds. */
  readonly lost: Effect.Effect<never, LockExpired>
  /** "Only if this lock is still held": a condition for any transaction, checked by etcd itself. */
  readonly guard: Compare
}

/**
 * Somebody in the queue of a lock.
 *
 * @since 0.1.0
 * @category models
 */
export interface LockEntry {
  readonly etcdKey: string
  readonly fencingToken: bigint
  readonly lease: bigint
  /** Who it is, where the entry says so; those of Go and `etcdctl` do not. */
  readonly owner: Option.Option<Owner.Owner>
}

/**
 * The queue of a lock.
 *
 * @since 0.1.0
 * @category models
 */
export interface LockState {
  readonly holder: Option.Option<LockEntry>
  /** In the order in which they will get the lock. */
  readonly waiters: ReadonlyArray<LockEntry>
}

/**
 * What a lock can protect: an effect, or one that is made from the handle.
 *
 * @since 0.1.0
 * @category models
 */
export type Body<A, E, R> = Effect.Effect<A, E, R> | ((lock: LockHandle) => Effect.Effect<A, E, R>)

/**
 * @since 0.1.0
 * @category tags
 */
export class Lock extends Context.Tag("effect-coord/Lock")<Lock, {
  /**
   * Waits for the lock, in the order of arrival, and holds it until the scope closes. Interruption, a timeout or a failure
   * take the waiter out of the queue.
   */
  readonly acquire: (
    key: string,
    options?: AcquireOptions
  ) => Effect.Effect<LockHandle, LockTimeout | InvalidArgument | EtcdError, Scope.Scope>
  /** Takes the lock if nobody holds it or waits for it. */
  readonly tryAcquire: (
    key: string,
    options?: LockOptions
  ) => Effect.Effect<LockHandle, LockConflict | InvalidArgument | EtcdError, Scope.Scope>
  /**
   * Runs the body while holding the lock. When the lock is lost the body is interrupted, and the result is `LockExpired`.
   */
  readonly withLock: (
    key: string,
    options?: WithLockOptions
  ) => <A, E, R>(
    body: Body<A, E, R>
  ) => Effect.Effect<A, E | LockExpired | LockTimeout | InvalidArgument | EtcdError, R>
  /** Runs the body if the lock is free; none if it is taken. */
  readonly withLockIfAvailable: (
    key: string,
    options?: Omit<WithLockOptions, "timeout">
  ) => <A, E, R>(
    body: Body<A, E, R>
  ) => Effect.Effect<Option.Option<A>, E | LockExpired | InvalidArgument | EtcdError, R>
  /** Who holds the lock, and who waits for it. */
  readonly inspect: (key: string) => Effect.Effect<LockState, InvalidArgument | EtcdError>
}>() {}

/**
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** Where locks stand in etcd. Default `/locks`, as in Go. */
  readonly prefix?: string | undefined
  /** What `inspect` shows as the name of this program. Default: the name of the script. */
  readonly name?: string | undefined
}

const defaultTtl = Duration.seconds(30)

const badInput = (key: string, { timeout, ttl }: AcquireOptions): InvalidArgument | undefined =>
  [
    Either.getLeft(Key.validate("key", key)),
    ttl === undefined ? Option.none() : Either.getLeft(validate.ttl(ttl)),
    timeout === undefined ? Option.none() : Either.getLeft(validate.positiveDuration("timeout", timeout))
  ].find(Option.isSome)?.value

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<Lock["Type"], InvalidArgument, EtcdClient | Sessions> =>
  Effect.gen(function*() {
    const client = yield* EtcdClient
    const sessions = yield* Sessions
    const prefix = yield* validate.keyPrefix("prefix", options.prefix ?? "/locks")
    const clock = yield* Effect.clock
    const owner = Owner.valueFor(options.name, clock)

    const holding = Holding.make(client, "lock")

    const folderOf = (key: string): string => `${prefix}/${key}/`

    /** One stay in the queue, until it is its turn. */
    const stay = (
      key: string,
      ttl: Duration.Duration,
      own: Obligations
    ): Effect.Effect<Won, InvalidArgument | EtcdError | SessionExpired | LockQueue.Evicted> =>
      Effect.flatMap(sessions.borrow(ttl, own.owe), (session) => {
        const folder = folderOf(key)
        const entering = session.claim({ folder, value: owner(), reads: [LockQueue.newest(folder)] }, own.owe)
        return Effect.flatMap(entering, ({ entry, fresh, reads }) => {
          if (Option.isNone(entry)) return Effect.fail(new LockQueue.Evicted())
          const won: Won = { session, entry: entry.value }
          if (fresh && LockQueue.isAlone(reads[0]) && !session.isOver()) return Effect.succeed(won)
          const turn = LockQueue.awaitTurn(client, folder, entry.value, fresh ? reads[0] : undefined)
          return Effect.raceFirst(turn, session.expired).pipe(Effect.zipRight(session.check), Effect.as(won))
        })
      })

    /** Enters the queue again when the own key or its lease is lost while waiting: the place is lost, the wait is not. */
    const wait = (
      key: string,
      ttl: Duration.Duration,
      own: Obligations
    ): Effect.Effect<Won, InvalidArgument | EtcdError> =>
      Effect.catchAllCause(stay(key, ttl, own), (cause) => {
        const failure = Cause.failureOrCause(cause)
        if (Either.isRight(failure)) return Effect.failCause(failure.right)
        const error = failure.left
        return error._tag === "SessionExpired" || error._tag === "Evicted"
          ? Effect.zipRight(abandoned(own), wait(key, ttl, own))
          : Effect.fail(error)
      })

    const abandoned = (own: Obligations): Effect.Effect<void> =>
      Effect.uninterruptible(Effect.suspend(() => own.settle()))

    const attempt = (
      key: string,
      ttl: Duration.Duration,
      own: Obligations
    ): Effect.Effect<Won, LockConflict | InvalidArgument | EtcdError | SessionExpired> =>
      Effect.gen(function*() {
        const session = yield* sessions.borrow(ttl, own.owe)
        const folder = folderOf(key)
        const taken = (by: Option.Option<KeyValue>) =>
          new LockConflict({ key, holder: Option.getOrUndefined(Option.map(by, (kv) => toText(kv.key))) })
        const place = { folder, value: owner(), reads: [LockQueue.oldest(folder)] }
        const { entry, reads } = yield* session.claim({ ...place, onlyIf: [LockQueue.isEmpty(folder)] }, own.owe)
        if (Option.isSome(entry)) return { session, entry: entry.value }
        const first = Option.fromNullable(LockQueue.kvsOf(reads[0])[0])
        if (Option.isSome(first) && Key.isDirectChild(folder, first.value.key)) return yield* taken(first)
        // Keys of a nested name stand below the folder: only the queue itself can tell whether the lock is free.
        const { entry: queued } = yield* session.claim(place, own.owe)
        const present = yield* LockQueue.entries(client, folder, { keysOnly: true })
        const head = Option.fromNullable(present[0])
        return Option.isSome(queued) && Option.isSome(head) &&
            head.value.createRevision === queued.value.createRevision
          ? { session, entry: queued.value }
          : yield* taken(head)
      })

    const winning = (key: string, options: AcquireOptions): Win<LockTimeout | InvalidArgument | EtcdError> => {
      const problem = badInput(key, options)
      if (problem !== undefined) return () => Effect.fail(problem)
      const ttl = Duration.decode(options.ttl ?? defaultTtl)
      if (options.timeout === undefined) return (own) => wait(key, ttl, own)
      const timeout = Duration.decode(options.timeout)
      const onTimeout = () => new LockTimeout({ key, timeout })
      return (own) => Effect.timeoutFail(wait(key, ttl, own), { duration: timeout, onTimeout })
    }

    const trying = (key: string, options: LockOptions): Win<LockConflict | InvalidArgument | EtcdError> => {
      const problem = badInput(key, options)
      if (problem !== undefined) return () => Effect.fail(problem)
      const ttl = Duration.decode(options.ttl ?? defaultTtl)
      return (own) =>
        attempt(key, ttl, own).pipe(
          // The session ended between its check and its use: there is a new one.
          Effect.tapErrorTag("SessionExpired", () => abandoned(own)),
          Effect.retry({ while: (error) => error._tag === "SessionExpired" }),
          Effect.catchTag("SessionExpired", Effect.die)
        )
    }

    const withLock: Lock["Type"]["withLock"] = (key, options = {}) => (body) =>
      holding.around("Lock.acquire", key, winning(key, options), body, options.onLost)

    const withLockIfAvailable: Lock["Type"]["withLockIfAvailable"] = (key, options = {}) => (body) =>
      Effect.uninterruptibleMask((restore) =>
        holding.hold("Lock.tryAcquire", key, trying(key, options), restore).pipe(
          Effect.asSome,
          Effect.catchTag("LockConflict", () => Effect.succeed(Option.none<Held>())),
          Effect.flatMap((held) =>
            Effect.transposeOption(Option.map(held, (held) => Handle.protect(held, body, options.onLost, restore)))
          )
        )
      )

    const inspect: Lock["Type"]["inspect"] = (key) =>
      Effect.gen(function*() {
        yield* Key.validate("key", key)
        const present = yield* LockQueue.entries(client, folderOf(key), { keysOnly: false })
        const [holder, ...waiters] = present.map((kv): LockEntry => ({
          etcdKey: toText(kv.key),
          fencingToken: kv.createRevision,
          lease: kv.lease,
          owner: Owner.parse(kv.value)
        }))
        return { holder: Option.fromNullable(holder), waiters }
      }).pipe((effect) =>
        Effect.withFiberRuntime((fiber) => traced(fiber, "Lock.inspect", { "lock.key": key }, effect))
      )

    return {
      acquire: (key, options = {}) => holding.scoped("Lock.acquire", key, winning(key, options)),
      tryAcquire: (key, options = {}) => holding.scoped("Lock.tryAcquire", key, trying(key, options)),
      withLock,
      withLockIfAvailable,
      inspect
    }
  })

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<Lock, InvalidArgument, EtcdClient | Sessions> =>
  Layer.effect(Lock, make(options))

/**
 * Waits for the lock and holds it until the scope closes. See {@link Lock}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const acquire = (
  key: string,
  options?: AcquireOptions
): Effect.Effect<LockHandle, LockTimeout | InvalidArgument | EtcdError, Lock | Scope.Scope> =>
  Effect.flatMap(Lock, (lock) => lock.acquire(key, options))

/**
 * Takes the lock if it is free. See {@link Lock}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const tryAcquire = (
  key: string,
  options?: LockOptions
): Effect.Effect<LockHandle, LockConflict | InvalidArgument | EtcdError, Lock | Scope.Scope> =>
  Effect.flatMap(Lock, (lock) => lock.tryAcquire(key, options))

/**
 * Runs the body while holding the lock, and interrupts it when the lock is lost. See {@link Lock}.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock } from "effect-coord"
 *
 * const nightly = Effect.log("only one node does this").pipe(
 *   Lock.withLock("jobs/nightly", { ttl: "10 seconds" })
 * )
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const withLock = (
  key: string,
  options?: WithLockOptions
) =>
<A, E, R>(
  body: Body<A, E, R>
): Effect.Effect<A, E | LockExpired | LockTimeout | InvalidArgument | EtcdError, R | Lock> =>
  Effect.flatMap(Lock, (lock) => lock.withLock(key, options)(body))

/**
 * Runs the body if the lock is free. See {@link Lock}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const withLockIfAvailable = (
  key: string,
  options?: Omit<WithLockOptions, "timeout">
) =>
<A, E, R>(
  body: Body<A, E, R>
): Effect.Effect<Option.Option<A>, E | LockExpired | InvalidArgument | EtcdError, R | Lock> =>
  Effect.flatMap(Lock, (lock) => lock.withLockIfAvailable(key, options)(body))

/**
 * Who holds the lock, and who waits. See {@link Lock}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const inspect = (key: string): Effect.Effect<LockState, InvalidArgument | EtcdError, Lock> =>
  Effect.flatMap(Lock, (lock) => lock.inspect(key))
