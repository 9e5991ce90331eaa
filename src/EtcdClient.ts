/**
 * etcd as an Effect service: keys and values, transactions, leases, watches and status, with typed errors, deadlines and
 * safe retry. The other services of this package stand on it; applications use it for what those do not cover.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type * as Subscribable from "effect/Subscribable"
import type { EtcdError, InvalidArgument, WatchCompacted, WatchNewEpoch } from "./EtcdError.js"
import * as internal from "./internal/client.js"
import * as Engine from "./internal/engine/engine.js"
import type { Pem } from "./internal/grpc/credentials.js"
import * as grpc from "./internal/grpc/make.js"
import * as clientOptions from "./internal/options.js"
import { unwrap } from "./internal/wrapped.js"
import type {
  Bytes,
  DeleteRequest,
  DeleteResponse,
  Header,
  KeyRange,
  KeyValue,
  PutRequest,
  PutResponse,
  RangeRequest,
  RangeResponse,
  TxnRequest,
  TxnResponse
} from "./Txn.js"

/**
 * Options of a single call.
 *
 * @since 0.1.0
 * @category models
 */
export interface CallOptions {
  /** The deadline of the whole call, repetitions included. Default: the client's `requestTimeout`. */
  readonly timeout?: Duration.DurationInput | undefined
  /**
   * The request may be sent again when it is unknown whether the first sending was applied, because applying it twice is
   * the same as applying it once. Default `false`: such a failure is reported, with `mayBeApplied`.
   */
  readonly idempotent?: boolean | undefined
}

/**
 * A lease as granted.
 *
 * @since 0.1.0
 * @category models
 */
export interface Lease {
  readonly id: bigint
  /** What the server granted; it raises short times (by default to 2 seconds). */
  readonly ttl: Duration.Duration
}

/**
 * What the server says of a lease.
 *
 * @since 0.1.0
 * @category models
 */
export interface LeaseTimeToLive {
  readonly id: bigint
  readonly remaining: Duration.Duration
  readonly granted: Duration.Duration
  /** The attached keys, when they were asked for. */
  readonly keys: ReadonlyArray<Uint8Array>
}

/**
 * The state of one member.
 *
 * @since 0.1.0
 * @category models
 */
export interface Status {
  readonly endpoint: string
  readonly version: string
  readonly memberId: bigint
  /** The leading member; `0n` when the cluster has none. */
  readonly leader: bigint
  readonly revision: bigint
  readonly raftTerm: bigint
  readonly dbSize: bigint
}

/**
 * What to watch.
 *
 * @since 0.1.0
 * @category models
 */
export interface WatchRequest extends KeyRange {
  /**
   * The first revision wanted: usually the revision of a read, plus one. Default: changes from now on. One that is further
   * ahead than that can only come from another history of etcd, and ends in `WatchNewEpoch`.
   */
  readonly startRevision?: bigint | undefined
  /** Carry the version before each change. */
  readonly prevKv?: boolean | undefined
  /** Leave puts, or deletes, out. */
  readonly noPut?: boolean | undefined
  readonly noDelete?: boolean | undefined
}

/**
 * One change. For a delete, only `key` and `modRevision` (the revision of the delete) of `kv` are set.
 *
 * @since 0.1.0
 * @category models
 */
export interface WatchEvent {
  readonly _tag: "Put" | "Delete"
  readonly kv: KeyValue
  readonly prevKv: KeyValue | undefined
}

/**
 * A transaction of {@link EtcdClient.startTxn}, with who waits for it. One of `answered` and `troubled` is called, once,
 * unless it is given up.
 *
 * @since 0.1.0
 * @category models
 */
export interface StartedTxn {
  /** What to send: asked for whenever that is about to happen, and the same each time. So what waits can be small. */
  readonly request: () => TxnRequest
  readonly answered: (response: TxnResponse) => void
  /** Told an effect that is the rest of the call, and has to be run: its failure, or what is still to be tried. */
  readonly troubled: (rest: Effect.Effect<TxnResponse, EtcdError>) => void
}

/**
 * Something under way that can be given up; nothing happens when it is over.
 *
 * @since 0.1.0
 * @category models
 */
export interface Cancelable {
  readonly cancel: () => void
  /** Whether it may have left already: what has not, and is cancelled, never will. */
  readonly isSent: () => boolean
}

/**
 * Why a watch ended. It does not end because a connection breaks or etcd is away for a while.
 *
 * @since 0.1.0
 * @category errors
 */
export type WatchError = EtcdError | WatchCompacted | WatchNewEpoch

/**
 * A watch that the server has confirmed.
 *
 * @since 0.1.0
 * @category models
 */
export interface Watch {
  /** The server's revision when it created the watch. A read made now, at or above it, and the watch leave no gap. */
  readonly revision: bigint
  /** Waits for changes: all that have arrived, as whole revisions, in order. For one consumer. */
  readonly next: Effect.Effect<ReadonlyArray<WatchEvent>, WatchError>
}

/**
 * The stream under all watches of a client; `sinceMillis` is the wall-clock time at which it was lost.
 *
 * @since 0.1.0
 * @category models
 */
export type WatchConnection =
  | { readonly _tag: "Connected"; readonly endpoint: string }
  | { readonly _tag: "Disconnected"; readonly sinceMillis: number; readonly reason: string }

/**
 * The client. All requests have a deadline, are cancelled by interruption, and are repeated only where that is safe.
 *
 * @since 0.1.0
 * @category tags
 */
export class EtcdClient extends Context.Tag("effect-coord/EtcdClient")<EtcdClient, {
  readonly range: (request: RangeRequest, options?: CallOptions) => Effect.Effect<RangeResponse, EtcdError>
  /** The newest version of one key, by a quorum read. */
  readonly get: (key: Bytes, options?: CallOptions) => Effect.Effect<Option.Option<KeyValue>, EtcdError>
  /** A large range in pages of `pageSize` (default 1,000) keys, all at one revision. */
  readonly pages: (
    request: KeyRange & Pick<RangeRequest, "revision" | "keysOnly" | "serializable">,
    options?: CallOptions & { readonly pageSize?: number | undefined }
  ) => Stream.Stream<RangeResponse, EtcdError>
  readonly put: (request: PutRequest, options?: CallOptions) => Effect.Effect<PutResponse, EtcdError>
  readonly delete: (request: DeleteRequest, options?: CallOptions) => Effect.Effect<DeleteResponse, EtcdError>
  readonly txn: (request: TxnRequest, options?: CallOptions) => Effect.Effect<TxnResponse, EtcdError>
  /**
   * `txn` for the hottest paths: it begins at once and takes no step of a fibre until it is answered. What is returned gives
   * the call up; it may be carried out all the same.
   */
  readonly startTxn: (txn: StartedTxn, options?: CallOptions) => Cancelable
  /** Grants a lease of `ttl` (rounded up to whole seconds), under an id of the client's choice: safe to repeat. */
  readonly leaseGrant: (
    request: { readonly ttl: Duration.DurationInput; readonly id?: bigint | undefined },
    options?: CallOptions
  ) => Effect.Effect<Lease, EtcdError>
  /** Ends a lease and deletes its keys. A lease that is gone already is a success. */
  readonly leaseRevoke: (id: bigint, options?: CallOptions) => Effect.Effect<void, EtcdError>
  /** Fails with `LeaseNotFound` for an unknown lease. */
  readonly leaseTimeToLive: (
    id: bigint,
    options?: CallOptions & { readonly keys?: boolean | undefined }
  ) => Effect.Effect<LeaseTimeToLive, EtcdError>
  /** Renews a lease once. Fails with `LeaseNotFound` for an unknown lease. Not repeated: the caller decides. */
  readonly leaseKeepAliveOnce: (id: bigint, options?: CallOptions) => Effect.Effect<Lease, EtcdError>
  /** Renews a lease every third of its time, and emits each renewal; fails when the lease is gone, or on an outage. */
  readonly leaseKeepAlive: (id: bigint) => Stream.Stream<Lease, EtcdError>
  /**
   * Watches. Events come in order, once each, whole revisions at a time, through reconnections and restarts of etcd. The
   * stream fails with `WatchCompacted` or `WatchNewEpoch` when that is no longer possible, and with `EtcdError` when the
   * server refuses the watch.
   */
  readonly watch: (request: WatchRequest) => Stream.Stream<WatchEvent, WatchError>
  /** A watch that is confirmed by the server when the effect succeeds; within the deadline. */
  readonly openWatch: (
    request: WatchRequest,
    options?: Pick<CallOptions, "timeout">
  ) => Effect.Effect<Watch, WatchError, Scope.Scope>
  /** Whether the stream of all watches stands. Watches outlive its breaks; this says how old what they told may be. */
  readonly watchConnection: Subscribable.Subscribable<WatchConnection>
  /** Waits until the stream of all watches stands, and is another one than `since`. */
  readonly watchReconnected: (since: WatchConnection) => Effect.Effect<WatchConnection>
  /** The state of one member: one of `endpoints`. */
  readonly status: (endpoint: string, options?: CallOptions) => Effect.Effect<Status, EtcdError>
  /** The version of etcd that answers, asked for once in five minutes at most. */
  readonly serverVersion: Effect.Effect<string, EtcdError>
  /** Drops the history below `revision`. `physical` waits until it is gone from the disk. */
  readonly compact: (
    revision: bigint,
    options?: CallOptions & { readonly physical?: boolean | undefined }
  ) => Effect.Effect<Header, EtcdError>
  readonly endpoints: ReadonlyArray<string>
  /** The prefix before every key; empty for none. */
  readonly namespace: string
}>() {}

/**
 * How failed calls are repeated: any `Schedule`, or these numbers (with jitter).
 *
 * @since 0.1.0
 * @category options
 */
export type Retry = Schedule.Schedule<unknown, EtcdError> | {
  /** Default 5, the first attempt included. */
  readonly maxAttempts?: number | undefined
  /** Default 200 milliseconds. */
  readonly initialDelay?: Duration.DurationInput | undefined
  /** Default 5 seconds. */
  readonly maxDelay?: Duration.DurationInput | undefined
  /** Default 2. */
  readonly multiplier?: number | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /**
   * Where etcd is: `host`, `host:port`, `[::1]:2379`, `http://…`, `https://…`, `unix:///path`; several as an array or
   * separated by commas. Default `localhost:2379`.
   */
  readonly endpoints?: string | ReadonlyArray<string> | undefined
  readonly auth?: { readonly username: string; readonly password: Redacted.Redacted<string> } | undefined
  /** TLS, also used for endpoints without a scheme. `{}` trusts Node's authorities. */
  readonly tls?: {
    /** Authorities to trust: PEM, or a file. */
    readonly ca?: Pem | undefined
    /** The client's certificate, for mutual TLS: PEM, or a file (read again when it changes). */
    readonly cert?: Pem | undefined
    readonly key?: Pem | undefined
    /** The name in the server's certificate, when it differs from the endpoint's host. */
    readonly serverName?: string | undefined
  } | undefined
  /** How long a connection may take before another member is tried. Default 5 seconds. */
  readonly connectTimeout?: Duration.DurationInput | undefined
  /** The deadline of a call, repetitions included. Default 10 seconds. */
  readonly requestTimeout?: Duration.DurationInput | undefined
  /** HTTP/2 pings that find dead connections; `time` is at least 5 seconds, as etcd refuses faster ones. */
  readonly keepAlive?: {
    /** Default 10 seconds. */
    readonly time?: Duration.DurationInput | undefined
    /** Default 3 seconds. */
    readonly timeout?: Duration.DurationInput | undefined
  } | undefined
  /** A prefix before every key: nothing outside it is read or written. Default none. */
  readonly namespace?: string | undefined
  readonly retry?: Retry | undefined
  /**
   * Whether requests that are made at the same time may leave as one call: many times faster when much goes on, and no
   * slower when nothing does. Each still has its own answer, error and interruption. Default `true`.
   */
  readonly batch?: boolean | undefined
  /** The largest message accepted, in bytes; a change that is larger ends the client's watches. Default: no limit. */
  readonly maxReceiveBytes?: number | undefined
  /** The largest request sent, in bytes. Default: no limit of ours; etcd's own is 1.5 MiB. */
  readonly maxSendBytes?: number | undefined
}

/**
 * A client over gRPC. It connects when it is first used: an etcd that is away fails calls, not this.
 *
 * Fails with `InvalidArgument` naming the option that cannot work.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<EtcdClient["Type"], InvalidArgument, Scope.Scope> =>
  Effect.gen(function*() {
    const parsed = yield* clientOptions.parse(options)
    const transport = yield* grpc.make(options, parsed)
    return yield* internal.make(transport, parsed)
  })

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<EtcdClient, InvalidArgument> =>
  Layer.scoped(EtcdClient, make(options))

/**
 * The options from Effect's `Config`, as in `layerConfig({ endpoints: Config.string("ETCD_ENDPOINTS") })`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  options: Config.Config.Wrap<Options>
): Layer.Layer<EtcdClient, InvalidArgument | ConfigError.ConfigError> =>
  Layer.scoped(EtcdClient, Effect.flatMap(unwrap(options), make))

/**
 * A client of a new embedded engine: etcd's behaviour inside this process, under Effect's `Clock`, with no server.
 * `effect-coord/testing` has one with options, and with handles to hurt it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerMemory: Layer.Layer<EtcdClient> = Layer.scoped(
  EtcdClient,
  Effect.gen(function*() {
    const engine = yield* Engine.make()
    const transport = yield* engine.transport()
    return yield* internal.make(transport, clientOptions.defaults)
  })
)
