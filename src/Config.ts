/**
 * The configuration centre: typed values under readable keys, which change while applications run.
 *
 * A value is kept as a program in any language would write it: a string as it is, anything else as JSON. What does not
 * decode by the reader's schema is told with its key and version; it never ends a stream, nor does it take a list down.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { EncodeError, GuardFailed, UnsupportedSchema } from "./ConfigError.js"
import { DecodeError, NotFound, VersionConflict } from "./ConfigError.js"
import { EtcdClient } from "./EtcdClient.js"
import type { EtcdError } from "./EtcdError.js"
import { InvalidArgument } from "./EtcdError.js"
import * as Attempts from "./internal/attempts.js"
import { toText } from "./internal/bytes.js"
import * as Entries from "./internal/config/entries.js"
import * as Guards from "./internal/config/guard.js"
import type { ConfigEvent, Listing, Version, Versioned } from "./internal/config/model.js"
import * as validate from "./internal/validate.js"
import * as Key from "./Key.js"
import type { LockExpired } from "./LockError.js"
import * as Mirror from "./Mirror.js"
import type { Compare, KeyRange, OpResponse } from "./Txn.js"
import * as Txn from "./Txn.js"

export * from "./ConfigError.js"
export type * from "./internal/config/model.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface WriteOptions {
  /**
   * Write only if this holds, checked by etcd together with the write. The `guard` of a lock, the `guards` of several: else
   * `LockExpired`, of which those who wait for `lost` hear as well. Any other condition: else `GuardFailed`.
   */
  readonly guard?: Compare | ReadonlyArray<Compare> | undefined
  /** The value goes when this lease ends. Default: none, also if the value before had one. */
  readonly lease?: bigint | undefined
}

/**
 * @since 0.1.0
 * @category errors
 */
export type ReadError = InvalidArgument | UnsupportedSchema | DecodeError | EtcdError

/**
 * @since 0.1.0
 * @category errors
 */
export type WriteError = InvalidArgument | UnsupportedSchema | EncodeError | GuardFailed | LockExpired | EtcdError

/**
 * @since 0.1.0
 * @category errors
 */
export type ListError = InvalidArgument | UnsupportedSchema | EtcdError

/**
 * Keys are names of one or more segments (`billing/limits`), see `Key.validate`. A prefix ends at a segment, with or
 * without its slash: `app` is `app/…`, never `application`; the empty one is everything.
 *
 * A schema reads and writes JSON or text: what its encoded side has beyond JSON is refused with `UnsupportedSchema`. A
 * property that is `undefined` is one that is not there.
 *
 * @example
 * ```ts
 * import { Config } from "effect-coord"
 * import { Effect, Schema, Stream } from "effect"
 *
 * const Limits = Schema.Struct({ requests: Schema.Int, burst: Schema.optional(Schema.Int) })
 *
 * const program = Effect.gen(function*() {
 *   yield* Config.set("billing/limits", Limits, { requests: 100 })
 *   const { value, version } = yield* Config.getWithVersion("billing/limits", Limits)
 *   yield* Config.compareAndSet("billing/limits", Limits, { ...value, burst: 20 }, version)
 *   yield* Config.watchPrefix("billing", Limits).pipe(
 *     Stream.runForEach((event) => Effect.log(event._tag, event.key, event.version))
 *   )
 * })
 * ```
 *
 * @since 0.1.0
 * @category tags
 */
export class Config extends Context.Tag("effect-coord/Config")<Config, {
  /** The newest value, by a quorum read. */
  readonly get: <A, I, R>(key: string, schema: Schema.Schema<A, I, R>) => Effect.Effect<A, NotFound | ReadError, R>
  readonly getOption: <A, I, R>(
    key: string,
    schema: Schema.Schema<A, I, R>
  ) => Effect.Effect<Option.Option<A>, ReadError, R>
  /** The newest value with its version, for `compareAndSet`. */
  readonly getWithVersion: <A, I, R>(
    key: string,
    schema: Schema.Schema<A, I, R>
  ) => Effect.Effect<Versioned<A>, NotFound | ReadError, R>
  /**
   * Writes, whatever was there, and returns the new version. Without a guard it is not repeated after an unknown outcome
   * (it might undo somebody's later write): that is an `EtcdError` with `mayBeApplied`.
   */
  readonly set: <A, I, R>(
    key: string,
    schema: Schema.Schema<A, I, R>,
    value: A,
    options?: WriteOptions
  ) => Effect.Effect<Version, WriteError, R>
  /**
   * Writes if the present version is `version` (`0n`: if there is no value), and returns the new one. A lost answer leads
   * neither to a false conflict nor to a second write; for that it needs to write under `/coord/attempts/`.
   */
  readonly compareAndSet: <A, I, R>(
    key: string,
    schema: Schema.Schema<A, I, R>,
    value: A,
    version: Version,
    options?: WriteOptions
  ) => Effect.Effect<Version, VersionConflict | WriteError, R>
  /** Deletes; `NotFound` if there was nothing to delete. Survives lost answers as `compareAndSet` does. */
  readonly delete: (
    key: string,
    options?: Pick<WriteOptions, "guard">
  ) => Effect.Effect<void, NotFound | GuardFailed | LockExpired | InvalidArgument | EtcdError>
  /** All values below a prefix at one moment, those that do not decode apart. */
  readonly list: <A, I, R>(
    prefix: string,
    schema: Schema.Schema<A, I, R>
  ) => Effect.Effect<Listing<A>, ListError, R>
  /**
   * The present value, if there is one, then every change, without a gap: through reconnections and restarts of etcd.
   * Fails only when etcd refuses to be read.
   */
  readonly watch: <A, I, R>(
    key: string,
    schema: Schema.Schema<A, I, R>
  ) => Stream.Stream<ConfigEvent<A>, ListError, R>
  /** The same for all keys below a prefix. */
  readonly watchPrefix: <A, I, R>(
    prefix: string,
    schema: Schema.Schema<A, I, R>
  ) => Stream.Stream<ConfigEvent<A>, ListError, R>
}>() {}

/**
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** What all keys in etcd begin with; it begins with a slash and does not end with one. Default `/config`. */
  readonly prefix?: string | undefined
}

const traced = (operation: string, key: string) =>
  Effect.withSpan(`Config.${operation}`, {
    kind: "client",
    captureStackTrace: false,
    attributes: { "config.key": key }
  })

const foundVersion = (read: OpResponse | undefined): Version =>
  read?._tag === "Range" ? read.response.kvs[0]?.modRevision ?? 0n : 0n

/**
 * Fails with `InvalidArgument` for a prefix that cannot work.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<Config["Type"], InvalidArgument, EtcdClient | Scope.Scope> =>
  Effect.gen(function*() {
    const client = yield* EtcdClient
    const attempts = yield* Attempts.make
    const root = `${yield* validate.keyPrefix("prefix", options.prefix ?? "/config")}/`

    const etcdKey = (key: string): Effect.Effect<string, InvalidArgument> =>
      Effect.map(Key.validate("key", key), (key) => root + key)

    const below = (prefix: string): Effect.Effect<KeyRange, InvalidArgument> =>
      Effect.map(Key.validatePrefix("prefix", prefix), (prefix) =>
        Key.prefix(root + (prefix === "" || prefix.endsWith("/") ? prefix : `${prefix}/`)))

    const nameOf = (key: Uint8Array): string =>
      toText(key).slice(root.length)

    const read = <A, I, R>(
      key: string,
      schema: Schema.Schema<A, I, R>
    ): Effect.Effect<Option.Option<Versioned<A>>, ReadError, R> =>
      Effect.gen(function*() {
        const name = yield* etcdKey(key)
        const codec = yield* Entries.codecFor(key, schema)
        const found = yield* client.get(name)
        if (Option.isNone(found)) return Option.none()
        const version = found.value.modRevision
        const value = yield* Effect.mapError(
          codec.decode(found.value.value),
          (cause) => new DecodeError({ key, version, cause })
        )
        return Option.some({ value, version })
      })

    const getWithVersion = <A, I, R>(key: string, schema: Schema.Schema<A, I, R>) =>
      Effect.flatMap(
        read(key, schema),
        Option.match({
          onNone: () => new NotFound({ key }),
          onSome: (found) => Effect.succeed(found)
        })
      )

    const putOf = <A, I, R>(key: string, schema: Schema.Schema<A, I, R>, value: A, lease: bigint | undefined) =>
      Effect.gen(function*() {
        const name = yield* etcdKey(key)
        const codec = yield* Entries.codecFor(key, schema)
        return { key: name, value: yield* Entries.encode(key, codec, value), lease }
      })

    const follow = <A, I, R>(
      key: string,
      schema: Schema.Schema<A, I, R>,
      range: Effect.Effect<KeyRange, InvalidArgument>
    ): Stream.Stream<ConfigEvent<A>, ListError, R> =>
      Stream.unwrapScoped(Effect.gen(function*() {
        const keys = yield* range
        const codec = yield* Entries.codecFor(key, schema)
        const { changes } = yield* Effect.provideService(Mirror.make(keys), EtcdClient, client)
        return Stream.mapChunksEffect(changes, (chunk) =>
          Effect.map(
            Effect.forEach(chunk, (change) => Entries.event(nameOf, codec, change)),
            Chunk.unsafeFromArray
          ))
      }))

    return {
      get: (key, schema) => Effect.map(getWithVersion(key, schema), ({ value }) => value).pipe(traced("get", key)),
      getOption: (key, schema) =>
        Effect.map(read(key, schema), Option.map(({ value }) => value)).pipe(traced("getOption", key)),
      getWithVersion: (key, schema) => getWithVersion(key, schema).pipe(traced("getWithVersion", key)),
      set: (key, schema, value, { guard, lease } = {}) =>
        Effect.gen(function*() {
          const put = yield* putOf(key, schema, value, lease)
          if (guard === undefined) {
            const { header } = yield* client.put(put)
            return header.revision
          }
          const guards = Guards.comparesOf(guard)
          yield* Guards.check(guards)
          const outcome = yield* attempts.commit({
            compare: guards,
            success: [Txn.put(put)],
            failure: Guards.reads(guards)
          })
          if (outcome.applied) return outcome.revision
          yield* Guards.checkReads(guards, outcome.reads)
          return yield* Guards.failed(key, guards)
        }).pipe(traced("set", key)),
      compareAndSet: (key, schema, value, version, { guard, lease } = {}) =>
        Effect.gen(function*() {
          if (version < 0n) {
            return yield* new InvalidArgument({
              argument: "version",
              value: String(version),
              problem: "must be 0 (no value) or above"
            })
          }
          const put = yield* putOf(key, schema, value, lease)
          const guards = Guards.comparesOf(guard)
          yield* Guards.check(guards)
          const outcome = yield* attempts.commit({
            compare: [Txn.modRevision(put.key, "=", version), ...guards],
            success: [Txn.put(put)],
            failure: [Txn.range({ key: put.key, keysOnly: true }), ...Guards.reads(guards)]
          })
          if (outcome.applied) return outcome.revision
          const [found, ...reads] = outcome.reads
          yield* Guards.checkReads(guards, reads)
          const actual = foundVersion(found)
          return actual === version && guards.length > 0
            ? yield* Guards.failed(key, guards)
            : yield* new VersionConflict({ key, expected: version, actual })
        }).pipe(traced("compareAndSet", key)),
      delete: (key, { guard } = {}) =>
        Effect.gen(function*() {
          const name = yield* etcdKey(key)
          const guards = Guards.comparesOf(guard)
          yield* Guards.check(guards)
          const outcome = yield* attempts.commit({
            compare: [Txn.exists(name), ...guards],
            success: [Txn.del({ key: name })],
            failure: [Txn.range({ key: name, keysOnly: true }), ...Guards.reads(guards)]
          })
          if (outcome.applied) return
          const [found, ...reads] = outcome.reads
          yield* Guards.checkReads(guards, reads)
          return yield* foundVersion(found) === 0n ? new NotFound({ key }) : Guards.failed(key, guards)
        }).pipe(traced("delete", key)),
      list: (prefix, schema) =>
        Effect.gen(function*() {
          const range = yield* below(prefix)
          const codec = yield* Entries.codecFor(prefix, schema)
          const pages = yield* Stream.runCollect(client.pages(range))
          const [invalid, entries] = yield* Effect.partition(
            Chunk.toReadonlyArray(pages).flatMap(({ kvs }) => kvs),
            (kv) => Entries.decode(nameOf(kv.key), codec, kv)
          )
          return { entries, invalid }
        }).pipe(traced("list", prefix)),
      watch: (key, schema) => follow(key, schema, Effect.map(etcdKey(key), Key.single)),
      watchPrefix: (prefix, schema) => follow(prefix, schema, below(prefix))
    }
  })

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<Config, InvalidArgument, EtcdClient> =>
  Layer.scoped(Config, make(options))

/**
 * The newest value, by a quorum read.
 *
 * @since 0.1.0
 * @category accessors
 */
export const get = <A, I, R>(
  key: string,
  schema: Schema.Schema<A, I, R>
): Effect.Effect<A, NotFound | ReadError, Config | R> => Effect.flatMap(Config, (config) => config.get(key, schema))

/**
 * The newest value, if there is one.
 *
 * @since 0.1.0
 * @category accessors
 */
export const getOption = <A, I, R>(
  key: string,
  schema: Schema.Schema<A, I, R>
): Effect.Effect<Option.Option<A>, ReadError, Config | R> =>
  Effect.flatMap(Config, (config) => config.getOption(key, schema))

/**
 * The newest value with its version, for {@link compareAndSet}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const getWithVersion = <A, I, R>(
  key: string,
  schema: Schema.Schema<A, I, R>
): Effect.Effect<Versioned<A>, NotFound | ReadError, Config | R> =>
  Effect.flatMap(Config, (config) => config.getWithVersion(key, schema))

/**
 * Writes, whatever was there, and returns the new version.
 *
 * @since 0.1.0
 * @category accessors
 */
export const set = <A, I, R>(
  key: string,
  schema: Schema.Schema<A, I, R>,
  value: A,
  options?: WriteOptions
): Effect.Effect<Version, WriteError, Config | R> =>
  Effect.flatMap(Config, (config) => config.set(key, schema, value, options))

/**
 * Writes if the present version is `version` (`0n`: if there is no value), and returns the new one.
 *
 * @since 0.1.0
 * @category accessors
 */
export const compareAndSet = <A, I, R>(
  key: string,
  schema: Schema.Schema<A, I, R>,
  value: A,
  version: Version,
  options?: WriteOptions
): Effect.Effect<Version, VersionConflict | WriteError, Config | R> =>
  Effect.flatMap(Config, (config) => config.compareAndSet(key, schema, value, version, options))

const delete_ = (
  key: string,
  options?: Pick<WriteOptions, "guard">
): Effect.Effect<void, NotFound | GuardFailed | LockExpired | InvalidArgument | EtcdError, Config> =>
  Effect.flatMap(Config, (config) => config.delete(key, options))

export {
  /**
   * Deletes; `NotFound` if there was nothing to delete.
   *
   * @since 0.1.0
   * @category accessors
   */
  delete_ as delete
}

/**
 * All values below a prefix at one moment, those that do not decode apart.
 *
 * @since 0.1.0
 * @category accessors
 */
export const list = <A, I, R>(
  prefix: string,
  schema: Schema.Schema<A, I, R>
): Effect.Effect<Listing<A>, ListError, Config | R> => Effect.flatMap(Config, (config) => config.list(prefix, schema))

/**
 * The present value, if there is one, then every change, without a gap.
 *
 * @since 0.1.0
 * @category accessors
 */
export const watch = <A, I, R>(
  key: string,
  schema: Schema.Schema<A, I, R>
): Stream.Stream<ConfigEvent<A>, ListError, Config | R> =>
  Stream.unwrap(Effect.map(Config, (config) => config.watch(key, schema)))

/**
 * The present values below a prefix, then every change, without a gap.
 *
 * @since 0.1.0
 * @category accessors
 */
export const watchPrefix = <A, I, R>(
  prefix: string,
  schema: Schema.Schema<A, I, R>
): Stream.Stream<ConfigEvent<A>, ListError, Config | R> =>
  Stream.unwrap(Effect.map(Config, (config) => config.watchPrefix(prefix, schema)))
