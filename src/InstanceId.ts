/**
 * Small numbers for the instances of a service: unique among all that are alive, and free again when their holder is gone.
 *
 * Generators of snowflake ids, shards and ports are numbered with them. A number stands in etcd as the key
 * `/im-infra/allocators/<service>/ids/<number>`, with the lease of a session, so it outlives a holder that dies by the time
 * to live at most. The layout is that of the Go module: programs of both languages share one range of numbers.
 *
 * A lease can be lost while the number is in use, and then somebody else gets it. The holder knows of that before: `lost`
 * has to end the use of the number, and `guard` lets etcd itself refuse the writes of a holder that is late.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { EtcdClient } from "./EtcdClient.js"
import type { EtcdError } from "./EtcdError.js"
import { InvalidArgument } from "./EtcdError.js"
import { toText } from "./internal/bytes.js"
import * as Allocation from "./internal/instanceId/allocation.js"
import * as Ids from "./internal/instanceId/ids.js"
import * as Handle from "./internal/lock/handle.js"
import { Obligations } from "./internal/obligations.js"
import { isDebugging, traced } from "./internal/traced.js"
import * as validate from "./internal/validate.js"
import * as Key from "./Key.js"
import type { Guard } from "./Lock.js"
import type { LockExpired, LockNotHeld } from "./LockError.js"
import { Sessions } from "./Session.js"

/**
 * All numbers of a service are in use.
 *
 * @since 0.1.0
 * @category errors
 */
export class IdsExhausted extends Schema.TaggedError<IdsExhausted>("effect-coord/IdsExhausted")("IdsExhausted", {
  service: Schema.String,
  maxId: Schema.Number,
  /** How many of the numbers up to `maxId` are taken. */
  inUse: Schema.Number
}) {
  override get message(): string {
    return `no instance ID of ${JSON.stringify(this.service)} is free: ${this.inUse} of ${this.maxId} are in use`
  }
}

/**
 * @since 0.1.0
 * @category options
 */
export interface AllocateOptions {
  /** The largest number there is; the smallest is 1. Those of one service should agree on it. */
  readonly maxId: number
  /**
   * How long the number stays taken when its holder dies or loses etcd; renewed automatically while the holder lives.
   * Above zero; rounded up to seconds, and raised by etcd to 2 or more. Default 30 seconds.
   */
  readonly ttl?: Duration.DurationInput | undefined
}

/**
 * A number that is held.
 *
 * @since 0.1.0
 * @category models
 */
export interface AllocatedId {
  /** From 1 to `maxId`. */
  readonly id: number
  /** The key that stands for it in etcd. */
  readonly etcdKey: string
  /** Larger than that of every earlier holder of this number. */
  readonly fencingToken: bigint
  /**
   * Fails when the number is lost, before etcd can give it to somebody else, and when its key was deleted by hand. Never
   * succeeds. Whatever uses the number has to end with it.
   */
  readonly lost: Effect.Effect<never, LockExpired>
  /** "Only if this number is still held": a condition for any transaction, checked by etcd itself. */
  readonly guard: Guard
  /** Whether the number is lost or released, as etcd says. */
  readonly isExpired: Effect.Effect<boolean, EtcdError>
  /** Frees the number before its scope closes. Fails when it is not held any more, so when called twice. */
  readonly release: Effect.Effect<void, LockNotHeld>
}

/**
 * A number that somebody holds.
 *
 * @since 0.1.0
 * @category models
 */
export interface TakenId {
  readonly id: number
  readonly etcdKey: string
  readonly fencingToken: bigint
  /** The lease it is held by; `0n` for a key that somebody wrote by hand without one. */
  readonly lease: bigint
}

/**
 * @since 0.1.0
 * @category tags
 */
export class InstanceId extends Context.Tag("effect-coord/InstanceId")<InstanceId, {
  /**
   * Takes the lowest number of a service that is free, and holds it until the scope closes. Two round trips, however many
   * are taken; one more for every 16 others that come at the same moment.
   *
   * Fails with `IdsExhausted` when none is free. Safe against lost answers: no number is taken twice, or stays taken by an
   * attempt that was given up.
   */
  readonly allocate: (
    serviceName: string,
    options: AllocateOptions
  ) => Effect.Effect<AllocatedId, IdsExhausted | InvalidArgument | EtcdError, Scope.Scope>
  /** The numbers of a service that are taken, in their order. */
  readonly inspect: (serviceName: string) => Effect.Effect<ReadonlyArray<TakenId>, InvalidArgument | EtcdError>
}>() {}

/**
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** Where the numbers stand in etcd. Default `/im-infra/allocators`, as in Go. */
  readonly prefix?: string | undefined
}

const defaultTtl = Duration.seconds(30)

const badMaxId = (maxId: number): Option.Option<InvalidArgument> =>
  Number.isSafeInteger(maxId) && maxId > 0 ? Option.none() : Option.some(
    new InvalidArgument({
      argument: "maxId",
      value: validate.render(maxId),
      problem: "must be a whole number above zero"
    })
  )

const badInput = (serviceName: string, options: AllocateOptions): InvalidArgument | undefined => {
  if (!validate.isOptions(options)) return validate.noOptions(options)
  const { maxId, ttl } = options
  return [
    Either.getLeft(Key.validate("serviceName", serviceName)),
    badMaxId(maxId),
    ttl === undefined ? Option.none() : Either.getLeft(validate.ttl(ttl))
  ].find(Option.isSome)?.value
}

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<InstanceId["Type"], InvalidArgument, EtcdClient | Sessions> =>
  Effect.gen(function*() {
    if (!validate.isOptions(options)) return yield* validate.noOptions(options)
    const client = yield* EtcdClient
    const sessions = yield* Sessions
    const prefix = yield* validate.keyPrefix("prefix", options.prefix ?? "/im-infra/allocators")

    const folderOf = (service: string): string => `${prefix}/${service}/ids/`

    /** The handle of a number, held until the scope closes. */
    const handle = (service: string, id: number, won: Handle.Won, own: Obligations, debug: boolean) =>
      Effect.gen(function*() {
        const held = Handle.make(client, "instance ID", `${service}/${id}`, won, own, debug)
        yield* held.announce
        // A scope of its own, so that nothing of what was released stays in one that lives on.
        const scope = yield* Scope.fork(yield* Effect.scope, ExecutionStrategy.sequential)
        yield* Scope.addFinalizer(scope, held.close)
        const { etcdKey, fencingToken, guard, isExpired, lost, release } = held.lock(scope)
        const allocated: AllocatedId = {
          id,
          etcdKey,
          fencingToken,
          lost,
          guard,
          isExpired,
          release
        }
        return allocated
      })

    const allocate: InstanceId["Type"]["allocate"] = (serviceName, options) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.withFiberRuntime((fiber) => {
          const problem = badInput(serviceName, options)
          if (problem !== undefined) return Effect.fail(problem)
          const own = new Obligations()
          const debug = isDebugging(fiber)
          const { maxId } = options
          const ttl = Duration.decode(options.ttl ?? defaultTtl)
          const allocating = Effect.flatMap(
            Allocation.allocate(client, sessions, own, { folder: folderOf(serviceName), maxId, ttl }),
            (allocated) =>
              allocated._tag === "Allocated"
                ? Effect.succeed(allocated)
                : new IdsExhausted({ service: serviceName, maxId, inUse: allocated.inUse })
          )
          const attributes = { "instance.service": serviceName }
          return Effect.matchCauseEffect(restore(traced(fiber, "InstanceId.allocate", attributes, allocating)), {
            onFailure: (cause) => Effect.zipRight(own.settle(), Effect.failCause(cause)),
            onSuccess: ({ id, won }) => handle(serviceName, id, won, own, debug)
          })
        })
      )

    const inspect: InstanceId["Type"]["inspect"] = (serviceName) =>
      Effect.withFiberRuntime((fiber) => {
        const reading = Effect.gen(function*() {
          const folder = folderOf(yield* Key.validate("serviceName", serviceName))
          const { kvs } = yield* client.range(Ids.listing(folder))
          return Ids.numbered(folder, kvs).map(({ id, kv }): TakenId => ({
            id,
            etcdKey: toText(kv.key),
            fencingToken: kv.createRevision,
            lease: kv.lease
          }))
        })
        return traced(fiber, "InstanceId.inspect", { "instance.service": serviceName }, reading)
      })

    return { allocate, inspect }
  })

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  options: Options = {}
): Layer.Layer<InstanceId, InvalidArgument, EtcdClient | Sessions> => Layer.effect(InstanceId, make(options))

/**
 * Takes the lowest number of a service that is free, until the scope closes. See {@link InstanceId}.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { InstanceId } from "effect-coord"
 *
 * declare const generateWith: (worker: number) => Effect.Effect<never>
 *
 * const generator = Effect.scoped(Effect.gen(function*() {
 *   const { id, lost } = yield* InstanceId.allocate("orders", { maxId: 1023 })
 *   return yield* Effect.raceFirst(generateWith(id), lost)
 * }))
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const allocate = (
  serviceName: string,
  options: AllocateOptions
): Effect.Effect<AllocatedId, IdsExhausted | InvalidArgument | EtcdError, InstanceId | Scope.Scope> =>
  Effect.flatMap(InstanceId, (ids) => ids.allocate(serviceName, options))

/**
 * The numbers of a service that are taken. See {@link InstanceId}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const inspect = (
  serviceName: string
): Effect.Effect<ReadonlyArray<TakenId>, InvalidArgument | EtcdError, InstanceId> =>
  Effect.flatMap(InstanceId, (ids) => ids.inspect(serviceName))
