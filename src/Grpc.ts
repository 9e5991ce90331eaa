/**
 * gRPC clients that find the instances of a service in the registry, balance their calls over them and follow their
 * changes. It is a module of its own, `effect-coord/Grpc`, so that only those load it who use it.
 *
 * @since 0.1.0
 */
import * as grpc from "@grpc/grpc-js"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as EtcdClient from "./EtcdClient.js"
import { InvalidArgument } from "./EtcdError.js"
import { makeCredentials } from "./internal/grpc/credentials.js"
import * as Handshake from "./internal/grpc/handshake.js"
import * as Balancer from "./internal/grpcName/balancer.js"
import * as Channel from "./internal/grpcName/channel.js"
import * as Resolver from "./internal/grpcName/resolver.js"
import * as View from "./internal/grpcName/view.js"
import * as SocketsOpening from "./internal/socketsOpening.js"
import * as validate from "./internal/validate.js"
import { Registry } from "./Registry.js"

/**
 * How calls are spread over the instances of a service.
 *
 * - `weighted`: in proportion to their weights (smooth weighted round robin, as in nginx), those of the own zone first.
 *   Instances that drain, or whose weight is 0, get no calls while others can be reached.
 * - `round_robin`: that of grpc-js, in turn, whatever the weights and zones. Instances that drain are left out while there
 *   are others.
 * - `pick_first`: that of grpc-js, all calls go to one instance for as long as the connection lasts: the first by id that
 *   can be reached. Instances that drain are left out while there are others.
 *
 * @since 0.1.0
 * @category models
 */
export type Policy = "weighted" | "round_robin" | "pick_first"

/**
 * Deadlines and retries for each method, as gRPC defines them in its
 * {@link https://github.com/grpc/grpc/blob/master/doc/service_config.md service config}. Durations are texts in seconds
 * (`"0.5s"`). A `name` of `{}` means all methods, one with `service` only means all of that service.
 *
 * @since 0.1.0
 * @category options
 */
export interface ServiceConfig {
  readonly methodConfig?:
    | ReadonlyArray<{
      readonly name: ReadonlyArray<{ readonly service?: string; readonly method?: string }>
      /** The deadline of a call that has no earlier one of its own. */
      readonly timeout?: string | undefined
      readonly retryPolicy?: grpc.RetryPolicy | undefined
    }>
    | undefined
  /** No retries while too many calls fail. */
  readonly retryThrottling?: { readonly maxTokens: number; readonly tokenRatio: number } | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface ConnectionOptions {
  /** Default `weighted`. */
  readonly policy?: Policy | undefined
  /** The zone of this process: instances of the same zone are preferred. For `weighted` only. Default: none. */
  readonly zone?: string | undefined
  /**
   * With how few ready instances the own zone still takes all calls; with less, all zones do. Default: half of those that
   * are registered in the zone.
   */
  readonly minReadyInZone?: number | undefined
  /**
   * TLS; `{}` trusts Node's authorities. Certificates must carry `serverName`, by default the service's name (with `-` for
   * characters that host names cannot have): instances come and go under addresses that no certificate can list.
   */
  readonly tls?: EtcdClient.Options["tls"]
  /** Credentials of grpc-js, instead of `tls`. */
  readonly credentials?: grpc.ChannelCredentials | undefined
  readonly serviceConfig?: ServiceConfig | undefined
  /**
   * How long a connection to an instance may take, and how long calls wait for the first list of instances before they
   * fail. Default 5 seconds.
   */
  readonly connectTimeout?: Duration.DurationInput | undefined
  /** How long calls under way may take to end when the scope closes. Default 2 seconds. */
  readonly closeTimeout?: Duration.DurationInput | undefined
  /** More options for grpc-js: keep-alive, limits of messages. */
  readonly channelOptions?: grpc.ChannelOptions | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface ClientOptions extends ConnectionOptions {
  readonly interceptors?: ReadonlyArray<grpc.Interceptor> | undefined
}

/**
 * The constructor of a client: one that was generated, or `grpc.makeClientConstructor(…)`, or `grpc.Client` itself.
 *
 * @since 0.1.0
 * @category models
 */
export interface ClientConstructor<out C> {
  new(address: string, credentials: grpc.ChannelCredentials, options?: Partial<grpc.ClientOptions>): C
}

const defaultConnectTimeout = Duration.seconds(5)
const defaultCloseTimeout = Duration.seconds(2)

/** The longest time a timer of Node takes: a longer one would fire at once. */
const maxMillis = 2_147_483_647

const balancers: Record<Policy, (options: ConnectionOptions) => grpc.LoadBalancingConfig> = {
  weighted: ({ minReadyInZone, zone }) => ({ [Balancer.name]: { zone, minReadyInZone } }),
  round_robin: () => ({ round_robin: {} }),
  pick_first: () => ({ pick_first: {} })
}

const defaults: grpc.ChannelOptions = {
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 5_000,
  "grpc.enable_channelz": 0,
  "grpc.enable_http_proxy": 0,
  // The end of this channel is to be the end of its connections.
  "grpc.use_local_subchannel_pool": 1
}

const refuse = (argument: string, value: unknown, problem: string): InvalidArgument =>
  new InvalidArgument({ argument, value: validate.render(value), problem })

const checkObjects = (options: ConnectionOptions): Effect.Effect<void, InvalidArgument> => {
  if (!validate.isOptions(options)) return validate.noOptions(options)
  for (const name of ["tls", "credentials", "serviceConfig", "channelOptions"] as const) {
    const value = options[name]
    if (value !== undefined && !validate.isOptions(value)) return refuse(name, value, "must be an object")
  }
  return Effect.void
}

const checkPolicy = (options: ConnectionOptions): Effect.Effect<Policy, InvalidArgument> =>
  Effect.gen(function*() {
    const { minReadyInZone, policy = "weighted", zone } = options
    if (typeof policy !== "string" || !Object.hasOwn(balancers, policy)) {
      return yield* refuse("policy", policy, `must be one of ${Object.keys(balancers).join(", ")}`)
    }
    if (zone !== undefined && policy !== "weighted") {
      return yield* refuse("zone", zone, "zones need the policy weighted")
    }
    if (zone !== undefined && (typeof zone !== "string" || zone === "")) {
      return yield* refuse("zone", zone, "must be a text that is not empty")
    }
    if (minReadyInZone !== undefined && !(Number.isInteger(minReadyInZone) && minReadyInZone > 0)) {
      return yield* refuse("minReadyInZone", minReadyInZone, "must be an integer above zero")
    }
    if (minReadyInZone !== undefined && zone === undefined) {
      return yield* refuse("minReadyInZone", minReadyInZone, "needs a zone")
    }
    return policy
  })

const makeTls = ({ credentials, tls }: ConnectionOptions): Effect.Effect<grpc.ChannelCredentials, InvalidArgument> => {
  if (credentials !== undefined && tls !== undefined) {
    return new InvalidArgument({ argument: "credentials", problem: "give either tls or credentials" })
  }
  if (credentials !== undefined) {
    // As grpc-js itself wants them.
    return credentials instanceof grpc.ChannelCredentials
      ? Effect.succeed(credentials)
      : new InvalidArgument({ argument: "credentials", problem: "must be ChannelCredentials of @grpc/grpc-js" })
  }
  return tls === undefined ? Effect.succeed(grpc.credentials.createInsecure()) : makeCredentials(tls)
}

/**
 * A channel of grpc-js to the instances of a service, until the scope closes.
 *
 * It succeeds at once, with etcd away too: calls wait for the first list of instances, for `connectTimeout` at most. From then
 * on it follows the registry; connections to instances that stay are kept whatever else changes, and while etcd is away the
 * last known instances go on serving. Without any instance calls fail at once, with `UNAVAILABLE`.
 *
 * When the scope closes it takes no more calls. Those under way may end within `closeTimeout`; then they are ended, with
 * `UNAVAILABLE`.
 *
 * Fails with `InvalidArgument` that names the option.
 *
 * @since 0.1.0
 * @category constructors
 */
export const getConnection = (
  name: string,
  options: ConnectionOptions = {}
): Effect.Effect<grpc.ChannelInterface, InvalidArgument, Registry | Scope.Scope> =>
  Effect.gen(function*() {
    yield* checkObjects(options)
    const registry = yield* Registry
    const policy = yield* checkPolicy(options)
    const connectTimeout = yield* validate.positiveDuration(
      "connectTimeout",
      options.connectTimeout ?? defaultConnectTimeout
    )
    const closeTimeout = yield* validate.positiveDuration("closeTimeout", options.closeTimeout ?? defaultCloseTimeout)
    const credentials = Handshake.withTimeout(
      yield* makeTls(options),
      Math.min(maxMillis, Duration.toMillis(connectTimeout))
    )
    const serverName = options.tls?.serverName
    const view = yield* View.make(name, yield* registry.follow(name), connectTimeout)
    return yield* Effect.acquireRelease(
      Effect.try({
        try: () => {
          Resolver.register()
          Balancer.register()
          const sockets = SocketsOpening.make()
          const channel = new Channel.ServiceChannel(`${Resolver.scheme}:///${name}`, credentials, {
            ...defaults,
            ...(serverName === undefined ? {} : {
              "grpc.ssl_target_name_override": serverName,
              "grpc.default_authority": serverName
            }),
            ...options.channelOptions,
            "grpc.service_config": JSON.stringify({
              ...options.serviceConfig,
              loadBalancingConfig: [balancers[policy](options)]
            }),
            ...Resolver.channelOptions({
              name,
              view,
              balancerDrains: policy === "weighted",
              construct: sockets.construct
            })
          })
          return { channel, sockets }
        },
        // Everything else was made here.
        catch: (error) =>
          new InvalidArgument({
            argument: "serviceConfig",
            problem: error instanceof Error ? error.message : String(error)
          })
      }),
      ({ channel, sockets }) => Channel.close(channel, sockets, closeTimeout)
    )
  }).pipe(Effect.map(({ channel }) => channel))

/**
 * A client over {@link getConnection}, until the scope closes.
 *
 * @since 0.1.0
 * @category constructors
 */
export const client = <C>(
  Client: ClientConstructor<C>,
  name: string,
  options: ClientOptions = {}
): Effect.Effect<C, InvalidArgument, Registry | Scope.Scope> =>
  Effect.gen(function*() {
    if (typeof Client !== "function") return yield* refuse("Client", Client, "must be the constructor of a client")
    yield* checkObjects(options)
    const { interceptors = [] } = options
    if (!Array.isArray(interceptors)) return yield* refuse("interceptors", interceptors, "must be an array")
    const channel = yield* getConnection(name, options)
    return new Client(channel.getTarget(), grpc.credentials.createInsecure(), {
      channelOverride: channel,
      ...(interceptors.length === 0 ? {} : { interceptors: Array.from(interceptors) })
    })
  })
