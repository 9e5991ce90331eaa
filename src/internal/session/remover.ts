/**
 * Deletes keys for good. On a shared lease that lives on, nobody else would ever remove the key of a waiter that gave up
 * or of a lock that was released while etcd was away; so what is not confirmed at once is repeated until it is.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { CallOptions, EtcdClient, StartedTxn } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import type { TxnRequest } from "../../Txn.js"
import { inBackground } from "../background.js"

/** A delete that is due. */
export interface Removal {
  /** For the log. */
  readonly key: string
  /** What deletes the key; harmless to repeat. Made when it is about to leave. */
  readonly txn: () => TxnRequest
  /** Called when etcd has confirmed it. */
  readonly confirmed: () => void
}

export interface Remover {
  /**
   * Returns when the delete is confirmed, or after a bounded time when the background has taken over. Never fails. To be
   * called when the delete is due: it looks at the state of things at once.
   *
   * @param isMoot whether the key is gone by other means, as with its lease
   * @param wait whether to wait for the confirmation, if etcd answers at all
   */
  readonly remove: (removal: Removal, isMoot: () => boolean, wait: boolean) => Effect.Effect<void>
  /** Whether there are deletes that were not confirmed when they were due. */
  readonly isBehind: () => boolean
}

/** How long the caller waits for the confirmation. */
const firstAttempt: CallOptions = { idempotent: true, timeout: Duration.millis(1_500) }
const laterAttempts: CallOptions = { idempotent: true, timeout: Duration.seconds(5) }
/** Repeating cannot help. All else may pass: space is made, a role is given back; and nobody else would delete the key. */
const isFinal = ({ reason }: EtcdError): boolean =>
  reason === "InvalidRequest" || reason === "TooLarge" || reason === "DuplicateKey"
const isSilence = ({ reason }: EtcdError): boolean => reason === "Unavailable" || reason === "DeadlineExceeded"

/** How a delete that etcd did not confirm goes on. */
type OnFailure<E> = (error: EtcdError) => Effect.Effect<void, E>

/**
 * One sending of a delete. It lets go of everything in the end, as what `Effect.async` is given is kept for longer (see
 * `outcomeOf` in `batch/member.ts`).
 */
class Sending<E> implements StartedTxn {
  #removal: Removal | undefined
  #onFailure: OnFailure<E> | undefined
  #resume: ((outcome: Effect.Effect<void, E>) => void) | undefined = undefined

  constructor(removal: Removal, onFailure: OnFailure<E>) {
    this.#removal = removal
    this.#onFailure = onFailure
  }

  start(client: EtcdClient["Type"], options: CallOptions, resume: (outcome: Effect.Effect<void, E>) => void): void {
    this.#resume = resume
    client.startTxn(this, options)
  }

  request(): TxnRequest {
    return this.#removal?.txn() ?? {}
  }

  answered(): void {
    const resume = this.#resume
    this.#confirmed()
    resume?.(Effect.void)
  }

  troubled(rest: Effect.Effect<unknown, EtcdError>): void {
    this.#resume?.(Effect.matchEffect(rest, {
      onSuccess: () => Effect.sync(() => this.#confirmed()),
      onFailure: (error) => this.#refused(error)
    }))
  }

  #refused(error: EtcdError): Effect.Effect<void, E> {
    const key = this.#removal?.key
    const onFailure = this.#onFailure
    // Where the lease is gone, so is the key.
    if (error.reason === "LeaseNotFound" || onFailure === undefined) return Effect.sync(() => this.#confirmed())
    this.#end()
    return isFinal(error) ? Effect.logWarning(`could not delete ${key}: ${error.message}`) : onFailure(error)
  }

  #confirmed(): void {
    this.#removal?.confirmed()
    this.#end()
  }

  #end(): void {
    this.#removal = undefined
    this.#onFailure = undefined
    this.#resume = undefined
  }
}

/** Not given up when it is interrupted: the delete is due whoever waits for it. */
const outcomeOf = <E>(
  sending: Sending<E>,
  client: EtcdClient["Type"],
  options: CallOptions
): Effect.Effect<void, E> => Effect.async((resume) => sending.start(client, options, resume))

interface Due {
  readonly removal: Removal
  readonly isMoot: () => boolean
}

const pauses = Schedule.exponential("100 millis").pipe(Schedule.either(Schedule.spaced("1 second")))

export const make = (client: EtcdClient["Type"]): Effect.Effect<Remover, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const unanswered = new Set<Due>()
    /** Apart: they may stay for long, and tell nothing about others. */
    const refused = new Set<Due>()
    const pending = yield* Effect.makeLatch(false)

    const attempt = <E>(
      { isMoot, removal }: Due,
      options: CallOptions,
      onFailure: OnFailure<E>
    ): Effect.Effect<void, E> => {
      if (!isMoot()) return outcomeOf(new Sending(removal, onFailure), client, options)
      removal.confirmed()
      return Effect.void
    }

    const postpone = (due: Due, among: Set<Due>): Effect.Effect<void> =>
      Effect.suspend(() => {
        among.add(due)
        return Effect.asVoid(pending.open)
      })

    const remove: Remover["remove"] = (removal, isMoot, wait) => {
      const due = { removal, isMoot }
      // Once etcd has not answered, the next callers do not wait to see the same.
      if (unanswered.size > 0 || !wait) return postpone(due, unanswered)
      return attempt(due, firstAttempt, (error) =>
        isSilence(error)
          ? postpone(due, unanswered)
          : Effect.zipRight(
            Effect.logWarning(`could not delete ${removal.key} yet: ${error.message}`),
            postpone(due, refused)
          ))
    }

    const again = (due: Due): Effect.Effect<void> =>
      attempt(due, laterAttempts, (error) => {
        if (!isSilence(error) && unanswered.delete(due)) refused.add(due)
        return Effect.fail(error)
      }).pipe(
        Effect.zipRight(Effect.sync(() => {
          unanswered.delete(due)
          refused.delete(due)
        })),
        Effect.ignore
      )

    /** Each is waited for: one that was left behind might be confirmed twice, and its key be somebody else's by then. */
    const work = Effect.suspend(() =>
      Effect.forEach([...unanswered, ...refused], again, { discard: true, concurrency: 16 })
    )

    const isDone = (): boolean => unanswered.size === 0 && refused.size === 0

    yield* pending.await.pipe(
      Effect.zipRight(work),
      Effect.repeat({ until: isDone, schedule: pauses }),
      Effect.zipRight(Effect.sync(() => isDone() ? pending.unsafeClose() : undefined)),
      Effect.forever,
      inBackground("remover"),
      Effect.interruptible,
      Effect.forkIn(scope)
    )

    return { remove, isBehind: () => unanswered.size > 0 }
  })
