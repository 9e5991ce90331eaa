/**
 * What a gRPC status of etcd (or of the channel in front of it) means: the one place that knows etcd's texts. Shared by
 * the gRPC channel, which reads them, and by the embedded engine, which speaks them.
 */
import type { EtcdErrorReason } from "../EtcdError.js"

/** The gRPC status codes, by number. */
export const Code = {
  Cancelled: 1,
  Unknown: 2,
  InvalidArgument: 3,
  DeadlineExceeded: 4,
  NotFound: 5,
  AlreadyExists: 6,
  PermissionDenied: 7,
  ResourceExhausted: 8,
  FailedPrecondition: 9,
  Aborted: 10,
  OutOfRange: 11,
  Unimplemented: 12,
  Internal: 13,
  Unavailable: 14,
  DataLoss: 15,
  Unauthenticated: 16
} as const

/** A gRPC status as it stands in the trailers of a call. */
export interface Status {
  readonly code: number
  readonly details: string
}

const status = (code: number, details: string): Status => ({ code, details })

/** The statuses of etcd that have a meaning of their own here, in etcd's words. */
export const Statuses = {
  emptyKey: status(Code.InvalidArgument, "etcdserver: key is not provided"),
  keyNotFound: status(Code.InvalidArgument, "etcdserver: key not found"),
  valueProvided: status(Code.InvalidArgument, "etcdserver: value is provided"),
  leaseProvided: status(Code.InvalidArgument, "etcdserver: lease is provided"),
  tooManyOps: status(Code.InvalidArgument, "etcdserver: too many operations in txn request"),
  duplicateKey: status(Code.InvalidArgument, "etcdserver: duplicate key given in txn request"),
  requestTooLarge: status(Code.InvalidArgument, "etcdserver: request is too large"),
  compacted: status(Code.OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
  futureRevision: status(Code.OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
  noSpace: status(Code.ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
  tooManyRequests: status(Code.ResourceExhausted, "etcdserver: too many requests"),
  leaseNotFound: status(Code.NotFound, "etcdserver: requested lease not found"),
  leaseExists: status(Code.FailedPrecondition, "etcdserver: lease already exists"),
  leaseTtlTooLarge: status(Code.OutOfRange, "etcdserver: too large lease TTL"),
  permissionDenied: status(Code.PermissionDenied, "etcdserver: permission denied"),
  invalidAuthToken: status(Code.Unauthenticated, "etcdserver: invalid auth token"),
  authFailed: status(Code.InvalidArgument, "etcdserver: authentication failed, invalid user ID or password"),
  authOldRevision: status(Code.InvalidArgument, "etcdserver: revision of auth store is old"),
  userEmpty: status(Code.InvalidArgument, "etcdserver: user name is empty"),
  noLeader: status(Code.Unavailable, "etcdserver: no leader"),
  notLeader: status(Code.FailedPrecondition, "etcdserver: not leader"),
  notCapable: status(Code.Unavailable, "etcdserver: not capable"),
  learner: status(Code.Unavailable, "etcdserver: rpc not supported for learner"),
  leaderChanged: status(Code.Unavailable, "etcdserver: leader changed"),
  stopped: status(Code.Unavailable, "etcdserver: server stopped"),
  timeout: status(Code.Unavailable, "etcdserver: request timed out"),
  timeoutLeaderFailed: status(
    Code.Unavailable,
    "etcdserver: request timed out, possibly due to previous leader failure"
  ),
  corrupt: status(Code.DataLoss, "etcdserver: corrupt cluster")
} as const satisfies Record<string, Status>

/** Texts that decide alone, whatever the code: some versions of etcd send one text under different codes. */
const reasonOfText: ReadonlyMap<string, EtcdErrorReason> = new Map<string, EtcdErrorReason>([
  [Statuses.tooManyOps.details, "TooLarge"],
  [Statuses.requestTooLarge.details, "TooLarge"],
  [Statuses.duplicateKey.details, "DuplicateKey"],
  [Statuses.compacted.details, "Compacted"],
  [Statuses.futureRevision.details, "FutureRevision"],
  [Statuses.noSpace.details, "NoSpace"],
  [Statuses.tooManyRequests.details, "NoSpace"],
  [Statuses.leaseNotFound.details, "LeaseNotFound"],
  [Statuses.leaseExists.details, "LeaseExists"],
  [Statuses.permissionDenied.details, "PermissionDenied"],
  [Statuses.invalidAuthToken.details, "Unauthenticated"],
  [Statuses.authFailed.details, "Unauthenticated"],
  [Statuses.authOldRevision.details, "Unauthenticated"],
  // a call without a token where etcd wants one
  [Statuses.userEmpty.details, "Unauthenticated"],
  [Statuses.notLeader.details, "Unavailable"],
  [Statuses.notCapable.details, "Unavailable"],
  [Statuses.learner.details, "Unavailable"],
  // a lessor that lost the leadership answers this as UNKNOWN
  ["not a primary lessor", "Unavailable"]
])

const reasonOfCode: ReadonlyMap<number, EtcdErrorReason> = new Map<number, EtcdErrorReason>([
  // never our own cancel, which is silent: a server or proxy that goes away
  [Code.Cancelled, "Unavailable"],
  [Code.InvalidArgument, "InvalidRequest"],
  [Code.DeadlineExceeded, "DeadlineExceeded"],
  [Code.NotFound, "InvalidRequest"],
  [Code.AlreadyExists, "InvalidRequest"],
  [Code.PermissionDenied, "PermissionDenied"],
  [Code.ResourceExhausted, "NoSpace"],
  [Code.FailedPrecondition, "InvalidRequest"],
  [Code.OutOfRange, "InvalidRequest"],
  [Code.Unavailable, "Unavailable"],
  [Code.Unauthenticated, "Unauthenticated"]
])

const overMessageLimit = (details: string): boolean => /larger than/i.test(details)

/** The reason a person can act on. */
export const classify = (code: number, details: string): EtcdErrorReason => {
  const known = reasonOfText.get(details)
  if (known !== undefined) {
    return known
  }
  if (code === Code.ResourceExhausted && overMessageLimit(details)) {
    return "TooLarge"
  }
  // how grpc-js reports a stream that the peer reset
  if (code === Code.Internal && details.includes("RST_STREAM")) {
    return "Unavailable"
  }
  return reasonOfCode.get(code) ?? "Unexpected"
}

/** Codes with which etcd refuses before it does anything. */
const refusals: ReadonlySet<number> = new Set([
  Code.InvalidArgument,
  Code.NotFound,
  Code.AlreadyExists,
  Code.PermissionDenied,
  Code.FailedPrecondition,
  Code.OutOfRange,
  Code.Unimplemented,
  Code.Unauthenticated
])

/** Texts with which etcd refuses, under codes that are otherwise ambiguous. */
const refusalTexts: ReadonlySet<string> = new Set([
  Statuses.noLeader.details,
  Statuses.notCapable.details,
  Statuses.learner.details,
  Statuses.tooManyRequests.details,
  Statuses.corrupt.details
])

/** What grpc-js says of a call that never left this process, or that the server never looked at. */
const neverSent: ReadonlyArray<RegExp> = [
  /^No connection established/,
  /^Name resolution failed/,
  /^Channel closed before call started/,
  /^Channel has been shut down/,
  /^Subchannel not ready/,
  /^Stream refused by server/,
  /^Attempted to send message with a size larger than/,
  /ECONNREFUSED/,
  // a deadline that passed before there was a connection to send on
  /Waiting for LB pick/i,
  /waiting for (name resolution|metadata filters)/
]

/**
 * Whether etcd may have carried out a call that failed with this status. `false` is definite.
 *
 * ResourceExhausted is not a refusal as such: etcd checks the space once more while it applies a write, and then applies
 * it *and* answers "database space exceeded"; and an answer over the receiver's limit belongs to a request that was
 * carried out.
 */
export const mayBeApplied = (code: number, details: string, isRead: boolean): boolean => {
  if (isRead || refusals.has(code) || refusalTexts.has(details)) {
    return false
  }
  if (code === Code.ResourceExhausted && /^grpc: received message larger than/.test(details)) {
    return false
  }
  return !neverSent.some((pattern) => pattern.test(details))
}
