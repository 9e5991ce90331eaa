/**
 * Settings in layers: a base, and what an environment, a service or an instance has to say otherwise. All layers are read at
 * one revision, merged as JSON, and decoded by a schema; and of each value it can be told which layer it comes from.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Config from "./Config.js"
import type { LayersInvalid, UnsupportedSchema } from "./ConfigError.js"
import { EtcdClient } from "./EtcdClient.js"
import type { EtcdError } from "./EtcdError.js"
import { InvalidArgument } from "./EtcdError.js"
import * as Entries from "./internal/config/entries.js"
import * as Input from "./internal/config/input.js"
import * as Names from "./internal/config/names.js"
import * as Explain from "./internal/configLayers/explain.js"
import * as Live from "./internal/configLayers/live.js"
import type { ConfigLayers, Explanation, Settings } from "./internal/configLayers/model.js"
import * as Reading from "./internal/configLayers/reading.js"
import { resolve } from "./internal/configLayers/settings.js"
import * as validate from "./internal/validate.js"

export type * from "./internal/configLayers/model.js"

/**
 * Layers are JSON objects, and merged as JSON Merge Patch (RFC 7386) says: objects property by property; anything else, arrays
 * too, replaces what lower layers say; and `null` removes it, so that no `null` is left but in arrays. A layer that does not
 * exist says nothing. If there is none at all, the empty object is decoded.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options<A, I, R = never> {
  /** The keys of the layers, as `Config` names them, the lowest first: what stands further on overrides. At most 128. */
  readonly keys: ReadonlyArray<string>
  /** Decodes what the layers come to together. Its encoded side has to be JSON, as everywhere in `Config`. */
  readonly schema: Schema.Schema<A, I, R>
  /** How long `get` and `settings` wait for the first reading, if etcd does not answer. Default 5 seconds. */
  readonly timeout?: Duration.DurationInput | undefined
  /**
   * How long the decoding of a reading may take, where the schema decodes with effects. Then it is interrupted, and the
   * reading counts as one that does not decode. Default 10 seconds.
   */
  readonly updateTimeout?: Duration.DurationInput | undefined
  /** What all keys begin with in etcd. Default: that of the `Config` that is provided, if one is; else `/config`. */
  readonly prefix?: string | undefined
}

/** What etcd reads in one transaction. */
const maxLayers = 128

const parse = <A, I, R>(options: Options<A, I, R>) =>
  Effect.gen(function*() {
    const { keys, prefix, schema, timeout = "5 seconds", updateTimeout = "10 seconds" } = yield* Input.options(options)
    const names = yield* Names.make(prefix === undefined ? yield* Config.prefix : prefix)
    // A text is a list of letters to JavaScript: each would be a layer.
    yield* Input.check("keys", keys, Array.isArray(keys), "must be an array")
    const layers = yield* Effect.forEach(
      keys,
      (key) => Effect.map(names.key(key, "keys"), (etcdKey): Reading.LayerKey => ({ key, etcdKey }))
    )
    const isDistinct = new Set(keys).size === keys.length
    if (!Arr.isNonEmptyReadonlyArray(layers) || layers.length > maxLayers || !isDistinct) {
      return yield* new InvalidArgument({
        argument: "keys",
        value: isDistinct ? String(keys.length) : keys.join(", "),
        problem: isDistinct ? `must be 1 to ${maxLayers} keys` : "must be different keys"
      })
    }
    const codec = yield* Entries.codecFor(keys[keys.length - 1], schema)
    return {
      keys: layers,
      decoder: { ast: schema.ast, codec },
      times: {
        timeout: yield* validate.positiveDuration("timeout", timeout),
        updateTimeout: yield* validate.positiveDuration("updateTimeout", updateTimeout)
      }
    }
  })

/**
 * Settings that follow their layers until the scope closes, through outages of any length. Succeeds at once: `get` waits for
 * the first reading.
 *
 * Every change of a layer has all of them merged anew, each at the same revision, so that what a transaction changed in
 * several layers is never seen in part. What cannot be merged or does not decode is logged as a warning and told by `status`
 * and `events`; what counted before still does.
 *
 * Fails with `InvalidArgument` for keys or options that cannot work, with `UnsupportedSchema` for a schema that is not JSON.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { ConfigLayers } from "effect-coord"
 *
 * const Billing = Schema.Struct({
 *   currency: Schema.String,
 *   limits: Schema.Struct({ requests: Schema.Int, burst: Schema.optionalWith(Schema.Int, { default: () => 10 }) })
 * })
 *
 * const program = Effect.gen(function*() {
 *   const billing = yield* ConfigLayers.make({
 *     keys: ["billing/base", "billing/production", "billing/production/eu-1"],
 *     schema: Billing
 *   })
 *   const { limits } = yield* billing.get
 *   yield* Effect.log(`${limits.requests} requests`)
 *   yield* Effect.log(ConfigLayers.format(yield* billing.explain))
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <A, I, R = never>(
  options: Options<A, I, R>
): Effect.Effect<ConfigLayers<A>, InvalidArgument | UnsupportedSchema, EtcdClient | R | Scope.Scope> =>
  Effect.flatMap(parse(options), ({ decoder, keys, times }) => Live.make(keys, decoder, times))

/**
 * The same as a layer, for a tag of the application's own.
 *
 * @example
 * ```ts
 * import { Context, Layer, Schema } from "effect"
 * import { ConfigLayers, Coord } from "effect-coord"
 *
 * const Billing = Schema.Struct({ currency: Schema.String })
 *
 * class Settings extends Context.Tag("Settings")<Settings, ConfigLayers.ConfigLayers<typeof Billing.Type>>() {}
 *
 * const live = ConfigLayers.layer(Settings, { keys: ["billing/base", "billing/production"], schema: Billing }).pipe(
 *   Layer.provide(Coord.layer({ endpoints: "etcd:2379" }))
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <Self, A, I, R = never>(
  tag: Context.Tag<Self, ConfigLayers<A>>,
  options: Options<A, I, R>
): Layer.Layer<Self, InvalidArgument | UnsupportedSchema, EtcdClient | R> => Layer.scoped(tag, make(options))

/**
 * The settings of now: all layers by one quorum read.
 *
 * @since 0.1.0
 * @category accessors
 */
export const read = <A, I, R = never>(
  options: Omit<Options<A, I, R>, "timeout" | "updateTimeout">
): Effect.Effect<
  Settings<A>,
  LayersInvalid | InvalidArgument | UnsupportedSchema | EtcdError,
  EtcdClient | R
> =>
  Effect.gen(function*() {
    const { decoder, keys } = yield* parse(options)
    yield* Effect.annotateCurrentSpan("config.keys", keys.map(({ key }) => key))
    const client = yield* EtcdClient
    const { settings } = yield* Effect.flatMap(Reading.read(client, keys), (reading) => resolve(decoder, reading))
    return settings
  }).pipe(Effect.withSpan("ConfigLayers.read", { kind: "client", captureStackTrace: false }))

/**
 * Explanations as a table for people: a line for each value, with its place, where it comes from, and what it overrides.
 *
 * @since 0.1.0
 * @category utilities
 */
export const format: (explanations: ReadonlyArray<Explanation>) => string = Explain.format
