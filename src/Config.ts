/**
 * The configuration centre: typed values under readable keys, which change while applications run.
 *
 * A value is kept as a program in any language would write it: a string as it is, anything else as JSON. What does not
 * decode by the reader's schema is told with its key and version; it never ends a stream, nor does it take a list down.
 *
 * @since 0.1.0
 */
import type * as EffectConfig from "effect/Config"
import type * as EffectConfigError from "effect/ConfigError"
import type * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { NotFound, TransactionConflict, VersionConflict } from "./ConfigError.js"
import type { EtcdClient } from "./EtcdClient.js"
import type { EtcdError, InvalidArgument } from "./EtcdError.js"
import * as Entries from "./internal/config/entries.js"
import * as Input from "./internal/config/input.js"
import type {
  Cached,
  ConfigEvent,
  GuardError,
  GuardOptions,
  HistoryEntry,
  ListError,
  Listing,
  ListOptions,
  ModifyOptions,
  ReadError,
  RevisionError,
  RollbackOptions,
  Step,
  Version,
  Versioned,
  WriteError,
  WriteOptions
} from "./internal/config/model.js"
import type { ProviderOptions } from "./internal/config/providerLive.js"
import * as ProviderLive from "./internal/config/providerLive.js"
import * as Service from "./internal/config/service.js"

export * from "./ConfigError.js"
export type * from "./internal/config/model.js"
export type { ProviderOptions } from "./internal/config/providerLive.js"

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
  /** What all keys in etcd begin with, without a slash at its end: the key `a` stands at `<prefix>/a`. */
  readonly prefix: string
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
   * What stood there at a revision of etcd: a version of this key or of any other. `RevisionCompacted` if etcd has dropped
   * it, `FutureRevision` if there is none yet.
   */
  readonly getAt: <A, I, R>(
    key: string,
    schema: Schema.Schema<A, I, R>,
    revision: Version
  ) => Effect.Effect<Versioned<A>, NotFound | ReadError | RevisionError, R>
  /**
   * The value from a local copy, in a microsecond and without asking etcd, which may be behind by what is on its way. It is
   * never older than what this service wrote, nor than what an earlier call told.
   *
   * The copy is the one that a `watch` or `watchPrefix` has, or one that the first call begins and that is kept until
   * the key was not read for 5 to 10 minutes. Until there is one the quorum is asked. When etcd is away, the last known value
   * stands, with `staleSinceMillis`. A version is decoded once for each schema (the same object).
   */
  readonly cached: <A, I, R>(
    key: string,
    schema: Schema.Schema<A, I, R>
  ) => Effect.Effect<Cached<A>, NotFound | ReadError, R>
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
  /**
   * Reads, changes, and writes if nobody else has written in between; else again, as `schedule` says. `f` is given the
   * present value (`None`: there is none), may be called several times, and only its last result is written. Returns that with
   * its version. Survives lost answers as `compareAndSet` does: no change is made twice.
   *
   * Those of one service who modify the same key take turns. A present value that does not decode fails with `DecodeError`.
   */
  readonly modify: <A, I, R>(
    key: string,
    schema: Schema.Schema<A, I, R>,
    f: (current: Option.Option<A>) => A,
    options?: ModifyOptions
  ) => Effect.Effect<Versioned<A>, VersionConflict | ReadError | WriteError, R>
  /** `modify` with an effect, whose failure ends it: then nothing is written. */
  readonly modifyEffect: <A, I, R, E, R2>(
    key: string,
    schema: Schema.Schema<A, I, R>,
    f: (current: Option.Option<A>) => Effect.Effect<A, E, R2>,
    options?: ModifyOptions
  ) => Effect.Effect<Versioned<A>, E | VersionConflict | ReadError | WriteError, R | R2>
  /**
   * Does all steps (see `put`, `remove`, `check`) at one moment, or none, and returns the version of all that was written.
   * Fails with `TransactionConflict`, which names the keys, if versions are not those that were expected, and with
   * `InvalidArgument` if two steps have the same key, or if there are more than 127 of them, guards included. Survives lost
   * answers as `compareAndSet` does.
   */
  readonly transaction: <R>(
    steps: ReadonlyArray<Step<R>>,
    options?: GuardOptions
  ) => Effect.Effect<Version, TransactionConflict | WriteError, R>
  /** Deletes; `NotFound` if there was nothing to delete. Survives lost answers as `compareAndSet` does. */
  readonly delete: (
    key: string,
    options?: GuardOptions
  ) => Effect.Effect<void, NotFound | GuardError | InvalidArgument | EtcdError>
  /**
   * What etcd still keeps of a key, newest first, deletes and earlier lives included; what is not taken from the stream is
   * not read. Where etcd was compacted the last entry is `Compacted`. Each version costs a read, and where the key was
   * missing, each hundred revisions of etcd.
   */
  readonly history: <A, I, R>(
    key: string,
    schema: Schema.Schema<A, I, R>
  ) => Stream.Stream<HistoryEntry<A>, ListError, R>
  /**
   * Writes again what stood there at `version` (or any other revision), byte for byte, and returns the new version. Fails with
   * `VersionConflict` if somebody writes meanwhile; with `expected`, if the present version is another one than that.
   * Survives lost answers as `compareAndSet` does.
   */
  readonly rollback: (
    key: string,
    version: Version,
    options?: RollbackOptions
  ) => Effect.Effect<
    Version,
    NotFound | VersionConflict | RevisionError | GuardError | InvalidArgument | EtcdError
  >
  /** All values below a prefix at one moment, now or at a `revision`, those that do not decode apart. */
  readonly list: <A, I, R>(
    prefix: string,
    schema: Schema.Schema<A, I, R>,
    options?: ListOptions
  ) => Effect.Effect<Listing<A>, ListError | RevisionError, R>
  /**
   * The present value, if there is one, then every change, without a gap: through reconnections and restarts of etcd.
   * Fails only when etcd refuses to be read. All who watch the same key share one watch and one copy, with which those who
   * come later begin.
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

const defaultPrefix = "/config"

/**
 * Fails with `InvalidArgument` for a prefix that cannot work.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<Config["Type"], InvalidArgument, EtcdClient | Scope.Scope> =>
  Effect.flatMap(Input.options(options), ({ prefix = defaultPrefix }) => Service.make(prefix))

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<Config, InvalidArgument, EtcdClient> =>
  Layer.scoped(Config, make(options))

/**
 * What all keys in etcd begin with: by the `Config` that is provided, or else by default. What needs no `Config` follows the
 * same keys by it: a `ConfigManager`, `ConfigLayers`, a {@link provider}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const prefix: Effect.Effect<string> = Effect.map(
  Effect.serviceOption(Config),
  Option.match({ onNone: () => defaultPrefix, onSome: ({ prefix }) => prefix })
)

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
 * What stood there at a revision of etcd.
 *
 * @since 0.1.0
 * @category accessors
 */
export const getAt = <A, I, R>(
  key: string,
  schema: Schema.Schema<A, I, R>,
  revision: Version
): Effect.Effect<Versioned<A>, NotFound | ReadError | RevisionError, Config | R> =>
  Effect.flatMap(Config, (config) => config.getAt(key, schema, revision))

/**
 * The value from a local copy, which may be behind by what is on its way.
 *
 * @since 0.1.0
 * @category accessors
 */
export const cached = <A, I, R>(
  key: string,
  schema: Schema.Schema<A, I, R>
): Effect.Effect<Cached<A>, NotFound | ReadError, Config | R> =>
  Effect.flatMap(Config, (config) => config.cached(key, schema))

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

/**
 * Reads, changes, and writes if nobody else has written in between; else again, as `schedule` says.
 *
 * @example
 * ```ts
 * import { Config } from "effect-coord"
 * import { Option, Schema } from "effect"
 *
 * const visits = Config.modify("visits", Schema.Int, Option.match({ onNone: () => 1, onSome: (count) => count + 1 }))
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const modify = <A, I, R>(
  key: string,
  schema: Schema.Schema<A, I, R>,
  f: (current: Option.Option<A>) => A,
  options?: ModifyOptions
): Effect.Effect<Versioned<A>, VersionConflict | ReadError | WriteError, Config | R> =>
  Effect.flatMap(Config, (config) => config.modify(key, schema, f, options))

/**
 * {@link modify} with an effect, whose failure ends it: then nothing is written.
 *
 * @since 0.1.0
 * @category accessors
 */
export const modifyEffect = <A, I, R, E, R2>(
  key: string,
  schema: Schema.Schema<A, I, R>,
  f: (current: Option.Option<A>) => Effect.Effect<A, E, R2>,
  options?: ModifyOptions
): Effect.Effect<Versioned<A>, E | VersionConflict | ReadError | WriteError, Config | R | R2> =>
  Effect.flatMap(Config, (config) => config.modifyEffect(key, schema, f, options))

/**
 * Does all steps at one moment, or none, and returns the version of all that was written.
 *
 * @example
 * ```ts
 * import { Config } from "effect-coord"
 * import { Effect, Schema } from "effect"
 *
 * const rename = Effect.gen(function*() {
 *   const { value, version } = yield* Config.getWithVersion("old-name", Schema.String)
 *   return yield* Config.transaction([
 *     Config.put("new-name", Schema.String, value, { version: 0n }),
 *     Config.remove("old-name", { version })
 *   ])
 * })
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const transaction = <R>(
  steps: ReadonlyArray<Step<R>>,
  options?: GuardOptions
): Effect.Effect<Version, TransactionConflict | WriteError, Config | R> =>
  Effect.flatMap(Config, (config) => config.transaction(steps, options))

/**
 * A step of a {@link transaction}: writes. With `version`, the key must have that version (`0n`: no value).
 *
 * @since 0.1.0
 * @category steps
 */
export const put = <A, I, R>(
  key: string,
  schema: Schema.Schema<A, I, R>,
  value: A,
  options: { readonly version?: Version | undefined; readonly lease?: bigint | undefined } = {}
): Step<R> => ({
  _tag: "Put",
  key,
  // The transaction looks at the key first, which may be anything.
  encoded: Effect.suspend(() =>
    Effect.flatMap(Entries.codecFor(key, schema), (codec) => Entries.encode(key, codec, value))
  ),
  options
})

/**
 * A step of a {@link transaction}: deletes, if there is a value. With `version`, the key must have that version.
 *
 * @since 0.1.0
 * @category steps
 */
export const remove = (key: string, options: { readonly version?: Version | undefined } = {}): Step => ({
  _tag: "Remove",
  key,
  options
})

/**
 * A step of a {@link transaction}: the key must have this version (`0n`: no value), and stays as it is.
 *
 * @since 0.1.0
 * @category steps
 */
export const check = (key: string, version: Version): Step => ({ _tag: "Check", key, version })

const delete_ = (
  key: string,
  options?: GuardOptions
): Effect.Effect<void, NotFound | GuardError | InvalidArgument | EtcdError, Config> =>
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
 * What etcd still keeps of a key, newest first.
 *
 * @since 0.1.0
 * @category accessors
 */
export const history = <A, I, R>(
  key: string,
  schema: Schema.Schema<A, I, R>
): Stream.Stream<HistoryEntry<A>, ListError, Config | R> =>
  Stream.unwrap(Effect.map(Config, (config) => config.history(key, schema)))

/**
 * Writes again what stood there at `version` (or any other revision), byte for byte, and returns the new version.
 *
 * @since 0.1.0
 * @category accessors
 */
export const rollback = (
  key: string,
  version: Version,
  options?: RollbackOptions
): Effect.Effect<
  Version,
  NotFound | VersionConflict | RevisionError | GuardError | InvalidArgument | EtcdError,
  Config
> => Effect.flatMap(Config, (config) => config.rollback(key, version, options))

/**
 * All values below a prefix at one moment, now or at a `revision`, those that do not decode apart.
 *
 * @since 0.1.0
 * @category accessors
 */
export const list = <A, I, R>(
  prefix: string,
  schema: Schema.Schema<A, I, R>,
  options?: ListOptions
): Effect.Effect<Listing<A>, ListError | RevisionError, Config | R> =>
  Effect.flatMap(Config, (config) => config.list(prefix, schema, options))

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

const placed = (options: ProviderOptions): Effect.Effect<ProviderLive.Placed, InvalidArgument> =>
  Effect.flatMap(Input.options(options), ({ configPrefix, ...others }) =>
    Effect.map(
      configPrefix === undefined ? prefix : Effect.succeed(configPrefix),
      (configPrefix) => ({ ...others, configPrefix })
    ))

/**
 * A `ConfigProvider` for Effect's own `Config`, which reads what stands below a prefix. The keys are followed until the scope
 * closes, and every `Config` reads the newest copy, all of it at one revision.
 *
 * A path is looked for in keys and in the JSON that they hold: `Config.nested(Config.string("host"), "database")` finds
 * `database/host` and the field `host` of `database`; where both are, the longer key counts. Lists are arrays in JSON,
 * `hosts[0]` and so on, or texts with commas. `null`, and an empty list, are the same as no value.
 *
 * Waits for the first copy. Without etcd it fails with the `EtcdError`; with `orElse` it starts all the same, and goes on
 * with etcd as soon as it can be read.
 *
 * @example
 * ```ts
 * import { Config, Coord } from "effect-coord"
 * import { Config as EffectConfig, Effect, Layer } from "effect"
 *
 * const Database = EffectConfig.all({
 *   host: EffectConfig.string("host"),
 *   password: EffectConfig.redacted("password")
 * }).pipe(EffectConfig.nested("database"))
 *
 * const program = Effect.gen(function*() {
 *   const { host } = yield* Database
 *   yield* Effect.log(host)
 * })
 *
 * const live = Config.layerProvider("production/billing").pipe(Layer.provide(Coord.layer({ endpoints: "etcd:2379" })))
 *
 * const main = Effect.provide(program, live)
 * ```
 *
 * @since 0.1.0
 * @category config provider
 */
export const provider = (
  prefix: string,
  options: ProviderOptions = {}
): Effect.Effect<ConfigProvider.ConfigProvider, InvalidArgument | EtcdError, EtcdClient | Scope.Scope> =>
  Effect.flatMap(placed(options), (options) => ProviderLive.provider(prefix, options))

/**
 * Has everything above it read Effect's own `Config` from what stands below a prefix: see {@link provider}.
 *
 * @since 0.1.0
 * @category config provider
 */
export const layerProvider = (
  prefix: string,
  options: ProviderOptions = {}
): Layer.Layer<never, InvalidArgument | EtcdError, EtcdClient> =>
  Layer.unwrapScoped(Effect.map(provider(prefix, options), Layer.setConfigProvider))

/**
 * What one of Effect's own `Config`s says of the settings below a prefix: now, and whenever something that it reads has
 * changed. What is wrong or missing is a `Left`, and does not end the stream. A slow reader skips what is overtaken.
 *
 * @since 0.1.0
 * @category config provider
 */
export const changes = <A>(
  prefix: string,
  config: EffectConfig.Config<A>,
  options: ProviderOptions = {}
): Stream.Stream<Either.Either<A, EffectConfigError.ConfigError>, InvalidArgument | EtcdError, EtcdClient> =>
  Stream.unwrap(Effect.map(placed(options), (options) => ProviderLive.changes(prefix, config, options)))
