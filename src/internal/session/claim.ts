/**
 * One entry of a session in a queue, from before it is put until after it is deleted.
 *
 * What is to be undone is said before anything is sent; a lost answer is found out about by sending the same again; and a put
 * that is given up while it may still arrive is barred, so that no ghost is left on a lease that lives on.
 */
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import * as Option from "effect/Option"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import type { Entered, EnterOptions } from "../../Session.js"
import type { TxnRequest, TxnResponse } from "../../Txn.js"
import * as Txn from "../../Txn.js"
import type { Undo } from "../obligations.js"
import type { EntryName, EntryNames } from "./entryNames.js"
import type { Removal } from "./remover.js"

/** What entries need of their session. */
export interface Ground<E> {
  readonly client: EtcdClient["Type"]
  readonly names: EntryNames
  /** Ends the session where that is what the error says. */
  readonly leaseGone: (error: EtcdError) => Effect.Effect<never, EtcdError | E>
  readonly remove: (removal: Pick<Removal, "key" | "txn" | "confirmed">) => Effect.Effect<void>
  /** Whether nothing is left to delete. */
  readonly isMoot: () => boolean
}

type OnRemoved = EnterOptions["onRemoved"]

/** An object of a class, which holds no more than it needs to undo itself: many are held for long. */
class Standing<E> {
  readonly #ground: Ground<E>
  readonly #folder: string
  readonly #lease: bigint
  readonly #name: EntryName
  readonly #onRemoved: OnRemoved
  /** `doubtful`: a sending was not answered, and may be applied at any time. */
  #sent: "nothing" | "once" | "doubtful" = "doubtful"
  #createRevision: bigint | undefined = undefined
  #giveUp: () => void = constVoid

  constructor(ground: Ground<E>, lease: bigint, folder: string, onRemoved: OnRemoved) {
    this.#ground = ground
    this.#folder = folder
    this.#lease = lease
    this.#name = ground.names.take(folder, lease)
    this.#onRemoved = onRemoved
  }

  /** Ends with `onEntered`, or with `onTrouble` and the rest of the way. */
  send(
    { onlyIf = [], reads = [], value }: EnterOptions,
    onEntered: (entered: Entered) => void,
    onTrouble: (rest: Effect.Effect<Entered, EtcdError | E>) => void
  ): void {
    const { bar, key } = this.#name
    const request: TxnRequest = {
      compare: [Txn.absent(key), Txn.absent(bar), ...onlyIf],
      success: [Txn.put({ key, value, lease: this.#lease }), ...reads],
      // Without a condition there is nothing to explain: only an earlier sending of this can have been before it.
      failure: [Txn.range({ key, keysOnly: true }), ...onlyIf.length === 0 ? [] : reads]
    }
    let isOver = false
    const over = (): void => {
      isOver = true
      this.#giveUp = constVoid
    }
    const giveUp = this.#ground.client.startTxn(request, undefined, (response) => {
      over()
      this.#sent = "once"
      onEntered(this.#answered(response))
    }, (rest) => {
      over()
      onTrouble(this.#goOn(rest, request))
    })
    if (!isOver) this.#giveUp = giveUp
  }

  undo(): Effect.Effect<void> | void {
    this.#giveUp()
    const { bar, giveBack, key } = this.#name
    const created = this.#createRevision
    if (this.#sent === "nothing") return giveBack()
    const txn: TxnRequest = this.#sent === "once" && created !== undefined
      ? { compare: [Txn.createRevision(key, "=", created)], success: [Txn.del({ key })] }
      : {
        // Not a second time: what stands there by then may be the next one's.
        compare: [Txn.absent(bar)],
        success: [Txn.del({ key }), Txn.put({ key: bar, value: "", lease: this.#lease })]
      }
    const confirmed = (): void => {
      giveBack()
      if (created !== undefined && !this.#ground.isMoot()) this.#onRemoved?.(this.#folder, key, created)
    }
    return this.#ground.remove({ key, txn, confirmed })
  }

  #answered({ header, responses: [own, ...reads], succeeded }: TxnResponse): Entered {
    const { key } = this.#name
    // Nobody else uses the name: a key that was there before was put by an earlier sending of this.
    const createRevision = own._tag === "Range" ? own.response.kvs[0]?.createRevision : header.revision
    this.#createRevision = createRevision
    if (createRevision === undefined && this.#sent === "once") this.#sent = "nothing"
    return {
      entry: createRevision === undefined
        ? Option.none()
        : Option.some({ key, lease: this.#lease, createRevision }),
      fresh: succeeded,
      reads
    }
  }

  #goOn(rest: Effect.Effect<TxnResponse, EtcdError>, request: TxnRequest): Effect.Effect<Entered, EtcdError | E> {
    const { client, leaseGone } = this.#ground
    return Effect.matchEffect(rest, {
      onSuccess: (response) => {
        this.#sent = "once"
        return Effect.succeed(this.#answered(response))
      },
      onFailure: (error) => {
        // Sending it again tells what became of it.
        if (error.mayBeApplied) {
          return Effect.matchEffect(client.txn(request, { idempotent: true }), {
            onSuccess: (response) => Effect.succeed(this.#answered(response)),
            onFailure: leaseGone
          })
        }
        this.#sent = "nothing"
        return leaseGone(error)
      }
    })
  }
}

/** See `Session.startClaim`. */
export const start = <E>(
  ground: Ground<E>,
  lease: bigint,
  options: EnterOptions,
  owe: (undo: Undo) => void,
  onEntered: (entered: Entered) => void,
  onTrouble: (rest: Effect.Effect<Entered, EtcdError | E>) => void
): void => {
  const standing = new Standing(ground, lease, options.folder, options.onRemoved)
  owe(() => standing.undo())
  standing.send(options, onEntered, onTrouble)
}
