/**
 * One entry of a session in a queue, from before it is put until after it is deleted.
 *
 * What is to be undone is said before anything is sent; a lost answer is found out about by sending the same again; and a put
 * that is given up while it may still arrive is barred, so that no ghost is left on a lease that lives on.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import * as Option from "effect/Option"
import type { Cancelable, EtcdClient, StartedTxn } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import type { Entered, EnterOptions } from "../../Session.js"
import type { TxnRequest, TxnResponse } from "../../Txn.js"
import * as Txn from "../../Txn.js"
import { firstOf } from "../firstOf.js"
import type { Undo } from "../obligations.js"
import type { EntryName, EntryNames } from "./entryNames.js"
import type { Removal } from "./remover.js"

/** What entries need of their session. */
export interface Ground<E> {
  readonly client: EtcdClient["Type"]
  readonly names: EntryNames
  /** Ends the session where that is what the error says. */
  readonly leaseGone: (error: EtcdError) => Effect.Effect<never, EtcdError | E>
  /** @param wait whether to wait for etcd's confirmation, as long as anybody does. Default: yes */
  readonly remove: (removal: Removal, wait?: boolean) => Effect.Effect<void>
  /** Whether etcd seems to answer now. */
  readonly isAnswered: () => boolean
  /** Told of each bar that was put. */
  readonly barred: () => void
  /** Whether nothing is left to delete. */
  readonly isMoot: () => boolean
}

type OnRemoved = EnterOptions["onRemoved"]

/** How long the answer to what was given up is waited for. */
const patience = Duration.millis(1_500)

/** Who claims an entry: told once, how it went or what is the rest of the way. */
export interface Claimant<in E> {
  readonly entered: (entered: Entered) => void
  readonly troubled: (rest: Effect.Effect<Entered, EtcdError | E>) => void
}

/** An object of a class, which holds no more than it needs to undo itself once it stands: many are held for long. */
class Standing<E> implements StartedTxn, Removal {
  readonly #ground: Ground<E>
  readonly #lease: bigint
  readonly #name: EntryName
  readonly #onRemoved: OnRemoved
  /** `doubtful`: a sending was not answered, and may be applied at any time. */
  #sent: "nothing" | "once" | "doubtful" = "doubtful"
  #createRevision: bigint | undefined = undefined
  /** What is sent, until that is over. */
  #options: EnterOptions | undefined
  #claimant: Claimant<E> | undefined
  #call: Cancelable | undefined = undefined

  constructor(ground: Ground<E>, lease: bigint, options: EnterOptions, claimant: Claimant<E>) {
    this.#ground = ground
    this.#lease = lease
    this.#name = ground.names.take(options.folder, lease)
    this.#onRemoved = options.onRemoved
    this.#options = options
    this.#claimant = claimant
  }

  send(): void {
    const call = this.#ground.client.startTxn(this)
    if (this.#claimant !== undefined) this.#call = call
  }

  request(): TxnRequest {
    if (this.#options === undefined) return {}
    const { onlyIf = [], reads = [], value } = this.#options
    const { bar, key } = this.#name
    return {
      compare: [Txn.absent(key), Txn.absent(bar), ...onlyIf],
      success: [Txn.put({ key, value, lease: this.#lease }), ...reads],
      // Without a condition there is nothing to explain: only an earlier sending of this can have been before it.
      failure: [Txn.range({ key, keysOnly: true }), ...onlyIf.length === 0 ? [] : reads]
    }
  }

  answered(response: TxnResponse): void {
    this.#sent = "once"
    const entered = this.#entered(response)
    this.#endCall()?.entered(entered)
  }

  troubled(rest: Effect.Effect<TxnResponse, EtcdError>): void {
    this.#endCall()?.troubled(this.#goOn(rest))
  }

  undo(): Effect.Effect<void> | void {
    const call = this.#call
    this.#endCall()
    if (call === undefined) return this.#remove()
    if (call.isSent() && this.#ground.isAnswered()) return this.#removeWhenAnswered(call)
    if (!call.isSent()) this.#sent = "nothing"
    call.cancel()
    return this.#remove()
  }

  #remove(wait?: boolean): Effect.Effect<void> | void {
    this.#options = undefined
    return this.#sent === "nothing" ? this.#name.giveBack() : this.#ground.remove(this, wait)
  }

  /** Once the answer is there, nothing is in doubt, and no bar is needed: bars stay for as long as the lease. */
  #removeWhenAnswered(call: Cancelable): Effect.Effect<void> {
    let isSettled = false
    let notify = constVoid
    const settled = (): void => {
      isSettled = true
      notify()
    }
    this.#claimant = { entered: settled, troubled: settled }
    const settling = Effect.async<boolean>((resume) => {
      notify = () => resume(Effect.succeed(true))
      if (isSettled) notify()
    })
    return Effect.flatMap(firstOf(settling, Effect.as(Effect.sleep(patience), false)), (isSettled) => {
      this.#endCall()
      if (!isSettled) call.cancel()
      return this.#remove(isSettled) ?? Effect.void
    })
  }

  get key(): string {
    return this.#name.key
  }

  txn(): TxnRequest {
    const { bar, key } = this.#name
    const created = this.#createRevision
    return this.#sent === "once" && created !== undefined
      ? { compare: [Txn.createRevision(key, "=", created)], success: [Txn.del({ key })] }
      : {
        // Not a second time: what stands there by then may be the next one's.
        compare: [Txn.absent(bar)],
        success: [Txn.del({ key }), Txn.put({ key: bar, value: "", lease: this.#lease })]
      }
  }

  confirmed(): void {
    if (this.#sent === "doubtful") this.#ground.barred()
    const { folder, key } = this.#name
    const created = this.#createRevision
    this.#name.giveBack()
    if (created !== undefined && !this.#ground.isMoot()) this.#onRemoved?.(folder, key, created)
  }

  #endCall(): Claimant<E> | undefined {
    const claimant = this.#claimant
    this.#claimant = undefined
    this.#call = undefined
    return claimant
  }

  #entered({ header, responses: [own, ...reads], succeeded }: TxnResponse): Entered {
    const { key } = this.#name
    this.#options = undefined
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

  #goOn(rest: Effect.Effect<TxnResponse, EtcdError>): Effect.Effect<Entered, EtcdError | E> {
    const { client, leaseGone } = this.#ground
    return Effect.matchEffect(rest, {
      onSuccess: (response) => {
        this.#sent = "once"
        return Effect.succeed(this.#entered(response))
      },
      onFailure: (error) => {
        // Sending it again tells what became of it.
        if (error.mayBeApplied) {
          return Effect.matchEffect(client.txn(this.request(), { idempotent: true }), {
            onSuccess: (response) => Effect.succeed(this.#entered(response)),
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
  claimant: Claimant<E>
): void => {
  const standing = new Standing(ground, lease, options, claimant)
  owe(() => standing.undo())
  standing.send()
}
