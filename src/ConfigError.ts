/**
 * What can go wrong with configuration. No error holds a value that its schema marks as a secret.
 *
 * @since 0.1.0
 */
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"

const quote = (key: string): string => JSON.stringify(key)

/**
 * There is no value under the key.
 *
 * @since 0.1.0
 * @category errors
 */
export class NotFound extends Schema.TaggedError<NotFound>("effect-coord/Config/NotFound")("NotFound", {
  key: Schema.String
}) {
  override get message(): string {
    return `there is no config ${quote(this.key)}`
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
    const state = (version: bigint): string => version === 0n ? "no value" : `version ${version}`
    return `config ${quote(this.key)} has ${state(this.actual)}, expected was ${state(this.expected)}`
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
