/** The instances of one service, from a mirror of its keys: at hand without a round trip or a fibre's step. */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import type { EtcdError } from "../../EtcdError.js"
import type { Change, Mirror, Snapshot } from "../../Mirror.js"
import type { KeyValue } from "../../Txn.js"
import { toBinary, toText } from "../bytes.js"
import { sorted } from "../mirror/log.js"
import type { Folder } from "./entry.js"
import * as Lasting from "./lasting.js"
import type { Followed, Instances, InstancesState, ServiceEvent, ServiceInfo, SkippedEntry } from "./model.js"
import * as Pulled from "./pulled.js"

const problemOf = ({ key, modRevision }: KeyValue, problem: string): SkippedEntry => ({
  key: toText(key),
  modRevision,
  problem
})

const report = ({ key, modRevision, problem }: SkippedEntry): Effect.Effect<void> =>
  Effect.logWarning(`skipped ${key} at revision ${modRevision}: it is no service: ${problem}`)

/** The services among entries, in the order of the entries; those that are none are logged. */
export const decodeAll = (
  folder: Folder,
  kvs: ReadonlyArray<KeyValue>
): Effect.Effect<ReadonlyArray<ServiceInfo>> => {
  const all = kvs.filter(({ key }) => folder.has(key)).map((kv) =>
    Either.mapLeft(folder.decode(kv), (problem) => problemOf(kv, problem))
  )
  return Effect.as(
    Effect.forEach(all.flatMap((entry) => Either.isLeft(entry) ? [entry.left] : []), report, { discard: true }),
    all.flatMap((entry) => Either.isRight(entry) ? [entry.right] : [])
  )
}

const sameMetadata = (a: ServiceInfo["metadata"], b: ServiceInfo["metadata"]): boolean => {
  const keys = Object.keys(a)
  return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && a[key] === b[key])
}

const same = (a: ServiceInfo, b: ServiceInfo): boolean =>
  a === b || (a.id === b.id && a.name === b.name && a.address === b.address && a.port === b.port &&
    sameMetadata(a.metadata, b.metadata))

const sameList = (a: ReadonlyArray<ServiceInfo>, b: ReadonlyArray<ServiceInfo>): boolean =>
  a === b || (a.length === b.length && a.every((service, index) => same(service, b[index])))

type Put = ServiceEvent & { readonly _tag: "Put" }

const isPut = (entry: Put | SkippedEntry): entry is Put => "service" in entry

export interface Copy extends Followed {
  /** The present list, then the newest whenever it is another one: a part at every run of what this gives. */
  readonly listReader: Effect.Effect<Effect.Effect<Chunk.Chunk<ReadonlyArray<ServiceInfo>>>, EtcdError>
  /** Looks again how fresh the copy is. */
  readonly refresh: Effect.Effect<void>
}

/** @param grace how long instances stay in the list that vanished as if by accident */
export const make = (
  folder: Folder,
  mirror: Mirror,
  grace: Duration.Duration
): Effect.Effect<Copy, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const lasting = Duration.toMillis(grace) > 0 ? Lasting.make() : undefined
    const listeners = new Set<() => void>()
    /** Every version is decoded once, and thousands of watchers hold on to what they were told last: to the same objects. */
    const decoded = new WeakMap<KeyValue, Put | SkippedEntry>()
    /** What is to be logged by the next fibre that passes. */
    let unreported: ReadonlyArray<Effect.Effect<void>> = []
    let skipped: ReadonlyArray<SkippedEntry> = []
    let absorbed: Snapshot | undefined
    let current: Instances | undefined

    const decode = (kv: KeyValue): Put | SkippedEntry => {
      const known = decoded.get(kv)
      if (known !== undefined) return known
      const result = Either.match(folder.decode(kv), {
        onLeft: (problem) => problemOf(kv, problem),
        onRight: (service): Put => ({ _tag: "Put", service })
      })
      decoded.set(kv, result)
      if (!isPut(result)) unreported = [...unreported, report(result)]
      return result
    }

    const reporting: Effect.Effect<void> = Effect.suspend(() => {
      const due = unreported
      unreported = []
      return due.length === 0 ? Effect.void : Effect.all(due, { discard: true })
    })

    /** What one of them throws must not keep the others from hearing of it, nor end the copy. */
    const tellListeners = (): void => {
      for (const listener of Array.from(listeners)) {
        try {
          listener()
        } catch (error) {
          unreported = [...unreported, Effect.logError("a listener to the instances threw", Cause.die(error))]
        }
      }
    }

    const publish = (next: Instances): void => {
      // The same list stays the same object.
      const services = current !== undefined && sameList(current.services, next.services)
        ? current.services
        : next.services
      if (
        current !== undefined && current.services === services && current.staleSinceMillis === next.staleSinceMillis
      ) return
      current = { services, staleSinceMillis: next.staleSinceMillis }
      tellListeners()
    }

    /** Nothing new, or overtaken: who took it may have had to wait since. */
    const isKnown = ({ entries, epoch, revision }: Snapshot): boolean =>
      absorbed !== undefined && (epoch < absorbed.epoch ||
        epoch === absorbed.epoch && (revision < absorbed.revision || entries === absorbed.entries))

    /** Whether something is kept from now on that etcd has no more. */
    const absorb = (snapshot: Snapshot): boolean => {
      if (isKnown(snapshot)) return false
      const lostData = absorbed !== undefined && absorbed.epoch !== snapshot.epoch
      absorbed = snapshot
      const there = new Map<string, ServiceInfo>()
      const none: Array<SkippedEntry> = []
      for (const kv of sorted(snapshot.entries)) {
        if (!folder.has(kv.key)) continue
        const entry = decode(kv)
        if (isPut(entry)) there.set(toBinary(kv.key), entry.service)
        else none.push(entry)
      }
      skipped = none
      const kept = lasting?.next(there, lostData) ?? false
      publish({
        services: lasting?.list() ?? Array.from(there.values()),
        staleSinceMillis: current?.staleSinceMillis
      })
      return kept
    }

    const refresh = Effect.flatMap(mirror.state, (state) => {
      if (current === undefined || state._tag === "Loading") return Effect.void
      publish({
        services: current.services,
        staleSinceMillis: state._tag === "Stale" ? state.sinceMillis : undefined
      })
      return reporting
    })

    /** What etcd has had no more for so long is gone, unless etcd cannot be asked. */
    const letGo: Effect.Effect<void> = Effect.suspend(() => {
      if (lasting === undefined) return Effect.void
      const since = lasting.mark()
      return Effect.sleep(grace).pipe(
        Effect.zipRight(mirror.state),
        Effect.repeat({ until: ({ _tag }) => _tag === "Following" }),
        Effect.zipRight(Effect.suspend(() => {
          if (!lasting.drop(since) || current === undefined) return Effect.void
          publish({ services: lasting.list(), staleSinceMillis: current.staleSinceMillis })
          return reporting
        })),
        Effect.interruptible,
        Effect.forkIn(scope),
        Effect.asVoid
      )
    })

    const take = (snapshot: Snapshot): Effect.Effect<void> =>
      Effect.suspend(() => absorb(snapshot) ? Effect.zipRight(reporting, letGo) : reporting)

    const followed = Effect.flatMap(mirror.reader, (next) =>
      next.pipe(
        Effect.zipRight(mirror.snapshot),
        Effect.flatMap(take),
        Effect.zipRight(refresh),
        Effect.forever
      ))

    yield* Effect.scoped(followed).pipe(
      // Refused: the mirror tries again, and those who wait have heard of it.
      Effect.catchAll(() => Effect.void),
      Effect.forever,
      Effect.interruptible,
      Effect.forkIn(scope)
    )

    const onChange: Followed["onChange"] = (listener) => {
      // A function of its own: the same listener may be given twice.
      const own = (): void => listener()
      listeners.add(own)
      return () => {
        listeners.delete(own)
      }
    }

    let closed = false
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        tellListeners()
      })
    )

    /** Whoever waits for what will not come is interrupted. */
    const changedFrom = (seen: Instances | undefined): Effect.Effect<void> =>
      Effect.async((resume) => {
        if (current !== seen) return resume(Effect.void)
        if (closed) return resume(Effect.interrupt)
        const stop = onChange(() => {
          stop()
          resume(Effect.void)
        })
        return Effect.sync(stop)
      })

    const present: Effect.Effect<Instances, EtcdError> = Effect.flatMap(
      mirror.snapshot,
      (snapshot) =>
        Effect.zipRight(
          take(snapshot),
          Effect.suspend(() =>
            current === undefined ? Effect.dieMessage("a copy that is ready has instances") : Effect.succeed(current)
          )
        )
    )

    const gone = (kv: KeyValue | undefined): ReadonlyArray<ServiceEvent> => {
      if (kv === undefined) return []
      const previous = decode(kv)
      return isPut(previous) ? [{ _tag: "Delete", service: previous.service }] : []
    }

    /** A service whose entry is no service any more is gone, as if it had been deleted. */
    const eventsOf = (change: Change): ReadonlyArray<ServiceEvent> => {
      if (!folder.has(change._tag === "Put" ? change.kv.key : change.key)) return []
      if (change._tag === "Delete") return gone(change.previous)
      const entry = decode(change.kv)
      return isPut(entry) ? [entry] : gone(change.previous)
    }

    /** What somebody was told last: most are told the same, and hold on to it until they are told something else. */
    let told: ReadonlyArray<ServiceEvent> = []
    let toldChunk = Chunk.empty<ServiceEvent>()

    const tell = (changes: ReadonlyArray<Change>): Effect.Effect<Chunk.Chunk<ServiceEvent>> => {
      const events = changes.flatMap(eventsOf)
      if (events.length !== told.length || !events.every((event, index) => event === told[index])) {
        told = events
        toldChunk = Chunk.unsafeFromArray(events)
      }
      return unreported.length === 0 ? Effect.succeed(toldChunk) : Effect.as(reporting, toldChunk)
    }

    const reader: Followed["reader"] = Effect.map(mirror.reader, Effect.flatMap(tell))

    const listReader: Copy["listReader"] = Effect.map(present, (first) => {
      let seen: Instances | undefined
      const next: Effect.Effect<Chunk.Chunk<ReadonlyArray<ServiceInfo>>> = Effect.suspend(() => {
        const now = current ?? first
        const news = seen === undefined || seen.services !== now.services
        seen = now
        return news ? Effect.succeed(Chunk.of(now.services)) : Effect.zipRight(changedFrom(now), next)
      })
      return next
    })

    return {
      current: () => current,
      onChange,
      ready: Effect.asVoid(present),
      refresh,
      instances: Effect.map(present, ({ services }) => services),
      latest: Effect.flatMap(mirror.state, (state): Effect.Effect<InstancesState> =>
        state._tag === "Loading"
          ? Effect.succeed({ instances: [], skipped: [], state })
          : Effect.map(Effect.orDie(present), ({ services }) => ({ instances: services, skipped, state }))),
      events: Pulled.stream(reader),
      reader,
      lists: Pulled.stream(listReader),
      listReader
    }
  })
