/**
 * Distributed read-write locks: many readers or one writer, in the order of arrival.
 *
 * A lock is a queue of keys under `/rwlocks/<name>/`. A writer holds when nobody is before it, a reader when no writer is
 * before it: so readers that come later do not overtake a writer that waits, and writers do not starve.
 *
 * As with locks, a lease can be lost while work goes on; the holder hears of that before etcd lets somebody else in, and its
 * `guard` has etcd refuse late writes. Not re-entrant, and a reader cannot become a writer: it would wait for itself.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { EtcdClient } from "./EtcdClient.js"
import type { EtcdError, InvalidArgument } from "./EtcdError.js"
import { aroundIfAvailable } from "./internal/lock/available.js"
import type { Win } from "./internal/lock/holding.js"
import * as Holding from "./internal/lock/holding.js"
import { badInput, onLostOf } from "./internal/lock/input.js"
import * as Mode from "./internal/lock/mode.js"
import * as QueueState from "./internal/lock/queueState.js"
import * as Stay from "./internal/lock/stay.js"
import * as Owner from "./internal/owner.js"
import { traced } from "./internal/traced.js"
import * as validate from "./internal/validate.js"
import * as Key from "./Key.js"
import type { AcquireOptions, Body, LockEntry, LockHandle, LockOptions, WithLockOptions } from "./Lock.js"
import type { LockConflict, LockExpired, LockTimeout } from "./LockError.js"
import { Sessions } from "./Session.js"
import type { KeyValue } from "./Txn.js"

/**
 * Somebody in the queue of a read-write lock.
 *
 * @since 0.1.0
 * @category models
 */
export interface ReadWriteEntry extends LockEntry {
  /** None for an entry that cannot be read, which counts as a writer. */
  readonly mode: Option.Option<"read" | "write">
}

/**
 * The queue of a read-write lock.
 *
 * @since 0.1.0
 * @category models
 */
export interface ReadWriteState {
  /** One writer, or any number of readers. */
  readonly holders: ReadonlyArray<ReadWriteEntry>
  /** In the order in which they will get the lock. */
  readonly waiters: ReadonlyArray<ReadWriteEntry>
}

type AcquireError = LockTimeout | InvalidArgument | EtcdError
type TryError = LockConflict | InvalidArgument | EtcdError

type Acquire = (name: string, options?: AcquireOptions) => Effect.Effect<LockHandle, AcquireError, Scope.Scope>

type Try = (name: string, options?: LockOptions) => Effect.Effect<LockHandle, TryError, Scope.Scope>

type Around = (
  name: string,
  options?: WithLockOptions
) => <A, E, R>(body: Body<A, E, R>) => Effect.Effect<A, E | LockExpired | AcquireError, R>

type AroundIfAvailable = (
  name: string,
  options?: Omit<WithLockOptions, "timeout">
) => <A, E, R>(
  body: Body<A, E, R>
) => Effect.Effect<Option.Option<A>, E | LockExpired | Exclude<TryError, LockConflict>, R>

/**
 * The options and handles are those of locks; the fencing token grows with everybody who enters the queue, so a writer's is
 * larger than those of all readers before it.
 *
 * @since 0.1.0
 * @category tags
 */
export class ReadWriteLock extends Context.Tag("effect-coord/ReadWriteLock")<ReadWriteLock, {
  /**
   * Waits until no writer is before this reader, and holds the lock until the scope closes. Interruption, a timeout or a
   * failure take it out of the queue.
   */
  readonly read: Acquire
  /** The same for a writer, which waits for all that are before it. */
  readonly write: Acquire
  /** Holds as a reader, if no writer holds or waits. */
  readonly tryRead: Try
  /** Holds as a writer, if nobody else holds. */
  readonly tryWrite: Try
  /**
   * Runs the body while reading is allowed. When the lock is lost the body is interrupted, and the result is `LockExpired`.
   */
  readonly withRead: Around
  /** The same for a writer. */
  readonly withWrite: Around
  /** Runs the body if no writer holds or waits; none otherwise. */
  readonly withReadIfAvailable: AroundIfAvailable
  /** Runs the body if nobody else holds; none otherwise. */
  readonly withWriteIfAvailable: AroundIfAvailable
  /** Who holds the lock, and who waits for it. */
  readonly inspect: (name: string) => Effect.Effect<ReadWriteState, InvalidArgument | EtcdError>
}>() {}

/**
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** Where read-write locks stand in etcd. Default `/rwlocks`. */
  readonly prefix?: string | undefined
  /** What `inspect` shows as the name of this program. Default: the name of the script. */
  readonly name?: string | undefined
}

const kind = "read-write lock"

const defaultTtl = Duration.seconds(30)

const entryOf = (kv: KeyValue): ReadWriteEntry => ({ ...QueueState.entryOf(kv), mode: Mode.parse(kv.value) })

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<ReadWriteLock["Type"], InvalidArgument, EtcdClient | Sessions | Scope.Scope> =>
  Effect.gen(function*() {
    if (!validate.isOptions(options)) return yield* validate.noOptions(options)
    const client = yield* EtcdClient
    const sessions = yield* Sessions
    const prefix = yield* validate.keyPrefix("prefix", options.prefix ?? "/rwlocks")
    const valueFor = yield* Owner.values(options.name)
    const holding = Holding.make(client, kind)
    const stay = yield* Stay.make(client, sessions, kind, Mode.readWriteLock)

    const folderOf = (name: string): string => `${prefix}/${name}/`

    const placeOf = (mode: Mode.Mode, key: string, ttl: Duration.DurationInput = defaultTtl): Stay.Place => ({
      key,
      folder: folderOf(key),
      value: () => valueFor(Mode.encode(mode)),
      ttl: Duration.decode(ttl)
    })

    const winning = (mode: Mode.Mode, name: string, options: AcquireOptions): Win<AcquireError> => {
      const problem = badInput("name", name, options)
      if (problem !== undefined) return Holding.failing(problem)
      const { timeout, ttl } = options
      return stay.wait(placeOf(mode, name, ttl), timeout === undefined ? undefined : Duration.decode(timeout))
    }

    const trying = (mode: Mode.Mode, name: string, options: LockOptions): Win<TryError> => {
      const problem = badInput("name", name, options)
      return problem === undefined ? stay.attempt(placeOf(mode, name, options.ttl)) : Holding.failing(problem)
    }

    const acquire = (mode: Mode.Mode): Acquire => (name, options = {}) =>
      holding.scoped(`ReadWriteLock.${mode}`, name, winning(mode, name, options))

    const attempt = (mode: Mode.Mode, operation: string): Try => (name, options = {}) =>
      holding.scoped(operation, name, trying(mode, name, options))

    const around = (mode: Mode.Mode): Around => (name, options = {}) => (body) =>
      holding.around(`ReadWriteLock.${mode}`, name, winning(mode, name, options), body, onLostOf(options))

    const ifAvailable = (mode: Mode.Mode, operation: string): AroundIfAvailable => (name, options = {}) => (body) =>
      aroundIfAvailable(holding, operation, name, trying(mode, name, options), body, onLostOf(options))

    return {
      read: acquire("read"),
      write: acquire("write"),
      tryRead: attempt("read", "ReadWriteLock.tryRead"),
      tryWrite: attempt("write", "ReadWriteLock.tryWrite"),
      withRead: around("read"),
      withWrite: around("write"),
      withReadIfAvailable: ifAvailable("read", "ReadWriteLock.tryRead"),
      withWriteIfAvailable: ifAvailable("write", "ReadWriteLock.tryWrite"),
      inspect: (name) =>
        Effect.withFiberRuntime((fiber) =>
          Key.validate("name", name).pipe(
            Effect.flatMap(() => QueueState.read(client, folderOf(name), Mode.readWriteLock, entryOf)),
            (effect) => traced(fiber, "ReadWriteLock.inspect", { "lock.key": name }, effect)
          )
        )
    }
  })

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<ReadWriteLock, InvalidArgument, EtcdClient | Sessions> =>
  Layer.scoped(ReadWriteLock, make(options))

/**
 * Waits as a reader and holds the lock until the scope closes. See {@link ReadWriteLock}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const read = (
  name: string,
  options?: AcquireOptions
): Effect.Effect<LockHandle, AcquireError, ReadWriteLock | Scope.Scope> =>
  Effect.flatMap(ReadWriteLock, (lock) => lock.read(name, options))

/**
 * Waits as a writer and holds the lock until the scope closes. See {@link ReadWriteLock}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const write = (
  name: string,
  options?: AcquireOptions
): Effect.Effect<LockHandle, AcquireError, ReadWriteLock | Scope.Scope> =>
  Effect.flatMap(ReadWriteLock, (lock) => lock.write(name, options))

/**
 * Holds as a reader if no writer holds or waits. See {@link ReadWriteLock}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const tryRead = (
  name: string,
  options?: LockOptions
): Effect.Effect<LockHandle, TryError, ReadWriteLock | Scope.Scope> =>
  Effect.flatMap(ReadWriteLock, (lock) => lock.tryRead(name, options))

/**
 * Holds as a writer if nobody else holds. See {@link ReadWriteLock}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const tryWrite = (
  name: string,
  options?: LockOptions
): Effect.Effect<LockHandle, TryError, ReadWriteLock | Scope.Scope> =>
  Effect.flatMap(ReadWriteLock, (lock) => lock.tryWrite(name, options))

/**
 * Runs the body beside other readers, and interrupts it when the lock is lost. See {@link ReadWriteLock}.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { ReadWriteLock } from "effect-coord"
 *
 * const report = Effect.log("many may do this").pipe(ReadWriteLock.withRead("catalogue"))
 * const rebuild = Effect.log("alone").pipe(ReadWriteLock.withWrite("catalogue", { timeout: "1 minute" }))
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const withRead = (
  name: string,
  options?: WithLockOptions
) =>
<A, E, R>(body: Body<A, E, R>): Effect.Effect<A, E | LockExpired | AcquireError, R | ReadWriteLock> =>
  Effect.flatMap(ReadWriteLock, (lock) => lock.withRead(name, options)(body))

/**
 * Runs the body while nobody else reads or writes, and interrupts it when the lock is lost. See {@link ReadWriteLock}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const withWrite = (
  name: string,
  options?: WithLockOptions
) =>
<A, E, R>(body: Body<A, E, R>): Effect.Effect<A, E | LockExpired | AcquireError, R | ReadWriteLock> =>
  Effect.flatMap(ReadWriteLock, (lock) => lock.withWrite(name, options)(body))

/**
 * Runs the body beside other readers, if no writer holds or waits. See {@link ReadWriteLock}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const withReadIfAvailable = (
  name: string,
  options?: Omit<WithLockOptions, "timeout">
) =>
<A, E, R>(
  body: Body<A, E, R>
): Effect.Effect<Option.Option<A>, E | LockExpired | Exclude<TryError, LockConflict>, R | ReadWriteLock> =>
  Effect.flatMap(ReadWriteLock, (lock) => lock.withReadIfAvailable(name, options)(body))

/**
 * Runs the body if nobody else holds. See {@link ReadWriteLock}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const withWriteIfAvailable = (
  name: string,
  options?: Omit<WithLockOptions, "timeout">
) =>
<A, E, R>(
  body: Body<A, E, R>
): Effect.Effect<Option.Option<A>, E | LockExpired | Exclude<TryError, LockConflict>, R | ReadWriteLock> =>
  Effect.flatMap(ReadWriteLock, (lock) => lock.withWriteIfAvailable(name, options)(body))

/**
 * Who holds the lock, and who waits. See {@link ReadWriteLock}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const inspect = (name: string): Effect.Effect<ReadWriteState, InvalidArgument | EtcdError, ReadWriteLock> =>
  Effect.flatMap(ReadWriteLock, (lock) => lock.inspect(name))
