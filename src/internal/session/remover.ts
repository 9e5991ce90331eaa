/**
 * Deletes keys for good. On a shared lease that lives on, nobody else would ever remove the key of a waiter that gave up
 * or of a lock that was released while etcd was away; so what is not confirmed at once is repeated until it is.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import type { TxnRequest } from "../../Txn.js"
import { inBackground } from "../background.js"

export interface Removal {
  /** For the log. */
  readonly key: string
  /** What deletes the key; harmless to repeat. */
  readonly txn: TxnRequest
  /** Called when etcd has confirmed it. */
  readonly confirmed?: (() => void) | undefined
  /** Whether the key is gone by other means, as with its lease. */
  readonly isMoot: () => boolean
  /** Whether to wait for the confirmation. Default: if etcd answers, yes. */
  readonly wait?: boolean | undefined
}

export interface Remover {
  /**
   * Returns when the delete is confirmed, or after a bounded time when the background has taken over. Never fails. To be
   * called when the delete is due: it looks at the state of things at once.
   */
  readonly remove: (removal: Removal) => Effect.Effect<void>
}

/** How long the caller waits for the confirmation. */
const firstAttempt = Duration.millis(1_500)
/** Repeating cannot help: the key is not ours to delete any more. */
const isFinal = (error: EtcdError): boolean => error.reason !== "Unavailable" && error.reason !== "DeadlineExceeded"

export const make = (client: EtcdClient["Type"]): Effect.Effect<Remover, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const backlog = new Set<Removal>()
    const pending = yield* Effect.makeLatch(false)

    const attempt = <E>(
      { confirmed, isMoot, key, txn }: Removal,
      timeout: Duration.Duration,
      onFailure: (error: EtcdError) => Effect.Effect<void, E>
    ): Effect.Effect<void, E> => {
      const done = (): Effect.Effect<void> => {
        confirmed?.()
        return Effect.void
      }
      const goOn = (rest: Effect.Effect<unknown, EtcdError>): Effect.Effect<void, E> =>
        Effect.matchEffect(rest, {
          onSuccess: done,
          onFailure: (error) => {
            // Where the lease is gone, so is the key.
            if (error.reason === "LeaseNotFound") return done()
            return isFinal(error) ? Effect.logWarning(`could not delete ${key}: ${error.message}`) : onFailure(error)
          }
        })
      // Not given up when this is interrupted: the delete is due whoever waits for it.
      return isMoot() ? done() : Effect.async((resume) => {
        client.startTxn(
          { request: () => txn, answered: () => resume(done()), troubled: (rest) => resume(goOn(rest)) },
          { idempotent: true, timeout }
        )
      })
    }

    const postpone = (removal: Removal): Effect.Effect<void> =>
      Effect.suspend(() => {
        backlog.add(removal)
        return Effect.asVoid(pending.open)
      })

    const remove: Remover["remove"] = (removal) =>
      // Once etcd has not answered, the next callers do not wait to see the same.
      backlog.size > 0 || removal.wait === false
        ? postpone(removal)
        : attempt(removal, firstAttempt, () => postpone(removal))

    const work = Effect.suspend(() =>
      Effect.forEach(Array.from(backlog), (removal) =>
        Effect.zipRight(
          Effect.suspend(() => attempt(removal, Duration.seconds(5), Effect.fail)),
          Effect.sync(() => backlog.delete(removal))
        ), { discard: true, concurrency: 16 })
    )

    yield* pending.await.pipe(
      Effect.zipRight(work),
      Effect.retry(Schedule.exponential("100 millis").pipe(Schedule.either(Schedule.spaced("1 second")))),
      Effect.tap(() => backlog.size === 0 ? pending.close : Effect.void),
      Effect.forever,
      inBackground("remover"),
      Effect.forkIn(scope)
    )

    return { remove }
  })
