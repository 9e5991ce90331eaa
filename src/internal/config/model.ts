/** What users see of values and their changes; `effect-coord/Config` exports it. */
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type { ParseError } from "effect/ParseResult"
import type * as Redacted from "effect/Redacted"
import type * as Schedule from "effect/Schedule"
import type {
  DecodeError,
  EncodeError,
  FutureRevision,
  GuardFailed,
  RevisionCompacted,
  UnsupportedSchema,
  VersionConflict
} from "../../ConfigError.js"
import type { EtcdError, InvalidArgument } from "../../EtcdError.js"
import type { LockExpired } from "../../LockError.js"
import type { Compare } from "../../Txn.js"

/**
 * @since 0.1.0
 * @category options
 */
export interface GuardOptions {
  /**
   * Write only if this holds, checked by etcd together with the write. The `guard` of a lock, the `guards` of several: else
   * `LockExpired`, of which those who wait for `lost` hear as well. Any other condition: else `GuardFailed`.
   */
  readonly guard?: Compare | ReadonlyArray<Compare> | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface WriteOptions extends GuardOptions {
  /** The value goes when this lease ends. Default: none, also if the value before had one. */
  readonly lease?: bigint | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface ListOptions {
  /** The moment. Default: now. */
  readonly revision?: Version | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface RollbackOptions extends WriteOptions {
  /** The version that is to be replaced, `0n` for none: what somebody has looked at. Default: whatever is there. */
  readonly expected?: Version | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface ModifyOptions extends WriteOptions {
  /**
   * How to go on after a conflict; when it ends, the `VersionConflict` is the failure. Default: the first time at once, then
   * after pauses that grow from 10 to 160 milliseconds, again and again, with jitter, for as long as it takes.
   */
  readonly schedule?: Schedule.Schedule<unknown, VersionConflict> | undefined
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
export type GuardError = GuardFailed | LockExpired

/**
 * @since 0.1.0
 * @category errors
 */
export type WriteError = InvalidArgument | UnsupportedSchema | EncodeError | GuardError | EtcdError

/**
 * @since 0.1.0
 * @category errors
 */
export type ListError = InvalidArgument | UnsupportedSchema | EtcdError

/**
 * The revision that was asked for cannot be read.
 *
 * @since 0.1.0
 * @category errors
 */
export type RevisionError = RevisionCompacted | FutureRevision

/**
 * Which write a value comes from: the revision of etcd that wrote it. Grows with every write; `0n` stands for "no value".
 *
 * @since 0.1.0
 * @category models
 */
export type Version = bigint

/**
 * @since 0.1.0
 * @category models
 */
export interface Versioned<A> {
  readonly value: A
  readonly version: Version
}

/**
 * One value of a list.
 *
 * @since 0.1.0
 * @category models
 */
export interface Entry<A> extends Versioned<A> {
  readonly key: string
}

/**
 * A value that does not decode.
 *
 * @since 0.1.0
 * @category models
 */
export interface InvalidEntry {
  readonly key: string
  readonly version: Version
  /** What stands in etcd. Redacted, as nobody can say what it is; `Redacted.value` shows it. */
  readonly raw: Redacted.Redacted<Uint8Array>
  readonly error: ParseError
}

/**
 * What stands below a prefix, in the order of the keys.
 *
 * @since 0.1.0
 * @category models
 */
export interface Listing<A> {
  readonly entries: ReadonlyArray<Entry<A>>
  /** What does not decode by the schema. */
  readonly invalid: ReadonlyArray<InvalidEntry>
}

/**
 * A change of one key. `version` is that of the change, deletes included; `previous` is the value before it, as far as it
 * was seen and decodes.
 *
 * @since 0.1.0
 * @category models
 */
export type ConfigEvent<A> =
  | Entry<A> & { readonly _tag: "Put"; readonly previous: Option.Option<A> }
  | { readonly _tag: "Delete"; readonly key: string; readonly version: Version; readonly previous: Option.Option<A> }
  | InvalidEntry & { readonly _tag: "Invalid"; readonly previous: Option.Option<A> }

/**
 * A value from the local copy.
 *
 * @since 0.1.0
 * @category models
 */
export interface Cached<A> extends Versioned<A> {
  /** Since when the copy may be behind etcd, by the wall clock; `undefined` while it is in step, as far as can be known. */
  readonly staleSinceMillis: number | undefined
}

/**
 * What etcd still keeps of a key, newest first. A `Delete` has the version of the delete. `Compacted`, always the last, says
 * that there was or may have been more: what is older than `before` is gone.
 *
 * @since 0.1.0
 * @category models
 */
export type HistoryEntry<A> =
  | Entry<A> & { readonly _tag: "Put" }
  | { readonly _tag: "Delete"; readonly key: string; readonly version: Version }
  | InvalidEntry & { readonly _tag: "Invalid" }
  | { readonly _tag: "Compacted"; readonly key: string; readonly before: Version }

/**
 * A part of a transaction: `put`, `remove` and `check` make them. `version` is the one that the key must have for the whole
 * transaction to be applied (`0n`: no value); without it, any.
 *
 * @since 0.1.0
 * @category models
 */
export type Step<R = never> =
  | {
    readonly _tag: "Put"
    readonly key: string
    readonly encoded: Effect.Effect<string, UnsupportedSchema | EncodeError, R>
    readonly options: { readonly version?: Version | undefined; readonly lease?: bigint | undefined }
  }
  | { readonly _tag: "Remove"; readonly key: string; readonly options: { readonly version?: Version | undefined } }
  | { readonly _tag: "Check"; readonly key: string; readonly version: Version }
