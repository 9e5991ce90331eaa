/** What users see of values and their changes; `effect-coord/Config` exports it. */
import type * as Option from "effect/Option"
import type { ParseError } from "effect/ParseResult"
import type * as Redacted from "effect/Redacted"

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
