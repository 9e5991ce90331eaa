/**
 * The queue of a lock: keys below one folder, served in the order of their create revisions (as etcd's Go recipe does, in
 * `concurrency/mutex.go` and `concurrency/key.go`).
 *
 * Only direct children of the folder count: the queue of `a` is not that of `a/b`, although one prefix contains the other.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import * as Key from "../../Key.js"
import type { Entry } from "../../Session.js"
import type { Compare, KeyValue, Op, OpResponse } from "../../Txn.js"
import * as Txn from "../../Txn.js"
import * as KeyWatch from "../keyWatch.js"

type Client = EtcdClient["Type"]

/** The own key is gone: somebody deleted it, or the lease died while it waited. */
export class Evicted extends Data.TaggedError("Evicted")<{}> {}

/**
 * The read that goes along with entering: how many there are. It also keeps two who enter the same queue out of one batch,
 * where they would have the same revision.
 */
export const size = (folder: string): Op => Txn.range({ ...Key.prefix(folder), countOnly: true })

/** The same, with those who are first. */
export const oldest = (folder: string, limit: number): Op =>
  Txn.range({ ...Key.prefix(folder), sort: { by: "create", order: "ascend" }, limit })

/** "Nobody holds the lock or waits for it": no key below the folder, those of nested names included. */
export const isEmpty = (folder: string): Compare => ({
  ...Key.prefix(folder),
  target: "create",
  result: "=",
  operand: 0n
})

/** Whether the answer, by which the own entry is there, shows nobody else. */
export const isAlone = (read: OpResponse | undefined): boolean => read?._tag === "Range" && read.response.count === 1n

/** The direct children in the answer. */
export const entriesOf = (folder: string, read: OpResponse | undefined): ReadonlyArray<KeyValue> =>
  read?._tag === "Range" ? read.response.kvs.filter(({ key }) => Key.isDirectChild(folder, key)) : []

/** The direct children, first come first. */
export const entries = (
  client: EtcdClient["Type"],
  folder: string,
  options: { readonly maxCreateRevision?: bigint; readonly keysOnly: boolean }
): Effect.Effect<ReadonlyArray<KeyValue>, EtcdError> =>
  Effect.map(
    client.range({ ...Key.prefix(folder), sort: { by: "create", order: "ascend" }, ...options }),
    ({ kvs }) => kvs.filter(({ key }) => Key.isDirectChild(folder, key))
  )

/** The read that goes along with entering: the newest two are the own key and the one before it. */
export const newest = (folder: string): Op => {
  const { key, rangeEnd } = Key.prefix(folder)
  return Txn.range({ key, rangeEnd, sort: { by: "create", order: "descend" }, limit: 2, keysOnly: true })
}

export const kvsOf = (response: OpResponse | undefined): ReadonlyArray<KeyValue> =>
  response?._tag === "Range" ? response.response.kvs : []

const predecessorAmong = (
  client: Client,
  folder: string,
  entry: Entry,
  candidate: KeyValue | undefined
): Effect.Effect<KeyValue | undefined, EtcdError> =>
  candidate === undefined || Key.isDirectChild(folder, candidate.key)
    ? Effect.succeed(candidate)
    : Effect.map(
      entries(client, folder, { maxCreateRevision: entry.createRevision - 1n, keysOnly: true }),
      (before) => before[before.length - 1]
    )

/** The one before, by a read of now. Fails when the own key is gone. */
const findPredecessor = (
  client: Client,
  folder: string,
  entry: Entry
): Effect.Effect<KeyValue | undefined, EtcdError | Evicted> =>
  client.txn({
    success: [
      Txn.range({ key: entry.key, keysOnly: true }),
      Txn.range({
        ...Key.prefix(folder),
        sort: { by: "create", order: "descend" },
        maxCreateRevision: entry.createRevision - 1n,
        limit: 1,
        keysOnly: true
      })
    ]
  }).pipe(
    Effect.flatMap(({ responses: [own, before] }): Effect.Effect<KeyValue | undefined, EtcdError | Evicted> =>
      kvsOf(own)[0]?.createRevision === entry.createRevision
        ? predecessorAmong(client, folder, entry, kvsOf(before)[0])
        : Effect.fail(new Evicted())
    )
  )

const outages = {
  while: (error: EtcdError | Evicted) =>
    error._tag === "EtcdError" && (error.reason === "Unavailable" || error.reason === "DeadlineExceeded"),
  schedule: Schedule.exponential("100 millis").pipe(Schedule.either(Schedule.spaced("1 second")), Schedule.jittered)
}

/** Returns when nobody is before the entry any more. The one before may only have given up: so it is a loop. */
const awaitHead = (client: Client, folder: string, entry: Entry): Effect.Effect<void, EtcdError | Evicted> =>
  Effect.flatMap(
    Effect.retry(findPredecessor(client, folder, entry), outages),
    (predecessor) =>
      predecessor === undefined ? Effect.void : Effect.zipRight(
        KeyWatch.awaitGone(client, predecessor.key, predecessor.createRevision),
        awaitHead(client, folder, entry)
      )
  )

/**
 * Waits until it is the entry's turn. Outages are waited out (the caller races this with the end of its session).
 *
 * @param reads the answer to {@link newest}, if it saw the queue just after the entry was made
 */
export const awaitTurn = (
  client: Client,
  folder: string,
  entry: Entry,
  reads: OpResponse | undefined
): Effect.Effect<void, EtcdError | Evicted> => {
  if (reads === undefined) return awaitHead(client, folder, entry)
  const candidate = kvsOf(reads).find(({ createRevision }) => createRevision < entry.createRevision)
  return Effect.flatMap(
    predecessorAmong(client, folder, entry, candidate),
    (predecessor) =>
      predecessor === undefined ? Effect.void : Effect.zipRight(
        KeyWatch.awaitGone(client, predecessor.key, predecessor.createRevision),
        awaitHead(client, folder, entry)
      )
  )
}
