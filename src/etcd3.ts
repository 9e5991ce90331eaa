/**
 * The client over an `Etcd3` instance (of the package `etcd3`, 1.1 or later) that the application has already: with its
 * hosts, its credentials and its connections. Everything else of this package runs over it unchanged.
 *
 * Only the instance's clients of etcd's services are used, not its watchers, leases, locks or builders. No write is sent
 * twice, whatever the instance's policies are, and an interrupted call is cancelled. What etcd3 does not allow is told in
 * the documentation (`docs/etcd3.md`); where there is a choice, `EtcdClient.layer` is the better one.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Etcd3, IOptions } from "etcd3"
import * as EtcdClient from "./EtcdClient.js"
import type { InvalidArgument } from "./EtcdError.js"
import * as internal from "./internal/client.js"
import { hostName } from "./internal/etcd3/calls.js"
import * as transport from "./internal/etcd3/transport.js"
import { parseEndpoints } from "./internal/grpc/endpoint.js"
import * as clientOptions from "./internal/options.js"

/**
 * Options of a client over an `Etcd3`. What concerns connections, credentials and sizes of messages is the instance's.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options extends Pick<EtcdClient.Options, "namespace" | "requestTimeout" | "retry" | "batch"> {
  /**
   * The instance's `hosts`, which it does not tell: with them `status` and `Coord.health` ask each member for itself, and
   * a read that is not answered leaves time for another member. Default: one endpoint, `etcd3`, which stands for whichever
   * host is drawn.
   */
  readonly endpoints?: string | ReadonlyArray<string> | undefined
  /** How often a silent watch stream is asked for a sign of life. HTTP/2 pings are the instance's `grpcOptions`. */
  readonly keepAlive?: EtcdClient.Options["keepAlive"]
}

/** The instance may limit what it receives (gRPC's own limit is this) and does not tell. */
const maxReceiveBytes = 4 * 1024 * 1024

/**
 * A client over the instance. Closing the scope cancels what the client has under way, and leaves the instance open.
 *
 * Fails with `InvalidArgument` naming the option that cannot work.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { fromEtcd3, instanceOptions } from "effect-coord/etcd3"
 * import { Etcd3 } from "etcd3"
 *
 * const etcd = new Etcd3({ hosts: "http://127.0.0.1:2379", ...instanceOptions })
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   const client = yield* fromEtcd3(etcd)
 *   yield* client.put({ key: "/app/a", value: "1" })
 * }))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromEtcd3 = (
  etcd: Etcd3,
  options: Options = {}
): Effect.Effect<EtcdClient.EtcdClient["Type"], InvalidArgument, Scope.Scope> =>
  Effect.gen(function*() {
    const parsed = yield* clientOptions.parse({ ...options, maxReceiveBytes })
    const endpoints = options.endpoints === undefined ? [] : yield* parseEndpoints(options.endpoints, false)
    return yield* internal.make(
      transport.make(etcd, {
        hosts: endpoints.map(({ target }) => hostName(target)),
        requestTimeoutMillis: parsed.requestTimeoutMillis
      }),
      parsed
    )
  })

/**
 * The client as a layer: over an instance, or over one that an effect brings (from a service, or made and closed with the
 * layer by `Effect.acquireRelease`).
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Coord } from "effect-coord"
 * import { instanceOptions, layerEtcd3 } from "effect-coord/etcd3"
 * import { Etcd3 } from "etcd3"
 *
 * const instance = Effect.acquireRelease(
 *   Effect.sync(() => new Etcd3({ hosts: "http://127.0.0.1:2379", ...instanceOptions })),
 *   (etcd) => Effect.sync(() => etcd.close())
 * )
 *
 * const live = Layer.provideMerge(Coord.layerServices(), layerEtcd3(instance))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerEtcd3 = <E = never, R = never>(
  etcd: Etcd3 | Effect.Effect<Etcd3, E, R>,
  options: Options = {}
): Layer.Layer<EtcdClient.EtcdClient, InvalidArgument | E, Exclude<R, Scope.Scope>> =>
  Layer.scoped(
    EtcdClient.EtcdClient,
    Effect.flatMap(Effect.isEffect(etcd) ? etcd : Effect.succeed(etcd), (instance) => fromEtcd3(instance, options))
  )

type Policy = NonNullable<NonNullable<IOptions["faultHandling"]>["global"]>

const ignored = () => ({ dispose: () => {} })

class Direct implements Policy {
  declare readonly _altReturn: never
  readonly onSuccess = ignored
  readonly onFailure = ignored

  async execute<A>(
    call: (context: { readonly signal: AbortSignal }) => PromiseLike<A> | A,
    signal = new AbortController().signal
  ): Promise<A> {
    return call({ signal })
  }
}

const direct = new Direct()

const faultHandling: NonNullable<IOptions["faultHandling"]> = { host: () => direct, global: direct }

/**
 * What an `Etcd3` should be constructed with, as in `new Etcd3({ hosts, ...instanceOptions })`:
 *
 * - `faultHandling`: each call is made once, and no host is given up. etcd3's own policies repeat calls without a pause,
 *   which the client prevents, and keep calls from a host for five seconds after three failures, which it cannot prevent;
 *   should a token expire just then, the instance hangs for good.
 * - `grpcOptions`: pings find dead connections; answers may be larger than 4 MiB; a connection that does not come up can
 *   be replaced, for which the clients of the services have connections of their own.
 * - `defaultCallOptions`: 10 seconds for calls of the application's own, and for the request for a token, which would have
 *   no deadline else.
 *
 * @since 0.1.0
 * @category options
 */
export const instanceOptions: Required<Pick<IOptions, "faultHandling" | "grpcOptions" | "defaultCallOptions">> = {
  faultHandling,
  grpcOptions: {
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 3_000,
    "grpc.max_receive_message_length": -1,
    "grpc.use_local_subchannel_pool": 1
  },
  defaultCallOptions: ({ isStream }) => isStream ? {} : { deadline: Date.now() + 10_000 }
}
