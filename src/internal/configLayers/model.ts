/** What users see of layers of settings; `effect-coord/ConfigLayers` exports it. */
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import type { LayersInvalid } from "../../ConfigError.js"
import type { EtcdError } from "../../EtcdError.js"
import type { MirrorState } from "../../Mirror.js"
import type { Version } from "../config/model.js"

/**
 * Which version of a layer it was; `0n` stands for "there is none".
 *
 * @since 0.1.0
 * @category models
 */
export interface LayerVersion {
  readonly key: string
  readonly version: Version
}

/**
 * What a layer says of a place.
 *
 * @since 0.1.0
 * @category models
 */
export interface Said extends LayerVersion {
  /**
   * As JSON. `<redacted>` where it is a secret, or no value of the kind that the schema has there; `<undeclared>` where the
   * schema has nothing; `<removed>` for `null`.
   */
  readonly shown: string
}

/**
 * Where the value at one place of the merged settings comes from.
 *
 * @since 0.1.0
 * @category models
 */
export interface Explanation {
  /** The names of the properties, from the outside in. An array is one value. */
  readonly path: ReadonlyArray<string>
  /** The layer whose word counts. */
  readonly from: Said
  /** What lower layers say of the place, or of one that it is in; the nearest first. */
  readonly overrides: ReadonlyArray<Said>
}

/**
 * Settings that were merged from their layers at one revision.
 *
 * @since 0.1.0
 * @category models
 */
export interface Settings<A> {
  readonly value: A
  /** All layers are those of this revision. */
  readonly revision: bigint
  /** The lowest first. */
  readonly layers: ReadonlyArray<LayerVersion>
  /** Where each value comes from, in the order of the paths. What the schema itself fills in is in no layer. */
  readonly explain: Effect.Effect<ReadonlyArray<Explanation>>
}

/**
 * A reading of the layers: settings that count from now on, or what is wrong with them, while those before still count.
 *
 * @since 0.1.0
 * @category models
 */
export type LayersEvent<A> =
  | { readonly _tag: "Applied"; readonly settings: Settings<A> }
  | { readonly _tag: "Invalid"; readonly error: LayersInvalid }

/**
 * @since 0.1.0
 * @category models
 */
export interface Status {
  /** How fresh the local copy of the layers is. */
  readonly connection: MirrorState
  /** The revision of the settings that count; none as long as there are none. */
  readonly revision: Option.Option<bigint>
  /** What is wrong with the newest reading, if those of an earlier one count because of it. */
  readonly rejected: Option.Option<LayersInvalid>
}

/**
 * Settings that follow their layers, until the scope that they were made in closes.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConfigLayers<A> {
  /**
   * The value that counts: the last one that could be merged and decoded. At first it waits for the first reading, for
   * `timeout` at most; fails as long as nothing could be read (`EtcdError`) or used (`LayersInvalid`).
   */
  readonly get: Effect.Effect<A, LayersInvalid | EtcdError>
  /** The same with the revision, the versions of the layers, and where each value comes from. */
  readonly settings: Effect.Effect<Settings<A>, LayersInvalid | EtcdError>
  /** `explain` of the settings that count. */
  readonly explain: Effect.Effect<ReadonlyArray<Explanation>, LayersInvalid | EtcdError>
  /**
   * The value that counts, once there is one, then every other. A change that leaves the merged settings as they were is
   * not told, and one that is overtaken before the reader takes it is skipped.
   */
  readonly changes: Stream.Stream<A>
  /** What became of the last reading, then of each one after it; those that are overtaken are skipped. */
  readonly events: Stream.Stream<LayersEvent<A>>
  readonly status: Effect.Effect<Status>
}
