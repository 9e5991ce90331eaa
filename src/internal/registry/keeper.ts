/**
 * Keeps one registration: compares what is to be there with what is there, and puts the difference right, for ever.
 *
 * The own entry is followed through a mirror and the lease through its session; both only wake the one fibre that writes,
 * and where there is nothing to write there is none. What it believes to be there goes into the condition of its put, so a
 * belief that is out of date costs a round trip and does no harm.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import { InvalidArgument } from "../../EtcdError.js"
import * as Mirror from "../../Mirror.js"
import type { Sessions } from "../../Session.js"
import { inBackground } from "../background.js"
import { toBytes, toText } from "../bytes.js"
import { leaseHex } from "../ids.js"
import * as validate from "../validate.js"
import type { Target } from "./desired.js"
import * as Desired from "./desired.js"
import type { Layout } from "./entry.js"
import * as Entry from "./entry.js"
import type { There } from "./holder.js"
import * as Holder from "./holder.js"
import type { Registration, ServiceInfo } from "./model.js"
import { NotFound } from "./model.js"
import type { OwnEntries, OwnEntry, Seen } from "./ownEntries.js"
import * as Standing from "./standing.js"
import * as Traits from "./traits.js"
import type { Workers } from "./workers.js"

export interface Keeper {
  readonly registration: Registration
  /** Registers, whoever's entry is there. To be run once, before `keep`. */
  readonly first: Effect.Effect<void, EtcdError>
  /** Starts keeping. */
  readonly keep: Effect.Effect<void>
  /** Whether the entry stands with this lease, or may do so: what was put may not be answered yet. */
  readonly holds: (lease: bigint) => boolean
  /** Keeping ends, and then the entry is deleted. Has to be called whatever happened before. */
  readonly close: Effect.Effect<void>
}

export interface Options extends Pick<Holder.Options, "ttl" | "separate" | "background" | "isHeld" | "states"> {
  readonly service: ServiceInfo
  readonly layout: Layout
  readonly entries: OwnEntries
  readonly workers: Workers
  readonly unregister: Effect.Effect<void>
}

/** What this registration has put there. */
interface Own extends There {
  readonly text: string
  /** The mirror and its epoch when it was put: revisions of another one cannot be compared. */
  readonly mirror: object | undefined
  readonly epoch: number
  readonly atNanos: bigint
}

/** An entry that is lost sooner than this after it was put is put back more and more slowly. */
const steadyNanos = 1_000_000_000n

const clampMillis = (millis: number, least: number, most: number): Duration.Duration =>
  Duration.millis(Math.min(most, Math.max(least, Math.floor(millis))))

/**
 * The epoch of a put before which etcd was at this revision. Where the mirror had come further before that was sent, etcd has
 * begun a new history, and the mirror has not noticed.
 */
const epochOf = (revision: bigint, before: Seen | undefined, after: Seen | undefined): number => {
  if (after === undefined) return 0
  const { mirror, snapshot: { epoch } } = after
  const isNew = before?.mirror === mirror && before.snapshot.epoch === epoch && revision < before.snapshot.revision
  return isNew ? epoch + 1 : epoch
}

export const make = (options: Options): Effect.Effect<Keeper, never, EtcdClient | Sessions> =>
  Effect.gen(function*() {
    const { layout, ttl } = options
    const { id, name } = options.service
    const key = layout.key(name, id)
    const folder = layout.folder(name)
    const clock = yield* Effect.clock
    const ttlMillis = Duration.toMillis(ttl)
    const callTimeout = clampMillis(ttlMillis / 3, 1_000, 10_000)
    const maxDelay = clampMillis(ttlMillis / 6, 200, 5_000)

    const standing = Standing.make(() => clock.unsafeCurrentTimeMillis())
    const desired = Desired.make(options.service, layout.encode)
    let own: Own | undefined
    let entry: OwnEntry | undefined
    let closed = false

    const notFound = (): NotFound => new NotFound({ what: "service", id, name })

    const holder = yield* Holder.make({
      ...options,
      key,
      onState: (state) => {
        standing.connection(state)
        wake()
      }
    })

    /** What is there, as far as is known: the mirror may not have come to the own put yet. */
    const believed = (): There | undefined => {
      const seen = entry?.seen()
      if (seen === undefined) return own
      const { mirror, snapshot: { entries, epoch, revision } } = seen
      // What a mirror shows first is of the time of the put.
      if (own !== undefined && own.mirror !== mirror) own = { ...own, mirror, epoch }
      const isBehind = own !== undefined &&
        (epoch < own.epoch || epoch === own.epoch && revision < own.modRevision)
      return isBehind ? own : Option.getOrUndefined(HashMap.get(entries, Mirror.indexKey(key)))
    }

    const registered = (target: Target, lease: bigint, modRevision: bigint, epoch: number): Effect.Effect<void> =>
      Effect.suspend(() => {
        own = {
          lease,
          modRevision,
          value: toBytes(target.value),
          text: target.value,
          mirror: entry?.seen()?.mirror,
          epoch,
          atNanos: clock.unsafeCurrentTimeNanos()
        }
        desired.accepted(target)
        standing.registered(lease)
        return Effect.logDebug(`registered at revision ${modRevision}`)
      })

    const giveWay = ({ lease, value }: There): Effect.Effect<void> =>
      Effect.suspend(() => {
        own = undefined
        return standing.replaced(lease, Either.getRight(folder.decode({ key: toBytes(key), value })))
          ? Effect.logWarning(`replaced by another registration, with lease ${leaseHex(lease)}`)
          : Effect.void
      })

    /** A lease that lives is respected, unless this is to take over. A key without a lease would stay for ever. */
    const reconcile = (target: Target, there: There | undefined, takeOver: boolean): Effect.Effect<void, EtcdError> =>
      Effect.suspend(() => {
        if (!takeOver && there !== undefined && there.lease !== 0n && !holder.owns(there.lease)) return giveWay(there)
        const before = entry?.seen()
        return Effect.flatMap(
          holder.put(there, target.value, takeOver ? undefined : callTimeout),
          (outcome) => {
            const epoch = epochOf(outcome.revision, before, entry?.seen())
            if (outcome._tag === "Put") return registered(target, outcome.lease, outcome.modRevision, epoch)
            const { found, lease } = outcome
            const leased = found !== undefined && found.lease === lease
            // An earlier sending, whose answer was lost.
            if (leased && toText(found.value) === target.value) {
              return registered(target, lease, found.modRevision, epoch)
            }
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
        if (own === undefined || !standing.lost(reason)) return Effect.void
        quickLosses = clock.unsafeCurrentTimeNanos() - own.atNanos < steadyNanos ? quickLosses + 1 : 0
        return Effect.logWarning(`registration of ${name}/${id} lost, registering again: ${reason}`).pipe(
          Effect.zipRight(
            quickLosses < 2
              ? Effect.void
              : Effect.sleep(Duration.min(maxDelay, Duration.millis(100 * 2 ** (quickLosses - 2))))
          )
        )
      })

    const step = (target: Target): Effect.Effect<void, EtcdError> =>
      Effect.gen(function*() {
        const there = believed()
        if (own !== undefined) {
          const reliable = yield* holder.relies(own.lease)
          const unchanged = there?.modRevision === own.modRevision && there.lease === own.lease
          if (reliable && unchanged && own.text === target.value) return standing.steady()
          if (!reliable) yield* lost("the lease is over")
          else if (there === undefined) yield* lost("the entry was deleted")
          else if (!unchanged && (there.lease === 0n || holder.owns(there.lease))) {
            yield* lost("the entry was overwritten")
          }
        }
        yield* reconcile(target, believed(), false)
      })

    /** Metadata that etcd cannot take are given up; anything else may pass. */
    const failed = (target: Target, error: EtcdError): Effect.Effect<void> =>
      Effect.suspend(() => {
        const useless = error.reason === "TooLarge" || error.reason === "InvalidRequest"
        const answered = desired.answer(target.version, Effect.fail(error))
        if (useless && desired.giveUp(target)) return answered
        standing.failed(error)
        return Effect.zipRight(Effect.logDebug(`not registered yet: ${error.message}`), answered)
      })

    /** Whether somebody wanted the fibre to look again, since it last did. */
    let again = false
    let working: Fiber.RuntimeFiber<unknown, unknown> | "due" | undefined
    let cutShort: (() => void) | undefined

    const pause = (delay: Duration.Duration): Effect.Effect<void> =>
      Effect.raceFirst(
        Effect.sleep(delay),
        Effect.async<void>((resume) => {
          if (again) return resume(Effect.void)
          cutShort = () => resume(Effect.void)
        })
      )

    const work = (failures: number): Effect.Effect<void> =>
      Effect.suspend(() => {
        again = false
        const target = desired.present()
        return Effect.matchEffect(step(target), {
          onFailure: (error) =>
            failed(target, error).pipe(
              Effect.zipRight(Random.nextRange(0.8, 1.2)),
              Effect.flatMap((jitter) =>
                pause(Duration.millis(Math.min(Duration.toMillis(maxDelay), 100 * 2 ** failures) * jitter))
              ),
              Effect.zipRight(work(Math.min(failures + 1, 16)))
            ),
          onSuccess: () =>
            Effect.flatMap(desired.answer(target.version, Effect.void), () => {
              if (again) return work(0)
              working = undefined
              return Effect.void
            })
        })
      })

    /** In a fibre that `close` ends. */
    const asWork = <E>(work: Effect.Effect<void, E>): Effect.Effect<void, E> =>
      Effect.withFiberRuntime((fiber) => {
        if (closed) return Effect.void
        working = fiber
        return work
      })

    const worker = asWork(work(0)).pipe(inBackground("registration", { service: name, id }))

    /** Has the fibre look, if there may be something to do. */
    const wake = (): void => {
      if (closed || entry === undefined) return
      again = true
      cutShort?.()
      if (working !== undefined || isSettled()) return
      working = "due"
      options.workers.start(worker)
    }

    /** Without a fibre: whether all is as it should be. */
    const isSettled = (): boolean => {
      if (own === undefined || standing.isTroubled()) return false
      if (own.text !== desired.present().value || desired.isAwaited()) return false
      const there = believed()
      return there?.modRevision === own.modRevision && there.lease === own.lease && holder.isGood(own.lease)
    }

    const close: Effect.Effect<void> = Effect.suspend(() => {
      closed = true
      standing.closing()
      entry?.leave()
      return (working === undefined || working === "due" ? Effect.void : Fiber.interrupt(working)).pipe(
        Effect.zipRight(holder.close),
        Effect.zipRight(Effect.sync(standing.over)),
        Effect.zipRight(desired.answer(Infinity, Effect.failSync(notFound)))
      )
    })

    /** Has other metadata written; changes that come together are written together. */
    const change = (next: Parameters<typeof desired.change>[0]): Effect.Effect<void, EtcdError | NotFound> =>
      Effect.suspend(() => {
        if (closed) return Effect.failSync(notFound)
        const written = desired.change(next)
        wake()
        return written
      })

    const setDraining = (draining: boolean) => change((metadata) => Traits.withDraining(metadata, draining))

    return {
      registration: {
        get service() {
          return desired.present().service
        },
        key,
        status: Effect.sync(standing.status),
        statuses: Stream.takeUntil(standing.statuses, ({ _tag }) => _tag === "Unregistered"),
        unregister: options.unregister,
        update: (metadata) =>
          Effect.flatMap(
            Effect.suspend(() =>
              validate.isOptions(metadata)
                ? Entry.validateService({ ...desired.present().service, metadata }, [])
                : new InvalidArgument({
                  argument: "metadata",
                  value: validate.render(metadata),
                  problem: "must be an object of texts"
                })
            ),
            (checked) => change((present) => Traits.keep(present, checked.metadata))
          ),
        setWeight: (weight) =>
          Effect.flatMap(
            Traits.checkWeight("weight", weight),
            (weight) => change((metadata) => Traits.withWeight(metadata, weight))
          ),
        drain: setDraining(true),
        resume: setDraining(false)
      },
      // In a fibre of its own, no child of the caller, which `close` ends: somebody else may close it meanwhile.
      first: Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(
          Effect.forkDaemon(Effect.interruptible(asWork(reconcile(desired.present(), undefined, true)))),
          (fiber) =>
            Effect.flatMap(restore(Fiber.await(fiber)), (exit) => {
              working = undefined
              return closed ? Effect.void : exit
            })
        )
      ),
      keep: Effect.map(options.entries.join(key, folder.range, () => wake()), (joined) => {
        if (closed) return joined.leave()
        entry = joined
        wake()
      }),
      close,
      holds: holder.mayHold
    }
  })
