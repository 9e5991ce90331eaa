/**
 * One layer for an application: locks, the registry, configuration, and the client and sessions they share.
 *
 * @since 0.1.0
 */
import type * as EffectConfig from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Config from "./Config.js"
import * as Election from "./Election.js"
import * as EtcdClient from "./EtcdClient.js"
import type { EtcdError } from "./EtcdError.js"
import { InvalidArgument } from "./EtcdError.js"
import * as InstanceId from "./InstanceId.js"
import * as validate from "./internal/validate.js"
import { unwrap } from "./internal/wrapped.js"
import * as Lock from "./Lock.js"
import * as ReadWriteLock from "./ReadWriteLock.js"
import * as Registry from "./Registry.js"
import * as Semaphore from "./Semaphore.js"
import * as Session from "./Session.js"

/**
 * Everything that {@link layer} provides.
 *
 * @since 0.1.0
 * @category models
 */
export type Coord =
  | Lock.Lock
  | Registry.Registry
  | Config.Config
  | Election.Election
  | InstanceId.InstanceId
  | ReadWriteLock.ReadWriteLock
  | Semaphore.Semaphore
  | Session.Sessions
  | EtcdClient.EtcdClient

/**
 * Where the services keep their keys.
 *
 * @since 0.1.0
 * @category options
 */
export interface ServiceOptions {
  /** Where locks stand. Default `/locks`, as in Go. */
  readonly lockPrefix?: string | undefined
  /** Where semaphores stand. Default `/semaphores`. */
  readonly semaphorePrefix?: string | undefined
  /** Where read-write locks stand. Default `/rwlocks`. */
  readonly readWriteLockPrefix?: string | undefined
  /** Where services stand. Default `/services`, as in Go. */
  readonly servicePrefix?: string | undefined
  /** Where settings stand. Default `/config`, as in Go. */
  readonly configPrefix?: string | undefined
  /** Where elections stand. Default `/elections`. */
  readonly electionPrefix?: string | undefined
  /** Where instance IDs stand. Default `/im-infra/allocators`, as in Go. */
  readonly instancePrefix?: string | undefined
  /** What `inspect` of locks and the like shows as the name of this program. Default: the name of the script. */
  readonly name?: string | undefined
}

/**
 * The options of the client and of the services.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options extends EtcdClient.Options, ServiceOptions {}

/** What a service calls its prefix has another name here, and errors name the option that was given. */
const named = <A, R>(
  option: keyof ServiceOptions,
  service: Layer.Layer<A, InvalidArgument, R>
): Layer.Layer<A, InvalidArgument, R> =>
  Layer.mapError(service, (error) =>
    error.argument === "prefix"
      ? new InvalidArgument({ argument: option, value: error.value, problem: error.problem })
      : error)

/**
 * All services over a client that is there already: one of an embedded etcd with handles (`effect-coord/testing`), or one
 * that the application has for itself.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerServices = (
  options: ServiceOptions = {}
): Layer.Layer<Exclude<Coord, EtcdClient.EtcdClient>, InvalidArgument, EtcdClient.EtcdClient> =>
  Layer.mergeAll(
    named("lockPrefix", Lock.layer({ prefix: options.lockPrefix, name: options.name })),
    named("semaphorePrefix", Semaphore.layer({ prefix: options.semaphorePrefix, name: options.name })),
    named("readWriteLockPrefix", ReadWriteLock.layer({ prefix: options.readWriteLockPrefix, name: options.name })),
    named("servicePrefix", Registry.layer({ prefix: options.servicePrefix })),
    named("configPrefix", Config.layer({ prefix: options.configPrefix })),
    named("electionPrefix", Election.layer({ prefix: options.electionPrefix })),
    named("instancePrefix", InstanceId.layer({ prefix: options.instancePrefix }))
  ).pipe(Layer.provideMerge(Session.layer))

/**
 * All services over an etcd cluster. It connects at first use: an etcd that is away fails calls, not the layer. Fails with
 * `InvalidArgument` naming the option that cannot work.
 *
 * @example
 * ```ts
 * import { Coord } from "effect-coord"
 * import { Redacted } from "effect"
 *
 * const live = Coord.layer({
 *   endpoints: ["etcd-1:2379", "etcd-2:2379", "etcd-3:2379"],
 *   auth: { username: "orders", password: Redacted.make("secret") },
 *   namespace: "/production"
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<Coord, InvalidArgument> =>
  validate.isOptions(options)
    ? Layer.provideMerge(layerServices(options), EtcdClient.layer(options))
    : Layer.fail(validate.noOptions(options))

/**
 * The same, with options from Effect's `Config`: environment variables by default.
 *
 * @example
 * ```ts
 * import { Coord } from "effect-coord"
 * import { Config } from "effect"
 *
 * const live = Coord.layerConfig({
 *   endpoints: Config.string("ETCD_ENDPOINTS").pipe(Config.withDefault("localhost:2379"))
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  options: EffectConfig.Config.Wrap<Options>
): Layer.Layer<Coord, InvalidArgument | ConfigError.ConfigError> =>
  Layer.unwrapEffect(Effect.map(unwrap(options), layer))

/**
 * All services over an embedded etcd in this process, of its own: for examples, tests and development. No server is
 * needed, and nothing is kept.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerMemory: Layer.Layer<Coord> = Layer.provideMerge(
  Layer.orDie(layerServices()),
  EtcdClient.layerMemory
)

/**
 * How one member answered.
 *
 * @since 0.1.0
 * @category models
 */
export type EndpointHealth =
  | {
    readonly _tag: "Up"
    readonly endpoint: string
    /** How long the answer took. */
    readonly latency: Duration.Duration
    readonly version: string
    /** Whether the member knows a leader: without one it can neither write nor read from the quorum. */
    readonly hasLeader: boolean
    readonly isLeader: boolean
    readonly revision: bigint
  }
  | { readonly _tag: "Down"; readonly endpoint: string; readonly error: EtcdError }

/**
 * @since 0.1.0
 * @category models
 */
export interface Health {
  /**
   * Whether at least one member answers and knows a leader, and no session is disconnected. Says nothing of the space that is
   * left: an etcd over its quota answers reads, and counts as healthy.
   */
  readonly healthy: boolean
  readonly endpoints: ReadonlyArray<EndpointHealth>
  /** The sessions that locks and registrations hang on. */
  readonly sessions: ReadonlyArray<{ readonly ttl: Duration.Duration; readonly state: Session.SessionState }>
  /** The stream under all watches; disconnected also when nothing was ever watched. */
  readonly watches: EtcdClient.WatchConnection
}

const endpointHealth = (
  client: EtcdClient.EtcdClient["Type"],
  endpoint: string,
  timeout: Duration.DurationInput
): Effect.Effect<EndpointHealth> =>
  Effect.match(Effect.timed(client.status(endpoint, { timeout })), {
    onFailure: (error): EndpointHealth => ({ _tag: "Down", endpoint, error }),
    onSuccess: ([latency, status]) => ({
      _tag: "Up",
      endpoint,
      latency,
      version: status.version,
      hasLeader: status.leader !== 0n,
      isLeader: status.leader === status.memberId,
      revision: status.revision
    })
  })

/**
 * Asks every member for its state, all at once, and looks at the sessions. Never fails: what is wrong is in the answer.
 *
 * @param options `timeout` for each member, default 2 seconds
 * @since 0.1.0
 * @category accessors
 */
export const health = (
  options: { readonly timeout?: Duration.DurationInput | undefined } = {}
): Effect.Effect<Health, never, EtcdClient.EtcdClient | Session.Sessions> =>
  Effect.gen(function*() {
    const client = yield* EtcdClient.EtcdClient
    const sessions = yield* Session.Sessions
    const timeout = options.timeout ?? "2 seconds"
    const endpoints = yield* Effect.forEach(
      client.endpoints,
      (endpoint) => endpointHealth(client, endpoint, timeout),
      { concurrency: "unbounded" }
    )
    const states = yield* Effect.flatMap(
      sessions.all,
      Effect.forEach((session) => Effect.map(session.state, (state) => ({ ttl: session.ttl, state })))
    )
    return {
      healthy: endpoints.some((member) => member._tag === "Up" && member.hasLeader) &&
        // A session that is over is history: who used it has heard of it, and gets another.
        states.every(({ state }) => state._tag !== "Disconnected"),
      endpoints,
      sessions: states,
      watches: yield* client.watchConnection.get
    }
  }).pipe(Effect.withSpan("Coord.health"))
