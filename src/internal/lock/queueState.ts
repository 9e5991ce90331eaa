/** A queue as people see it: who holds, and who waits. */
import * as Effect from "effect/Effect"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import type { LockEntry } from "../../Lock.js"
import type { KeyValue } from "../../Txn.js"
import { toText } from "../bytes.js"
import * as Owner from "../owner.js"
import * as Queue from "./queue.js"
import type { Recipe } from "./recipe.js"
import { holders } from "./recipe.js"

export interface QueueState<Entry> {
  readonly holders: ReadonlyArray<Entry>
  readonly waiters: ReadonlyArray<Entry>
}

export const entryOf = (kv: KeyValue): LockEntry => ({
  etcdKey: toText(kv.key),
  fencingToken: kv.createRevision,
  lease: kv.lease,
  owner: Owner.parse(kv.value)
})

export const read = <Info, State, Entry>(
  client: EtcdClient["Type"],
  folder: string,
  recipe: Recipe<Info, State>,
  show: (kv: KeyValue) => Entry
): Effect.Effect<QueueState<Entry>, EtcdError> =>
  Effect.map(Queue.entries(client, folder, { keysOnly: false }), (present) => {
    const count = holders(recipe, present.map(({ value }) => recipe.read(value)))
    const entries = present.map(show)
    return { holders: entries.slice(0, count), waiters: entries.slice(count) }
  })
