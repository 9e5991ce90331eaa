/** What the registry speaks of: services, events, registrations. `Registry.ts` exports it. */
import type * as Chunk from "effect/Chunk"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { EtcdError, InvalidArgument } from "../../EtcdError.js"
import type { MirrorState } from "../../Mirror.js"

/**
 * One instance of a service: where it listens, and what it tells about itself. Missing or null `metadata` decode as
 * none, fields that are not known are ignored: what Go programs write is read.
 *
 * @since 0.1.0
 * @category models
 */
export const ServiceInfo = Schema.Struct({
  /** Unique within the service; one segment of a key. */
  id: Schema.NonEmptyString,
  /** The name of the service; one or more segments. */
  name: Schema.NonEmptyString,
  /** A host name or an IP address, without the port. */
  address: Schema.NonEmptyString.pipe(
    Schema.filter((address) =>
      !/[\s\u0000-\u001f\u007f]/.test(address) || "must not contain blanks or control characters"
    )
  ),
  /** From 1 to 65535. */
  port: Schema.Int.pipe(Schema.between(1, 65_535)),
  metadata: Schema.optionalWith(Schema.Record({ key: Schema.String, value: Schema.String }), {
    default: () => ({}),
    nullable: true
  })
}).annotations({ identifier: "ServiceInfo" })

/**
 * @since 0.1.0
 * @category models
 */
export interface ServiceInfo extends Schema.Schema.Type<typeof ServiceInfo> {}

/**
 * A service to register: a {@link ServiceInfo} whose `metadata` may be left out.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServiceInput extends Omit<ServiceInfo, "metadata"> {
  /** Default: none. */
  readonly metadata?: { readonly [name: string]: string } | undefined
  /** How many calls this instance is to get, in proportion to others: from 0 to 1,000,000. Unset, it counts as 1. */
  readonly weight?: number | undefined
  /** Where this instance runs: balancers prefer those of their own zone. */
  readonly zone?: string | undefined
}

/**
 * A change of a service's instances. Both carry the whole instance; that of a `Delete` is the last one known.
 *
 * @since 0.1.0
 * @category models
 */
export type ServiceEvent =
  | { readonly _tag: "Put"; readonly service: ServiceInfo }
  | { readonly _tag: "Delete"; readonly service: ServiceInfo }

/**
 * Where a registration stands. Times are of the wall clock.
 *
 * - `Registered`: the entry is in etcd, as far as can be known, under this lease
 * - `Reconnecting`: etcd cannot be asked, or the entry was lost; it is put back as soon as possible, for ever. Told when it
 *   begins, and again when there is another reason for it, each once; not for every attempt that fails
 * - `Replaced`: somebody else registered the same id of the same service with a lease of their own (usually a successor);
 *   this registration comes back when that one goes
 * - `Unregistered`: over, for good
 *
 * @since 0.1.0
 * @category models
 */
export type RegistrationStatus =
  | { readonly _tag: "Registered"; readonly lease: bigint }
  | { readonly _tag: "Reconnecting"; readonly sinceMillis: number; readonly reason: string }
  | {
    readonly _tag: "Replaced"
    readonly sinceMillis: number
    readonly lease: bigint
    /** What stands there now, if it is a service. */
    readonly by: Option.Option<ServiceInfo>
  }
  | { readonly _tag: "Unregistered" }

/**
 * A service that stays registered until its scope closes.
 *
 * @since 0.1.0
 * @category models
 */
export interface Registration {
  /** The service as it is to be registered now, updates included. */
  readonly service: ServiceInfo
  /** The entry's key in etcd. */
  readonly key: string
  readonly status: Effect.Effect<RegistrationStatus>
  /** The present status, then every change, each once: an outage of hours is two or three. Ends after `Unregistered`. */
  readonly statuses: Stream.Stream<RegistrationStatus>
  /**
   * Ends the registration before its scope closes: the entry is deleted at once, without draining, and not put back. Takes 2 seconds at
   * most; while etcd is away the delete is repeated in the background. Never fails, and a second call waits for the first.
   */
  readonly unregister: Effect.Effect<void>
  /**
   * Replaces the metadata in place, and waits until etcd has them (or until it is known that somebody else holds the
   * entry: they are used when it comes back). Weight, zone and draining stay as they are. Fails with
   *
   * - `InvalidArgument` for what are no metadata
   * - `EtcdError`: refused as `TooLarge` or `InvalidRequest`, the old metadata stay; on any other failure the new ones
   *   are written as soon as etcd lets it
   * - `NotFound` when the registration is over
   */
  readonly update: (
    metadata: { readonly [name: string]: string }
  ) => Effect.Effect<void, InvalidArgument | EtcdError | NotFound>
  /** Changes the weight in place: from 0 to 1,000,000. Otherwise like `update`. */
  readonly setWeight: (weight: number) => Effect.Effect<void, InvalidArgument | EtcdError | NotFound>
  /**
   * Stays registered, but asks callers for no new calls: they hear of it within moments, and those that are under way can
   * end. Fails like `update`; it is written in the end all the same.
   */
  readonly drain: Effect.Effect<void, EtcdError | NotFound>
  /** Takes calls again after `drain`. */
  readonly resume: Effect.Effect<void, EtcdError | NotFound>
}

/**
 * An entry below a service's name that is no service.
 *
 * @since 0.1.0
 * @category models
 */
export interface SkippedEntry {
  readonly key: string
  readonly modRevision: bigint
  readonly problem: string
}

/**
 * The last known instances of a service, and how fresh they are.
 *
 * @since 0.1.0
 * @category models
 */
export interface InstancesState {
  /** By id; empty while nothing was read yet, as `state` tells. */
  readonly instances: ReadonlyArray<ServiceInfo>
  /** What stands among them and is no service. */
  readonly skipped: ReadonlyArray<SkippedEntry>
  /** `Following`, or `Stale` with the time since when etcd was not heard of, or `Loading` before the first read. */
  readonly state: MirrorState
}

/**
 * The instances to call, as {@link Followed} has them at hand.
 *
 * @since 0.1.0
 * @category models
 */
export interface Instances {
  /** By id. The same object as long as nothing changes. */
  readonly services: ReadonlyArray<ServiceInfo>
  /** Since when etcd was not heard of (wall clock): the list is the last known one. `undefined` while it is fresh. */
  readonly staleSinceMillis: number | undefined
}

/**
 * A local copy of a service's instances, kept current. Reading it costs no round trip.
 *
 * @since 0.1.0
 * @category models
 */
export interface Followed {
  /** The instances now; `undefined` until etcd was read once. No effect: for code that picks an instance for every call. */
  readonly current: () => Instances | undefined
  /**
   * Calls the listener after every change of `current`, at once and outside of any fibre; it must not throw. The function
   * that is returned ends it. Closing the scope of `follow` does not.
   */
  readonly onChange: (listener: () => void) => () => void
  /** Waits until there is a `current`. Fails when etcd refuses to be read; what comes later waits for the next attempt. */
  readonly ready: Effect.Effect<void, EtcdError>
  /** The instances by id: the last known ones while etcd is away. Waits for the first read of etcd. */
  readonly instances: Effect.Effect<ReadonlyArray<ServiceInfo>, EtcdError>
  /** The last known instances, without waiting, and how fresh they are. */
  readonly latest: Effect.Effect<InstancesState>
  /** The present instances as puts, then every change. */
  readonly events: Stream.Stream<ServiceEvent, EtcdError>
  /**
   * `events` for one consumer and without the cost of a stream, where there are thousands of them: every run of what this
   * gives waits for the next events. There may be none in the first.
   */
  readonly reader: Effect.Effect<Effect.Effect<Chunk.Chunk<ServiceEvent>>, EtcdError, Scope.Scope>
  /** The present list, then the newest whenever it is another one. */
  readonly lists: Stream.Stream<ReadonlyArray<ServiceInfo>, EtcdError>
}

/**
 * What was named is not there.
 *
 * @since 0.1.0
 * @category errors
 */
export class NotFound extends Schema.TaggedError<NotFound>("effect-coord/Registry/NotFound")("NotFound", {
  /** What was looked for: always `service` here. */
  what: Schema.Literal("service"),
  id: Schema.String,
  /** The service's name, when it was given. */
  name: Schema.optional(Schema.String)
}) {
  override get message(): string {
    return this.name === undefined
      ? `no service is registered with the id ${JSON.stringify(this.id)}`
      : `the service ${JSON.stringify(this.name)} has no instance with the id ${JSON.stringify(this.id)}`
  }
}
