/**
 * What can go wrong with configuration. No error holds a value that its schema marks as a secret.
 *
 * @since 0.1.0
 */
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { withoutBigints } from "./internal/plain.js"

const quote = (key: string): string => JSON.stringify(key)

const state = (version: bigint): string => version === 0n ? "no value" : `version ${version}`

/**
 * There is no value under the key.
 *
 * @since 0.1.0
 * @category errors
 */
export class NotFound extends Schema.TaggedError<NotFound>("effect-coord/Config/NotFound")("NotFound", {
  /** What was looked for: always `config` here; that of the registry says `service`. */
  what: Schema.Literal("config").pipe(
    Schema.propertySignature,
    Schema.withConstructorDefault(() => "config" as const)
  ),
  key: Schema.String,
  /** The revision at which there was none, if it was asked for. */
  revision: Schema.optional(Schema.BigIntFromSelf)
}) {
  override get message(): string {
    return this.revision === undefined
      ? `there is no config ${quote(this.key)}`
      : `there was no config ${quote(this.key)} at revision ${this.revision}`
  }

  /** For JSON, which has no bigints: as texts. */
  override toJSON(): unknown {
    return withoutBigints(super.toJSON())
  }
}

/**
 * What stands in etcd does not decode by the schema.
 *
 * If the schema holds a `Schema.Redacted` anywhere, neither the message nor the cause shows any part of the value.
 *
 * @since 0.1.0
 * @category errors
 */
export class DecodeError extends Schema.TaggedError<DecodeError>("effect-coord/Config/DecodeError")("DecodeError", {
  key: Schema.String,
  /** The version that does not decode. */
  version: Schema.BigIntFromSelf,
  cause: Schema.instanceOf(ParseResult.ParseError)
}) {
  override get message(): string {
    return `config ${quote(this.key)} (version ${this.version}) does not decode: ${this.cause.message}`
  }

  /** For JSON, which has no bigints: as texts. */
  override toJSON(): unknown {
    return withoutBigints(super.toJSON())
  }
}

/**
 * The value to be set is not one of the schema's. Nothing was sent.
 *
 * If the schema holds a `Schema.Redacted` anywhere, neither the message nor the cause shows any part of the value.
 *
 * @since 0.1.0
 * @category errors
 */
export class EncodeError extends Schema.TaggedError<EncodeError>("effect-coord/Config/EncodeError")("EncodeError", {
  key: Schema.String,
  cause: Schema.instanceOf(ParseResult.ParseError)
}) {
  override get message(): string {
    return `the value for config ${quote(this.key)} does not encode: ${this.cause.message}`
  }
}

/**
 * The encoded side of the schema, or of this value, is not JSON, so the value could not be read back equal. Nothing was
 * sent.
 *
 * @since 0.1.0
 * @category errors
 */
export class UnsupportedSchema
  extends Schema.TaggedError<UnsupportedSchema>("effect-coord/Config/UnsupportedSchema")("UnsupportedSchema", {
    /** The key, or the prefix. */
    key: Schema.String,
    /** Where in the encoded value: property names and indices; `[]` stands for any index or property. */
    path: Schema.Array(Schema.String),
    /** What stands there that JSON does not have: `bigint`, `undefined`, `NaN`, … */
    problem: Schema.String
  })
{
  override get message(): string {
    const where = this.path.length === 0 ? "" : ` at ${this.path.join(".")}`
    return `config ${quote(this.key)} cannot be kept as JSON: its encoded side has ${this.problem}${where}`
  }
}

/**
 * The key does not have the version that was expected. Nothing was changed.
 *
 * @since 0.1.0
 * @category errors
 */
export class VersionConflict
  extends Schema.TaggedError<VersionConflict>("effect-coord/Config/VersionConflict")("VersionConflict", {
    key: Schema.String,
    expected: Schema.BigIntFromSelf,
    /** The version etcd has; `0n` when there is no value. */
    actual: Schema.BigIntFromSelf
  })
{
  override get message(): string {
    return `config ${quote(this.key)} has ${state(this.actual)}, expected was ${state(this.expected)}`
  }

  /** For JSON, which has no bigints: as texts. */
  override toJSON(): unknown {
    return withoutBigints(super.toJSON())
  }
}

/**
 * Keys of a transaction do not have the versions that were expected. Nothing was changed.
 *
 * @since 0.1.0
 * @category errors
 */
export class TransactionConflict
  extends Schema.TaggedError<TransactionConflict>("effect-coord/Config/TransactionConflict")("TransactionConflict", {
    /** One for each key that differs, in the order of the steps. */
    conflicts: Schema.Array(VersionConflict)
  })
{
  override get message(): string {
    return `nothing was changed: ${this.conflicts.map(({ message }) => message).join("; ")}`
  }
}

/**
 * The revision asked for is gone: etcd was compacted. What stood there cannot be read any more; read at `oldest` or above.
 *
 * @since 0.1.0
 * @category errors
 */
export class RevisionCompacted
  extends Schema.TaggedError<RevisionCompacted>("effect-coord/Config/RevisionCompacted")("RevisionCompacted", {
    /** The key, or the prefix. */
    key: Schema.String,
    revision: Schema.BigIntFromSelf,
    /** The oldest revision that could be read at that moment; missing if etcd could not be asked. */
    oldest: Schema.optional(Schema.BigIntFromSelf)
  })
{
  override get message(): string {
    const oldest = this.oldest === undefined ? "" : `; the oldest that can be read is ${this.oldest}`
    return `config ${quote(this.key)} cannot be read at revision ${this.revision}: it was compacted${oldest}`
  }

  /** For JSON, which has no bigints: as texts. */
  override toJSON(): unknown {
    return withoutBigints(super.toJSON())
  }
}

/**
 * The revision asked for is not there yet. If it was there once, etcd has lost its data.
 *
 * @since 0.1.0
 * @category errors
 */
export class FutureRevision
  extends Schema.TaggedError<FutureRevision>("effect-coord/Config/FutureRevision")("FutureRevision", {
    /** The key, or the prefix. */
    key: Schema.String,
    revision: Schema.BigIntFromSelf,
    /** The newest revision at that moment; missing if etcd could not be asked. */
    newest: Schema.optional(Schema.BigIntFromSelf)
  })
{
  override get message(): string {
    const newest = this.newest === undefined ? "" : `; the newest is ${this.newest}`
    return `config ${quote(this.key)} cannot be read at revision ${this.revision}: it is not there yet${newest}`
  }

  /** For JSON, which has no bigints: as texts. */
  override toJSON(): unknown {
    return withoutBigints(super.toJSON())
  }
}

/**
 * The guard of a write did not hold. Nothing was changed. The `guard` of a lock fails with its `LockExpired` instead; this is
 * for conditions of other kinds.
 *
 * @since 0.1.0
 * @category errors
 */
export class GuardFailed extends Schema.TaggedError<GuardFailed>("effect-coord/Config/GuardFailed")("GuardFailed", {
  key: Schema.String,
  /** The key in etcd that the guard looks at. */
  guard: Schema.String
}) {
  override get message(): string {
    return `config ${quote(this.key)} was not changed: the guard on ${quote(this.guard)} does not hold`
  }
}

/**
 * Layers of settings that cannot be merged, or whose sum does not decode by the schema.
 *
 * No problem of a layer shows anything of what it says; and if the schema holds a `Schema.Redacted` anywhere, nothing else
 * does.
 *
 * @since 0.1.0
 * @category errors
 */
export class LayersInvalid
  extends Schema.TaggedError<LayersInvalid>("effect-coord/Config/LayersInvalid")("LayersInvalid", {
    /** All layers, the lowest first; with `0n` those that are not there. */
    layers: Schema.Array(Schema.Struct({ key: Schema.String, version: Schema.BigIntFromSelf })),
    /** The revision they were read at. */
    revision: Schema.BigIntFromSelf,
    problems: Schema.Array(Schema.Struct({
      /** The layer that has to be mended; missing if no layer says anything of the place. */
      key: Schema.optional(Schema.String),
      version: Schema.optional(Schema.BigIntFromSelf),
      /** The names of the properties, from the outside in. */
      path: Schema.Array(Schema.String),
      problem: Schema.String
    })),
    /** Why the sum of the layers does not decode. */
    cause: Schema.optional(Schema.instanceOf(ParseResult.ParseError))
  })
{
  override get message(): string {
    const problems = this.problems.map(({ key, path, problem, version }) => {
      const place = path.length === 0 ? "" : ` at ${path.join(".")}`
      return `${key === undefined ? "no layer" : `${quote(key)} (version ${version})`}${place}: ${problem}`
    })
    const keys = this.layers.map(({ key }) => quote(key)).join(", ")
    return `the layers ${keys} (revision ${this.revision}) cannot be used: ${problems.join("; ")}`
  }

  /** For JSON, which has no bigints: as texts. */
  override toJSON(): unknown {
    return withoutBigints(super.toJSON())
  }
}
