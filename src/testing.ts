/**
 * An etcd inside the test's process: a multi-version store with leases, transactions and watches that behaves as etcd
 * 3.5 does, without a server, and with handles to hurt it. Time is that of Effect's `Clock`: under `TestClock` a lease
 * ends when the test says so.
 *
 * Nothing is delivered while the caller is still sending: requests and answers travel in turns, in order, as over a
 * network. A call that is interrupted may therefore still be carried out.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as engine from "./internal/engine/engine.js"
import type { ConnectionOptions, Engine, Options, Refusal } from "./internal/engine/model.js"
import { Statuses } from "./internal/etcdErrors.js"
import type { Transport } from "./internal/transport.js"

export type {
  /**
   * @since 0.1.0
   * @category models
   */
  ConnectionOptions,
  /**
   * @since 0.1.0
   * @category models
   */
  Engine,
  /**
   * @since 0.1.0
   * @category models
   */
  FaultOptions,
  /**
   * @since 0.1.0
   * @category models
   */
  Faults,
  /**
   * @since 0.1.0
   * @category models
   */
  LeaseState,
  /**
   * @since 0.1.0
   * @category models
   */
  Operation,
  /**
   * @since 0.1.0
   * @category models
   */
  Options,
  /**
   * @since 0.1.0
   * @category models
   */
  Refusal,
  /**
   * @since 0.1.0
   * @category models
   */
  Request,
  /**
   * @since 0.1.0
   * @category models
   */
  StallOptions,
  /**
   * @since 0.1.0
   * @category models
   */
  Usage
} from "./internal/engine/model.js"

/**
 * The embedded etcd of a test.
 *
 * @since 0.1.0
 * @category tags
 */
export class TestEtcd extends Context.Tag("effect-coord/TestEtcd")<TestEtcd, Engine>() {}

/**
 * @since 0.1.0
 * @category constructors
 */
export const make: (options?: Options) => Effect.Effect<Engine, never, Scope.Scope> = engine.make

/**
 * One etcd for everything that the layer is provided to.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<TestEtcd> => Layer.scoped(TestEtcd, make(options))

/**
 * A client's connection to the etcd of the test.
 *
 * @since 0.1.0
 * @category accessors
 */
export const client = (options?: ConnectionOptions): Effect.Effect<Transport, never, TestEtcd | Scope.Scope> =>
  Effect.flatMap(TestEtcd, (etcd) => etcd.transport(options))

/**
 * Answers of etcd to use with `refuse`.
 *
 * @since 0.1.0
 * @category refusals
 */
export const refusals = {
  permissionDenied: Statuses.permissionDenied,
  invalidAuthToken: Statuses.invalidAuthToken,
  authOldRevision: Statuses.authOldRevision,
  noSpace: Statuses.noSpace,
  tooManyRequests: Statuses.tooManyRequests,
  noLeader: Statuses.noLeader,
  leaderChanged: Statuses.leaderChanged,
  timeout: Statuses.timeout,
  stopped: Statuses.stopped
} as const satisfies Record<string, Refusal>
