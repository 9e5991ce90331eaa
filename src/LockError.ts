/**
 * What can go wrong with locks and what is built like them.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import * as internal from "./internal/owner.js"
import { withoutBigints } from "./internal/plain.js"

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

/**
 * Who stands behind an entry of a queue, as the entry itself says: `host`, `pid`, `name` of the program, and `since` when the
 * entry stands there, by the clock of that host. For people; nothing depends on it.
 *
 * @since 0.1.0
 * @category models
 */
export const Owner = internal.Owner

/**
 * @since 0.1.0
 * @category models
 */
export type Owner = typeof Owner.Type

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
  holder: Schema.optional(Schema.String),
  /** Who that is, where the entry says so; those of Go and `etcdctl` do not. */
  owner: Schema.optional(Owner)
}) {
  override get message(): string {
    const { holder, owner } = this
    const by = owner === undefined
      ? holder === undefined ? "" : ` by ${holder}`
      : ` by ${JSON.stringify(owner.name)} (process ${owner.pid} on ${owner.host}), there since ${owner.since}`
    return `the ${this.kind} ${JSON.stringify(this.key)} is taken${by}`
  }
}

/**
 * The lock was lost while it was held. Somebody else may hold it by now, or soon.
 *
 * - `expired`: the lease could not be renewed in time
 * - `revoked`: etcd ended the lease
 * - `deleted`: the key was deleted by somebody
 * - `closed`: the layer of the lock was closed
 * - `released`: its holder gave it back, and went on to use its guard, `ttl` or `renew`
 *
 * @since 0.1.0
 * @category errors
 */
export class LockExpired extends Schema.TaggedError<LockExpired>("effect-coord/LockExpired")("LockExpired", {
  kind,
  key: Schema.String,
  fencingToken: Schema.BigIntFromSelf,
  reason: Schema.Literal("expired", "revoked", "deleted", "closed", "released")
}) {
  override get message(): string {
    return `the ${this.kind} ${JSON.stringify(this.key)} (token ${this.fencingToken}) was lost: ${this.reason}`
  }

  /** For JSON, which has no bigints: as texts. */
  override toJSON(): unknown {
    return withoutBigints(super.toJSON())
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
