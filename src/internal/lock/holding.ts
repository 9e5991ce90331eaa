/** Ways to hold what was won in a queue: for as long as a scope is open, or around a body. */
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { EtcdClient } from "../../EtcdClient.js"
import type { Body, LockHandle, WithLockOptions } from "../../Lock.js"
import type { Kind, LockExpired } from "../../LockError.js"
import { Obligations } from "../obligations.js"
import { isDebugging, traced } from "../traced.js"
import type { Held, Restore, Won } from "./handle.js"
import * as Handle from "./handle.js"

/** How it is won; what it owes meanwhile is told to `own`. */
export type Win<E> = (own: Obligations) => Effect.Effect<Won, E>

export interface Holding {
  /** Whatever `win` leaves undone when it fails or is interrupted is undone here, before anybody hears of it. */
  readonly hold: <E>(operation: string, key: string, win: Win<E>, restore: Restore) => Effect.Effect<Held, E>
  /** Held until the scope closes. */
  readonly scoped: <E>(operation: string, key: string, win: Win<E>) => Effect.Effect<LockHandle, E, Scope.Scope>
  /** Held for as long as the body runs. */
  readonly around: <E, A, E2, R>(
    operation: string,
    key: string,
    win: Win<E>,
    body: Body<A, E2, R>,
    onLost: WithLockOptions["onLost"]
  ) => Effect.Effect<A, E | E2 | LockExpired, R>
}

/** @param kind what is held, for errors, spans and logs */
export const make = (client: EtcdClient["Type"], kind: Kind): Holding => {
  const hold: Holding["hold"] = (operation, key, win, restore) =>
    Effect.withFiberRuntime((fiber) => {
      const own = new Obligations()
      const debug = isDebugging(fiber)
      return Effect.matchCauseEffect(restore(traced(fiber, operation, { "lock.key": key }, win(own))), {
        onFailure: (cause) => Effect.zipRight(own.settle(), Effect.failCause(cause)),
        onSuccess: (won) => Handle.make(client, kind, key, won, own, debug)
      })
    })

  const scoped: Holding["scoped"] = (operation, key, win) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(hold(operation, key, win, restore), (held) =>
        // A scope of its own, so that nothing of what was released stays in one that lives on.
        Effect.scopeWith((outer) =>
          Effect.flatMap(Scope.fork(outer, ExecutionStrategy.sequential), (scope) =>
            Effect.map(Scope.addFinalizer(scope, held.close), () => {
              const lock = held.lock()
              return { ...lock, release: Effect.ensuring(lock.release, Scope.close(scope, Exit.void)) }
            }))
        ))
    )

  const around: Holding["around"] = (operation, key, win, body, onLost) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        hold(operation, key, win, restore),
        (held) => Handle.protect(held, body, onLost, restore)
      )
    )

  return { hold, scoped, around }
}
