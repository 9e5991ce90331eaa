/**
 * A registry of services: what registers stays registered for as long as its process lives, and who looks for a service
 * always has its instances at hand.
 *
 * Entries are those of the Go module `coord`: `/services/<name>/<id>`, with JSON.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { EtcdClient } from "./EtcdClient.js"
import type { EtcdError, InvalidArgument } from "./EtcdError.js"
import * as Input from "./internal/registry/input.js"
import * as Layouts from "./internal/registry/layouts.js"
import type * as model from "./internal/registry/model.js"
import * as Pulled from "./internal/registry/pulled.js"
import * as Service from "./internal/registry/service.js"
import * as validate from "./internal/validate.js"
import type { Sessions } from "./Session.js"

export {
  /**
   * What was named is not there.
   *
   * @since 0.1.0
   * @category errors
   */
  NotFound,
  /**
   * One instance of a service, and its Schema.
   *
   * @since 0.1.0
   * @category models
   */
  ServiceInfo
} from "./internal/registry/model.js"
/**
 * What balancers read of an instance. Kept in its metadata, under names of their own: `coord.weight`, `coord.zone`,
 * `coord.draining`.
 */
export type {
  /**
   * @since 0.1.0
   * @category models
   */
  Followed,
  /**
   * @since 0.1.0
   * @category models
   */
  Instances,
  /**
   * @since 0.1.0
   * @category models
   */
  InstancesState,
  /**
   * @since 0.1.0
   * @category models
   */
  Registration,
  /**
   * @since 0.1.0
   * @category models
   */
  RegistrationStatus,
  /**
   * @since 0.1.0
   * @category models
   */
  ServiceEvent,
  /**
   * @since 0.1.0
   * @category models
   */
  ServiceInput,
  /**
   * @since 0.1.0
   * @category models
   */
  SkippedEntry
} from "./internal/registry/model.js"
export {
  /**
   * Whether an instance is about to leave, and takes no new calls.
   *
   * @since 0.1.0
   * @category traits
   */
  isDraining,
  /**
   * How many calls an instance is to get, in proportion to others: from 0 to 1,000,000. 1 where none is set.
   *
   * @since 0.1.0
   * @category traits
   */
  weight,
  /**
   * Where an instance runs, if it tells.
   *
   * @since 0.1.0
   * @category traits
   */
  zone
} from "./internal/registry/traits.js"

/**
 * @since 0.1.0
 * @category options
 */
export interface RegisterOptions {
  /**
   * How long the entry outlives a process that dies or loses etcd. Default 30 seconds; rounded up to seconds, and etcd
   * raises it to 2 or more. Registrations of one time to live share a lease.
   */
  readonly ttl?: Duration.DurationInput | undefined
  /**
   * How long the entry stands, marked as draining, between the close of the scope and its delete: callers turn to others,
   * and calls that are under way can end, before what serves them goes down. 0 deletes it at once: the default of
   * `register`; that of `layerService` is 1 second.
   */
  readonly drain?: Duration.DurationInput | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** What the keys begin with. Default `/services`, as in Go; none for `etcd-naming`. */
  readonly prefix?: string | undefined
  /**
   * How entries are written and read.
   *
   * - `coord`, the default: as Go's `coord` has them, JSON under `<prefix>/<name>/<id>`
   * - `etcd-naming`: as etcd's own packages for gRPC have them (`go.etcd.io/etcd/client/v3/naming`), so that its resolver
   *   finds them: `{"Op":0,"Addr":"host:port","Metadata":{…}}` under `<name>/<id>`, with the name as the target. What stands
   *   anywhere below the target is an instance, and what follows the target in its key is its id. Metadata that are no texts
   *   are read as JSON
   */
  readonly format?: "coord" | "etcd-naming" | undefined
  /**
   * How long `instances`, `instancesState` and `follow` keep instances that vanished as if by accident: because etcd came
   * back without its data, or all of a service at once. Those that live put their entries back within moments, and callers
   * do not lose them meanwhile. Who drains before leaving leaves at once. Default 10 seconds; 0 for none.
   */
  readonly grace?: Duration.DurationInput | undefined
}

/**
 * The registry. Names of services may have several segments (`billing/api`), ids have one; both are refused as
 * `InvalidArgument` when they are no names (see `Key`), before anything is sent.
 *
 * @since 0.1.0
 * @category tags
 */
export class Registry extends Context.Tag("effect-coord/Registry")<Registry, {
  /**
   * Registers a service until the scope closes.
   *
   * It is registered when this succeeds; what stood under the same name and id is replaced. On failure nothing stays
   * behind. From then on the entry is kept: put back after the loss of its lease, its deletion by others, a restart of
   * etcd with or without its data, an outage however long. When somebody else registers the same name and id, that is
   * respected, told by `status`, and undone only when they go. Closing the scope deletes the entry, at once or after
   * draining, and never that of a successor; that takes 2 seconds at most (and `drain`), and while etcd is away the delete
   * is repeated in the background.
   *
   * Fails with `InvalidArgument` that names the field (`service.port`) or `ttl`, and with `EtcdError` when one of its
   * calls meets the client's deadline or is refused.
   */
  readonly register: (
    service: model.ServiceInput,
    options?: RegisterOptions
  ) => Effect.Effect<model.Registration, InvalidArgument | EtcdError, Scope.Scope>
  /**
   * Ends the registration with this id, of one service, or wherever the id is found. Registrations of this `Registry` end
   * as with their `unregister`. An entry of another process is deleted, once: if that process lives and keeps it, it will
   * come back. Fails with `NotFound` when there is none.
   */
  readonly unregister: (id: string, name?: string) => Effect.Effect<void, model.NotFound | InvalidArgument | EtcdError>
  /** The instances of a service by id, as the quorum knows them now. Entries that are no service are logged and skipped. */
  readonly discover: (
    name: string
  ) => Effect.Effect<ReadonlyArray<model.ServiceInfo>, InvalidArgument | EtcdError>
  /** The names of the services that have entries. */
  readonly services: Effect.Effect<ReadonlyArray<string>, EtcdError>
  /**
   * A local copy of a service's instances until the scope closes. All who follow a service share one copy and one watch;
   * it is kept for another 30 seconds after the last of them.
   */
  readonly follow: (name: string) => Effect.Effect<model.Followed, InvalidArgument, Scope.Scope>
  /**
   * The present instances as puts, then every change: each once, in order, without a gap, through outages. An entry that
   * turns into something that is no service is a `Delete`. Fails only when etcd refuses to be read (permissions).
   */
  readonly watch: (name: string) => Stream.Stream<model.ServiceEvent, InvalidArgument | EtcdError>
  /**
   * The whole list by id, now and whenever it changed; who is slow gets the newest. While etcd is away the last list
   * stands: an empty one comes only when etcd said so.
   */
  readonly instances: (
    name: string
  ) => Stream.Stream<ReadonlyArray<model.ServiceInfo>, InvalidArgument | EtcdError>
  /** The last known instances, at once, and how fresh they are. Follows the service from now on, if nobody does yet. */
  readonly instancesState: (name: string) => Effect.Effect<model.InstancesState, InvalidArgument>
}>() {}

const defaultDrain = Duration.seconds(1)
const defaultGrace = Duration.seconds(10)

/**
 * The registry over the client and the sessions of its context. Closing the scope ends the local copies, and unregisters
 * what is still registered.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<Registry["Type"], InvalidArgument, EtcdClient | Sessions | Scope.Scope> =>
  Effect.gen(function*() {
    if (!validate.isOptions(options)) return yield* validate.noOptions(options)
    const layout = yield* Layouts.make(options.format ?? "coord", options.prefix)
    return yield* Service.make(layout, yield* Input.pause("grace", options.grace ?? defaultGrace))
  })

/**
 * Fails with `InvalidArgument` for a prefix that is no name.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<Registry, InvalidArgument, EtcdClient | Sessions> =>
  Layer.scoped(Registry, make(options))

/**
 * Registers a service for as long as the layer lives. Provide what it depends on (its server, say) to this layer: then it
 * registers when that is up, and drains for a second (see {@link RegisterOptions}) and unregisters before that goes down.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerService = (
  service: model.ServiceInput,
  options: RegisterOptions = {}
): Layer.Layer<never, InvalidArgument | EtcdError, Registry> =>
  Layer.scopedDiscard(
    validate.isOptions(options)
      ? register(service, { ...options, drain: options.drain ?? defaultDrain })
      : validate.noOptions(options)
  )

/**
 * `register` of the context's {@link Registry}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const register = (
  service: model.ServiceInput,
  options?: RegisterOptions
): Effect.Effect<model.Registration, InvalidArgument | EtcdError, Registry | Scope.Scope> =>
  Effect.flatMap(Registry, (registry) => registry.register(service, options))

/**
 * `unregister` of the context's {@link Registry}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const unregister = (
  id: string,
  name?: string
): Effect.Effect<void, model.NotFound | InvalidArgument | EtcdError, Registry> =>
  Effect.flatMap(Registry, (registry) => registry.unregister(id, name))

/**
 * `discover` of the context's {@link Registry}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const discover = (
  name: string
): Effect.Effect<ReadonlyArray<model.ServiceInfo>, InvalidArgument | EtcdError, Registry> =>
  Effect.flatMap(Registry, (registry) => registry.discover(name))

/**
 * `services` of the context's {@link Registry}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const services: Effect.Effect<ReadonlyArray<string>, EtcdError, Registry> = Effect.flatMap(
  Registry,
  (registry) => registry.services
)

/**
 * `follow` of the context's {@link Registry}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const follow = (
  name: string
): Effect.Effect<model.Followed, InvalidArgument, Registry | Scope.Scope> =>
  Effect.flatMap(Registry, (registry) => registry.follow(name))

/**
 * `watch` of the context's {@link Registry}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const watch = (name: string): Stream.Stream<model.ServiceEvent, InvalidArgument | EtcdError, Registry> =>
  Pulled.from(Registry, (registry) => registry.watch(name))

/**
 * `instances` of the context's {@link Registry}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const instances = (
  name: string
): Stream.Stream<ReadonlyArray<model.ServiceInfo>, InvalidArgument | EtcdError, Registry> =>
  Pulled.from(Registry, (registry) => registry.instances(name))

/**
 * `instancesState` of the context's {@link Registry}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const instancesState = (name: string): Effect.Effect<model.InstancesState, InvalidArgument, Registry> =>
  Effect.flatMap(Registry, (registry) => registry.instancesState(name))
