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
import * as EtcdClient from "./EtcdClient.js"
import type { InvalidArgument } from "./EtcdError.js"
import * as internal from "./internal/client.js"
import * as engine from "./internal/engine/engine.js"
import type { Engine, Options, Refusal } from "./internal/engine/model.js"
import { Statuses } from "./internal/etcdErrors.js"
import * as clientOptions from "./internal/options.js"

export type {
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
 * One etcd for everything that the layer is provided to. It is gone with its scope: clients that are closed later do not
 * wait for it, but cannot give back what they hold either.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<TestEtcd> => Layer.scoped(TestEtcd, make(options))

/**
 * Options of a client of the test's etcd.
 *
 * @since 0.1.0
 * @category options
 */
export interface ClientOptions
  extends Pick<EtcdClient.Options, "namespace" | "requestTimeout" | "retry" | "keepAlive">
{
  /** The name of the connection, under which `connection(name)` hurts only this client. */
  readonly connection?: string | undefined
}

/**
 * A client of the test's etcd. Several clients stand for several processes.
 *
 * @since 0.1.0
 * @category layers
 */
export const client = (
  options: ClientOptions = {}
): Layer.Layer<EtcdClient.EtcdClient, InvalidArgument, TestEtcd> =>
  Layer.scoped(
    EtcdClient.EtcdClient,
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const parsed = yield* clientOptions.parse(options)
      return yield* internal.make(yield* etcd.transport({ name: options.connection }), parsed)
    })
  )

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
