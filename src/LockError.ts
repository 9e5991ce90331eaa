/**
 * What can go wrong with locks and what is built like them.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"

/**
 * What is held, or waited for: all of them are queues of keys, and fail in the same ways.
 *
 * @since 0.1.0
 * @category models
 */
export const Kind = Schema.Literal("lock", "semaphore", "read-write lock", "leadership", "instance ID")

/**
 * @since 0.1.0
 * @category models
 */
export type Kind = typeof Kind.Type

const kind = Kind.pipe(Schema.propertySignature, Schema.withConstructorDefault(() => "lock" as const))

/**
 * The lock was not free by the end of `timeout`.
 *
 * @since 0.1.0
 * @category errors
 */
export class LockTimeout extends Schema.TaggedError<LockTimeout>("effect-coord/LockTimeout")("LockTimeout", {
  kind,
  key: Schema.String,
  timeout: Schema.DurationFromSelf
}) {
  override get message(): string {
    return `the ${this.kind} ${JSON.stringify(this.key)} was not free within ${Duration.format(this.timeout)}`
  }
}

/**
 * Somebody else holds the lock, or waits for it.
 *
 * @since 0.1.0
 * @category errors
 */
export class LockConflict extends Schema.TaggedError<LockConflict>("effect-coord/LockConflict")("LockConflict", {
  kind,
  key: Schema.String,
  /** The key in etcd of the holder. */
  holder: Schema.optional(Schema.String)
}) {
  override get message(): string {
    return `the ${this.kind} ${JSON.stringify(this.key)} is taken${
      this.holder === undefined ? "" : ` by ${this.holder}`
    }`
  }
}

/**
 * The lock was lost while it was held. Somebody else may hold it by now, or soon.
 *
 * - `expired`: the lease could not be renewed in time
 * - `revoked`: etcd ended the lease
 * - `deleted`: the key was deleted by somebody
 * - `closed`: the layer of the lock was closed
 *
 * @since 0.1.0
 * @category errors
 */
export class LockExpired extends Schema.TaggedError<LockExpired>("effect-coord/LockExpired")("LockExpired", {
  kind,
  key: Schema.String,
  fencingToken: Schema.BigIntFromSelf,
  reason: Schema.Literal("expired", "revoked", "deleted", "closed")
}) {
  override get message(): string {
    return `the ${this.kind} ${JSON.stringify(this.key)} (token ${this.fencingToken}) was lost: ${this.reason}`
  }
}

/**
 * The lock is not held: it was released before, or lost.
 *
 * @since 0.1.0
 * @category errors
 */
export class LockNotHeld extends Schema.TaggedError<LockNotHeld>("effect-coord/LockNotHeld")("LockNotHeld", {
  kind,
  key: Schema.String
}) {
  override get message(): string {
    return `the ${this.kind} ${JSON.stringify(this.key)} is not held`
  }
}
