/**
 * What floor 1 needs from whoever carries its requests: unary calls and two kinds of stream. The gRPC channel is one
 * transport, the embedded engine another. Namespaces, validation, retry, the watch hub and the lease stream stand above
 * and are the same for all of them.
 */
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { WatchEvent } from "../EtcdClient.js"
import type { EtcdError } from "../EtcdError.js"
import type {
  DeleteRequest,
  DeleteResponse,
  Header,
  KeyRange,
  PutRequest,
  PutResponse,
  RangeRequest,
  RangeResponse,
  TxnRequest,
  TxnResponse
} from "../Txn.js"

export interface CallOptions {
  /** The call fails with `DeadlineExceeded` after this many milliseconds. */
  readonly timeoutMillis: number
}

/** Hears the outcome of a call, once, unless the call was cancelled before. */
export type Done<A> = (exit: Exit.Exit<A, EtcdError>) => void

/** {@link Done} as an object, for those of whom there are many. */
export interface Settled<in A> {
  readonly settled: (exit: Exit.Exit<A, EtcdError>) => void
}

/** Gives a call up; does nothing when it is over. */
export type Cancel = () => void

/** The key-value calls: the seam behind which requests can be batched. */
export interface Kv {
  readonly range: (request: RangeRequest, options: CallOptions) => Effect.Effect<RangeResponse, EtcdError>
  readonly put: (request: PutRequest, options: CallOptions) => Effect.Effect<PutResponse, EtcdError>
  readonly del: (request: DeleteRequest, options: CallOptions) => Effect.Effect<DeleteResponse, EtcdError>
  readonly txn: (request: TxnRequest, options: CallOptions) => Effect.Effect<TxnResponse, EtcdError>
}

export interface LeaseGrantRequest {
  readonly id: bigint
  /** Whole seconds; the server may grant more. */
  readonly ttl: bigint
}

export interface LeaseGrantResponse {
  readonly header: Header
  readonly id: bigint
  readonly ttl: bigint
}

export interface LeaseTimeToLiveRequest {
  readonly id: bigint
  readonly keys: boolean
}

export interface LeaseTimeToLiveResponse {
  readonly header: Header
  readonly id: bigint
  /** Seconds left; -1 when the lease does not exist (no error!). */
  readonly ttl: bigint
  readonly grantedTtl: bigint
  readonly keys: ReadonlyArray<Uint8Array>
}

export interface StatusResponse {
  readonly header: Header
  readonly version: string
  readonly dbSize: bigint
  /** The member that leads; `0n` when there is none. */
  readonly leader: bigint
  readonly raftIndex: bigint
  readonly raftTerm: bigint
}

export interface WatchCreate extends KeyRange {
  readonly _tag: "Create"
  /** `0n` is "from now on". */
  readonly startRevision: bigint
  readonly prevKv: boolean
  readonly noPut: boolean
  readonly noDelete: boolean
}

export type WatchRequest =
  | WatchCreate
  | { readonly _tag: "Cancel"; readonly watchId: bigint }
  | { readonly _tag: "Progress" }

/** As etcd sends it: creations are answered in the order in which they were asked for. */
export interface WatchResponse {
  readonly header: Header
  readonly watchId: bigint
  readonly created: boolean
  readonly canceled: boolean
  readonly compactRevision: bigint
  readonly cancelReason: string
  /** More of the same revision may follow. */
  readonly fragment: boolean
  readonly events: ReadonlyArray<WatchEvent>
}

export interface KeepAliveResponse {
  readonly header: Header
  readonly id: bigint
  /** Zero or less when the lease does not exist. */
  readonly ttl: bigint
}

/** Called from the transport's own thread of control: synchronous, and must not throw. `onEnd` is called once, last. */
export interface StreamHandlers<Response> {
  readonly onMessage: (response: Response) => void
  readonly onEnd: (error: EtcdError) => void
}

/** An open stream; it is cancelled when its scope closes (`onEnd` is not called then). */
export interface DuplexStream<Request> {
  readonly endpoint: string
  /** Never blocks; does nothing once the stream has ended. */
  readonly send: (request: Request) => void
  /**
   * Tells the transport what it could not see: that the endpoint is `silent` (the next stream or call tries another), or
   * that the server no longer accepts the stream's token (`unauthenticated`: the next stream gets a new one).
   */
  readonly suspect: (why: "silent" | "unauthenticated") => void
}

export interface Transport extends Kv {
  readonly endpoints: ReadonlyArray<string>
  /** Whether the server may know who asks, by credentials or a client's certificate, and apply that user's roles. */
  readonly identified: boolean
  /**
   * `txn` without a fibre, for the calls that most requests travel in. `undefined` when it is not as simple as that at this
   * moment (no connection stands, or a token has to be asked for), or never: then `txn` can do it.
   */
  readonly startTxn?:
    | ((request: TxnRequest, options: CallOptions, done: Done<TxnResponse>) => Cancel | undefined)
    | undefined
  readonly leaseGrant: (
    request: LeaseGrantRequest,
    options: CallOptions
  ) => Effect.Effect<LeaseGrantResponse, EtcdError>
  readonly leaseRevoke: (id: bigint, options: CallOptions) => Effect.Effect<Header, EtcdError>
  readonly leaseTimeToLive: (
    request: LeaseTimeToLiveRequest,
    options: CallOptions
  ) => Effect.Effect<LeaseTimeToLiveResponse, EtcdError>
  readonly compact: (revision: bigint, physical: boolean, options: CallOptions) => Effect.Effect<Header, EtcdError>
  readonly status: (endpoint: string, options: CallOptions) => Effect.Effect<StatusResponse, EtcdError>
  /** Opens without waiting for the server; what fails later arrives through `onEnd`. */
  readonly openWatch: (
    handlers: StreamHandlers<WatchResponse>
  ) => Effect.Effect<DuplexStream<WatchRequest>, EtcdError, Scope.Scope>
  readonly openLease: (
    handlers: StreamHandlers<KeepAliveResponse>
  ) => Effect.Effect<DuplexStream<bigint>, EtcdError, Scope.Scope>
}
