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
import { aroundIfAvailable } from "./internal/lock/available.js"
import type { Win } from "./internal/lock/holding.js"
import * as Holding from "./internal/lock/holding.js"
import { badInput, onLostOf } from "./internal/lock/input.js"
import * as LockQueue from "./internal/lock/queue.js"
import * as Recipe from "./internal/lock/recipe.js"
import * as Several from "./internal/lock/several.js"
import * as Stay from "./internal/lock/stay.js"
import * as owners from "./internal/owner.js"
import { traced } from "./internal/traced.js"
import * as validate from "./internal/validate.js"
import * as Key from "./Key.js"
import type { LockConflict, LockExpired, LockNotHeld, LockTimeout, Owner } from "./LockError.js"
import { Sessions } from "./Session.js"
import type { Compare } from "./Txn.js"

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
  LockTimeout,
  /**
   * @since 0.1.0
   * @category models
   */
  Owner
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
 * "Only if this is still held": a condition for any transaction, checked by etcd itself. It knows whose it is, so that
 * `Config` fails with `LockExpired` for a write that is refused, and does not even send it after a loss that is known.
 *
 * @since 0.1.0
 * @category models
 */
export type Guard = Compare & {
  /** The revision that created the key of this holder. */
  readonly operand: bigint
  /** Fails when the loss is known to this process. Looks at the clock, and asks nobody. */
  readonly check: Effect.Effect<void, LockExpired>
  /**
   * For a transaction that was refused because of this guard: fails with `LockExpired`, after telling those who wait for
   * `lost`.
   */
  readonly refused: Effect.Effect<never, LockExpired>
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
  /** How long the lease still lasts if it is not renewed, as etcd says. Fails when the lock is lost or released. */
  readonly ttl: Effect.Effect<Duration.Duration, LockExpired | EtcdError>
  /** Renews the lease now (it is renewed anyway); returns its time to live. Fails when the lock is lost or released. */
  readonly renew: Effect.Effect<Duration.Duration, LockExpired | EtcdError>
  /** Whether the lock is lost or released, as etcd says. */
  readonly isExpired: Effect.Effect<boolean, EtcdError>
  /** Releases the lock before its scope closes. Fails when it is not held any more, so when called twice. */
  readonly release: Effect.Effect<void, LockNotHeld>
  /** Fails when the lock is lost, before etcd can give it to somebody else. Never succeeds. */
  readonly lost: Effect.Effect<never, LockExpired>
  /** "Only if this lock is still held": a condition for any transaction, checked by etcd itself. */
  readonly guard: Guard
}

/**
 * Several locks that are held together, and released together.
 *
 * @since 0.1.0
 * @category models
 */
export interface LocksHandle {
  /** In the order in which they were asked for, each once. */
  readonly keys: ReadonlyArray<string>
  /** The keys that stand for this holder in etcd, in the same order. */
  readonly etcdKeys: ReadonlyArray<string>
  /** One for all: it is larger than that of every earlier holder of any of the locks. */
  readonly fencingToken: bigint
  /** How long the lease still lasts if it is not renewed, as etcd says. Fails when the lock is lost or released. */
  readonly ttl: Effect.Effect<Duration.Duration, LockExpired | EtcdError>
  /** Renews the lease now (it is renewed anyway); returns its time to live. Fails when the lock is lost or released. */
  readonly renew: Effect.Effect<Duration.Duration, LockExpired | EtcdError>
  /** Whether any of the locks is lost, or all are released, as etcd says. */
  readonly isExpired: Effect.Effect<boolean, EtcdError>
  /** Releases all before their scope closes. Fails when one of them is not held any more, so when called twice. */
  readonly release: Effect.Effect<void, LockNotHeld>
  /** Fails when one of the locks is lost, and names it; the first when all are lost with their lease. Never succeeds. */
  readonly lost: Effect.Effect<never, LockExpired>
  /** "Only if these locks are still held": conditions for any transaction, checked by etcd itself. */
  readonly guards: ReadonlyArray<Guard>
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
  readonly owner: Option.Option<Owner>
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
export type Body<A, E, R, Handle = LockHandle> = Effect.Effect<A, E, R> | ((lock: Handle) => Effect.Effect<A, E, R>)

/**
 * @since 0.1.0
 * @category tags
 */
export class Lock extends Context.Tag("effect-coord/Lock")<Lock, {
  /**
   * Waits for the lock, in the order of arrival, and holds it until the scope closes. Interruption, a timeout or a failure
   * take the waiter out of the queue. An outage is waited out while the lease lasts; after a longer one the queue has to be
   * entered again, which fails with `EtcdError` if etcd is still away.
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
  /**
   * Waits for several locks, and holds them until the scope closes: all of them or none. All queues are entered at once,
   * so that those who want the same locks get them in the order of their arrival, whatever the order of the keys; nobody
   * can wait for somebody who waits for him. A key that is named twice counts once; 64 at most.
   *
   * Fails with `LockTimeout` for the first of those that were not free in time.
   */
  readonly acquireAll: (
    keys: ReadonlyArray<string>,
    options?: AcquireOptions
  ) => Effect.Effect<LocksHandle, LockTimeout | InvalidArgument | EtcdError, Scope.Scope>
  /**
   * Runs the body while holding several locks, see `acquireAll`. When one of them is lost the body is interrupted, and the
   * result is `LockExpired`.
   */
  readonly withLocks: (
    keys: ReadonlyArray<string>,
    options?: WithLockOptions
  ) => <A, E, R>(
    body: Body<A, E, R, LocksHandle>
  ) => Effect.Effect<A, E | LockExpired | LockTimeout | InvalidArgument | EtcdError, R>
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

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<Lock["Type"], InvalidArgument, EtcdClient | Sessions | Scope.Scope> =>
  Effect.gen(function*() {
    if (!validate.isOptions(options)) return yield* validate.noOptions(options)
    const client = yield* EtcdClient
    const sessions = yield* Sessions
    const prefix = yield* validate.keyPrefix("prefix", options.prefix ?? "/locks")
    const owner = yield* owners.values(options.name)

    const holding = Holding.make(client, "lock")
    const stay = yield* Stay.make(client, sessions, "lock", Recipe.lock)

    const folderOf = (key: string): string => `${prefix}/${key}/`

    const placeOf = (key: string, ttl: Duration.DurationInput = defaultTtl): Stay.Place => ({
      key,
      folder: folderOf(key),
      value: owner,
      ttl: Duration.decode(ttl)
    })

    const winning = (key: string, options: AcquireOptions): Win<LockTimeout | InvalidArgument | EtcdError> => {
      const problem = badInput("key", key, options)
      if (problem !== undefined) return Holding.failing(problem)
      const { timeout, ttl } = options
      return stay.wait(placeOf(key, ttl), timeout === undefined ? undefined : Duration.decode(timeout))
    }

    const trying = (key: string, options: LockOptions): Win<LockConflict | InvalidArgument | EtcdError> => {
      const problem = badInput("key", key, options)
      return problem === undefined ? stay.attempt(placeOf(key, options.ttl)) : Holding.failing(problem)
    }

    const withLock: Lock["Type"]["withLock"] = (key, options = {}) => (body) =>
      holding.around("Lock.acquire", key, winning(key, options), body, onLostOf(options))

    const withLockIfAvailable: Lock["Type"]["withLockIfAvailable"] = (key, options = {}) => (body) =>
      aroundIfAvailable(holding, "Lock.tryAcquire", key, trying(key, options), body, onLostOf(options))

    const several = Several.make(client, sessions, stay.queues, folderOf, owner)

    const placesOf = (
      keys: ReadonlyArray<string>,
      options: AcquireOptions
    ): Either.Either<Several.Places, InvalidArgument> =>
      Either.flatMap(Several.distinct(keys), (keys) => {
        const problem = keys.map((key) => badInput("keys", key, options)).find((problem) => problem !== undefined)
        if (problem !== undefined) return Either.left(problem)
        const { timeout, ttl = defaultTtl } = options
        return Either.right({
          keys,
          ttl: Duration.decode(ttl),
          timeout: timeout === undefined ? undefined : Duration.decode(timeout)
        })
      })

    const inspect: Lock["Type"]["inspect"] = (key) =>
      Effect.gen(function*() {
        yield* Key.validate("key", key)
        const present = yield* LockQueue.entries(client, folderOf(key), { keysOnly: false })
        const [holder, ...waiters] = present.map((kv): LockEntry => ({
          etcdKey: toText(kv.key),
          fencingToken: kv.createRevision,
          lease: kv.lease,
          owner: owners.parse(kv.value)
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
      acquireAll: (keys, options = {}) => Effect.flatMap(placesOf(keys, options), several.scoped),
      withLocks: (keys, options = {}) => (body) =>
        Effect.flatMap(placesOf(keys, options), (places) => several.around(places, body, onLostOf(options))),
      inspect
    }
  })

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<Lock, InvalidArgument, EtcdClient | Sessions> =>
  Layer.scoped(Lock, make(options))

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
 * Waits for several locks and holds them until the scope closes. See {@link Lock}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const acquireAll = (
  keys: ReadonlyArray<string>,
  options?: AcquireOptions
): Effect.Effect<LocksHandle, LockTimeout | InvalidArgument | EtcdError, Lock | Scope.Scope> =>
  Effect.flatMap(Lock, (lock) => lock.acquireAll(keys, options))

/**
 * Runs the body while holding several locks. See {@link Lock}.
 *
 * @example
 * ```ts
 * import type { Effect } from "effect"
 * import { Lock } from "effect-coord"
 *
 * declare const move: (from: string, to: string) => Effect.Effect<void>
 *
 * const transfer = (from: string, to: string) =>
 *   Lock.withLocks([`accounts/${from}`, `accounts/${to}`], { ttl: "10 seconds" })(move(from, to))
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const withLocks = (
  keys: ReadonlyArray<string>,
  options?: WithLockOptions
) =>
<A, E, R>(
  body: Body<A, E, R, LocksHandle>
): Effect.Effect<A, E | LockExpired | LockTimeout | InvalidArgument | EtcdError, R | Lock> =>
  Effect.flatMap(Lock, (lock) => lock.withLocks(keys, options)(body))

/**
 * Who holds the lock, and who waits. See {@link Lock}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const inspect = (key: string): Effect.Effect<LockState, InvalidArgument | EtcdError, Lock> =>
  Effect.flatMap(Lock, (lock) => lock.inspect(key))
