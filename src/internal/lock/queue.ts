/**
 * The queue of a lock: keys below one folder, served in the order of their create revisions (as etcd's Go recipe does, in
 * `concurrency/mutex.go` and `concurrency/key.go`).
 *
 * Only direct children of the folder count: the queue of `a` is not that of `a/b`, although one prefix contains the other.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import * as Key from "../../Key.js"
import type { Compare, KeyValue, Op, OpResponse } from "../../Txn.js"
import * as Txn from "../../Txn.js"

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

export const kvsOf = (response: OpResponse | undefined): ReadonlyArray<KeyValue> =>
  response?._tag === "Range" ? response.response.kvs : []

/** Whether the answer, by which the own entry is there, shows nobody else. */
export const isAlone = (read: OpResponse | undefined): boolean => read?._tag === "Range" && read.response.count === 1n

/** The direct children in the answer. */
export const entriesOf = (folder: string, read: OpResponse | undefined): ReadonlyArray<KeyValue> =>
  kvsOf(read).filter(({ key }) => Key.isDirectChild(folder, key))

/** The direct children, first come first: now, or at a revision. */
export const entries = (
  client: EtcdClient["Type"],
  folder: string,
  options: { readonly keysOnly: boolean; readonly revision?: bigint }
): Effect.Effect<ReadonlyArray<KeyValue>, EtcdError> =>
  Effect.map(
    client.range({ ...Key.prefix(folder), sort: { by: "create", order: "ascend" }, ...options }),
    ({ kvs }) => kvs.filter(({ key }) => Key.isDirectChild(folder, key))
  )
