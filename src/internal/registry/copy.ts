/** The instances of one service, from a mirror of its keys. */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Key from "../../Key.js"
import type { Change, Mirror, Snapshot } from "../../Mirror.js"
import type { KeyValue } from "../../Txn.js"
import { toText } from "../bytes.js"
import { sorted } from "../mirror/log.js"
import * as Entry from "./entry.js"
import type { ServiceCopy, ServiceEvent, ServiceInfo } from "./model.js"

/** The service in an entry. One that is none is reported, once a version, and left out. */
export type Decode = (kv: KeyValue) => Effect.Effect<Option.Option<ServiceInfo>>

export const decode: Decode = (kv) =>
  Either.match(Entry.decode(kv.value), {
    onLeft: (problem) =>
      Effect.as(
        Effect.logWarning(`skipped ${toText(kv.key)} at revision ${kv.modRevision}: it is no service: ${problem}`),
        Option.none()
      ),
    onRight: (service) => Effect.succeedSome(service)
  })

/** Decodes each version once, however many read it. */
export const remembering = (): Decode => {
  const known = new WeakMap<KeyValue, Option.Option<ServiceInfo>>()
  return (kv) =>
    Effect.suspend(() => {
      const service = known.get(kv)
      return service === undefined
        ? Effect.tap(decode(kv), (decoded) => Effect.sync(() => known.set(kv, decoded)))
        : Effect.succeed(service)
    })
}

/** The services among entries, in the order of the entries. */
export const decodeAll = (
  folder: string,
  kvs: ReadonlyArray<KeyValue>,
  decode: Decode
): Effect.Effect<ReadonlyArray<ServiceInfo>> =>
  Effect.map(
    Effect.forEach(kvs.filter(({ key }) => Key.isDirectChild(folder, key)), decode),
    (services) => services.flatMap(Option.toArray)
  )

const sameList = (a: ReadonlyArray<ServiceInfo>, b: ReadonlyArray<ServiceInfo>): boolean =>
  a === b ||
  (a.length === b.length &&
    a.every((service, index) => service === b[index] || Entry.encode(service) === Entry.encode(b[index])))

export const make = (folder: string, mirror: Mirror): ServiceCopy => {
  const decode = remembering()
  let last:
    | { readonly entries: HashMap.HashMap<string, KeyValue>; readonly list: ReadonlyArray<ServiceInfo> }
    | undefined

  const listOf = ({ entries }: Snapshot): Effect.Effect<ReadonlyArray<ServiceInfo>> =>
    Effect.suspend(() =>
      last !== undefined && last.entries === entries
        ? Effect.succeed(last.list)
        : Effect.map(decodeAll(folder, sorted(entries), decode), (decoded) => {
          // The same list stays the same object.
          const list = last !== undefined && sameList(last.list, decoded) ? last.list : decoded
          last = { entries, list }
          return list
        })
    )

  const event = (_tag: ServiceEvent["_tag"]) => (service: ServiceInfo): ServiceEvent => ({ _tag, service })
  const isChild = (change: Change): boolean =>
    Key.isDirectChild(folder, change._tag === "Put" ? change.kv.key : change.key)

  /** A service whose entry is no service any more is gone, as if it had been deleted. */
  const eventOf = (change: Change): Effect.Effect<Option.Option<ServiceEvent>> => {
    const gone = Effect.suspend(() =>
      change.previous === undefined
        ? Effect.succeedNone
        : Effect.map(decode(change.previous), Option.map(event("Delete")))
    )
    return change._tag === "Delete"
      ? gone
      : Effect.flatMap(
        decode(change.kv),
        Option.match({ onNone: () => gone, onSome: (service) => Effect.succeedSome(event("Put")(service)) })
      )
  }

  const instances = Effect.flatMap(mirror.snapshot, listOf)

  return {
    instances,
    latest: Effect.flatMap(mirror.state, (state) =>
      Effect.map(
        state._tag === "Loading" ? Effect.succeed([]) : Effect.orDie(instances),
        (instances) => ({ instances, state })
      )),
    events: mirror.changes.pipe(
      Stream.filter(isChild),
      Stream.mapChunksEffect((changes) =>
        Effect.map(Effect.forEach(changes, eventOf), (all) => Chunk.compact(Chunk.unsafeFromArray(all)))
      )
    ),
    lists: mirror.snapshots.pipe(Stream.mapEffect(listOf), Stream.changesWith(sameList))
  }
}
