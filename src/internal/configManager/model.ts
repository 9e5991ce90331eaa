/** What users see of a live setting; `effect-coord/ConfigManager` exports it. */
import type * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type * as Stream from "effect/Stream"
import type { EtcdError } from "../../EtcdError.js"
import type { MirrorState } from "../../Mirror.js"
import type { Version } from "../config/model.js"

/**
 * Whose setting it is. Each is one segment of the key.
 *
 * @since 0.1.0
 * @category models
 */
export interface Id {
  readonly env: string
  readonly service: string
  readonly component: string
}

/**
 * Where the present value comes from:
 *
 * - `"default"`: from the options, because etcd has none, or because none was found yet
 * - `"etcd"`: from etcd
 * - `"snapshot"`: from the file, because etcd could not be read at the start, or what it had was refused
 *
 * @since 0.1.0
 * @category models
 */
export type Source = "default" | "etcd" | "snapshot"

/**
 * What a value has to pass before it counts, in this order.
 *
 * @since 0.1.0
 * @category models
 */
export type Phase = "decode" | "validate" | "onUpdate"

/**
 * An update that was not applied.
 *
 * @since 0.1.0
 * @category models
 */
export interface Rejection {
  readonly phase: Phase
  readonly source: Source
  /** The key it stands under, as `Config` names it. */
  readonly key: string
  /** Its version; `0n` for the return to the default after a deletion. */
  readonly version: Version
  /** When it was refused, on the wall clock. */
  readonly atMillis: number
  /** Why. If the schema holds a `Schema.Redacted`, nothing in it comes from the value or from what was said of it. */
  readonly reason: string
  /** The whole cause. Redacted, as an error of the application may quote the value; `Redacted.value` shows it. */
  readonly cause: Redacted.Redacted<Cause.Cause<unknown>>
}

/**
 * The snapshot file.
 *
 * @since 0.1.0
 * @category models
 */
export interface SnapshotStatus {
  readonly file: string
  /** What is in it; none if there is no file, or it cannot be used. */
  readonly saved: Option.Option<{
    readonly version: Version
    /** When it was written, on the wall clock of then. */
    readonly atMillis: number
    readonly age: Duration.Duration
  }>
  /** What is wrong with the file, or kept it from being written. */
  readonly problem: Option.Option<string>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Status<A> {
  /** What `current` gives. */
  readonly value: A
  readonly source: Source
  /** The key the value stands under, as `Config` names it: the manager's own, or that of the Go module. */
  readonly key: string
  /** The version of the value; `0n` for the default. */
  readonly version: Version
  /** When it was applied, on the wall clock. */
  readonly appliedAtMillis: number
  /** The last update that was refused, until a later one is applied. All of them are logged. */
  readonly rejected: Option.Option<Rejection>
  /** What is being applied at this moment, or still goes on after it was refused for taking too long. */
  readonly applying: Option.Option<{ readonly version: Version; readonly sinceMillis: number }>
  /** Whether the manager is in step with etcd, and since when it may not be. */
  readonly connection: MirrorState
  /** If there is a `snapshotFile`. */
  readonly snapshot: Option.Option<SnapshotStatus>
}

/**
 * What became of a reload.
 *
 * @since 0.1.0
 * @category models
 */
export type Reloaded<A> =
  /** `previous` is the value before. */
  | { readonly _tag: "Applied"; readonly value: A; readonly version: Version; readonly previous: A }
  /** etcd has what is in force already. */
  | { readonly _tag: "Unchanged"; readonly value: A; readonly version: Version }
  /** etcd has something else, which was refused. */
  | { readonly _tag: "Rejected"; readonly rejection: Rejection }

/**
 * A live setting: it always has a value, and that has passed all its checks.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConfigManager<A> {
  /** Where the setting stands, as `Config` names it: `Config.set(manager.key, schema, value)` changes it. */
  readonly key: string
  /** The value in force. Costs next to nothing: read it wherever it is used, rather than keeping it. */
  readonly current: Effect.Effect<A>
  /**
   * The value in force, then the newest one whenever another was applied: a slow reader skips what is overtaken, never the
   * last one, and holds up nobody. Ends when the manager's scope closes.
   */
  readonly changes: Stream.Stream<A>
  /**
   * Reads from the quorum now, applies what is found, and tells the outcome. An update that was refused is tried again.
   * Fails when etcd cannot be read. An older value than that in force is never applied, however late the answer comes.
   */
  readonly reload: Effect.Effect<Reloaded<A>, EtcdError>
  readonly status: Effect.Effect<Status<A>>
}
