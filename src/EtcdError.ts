/**
 * What can go wrong below a service: a refused argument, or an answer (or silence) of etcd.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { withoutBigints } from "./internal/plain.js"

/**
 * An argument that can never work, refused before anything is sent.
 *
 * @since 0.1.0
 * @category errors
 */
export class InvalidArgument extends Schema.TaggedError<InvalidArgument>("effect-coord/InvalidArgument")(
  "InvalidArgument",
  {
    /** The name of the argument or option, as the caller wrote it (`key`, `ttl`, `endpoints`). */
    argument: Schema.String,
    /** The offending value, rendered; left out when it could be a secret. */
    value: Schema.optional(Schema.String),
    /** What is wrong with it, and what would be right. */
    problem: Schema.String
  }
) {
  override get message(): string {
    return this.value === undefined
      ? `Invalid ${this.argument}: ${this.problem}`
      : `Invalid ${this.argument} ${JSON.stringify(this.value)}: ${this.problem}`
  }
}

/**
 * Why a call failed, in terms a person can act on.
 *
 * - `Unavailable`: no member could be reached, the connection broke, or the cluster has no leader
 * - `DeadlineExceeded`: no answer within the call's deadline
 * - `Unauthenticated`, `PermissionDenied`: credentials or roles
 * - `LeaseNotFound`, `LeaseExists`: the lease of the request
 * - `TooLarge`: the request is over a limit of etcd (size, or operations in a transaction)
 * - `Compacted`, `FutureRevision`: the revision asked for is gone, or not there yet
 * - `DuplicateKey`: a transaction writes one key twice
 * - `NoSpace`: the database reached its quota, or etcd is overloaded
 * - `InvalidRequest`: etcd refuses the request for another reason
 * - `Unexpected`: anything else
 *
 * @since 0.1.0
 * @category errors
 */
export const EtcdErrorReason = Schema.Literal(
  "Unavailable",
  "DeadlineExceeded",
  "Unauthenticated",
  "PermissionDenied",
  "LeaseNotFound",
  "LeaseExists",
  "TooLarge",
  "Compacted",
  "FutureRevision",
  "DuplicateKey",
  "NoSpace",
  "InvalidRequest",
  "Unexpected"
)

/**
 * @since 0.1.0
 * @category errors
 */
export type EtcdErrorReason = typeof EtcdErrorReason.Type

/**
 * A call to etcd that failed.
 *
 * @since 0.1.0
 * @category errors
 */
export class EtcdError extends Schema.TaggedError<EtcdError>("effect-coord/EtcdError")("EtcdError", {
  /** The call: `put`, `txn`, `leaseGrant`, `watch`, … */
  operation: Schema.String,
  reason: EtcdErrorReason,
  /** The gRPC status code (14 is UNAVAILABLE, 4 is DEADLINE_EXCEEDED, …). */
  code: Schema.Number,
  /** The endpoint that answered, or should have. */
  endpoint: Schema.optional(Schema.String),
  /** The key (or the first key) of the request. */
  key: Schema.optional(Schema.String),
  /**
   * Whether etcd may have carried the request out although it failed here. `false` is definite: nothing was changed.
   * Always `false` for reads.
   */
  mayBeApplied: Schema.Boolean,
  /** What etcd or the transport said. */
  detail: Schema.String,
  cause: Schema.optional(Schema.Defect)
}) {
  override get message(): string {
    const subject = this.key === undefined ? this.operation : `${this.operation} ${JSON.stringify(this.key)}`
    const where = this.endpoint === undefined ? "" : ` at ${this.endpoint}`
    const applied = this.mayBeApplied ? "; it may have been applied" : ""
    return `etcd ${subject}${where} failed with ${this.reason}: ${this.detail}${applied}`
  }
}

/**
 * The events a watch asked for were compacted away. What follows cannot be delivered without a gap: list again, compare.
 *
 * @since 0.1.0
 * @category errors
 */
export class WatchCompacted extends Schema.TaggedError<WatchCompacted>("effect-coord/WatchCompacted")(
  "WatchCompacted",
  {
    /** The first revision the watch still needed. */
    startRevision: Schema.BigIntFromSelf,
    /** Revisions below this one are gone. */
    compactRevision: Schema.BigIntFromSelf
  }
) {
  override get message(): string {
    return `the watch needed revision ${this.startRevision}, but etcd was compacted at ${this.compactRevision}`
  }

  /** For JSON, which has no bigints: as texts. */
  override toJSON(): unknown {
    return withoutBigints(super.toJSON())
  }
}

/**
 * The etcd behind the watch lost its data and began a new history: its revisions are below what was already seen. List
 * again, compare, forget what was remembered by revision.
 *
 * @since 0.1.0
 * @category errors
 */
export class WatchNewEpoch extends Schema.TaggedError<WatchNewEpoch>("effect-coord/WatchNewEpoch")("WatchNewEpoch", {
  /** The revision the watch had to continue at. */
  startRevision: Schema.BigIntFromSelf,
  /** The revision of the new history, as a quorum read saw it. */
  revision: Schema.BigIntFromSelf
}) {
  override get message(): string {
    return `etcd began a new history at revision ${this.revision}; the watch was to continue at ${this.startRevision}`
  }

  /** For JSON, which has no bigints: as texts. */
  override toJSON(): unknown {
    return withoutBigints(super.toJSON())
  }
}
