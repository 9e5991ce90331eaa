/**
 * Keeps one registration: compares what is to be there with what is there, and puts the difference right, for ever.
 *
 * The own entry is followed through a mirror and the lease through its session; both only wake the one fibre that writes.
 * What it believes to be there goes into the condition of its put, so a belief that is out of date costs a round trip and
 * does no harm.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberId from "effect/FiberId"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError, InvalidArgument } from "../../EtcdError.js"
import * as Mirror from "../../Mirror.js"
import type { Sessions, SessionState } from "../../Session.js"
import { toBytes, toText } from "../bytes.js"
import { leaseHex } from "../ids.js"
import * as Entry from "./entry.js"
import type { There } from "./holder.js"
import * as Holder from "./holder.js"
import type { Registration, RegistrationStatus, ServiceInfo } from "./model.js"
import { NotFound } from "./model.js"

export interface Keeper {
  readonly registration: Registration
  /** Registers, whoever's entry is there. To be run once, before `keep`. */
  readonly first: Effect.Effect<void, EtcdError>
  /** Starts keeping. */
  readonly keep: Effect.Effect<void, never, EtcdClient | Scope.Scope>
  /** Whether the entry was last put with this lease. */
  readonly holds: (lease: bigint) => boolean
}

export interface Options extends Pick<Holder.Options, "key" | "ttl" | "separate" | "background" | "isHeld" | "states"> {
  readonly service: ServiceInfo
  readonly unregister: Effect.Effect<void>
}

/** What is to be there. */
interface Desired {
  readonly service: ServiceInfo
  readonly value: string
  /** Counts the updates. */
  readonly version: number
}

/** What this registration has put there. */
interface Own extends There {
  readonly text: string
  /** The mirror's epoch when it was put: revisions of another one cannot be compared. */
  readonly epoch: number
  readonly atNanos: bigint
}

/** An entry that is lost sooner than this after it was put is put back more and more slowly. */
const steadyNanos = 1_000_000_000n

const clampMillis = (millis: number, least: number, most: number): Duration.Duration =>
  Duration.millis(Math.min(most, Math.max(least, millis)))

const sameStatus = (a: RegistrationStatus, b: RegistrationStatus): boolean =>
  a._tag === "Registered"
    ? b._tag === "Registered" && a.lease === b.lease
    : a._tag === "Reconnecting"
    ? b._tag === "Reconnecting" && a.reason === b.reason && a.sinceMillis === b.sinceMillis
    : a._tag === "Replaced"
    ? b._tag === "Replaced" && a.lease === b.lease && a.sinceMillis === b.sinceMillis
    : b._tag === a._tag

/** When the scope closes, keeping ends first, and then the entry is deleted. */
export const make = (options: Options): Effect.Effect<Keeper, never, EtcdClient | Sessions | Scope.Scope> =>
  Effect.gen(function*() {
    const { key, ttl } = options
    const clock = yield* Effect.clock
    const now = (): number => clock.unsafeCurrentTimeMillis()
    const ttlMillis = Duration.toMillis(ttl)
    const callTimeout = clampMillis(ttlMillis / 3, 1_000, 10_000)
    const maxDelay = clampMillis(ttlMillis / 6, 200, 5_000)

    const wake = yield* Effect.makeLatch(false)
    const status = yield* SubscriptionRef.make<RegistrationStatus>({
      _tag: "Reconnecting",
      sinceMillis: now(),
      reason: "not registered yet"
    })
    let desired: Desired = { service: options.service, value: Entry.encode(options.service), version: 0 }
    /** The last one that etcd accepted. */
    let accepted = desired
    let own: Own | undefined
    let seen: Mirror.Snapshot | undefined
    let replaced: (RegistrationStatus & { readonly _tag: "Replaced" }) | undefined
    let trouble: { readonly sinceMillis: number; readonly reason: string } | undefined
    let disconnected: { readonly sinceMillis: number; readonly reason: string } | undefined
    let waiting: ReadonlyArray<
      { readonly version: number; readonly done: Deferred.Deferred<void, EtcdError | NotFound> }
    > = []
    let closed = false

    const setStatus = (next: RegistrationStatus): Effect.Effect<void> =>
      Effect.flatMap(
        SubscriptionRef.get(status),
        (present) => sameStatus(present, next) ? Effect.void : SubscriptionRef.set(status, next)
      )

    const publish = Effect.suspend(() => {
      const problem = trouble ?? disconnected
      return problem !== undefined
        ? setStatus({ _tag: "Reconnecting", ...problem })
        : replaced !== undefined
        ? setStatus(replaced)
        : own !== undefined
        ? setStatus({ _tag: "Registered", lease: own.lease })
        : Effect.void
    })

    /** Tells the updates up to a version how they ended. */
    const answer = (version: number, result: Effect.Effect<void, EtcdError | NotFound>): Effect.Effect<void> =>
      Effect.suspend(() => {
        const answered = waiting.filter((update) => update.version <= version)
        waiting = waiting.filter((update) => update.version > version)
        return Effect.forEach(answered, ({ done }) => Deferred.complete(done, result), { discard: true })
      })

    const notFound = new NotFound({ what: "service", id: options.service.id, name: options.service.name })

    yield* Effect.addFinalizer(() =>
      Effect.zipRight(setStatus({ _tag: "Unregistered" }), answer(Infinity, Effect.fail(notFound)))
    )

    const onState = (state: SessionState): void => {
      if (state._tag === "Active") disconnected = undefined
      if (state._tag === "Disconnected") disconnected ??= { sinceMillis: now(), reason: state.reason }
      wake.unsafeOpen()
    }
    const holder = yield* Holder.make({ ...options, onState })

    yield* Effect.addFinalizer(() => Effect.sync(() => closed = true))

    const entryOf = ({ entries }: Mirror.Snapshot): There | undefined =>
      Option.getOrUndefined(HashMap.get(entries, Mirror.indexKey(key)))

    /** What is there, as far as is known: the mirror may not have come to the own put yet. */
    const believed = (): There | undefined =>
      seen === undefined || (own !== undefined && own.epoch === seen.epoch && seen.revision < own.modRevision)
        ? own
        : entryOf(seen)

    const registered = (target: Desired, lease: bigint, modRevision: bigint): Effect.Effect<void> =>
      Effect.suspend(() => {
        own = {
          lease,
          modRevision,
          value: toBytes(target.value),
          text: target.value,
          epoch: seen?.epoch ?? 0,
          atNanos: clock.unsafeCurrentTimeNanos()
        }
        accepted = target
        trouble = undefined
        disconnected = undefined
        replaced = undefined
        return Effect.zipRight(Effect.logDebug(`registered at revision ${modRevision}`), publish)
      })

    const giveWay = ({ lease, value }: There): Effect.Effect<void> =>
      Effect.suspend(() => {
        own = undefined
        trouble = undefined
        const news = replaced?.lease !== lease
        if (news) {
          replaced = { _tag: "Replaced", sinceMillis: now(), lease, by: Either.getRight(Entry.decode(value)) }
        }
        return Effect.zipRight(
          news ? Effect.logWarning(`replaced by another registration, with lease ${leaseHex(lease)}`) : Effect.void,
          publish
        )
      })

    /** A lease that lives is respected, unless this is to take over. A key without a lease would stay for ever. */
    const reconcile = (target: Desired, there: There | undefined, takeOver: boolean): Effect.Effect<void, EtcdError> =>
      Effect.suspend(() => {
        if (!takeOver && there !== undefined && there.lease !== 0n && !holder.owns(there.lease)) return giveWay(there)
        return Effect.flatMap(
          holder.put(there, target.value, takeOver ? undefined : callTimeout),
          (outcome) => {
            if (outcome._tag === "Put") return registered(target, outcome.lease, outcome.modRevision)
            const { found, lease } = outcome
            const leased = found !== undefined && found.lease === lease
            // An earlier sending, whose answer was lost.
            if (leased && toText(found.value) === target.value) return registered(target, lease, found.modRevision)
            return Effect.zipRight(
              // The shared lease, but not this registration's value: another one of this process has the id.
              leased && takeOver ? holder.separate : Effect.void,
              reconcile(target, found, takeOver)
            )
          }
        )
      })

    /** How often in a row the entry was lost soon after it was put. */
    let quickLosses = 0

    const lost = (reason: string): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (own === undefined || trouble !== undefined) return Effect.void
        quickLosses = clock.unsafeCurrentTimeNanos() - own.atNanos < steadyNanos ? quickLosses + 1 : 0
        trouble = { sinceMillis: disconnected?.sinceMillis ?? now(), reason }
        return publish.pipe(
          Effect.zipRight(Effect.logWarning(`registration lost, registering again: ${reason}`)),
          Effect.zipRight(
            quickLosses < 2
              ? Effect.void
              : Effect.sleep(Duration.min(maxDelay, Duration.millis(100 * 2 ** (quickLosses - 2))))
          )
        )
      })

    const step = (target: Desired): Effect.Effect<void, EtcdError> =>
      Effect.gen(function*() {
        const there = believed()
        if (own !== undefined) {
          const reliable = yield* holder.relies(own.lease)
          const unchanged = there?.modRevision === own.modRevision && there.lease === own.lease
          if (reliable && unchanged && own.text === target.value) {
            trouble = undefined
            return yield* publish
          }
          if (!reliable) yield* lost("the lease is over")
          else if (there === undefined) yield* lost("the entry was deleted")
          else if (!unchanged && (there.lease === 0n || holder.owns(there.lease))) {
            yield* lost("the entry was overwritten")
          }
        }
        yield* reconcile(target, believed(), false)
      })

    /** Metadata that etcd cannot take are given up; anything else may pass. */
    const failed = (target: Desired, error: EtcdError): Effect.Effect<void> =>
      Effect.suspend(() => {
        const useless = error.reason === "TooLarge" || error.reason === "InvalidRequest"
        const told = answer(target.version, Effect.fail(error))
        if (useless && target !== accepted) {
          if (target === desired) desired = accepted
          return told
        }
        trouble = { sinceMillis: trouble?.sinceMillis ?? now(), reason: error.message }
        return publish.pipe(
          Effect.zipRight(Effect.logDebug(`not registered yet: ${error.message}`)),
          Effect.zipRight(told)
        )
      })

    const loop = (failures: number): Effect.Effect<never> =>
      Effect.suspend(() => {
        wake.unsafeClose()
        const target = desired
        return Effect.matchEffect(step(target), {
          onFailure: (error) =>
            failed(target, error).pipe(
              Effect.zipRight(Random.nextRange(0.8, 1.2)),
              Effect.flatMap((jitter) => {
                const delay = Math.min(Duration.toMillis(maxDelay), 100 * 2 ** failures) * jitter
                return Effect.raceFirst(wake.await, Effect.sleep(Duration.millis(delay)))
              }),
              Effect.zipRight(loop(Math.min(failures + 1, 16)))
            ),
          onSuccess: () =>
            answer(target.version, Effect.void).pipe(
              Effect.zipRight(wake.await),
              Effect.zipRight(loop(0))
            )
        })
      })

    const follow = Mirror.make({ key }).pipe(
      Effect.flatMap((mirror) =>
        Stream.runForEach(mirror.snapshots, (snapshot) =>
          Effect.sync(() => {
            seen = snapshot
            wake.unsafeOpen()
          }))
      ),
      Effect.scoped,
      // Refused, for want of a permission perhaps: the lease is kept all the same.
      Effect.tapError((error) => Effect.logDebug(`cannot follow the own entry: ${error.message}`)),
      Effect.retry(Schedule.spaced("2 seconds")),
      Effect.orDie
    )

    const update: Registration["update"] = (metadata) =>
      Effect.flatMap(
        Entry.validateService({ ...options.service, metadata }, []),
        (service) =>
          Effect.suspend((): Effect.Effect<void, InvalidArgument | EtcdError | NotFound> => {
            if (closed) return Effect.fail(notFound)
            const done = Deferred.unsafeMake<void, EtcdError | NotFound>(FiberId.none)
            desired = { service, value: Entry.encode(service), version: desired.version + 1 }
            waiting = [...waiting, { version: desired.version, done }]
            wake.unsafeOpen()
            return Deferred.await(done)
          })
      )

    return {
      registration: {
        get service() {
          return desired.service
        },
        key,
        status: SubscriptionRef.get(status),
        statuses: Stream.takeUntil(status.changes, ({ _tag }) => _tag === "Unregistered"),
        unregister: options.unregister,
        update
      },
      first: Effect.suspend(() => reconcile(desired, undefined, true)),
      keep: Effect.zipRight(
        Effect.forkScoped(Effect.interruptible(follow)),
        Effect.asVoid(Effect.forkScoped(Effect.interruptible(loop(0))))
      ),
      holds: (lease) => own?.lease === lease
    }
  })
