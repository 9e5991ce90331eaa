/**
 * A live, typed setting for one component of an application: it always has a value, that value has passed every check, and
 * it changes while the application runs.
 *
 * An update counts only when it decodes, is found valid, and the application's own `onUpdate` has succeeded with it. Until
 * then, and if it does not, the last good value stays, and the reason can be seen. An etcd that is away keeps nobody from
 * starting.
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Config from "./Config.js"
import type { UnsupportedSchema } from "./ConfigError.js"
import { EtcdClient } from "./EtcdClient.js"
import { InvalidArgument } from "./EtcdError.js"
import * as Entries from "./internal/config/entries.js"
import * as Input from "./internal/config/input.js"
import * as Shape from "./internal/config/shape.js"
import * as Attempt from "./internal/configManager/attempt.js"
import * as Keys from "./internal/configManager/keys.js"
import * as Manager from "./internal/configManager/manager.js"
import type { ConfigManager, Id } from "./internal/configManager/model.js"
import { reasonOf } from "./internal/configManager/reason.js"
import * as SnapshotFile from "./internal/configManager/snapshotFile.js"
import * as validate from "./internal/validate.js"

export type * from "./internal/configManager/model.js"

/**
 * @since 0.1.0
 * @category options
 */
export interface Options<A, I, R = never, RV = never, RU = never> extends Id {
  /** Its encoded side has to be JSON, as everywhere in `Config`; else `UnsupportedSchema`. */
  readonly schema: Schema.Schema<A, I, R>
  /** In force while etcd has no value, or none was found yet. One of the schema's values, and valid as well. */
  readonly default: A
  /**
   * Whether a value may be used: `false`, or an effect or `Either` that gives `false` or fails, refuses it; the error is the
   * reason that `status` shows. Called before `onUpdate`, and for the default.
   */
  readonly validate?: ((value: A) => boolean | Effect.Effect<unknown, unknown, RV>) | undefined
  /**
   * Hands a new value to the application (a pool is resized, a connection is opened). `current` changes when it has
   * succeeded; if it fails or dies, `previous` stays in force, and what was done has to be undone by `onUpdate` itself.
   *
   * Called for each value that replaces another: also for the first one that etcd or the snapshot has, and for the default
   * after a deletion; not for the default at the start. Never twice at the same time. What arrives while it runs is not
   * queued: the newest is next.
   */
  readonly onUpdate?: ((value: A, previous: A) => Effect.Effect<unknown, unknown, RU>) | undefined
  /**
   * How long an update may take, from decoding to the end of `onUpdate`. Then it is interrupted, and refused. Default 10
   * seconds. Later updates wait until it has really ended, which a region that cannot be interrupted may delay.
   */
  readonly updateTimeout?: Duration.DurationInput | undefined
  /**
   * How long the start waits for etcd, before it goes on with the snapshot or the default. Default 5 seconds. What was found
   * is applied before the start is over, which takes `updateTimeout` at most for each of etcd's value and the snapshot's.
   */
  readonly startTimeout?: Duration.DurationInput | undefined
  /**
   * A file for the last value that was applied, for a start without etcd. Its folder has to exist; each process needs a file
   * of its own. It may hold secrets, and only its owner may read it. Default: none.
   */
  readonly snapshotFile?: string | undefined
  /**
   * Whether to read the key of the Go module's manager too (`config/<env>/<service>/<component>`) where there is no value
   * under this one's own. Default `true`. It takes a second watch, and the right to read that key.
   */
  readonly goKey?: boolean | undefined
  /** What all keys begin with in etcd. Default: that of the `Config` that is provided, if one is; else `/config`. */
  readonly prefix?: string | undefined
}

/**
 * The key of a setting, as `Config` names it: `<env>/<service>/<component>`. With it any program can read and change the
 * setting. The environment `config` is refused: the Go module's manager keeps its settings there.
 *
 * @since 0.1.0
 * @category utilities
 */
export const key: (id: Id) => Either.Either<string, InvalidArgument> = Keys.keyOf

/**
 * A live setting, until the scope closes.
 *
 * It succeeds when the first value was found and applied: that of etcd, or, if etcd is not heard of within `startTimeout`,
 * refuses to be read, or has a value that is refused, that of the snapshot file, or the default. From then on it follows
 * etcd, through outages of any length.
 *
 * Fails with `InvalidArgument` for names or options that cannot work, and a default that the schema or `validate` refuses; with
 * `UnsupportedSchema` for a schema that is not JSON.
 *
 * @example
 * ```ts
 * import { Context, Effect, Layer, Schema } from "effect"
 * import { ConfigManager, Coord } from "effect-coord"
 *
 * const Settings = Schema.Struct({ greeting: Schema.String, requestsPerSecond: Schema.Int })
 *
 * class Live extends Context.Tag("Live")<Live, ConfigManager.ConfigManager<typeof Settings.Type>>() {}
 *
 * const live = ConfigManager.layer(Live, {
 *   env: "production",
 *   service: "greeter",
 *   component: "http",
 *   schema: Settings,
 *   default: { greeting: "Hello", requestsPerSecond: 100 },
 *   validate: ({ requestsPerSecond }) => requestsPerSecond > 0,
 *   onUpdate: ({ requestsPerSecond }) => Effect.log(`the limit is ${requestsPerSecond} requests per second now`)
 * }).pipe(Layer.provide(Coord.layer({ endpoints: "etcd:2379" })))
 *
 * const greet = Effect.gen(function*() {
 *   const settings = yield* Live
 *   const { greeting } = yield* settings.current
 *   return `${greeting}!`
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <A, I, R = never, RV = never, RU = never>(
  options: Options<A, I, R, RV, RU>
): Effect.Effect<
  ConfigManager<A>,
  InvalidArgument | UnsupportedSchema,
  EtcdClient | R | RV | RU | Scope.Scope
> =>
  Effect.gen(function*() {
    const key = yield* Keys.keyOf(options)
    const {
      goKey = true,
      onUpdate,
      prefix = yield* Config.prefix,
      snapshotFile: file,
      startTimeout: start = "5 seconds",
      updateTimeout: update = "10 seconds",
      validate: check
    } = options
    const root = `${yield* validate.keyPrefix("prefix", prefix)}/`
    const startTimeout = yield* validate.positiveDuration("startTimeout", start)
    const updateTimeout = yield* validate.positiveDuration("updateTimeout", update)
    yield* Input.callback("validate", check)
    yield* Input.callback("onUpdate", onUpdate)
    yield* Input.check("goKey", goKey, typeof goKey === "boolean", "must be true or false")
    yield* Input.check(
      "snapshotFile",
      file,
      file === undefined || typeof file === "string" && file !== "" && !file.includes("\0"),
      "must be the path of a file"
    )
    const codec = yield* Entries.codecFor(key, options.schema)
    const { isSecret } = Shape.of(options.schema.ast)

    const checked = yield* Attempt.run<A, R | RV>(
      Effect.as(codec.check(options.default), options.default),
      { validate: check, onUpdate: undefined },
      options.default,
      updateTimeout
    )
    if (checked.verdict._tag === "Refused") {
      const { cause, phase } = checked.verdict
      return yield* new InvalidArgument({
        argument: "default",
        problem: cause === undefined
          ? `${phase} takes too long`
          : `is refused by ${phase}: ${reasonOf(phase, cause, isSecret)}`
      })
    }

    const { namespace } = yield* EtcdClient
    return yield* Manager.make<A, R | RV | RU>({
      root,
      key,
      goKey,
      codec,
      isSecret,
      default: options.default,
      validate: check,
      onUpdate,
      startTimeout,
      updateTimeout,
      snapshotFile: file === undefined ? undefined : yield* SnapshotFile.open(file, namespace + root + key)
    })
  })

/**
 * A live setting as a service of an application, under a tag of its own:
 * `class Limits extends Context.Tag("Limits")<Limits, ConfigManager.ConfigManager<Limits>>() {}`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <Self, A, I, R = never, RV = never, RU = never>(
  tag: Context.Tag<Self, ConfigManager<A>>,
  options: Options<A, I, R, RV, RU>
): Layer.Layer<
  Self,
  InvalidArgument | UnsupportedSchema,
  Exclude<EtcdClient | R | RV | RU | Scope.Scope, Scope.Scope>
> => Layer.scoped(tag, make(options))
