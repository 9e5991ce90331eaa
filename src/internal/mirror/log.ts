/**
 * The state of a mirror and the last changes that led to it, for many readers at their own speed.
 *
 * States are persistent maps, so that a reader keeps the state it has seen for nothing. One that falls behind the bounded
 * log of changes reads on from etcd's history; where that is gone too, it is told the difference between what it has seen
 * and what there was where the history now begins.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import type { WatchEvent } from "../../EtcdClient.js"
import type { Change, Snapshot } from "../../Mirror.js"
import type { KeyValue } from "../../Txn.js"
import { fromBinary, toBinary } from "../bytes.js"

type Entries = HashMap.HashMap<string, KeyValue>

export interface Batch {
  /** The states around the changes. */
  readonly before: Snapshot
  readonly after: Snapshot
  readonly changes: ReadonlyArray<Change>
  /** Whether there may have been other states between the two, that are not known. */
  readonly gap: boolean
}

export interface MirrorLog {
  readonly current: () => Snapshot | undefined
  readonly append: (events: ReadonlyArray<WatchEvent>) => void
  readonly replace: (next: Snapshot) => void
  /** Waits until the present state is another one than this. Whoever waits for what will not come is interrupted. */
  readonly changed: (than: Snapshot) => Effect.Effect<void>
  /** Nothing comes any more. */
  readonly end: () => void
  /**
   * Whether what was listed at a revision some time ago is still not in the copy. A key that is not there may have been
   * deleted since: it is lacking if it is still as it was in a later list.
   */
  readonly lacks: (listed: Entries, revision: bigint, later: Entries) => boolean
  /** Whether a state read after the present one cannot follow it: it is of another history. */
  readonly contradicts: (listed: Entries, revision: bigint) => boolean
  /** The number that the next batch will have. */
  readonly next: () => number
  /** The batches from a number on; `undefined` when the log does not reach back to it. */
  readonly since: (number: number) => ReadonlyArray<Batch> | undefined
  /** The newest batch that follows directly on a state between these revisions, and its number. */
  readonly following: (from: Snapshot, to: bigint) => { readonly number: number; readonly before: Snapshot } | undefined
}

/** In etcd's order. */
export const sorted = (entries: Entries): ReadonlyArray<KeyValue> =>
  Array.from(entries).sort(([a], [b]) => a < b ? -1 : 1).map(([, kv]) => kv)

/** A copy of its own: what was decoded is a view into the whole message, and would keep that in memory. */
const detached = (kv: KeyValue): KeyValue => ({
  ...kv,
  key: new Uint8Array(kv.key),
  value: new Uint8Array(kv.value)
})

const put = (kv: KeyValue, previous: KeyValue | undefined): Change => ({ _tag: "Put", kv, previous })

/** The value counts as well: another history of etcd may give the same revisions to other values. */
const isSame = (a: KeyValue, b: KeyValue): boolean =>
  a.modRevision === b.modRevision && a.createRevision === b.createRevision && Buffer.compare(a.value, b.value) === 0

/** What leads from one state to another, oldest change first. */
export const difference = (from: Entries, to: Snapshot): ReadonlyArray<Change> => {
  const changes: Array<Change> = []
  for (const [key, previous] of from) {
    if (!HashMap.has(to.entries, key)) {
      changes.push({ _tag: "Delete", key: fromBinary(key), modRevision: to.revision, previous })
    }
  }
  const puts: Array<Change & { readonly _tag: "Put" }> = []
  for (const [key, kv] of to.entries) {
    const previous = Option.getOrUndefined(HashMap.get(from, key))
    if (previous === undefined || !isSame(previous, kv)) puts.push({ _tag: "Put", kv, previous })
  }
  puts.sort((a, b) => a.kv.modRevision < b.kv.modRevision ? -1 : a.kv.modRevision > b.kv.modRevision ? 1 : 0)
  return [...changes, ...puts]
}

/** What leads from one state to another, and that one, with everything in common that has not changed. */
export const compare = (
  from: Snapshot,
  to: Snapshot
): { readonly after: Snapshot; readonly changes: ReadonlyArray<Change> } => {
  const found = difference(from.entries, to)
  // In another history even what looks the same may be something else.
  if (from.epoch !== to.epoch) return { after: to, changes: found }
  const changes = found.map((change) => change._tag === "Put" ? put(detached(change.kv), change.previous) : change)
  const entries = changes.length === 0 ? from.entries : HashMap.mutate(from.entries, (entries) => {
    for (const change of changes) {
      if (change._tag === "Put") HashMap.set(entries, toBinary(change.kv.key), change.kv)
      else HashMap.remove(entries, toBinary(change.key))
    }
  })
  return { after: { ...to, entries }, changes }
}

/** Applies events to a state. An event that is older than what the state holds of its key changes nothing. */
export const apply = (
  state: Snapshot,
  events: ReadonlyArray<WatchEvent>
): { readonly after: Snapshot; readonly changes: ReadonlyArray<Change> } => {
  const changes: Array<Change> = []
  const entries = HashMap.beginMutation(state.entries)
  let revision = state.revision
  for (const { _tag, kv: arrived } of events) {
    const kv = detached(arrived)
    if (kv.modRevision > revision) revision = kv.modRevision
    const key = toBinary(kv.key)
    const previous = Option.getOrUndefined(HashMap.get(entries, key))
    if (previous !== undefined && kv.modRevision <= previous.modRevision) continue
    if (_tag === "Put") {
      HashMap.set(entries, key, kv)
      changes.push(put(kv, previous))
    } else if (previous !== undefined) {
      HashMap.remove(entries, key)
      changes.push({ _tag: "Delete", key: kv.key, modRevision: kv.modRevision, previous })
    }
  }
  const after = {
    entries: changes.length === 0 ? state.entries : HashMap.endMutation(entries),
    revision,
    epoch: state.epoch
  }
  return { after, changes }
}

/** @param onChanges told at once of the changes of each step; those of the first one are all that is there */
export const make = (maxEvents: number, onChanges?: (changes: ReadonlyArray<Change>) => void): MirrorLog => {
  let current: Snapshot | undefined
  let batches: Array<Batch> = []
  /** The number of the first batch kept. */
  let first = 0
  let logged = 0
  let signal: Deferred.Deferred<void> | undefined
  let ended = false

  const next = (): number => first + batches.length

  const publish = (batch: Batch): void => {
    current = batch.after
    batches.push(batch)
    logged += batch.changes.length
    let dropped = 0
    while (logged > maxEvents && dropped < batches.length - 1) logged -= batches[dropped++].changes.length
    if (dropped > 0) {
      batches = batches.slice(dropped)
      first += dropped
    }
    const waiting = signal
    signal = undefined
    if (waiting !== undefined) Deferred.unsafeDone(waiting, Effect.void)
    onChanges?.(batch.changes)
  }

  const begin = (to: Snapshot): void => {
    current = to
    onChanges?.(difference(HashMap.empty(), to))
  }

  return {
    end: () => {
      ended = true
      if (signal !== undefined) Deferred.unsafeDone(signal, Effect.interrupt)
    },
    current: () => current,
    append: (events) => {
      if (current !== undefined) publish({ before: current, ...apply(current, events), gap: false })
    },
    replace: (to) => {
      if (current === undefined) begin(to)
      else publish({ before: current, ...compare(current, to), gap: true })
    },
    changed: (than) =>
      Effect.suspend(() =>
        current !== than
          ? Effect.void
          : ended
          ? Effect.interrupt
          : Deferred.await(signal ??= Deferred.unsafeMake(FiberId.none))
      ),
    lacks: (listed, revision, later) => {
      if (current === undefined) return false
      for (const [key, kv] of listed) {
        const own = HashMap.get(current.entries, key)
        if (Option.isNone(own)) {
          if (Option.exists(HashMap.get(later, key), ({ modRevision }) => modRevision === kv.modRevision)) return true
          continue
        }
        if (own.value.modRevision < kv.modRevision) return true
        if (own.value.modRevision === kv.modRevision && !isSame(own.value, kv)) return true
      }
      for (const [key, kv] of current.entries) {
        if (kv.modRevision <= revision && !HashMap.has(listed, key)) return true
      }
      return false
    },
    contradicts: (listed, revision) => {
      if (current === undefined) return false
      if (revision < current.revision) return true
      for (const [key, own] of current.entries) {
        const there = HashMap.get(listed, key)
        if (Option.isNone(there)) continue
        const { createRevision, modRevision } = there.value
        // What was written later may be anything, unless it was there before and is another key than ours.
        const isOther = modRevision > own.modRevision
          ? createRevision <= own.modRevision && createRevision !== own.createRevision
          : !isSame(own, there.value)
        if (isOther) return true
      }
      return false
    },
    next,
    since: (number) => number < first ? undefined : batches.slice(number - first),
    following: (from, to) => {
      const fits = ({ epoch, revision }: Snapshot) =>
        epoch === from.epoch && revision >= from.revision && revision <= to
      if (current !== undefined && fits(current)) return { number: next(), before: current }
      const at = batches.findLastIndex(({ before }) => fits(before))
      return at < 0 ? undefined : { number: first + at, before: batches[at].before }
    }
  }
}
