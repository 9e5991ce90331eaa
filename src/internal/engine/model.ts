/**
 * What users' tests see of the embedded etcd; `effect-coord/testing` exports it.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Bytes, KeyValue } from "../../Txn.js"
import type { Transport } from "../transport.js"

/**
 * What a client can ask for. `watch` is the creation of one watcher, `leaseKeepAlive` one message on the lease stream;
 * all others are calls.
 *
 * @since 0.1.0
 * @category models
 */
export type Operation =
  | "range"
  | "put"
  | "delete"
  | "txn"
  | "leaseGrant"
  | "leaseRevoke"
  | "leaseTimeToLive"
  | "compact"
  | "status"
  | "watch"
  | "leaseKeepAlive"

/**
 * A request as a fault sees it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Request {
  readonly operation: Operation
  /** Every key that the request reads or writes, as text; those of a transaction's operations too, of its compares not. */
  readonly keys: ReadonlyArray<string>
  /** The lease of a lease request. */
  readonly lease: bigint | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface FaultOptions {
  /** Which requests are hit. Default: every request. */
  readonly match?: ((request: Request) => boolean) | undefined
  /** How many requests are hit before the fault is spent. Default: 1. `Infinity` lasts until `clear`. */
  readonly times?: number | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface StallOptions {
  /** Whether calls stall. Default: `true`. */
  readonly calls?: boolean | undefined
  /** Whether watch and lease streams stall. Default: `true`. */
  readonly streams?: boolean | undefined
  /** Whether stalled requests are carried out, and only their answers are withheld. Default: `false`. */
  readonly applied?: boolean | undefined
}

/**
 * An answer of etcd in place of the right one: a gRPC status code and its text.
 *
 * @since 0.1.0
 * @category models
 */
export interface Refusal {
  readonly code: number
  readonly details: string
}

/**
 * What was asked for, and what is open now.
 *
 * @since 0.1.0
 * @category models
 */
export interface Usage {
  /** Requests since the beginning, or since `resetUsage`. */
  readonly calls: Readonly<Record<Operation, number>>
  readonly callsInFlight: number
  readonly watchStreams: number
  readonly leaseStreams: number
  readonly watchers: number
}

/**
 * What can go wrong between a client and etcd.
 *
 * @since 0.1.0
 * @category models
 */
export interface Faults {
  /**
   * Breaks the connection. Calls in flight fail with `Unavailable` and may be applied, streams end with `Unavailable`;
   * what comes after goes over a new connection.
   */
  readonly disconnect: Effect.Effect<void>
  /** Breaks the connection, and lets no new one come up: everything fails with `Unavailable`, definitely not applied. */
  readonly down: Effect.Effect<void>
  /** Ends {@link Faults.down}. */
  readonly up: Effect.Effect<void>
  /**
   * Nothing arrives, and nothing breaks: calls fail with `DeadlineExceeded` when their deadline comes, streams are silent.
   * Leases go on ending.
   */
  readonly stall: (options?: StallOptions) => Effect.Effect<void>
  /** Ends {@link Faults.stall}: what is still wanted arrives, in order. */
  readonly resume: Effect.Effect<void>
  /** The request is lost on its way: the call fails with `Unavailable`, as if it may have been applied. */
  readonly loseRequest: (options?: FaultOptions) => Effect.Effect<void>
  /**
   * The request is carried out, and the answer is lost: the call fails with `Unavailable` and may be applied. Watches do
   * not take part.
   */
  readonly loseResponse: (options?: FaultOptions) => Effect.Effect<void>
  /** etcd refuses the request. A refused keep-alive ends its stream; a refused watch ends alone. */
  readonly refuse: (refusal: Refusal, options?: FaultOptions) => Effect.Effect<void>
  /** Takes back what is left of `loseRequest`, `loseResponse` and `refuse`. */
  readonly clear: Effect.Effect<void>
  readonly usage: Effect.Effect<Usage>
  /** Starts counting calls anew. */
  readonly resetUsage: Effect.Effect<void>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface LeaseState {
  readonly id: bigint
  /** The granted time to live in seconds. */
  readonly ttl: bigint
  /** What is left of it. */
  readonly remaining: Duration.Duration
  /** The attached keys, in their order. */
  readonly keys: ReadonlyArray<Uint8Array>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ConnectionOptions {
  /** The name under which {@link Engine.connection} finds it. Connections of one name share their faults. */
  readonly name?: string | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** A shorter time to live is raised to this; whole seconds. Default: 2 seconds, as in etcd. */
  readonly minLeaseTtl?: Duration.DurationInput | undefined
  /** What leases gain when a leader is elected. Default: 1 second, as in etcd. */
  readonly electionTimeout?: Duration.DurationInput | undefined
  /** Operations in one transaction. Default: 128, as in etcd. */
  readonly maxTxnOps?: number | undefined
  /** The size of one request. Default: 1.5 MiB, as in etcd. */
  readonly maxRequestBytes?: number | undefined
  /** Watch responses with more events are split. Default: never; a small number exercises the handling of fragments. */
  readonly fragmentEvents?: number | undefined
  /** The version that `status` tells. Default: `"3.5.28"`. */
  readonly version?: string | undefined
}

/**
 * The etcd, with its controls. The faults of {@link Faults} hit every connection at once; `connection(name)` gives those
 * of one.
 *
 * @since 0.1.0
 * @category models
 */
export interface Engine extends Faults {
  /** A client's connection. Several connections stand for several processes. */
  readonly transport: (options?: ConnectionOptions) => Effect.Effect<Transport, never, Scope.Scope>
  /** The faults of one connection, which need not be open yet. */
  readonly connection: (name: string) => Faults

  /** The store's revision. */
  readonly revision: Effect.Effect<bigint>
  /** The oldest revision that can be read; -1 before the first compaction. */
  readonly compactRevision: Effect.Effect<bigint>
  /** Every key, in the order of the keys. */
  readonly snapshot: Effect.Effect<ReadonlyArray<KeyValue>>
  /** Every lease, in the order of the IDs. */
  readonly leases: Effect.Effect<ReadonlyArray<LeaseState>>

  /** Writes a key, as a person with `etcdctl` does. Returns the revision. */
  readonly putKey: (key: Bytes, value: Bytes) => Effect.Effect<bigint>
  /** Deletes a key, as a person with `etcdctl` does. Returns whether it existed. */
  readonly deleteKey: (key: Bytes) => Effect.Effect<boolean>
  /** Ends a lease as if its time were over; `false` when there is none of this ID. */
  readonly expireLease: (id: bigint) => Effect.Effect<boolean>
  /** Compacts at a revision; the newest by default. Does nothing when that is compacted already. */
  readonly compact: (revision?: bigint) => Effect.Effect<void>

  /** etcd restarts with its data: connections break, and leases start over. */
  readonly restart: Effect.Effect<void>
  /** etcd restarts without its data: a new history under the same cluster and member IDs, beginning at revision 1. */
  readonly restartWithoutData: Effect.Effect<void>
  /**
   * Another member becomes the leader: streams end with "no leader", calls in flight fail with "leader changed" and may
   * be applied, leases start over.
   */
  readonly failOver: Effect.Effect<void>
}
