/**
 * Several entries of one session, in as many queues, made by one transaction: all or none, and all with the same revision.
 * So those who enter several queues have the same order in all of them, and nobody can wait for somebody who waits for him.
 */
import * as Effect from "effect/Effect"
import type { EtcdError } from "../../EtcdError.js"
import type { Entry } from "../../Session.js"
import type { Op, OpResponse, TxnRequest, TxnResponse } from "../../Txn.js"
import * as Txn from "../../Txn.js"
import type { Undo } from "../obligations.js"
import type { Ground } from "./claim.js"
import type { EntryName } from "./entryNames.js"

export interface ClaimAllOptions {
  /** Each ends with a slash, and is there once. */
  readonly folders: ReadonlyArray<string>
  readonly value: string
  /** One for each folder. */
  readonly reads: ReadonlyArray<Op>
  /** Told for each entry that was deleted again, when etcd has confirmed it. */
  readonly onRemoved: (folder: string, key: string, createRevision: bigint) => void
}

export interface Claimed {
  /** In the order of the folders; `undefined` where the entry is gone already. */
  readonly entries: ReadonlyArray<Entry | undefined>
  /** The answers to the reads, which saw the store just after the entries were made; none when that is not known. */
  readonly reads: ReadonlyArray<OpResponse>
}

export type ClaimAll<E> = (
  options: ClaimAllOptions,
  owe: (undo: () => Effect.Effect<void> | void) => void
) => Effect.Effect<Claimed, EtcdError | E>

/**
 * etcd carries out 128 operations in one transaction: a put for each entry, and a read of its queue. Without the reads two who
 * enter the same queues could travel in one batch, and would have the same revision.
 */
export const maxEntries = 64

const createdAt = (response: OpResponse): bigint | undefined =>
  response._tag === "Range" ? response.response.kvs[0]?.createRevision : undefined

/** See `Session.claimAll`. The care is that of a single entry (`claim.ts`). */
export const claimAll = <E>(
  { barred, client, isMoot, leaseGone, names, remove }: Ground<E>,
  id: bigint,
  { folders, onRemoved, reads, value }: ClaimAllOptions,
  owe: (undo: Undo) => void
): Effect.Effect<Claimed, EtcdError | E> =>
  Effect.suspend(() => {
    const taken = folders.map((folder) => names.take(folder, id))
    const { bar } = taken[0]
    /** `doubtful`: a sending was not answered, and may be applied at any time. */
    let sent: "nothing" | "once" | "doubtful" = "doubtful"
    let createRevision: bigint | undefined

    owe(() => {
      const created = createRevision
      const giveBack = (name: EntryName) => {
        name.giveBack()
        if (created !== undefined && !isMoot()) onRemoved(name.folder, name.key, created)
      }
      if (sent === "nothing") return taken.forEach(giveBack)
      if (sent === "doubtful" || created === undefined) {
        return remove({
          key: taken[0].key,
          txn: () => ({
            // Not a second time: what stands there by then may be the next one's.
            compare: [Txn.absent(bar)],
            success: [...taken.map(({ key }) => Txn.del({ key })), Txn.put({ key: bar, value: "", lease: id })]
          }),
          confirmed: () => {
            barred()
            taken.forEach(giveBack)
          }
        })
      }
      // Each by itself: one that somebody else has deleted must not keep the others there.
      return Effect.forEach(taken, (name) =>
        remove({
          key: name.key,
          txn: () => ({ compare: [Txn.createRevision(name.key, "=", created)], success: [Txn.del({ key: name.key })] }),
          confirmed: () => giveBack(name)
        }), { concurrency: "unbounded", discard: true })
    })

    const request: TxnRequest = {
      compare: [...taken.map(({ key }) => Txn.absent(key)), Txn.absent(bar)],
      success: [...taken.map(({ key }) => Txn.put({ key, value, lease: id })), ...reads],
      // Only an earlier sending of this can have been before it.
      failure: taken.map(({ key }) => Txn.range({ key, keysOnly: true }))
    }

    const answered = ({ header, responses, succeeded }: TxnResponse): Claimed => {
      const revisions = taken.map((_, index) => succeeded ? header.revision : createdAt(responses[index]))
      createRevision = revisions.find((revision) => revision !== undefined)
      return {
        entries: taken.map(({ key }, index) => {
          const createRevision = revisions[index]
          return createRevision === undefined ? undefined : { key, lease: id, createRevision }
        }),
        reads: succeeded ? responses.slice(taken.length) : []
      }
    }

    return Effect.matchEffect(client.txn(request), {
      onSuccess: (response) => {
        sent = "once"
        return Effect.succeed(answered(response))
      },
      onFailure: (error) => {
        // Sending it again tells what became of it.
        if (error.mayBeApplied) {
          return Effect.matchEffect(client.txn(request, { idempotent: true }), {
            onSuccess: (response) => Effect.succeed(answered(response)),
            onFailure: leaseGone
          })
        }
        sent = "nothing"
        return leaseGone(error)
      }
    })
  })
