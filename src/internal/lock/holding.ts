/** Ways to hold what was won in a queue: for as long as a scope is open, or around a body. */
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import type * as Fiber from "effect/Fiber"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as Scope from "effect/Scope"
import type { EtcdClient } from "../../EtcdClient.js"
import type { Body, LockHandle, WithLockOptions } from "../../Lock.js"
import type { Kind, LockExpired } from "../../LockError.js"
import { Obligations } from "../obligations.js"
import { isDebugging, traced } from "../traced.js"
import type { Held, Won } from "./handle.js"
import * as Handle from "./handle.js"
import { protect } from "./protect.js"

/** How it is won; what it owes meanwhile is told to `own`. */
export type Win<E> = (own: Obligations) => Effect.Effect<Won, E>

/** Where nothing may come between winning and holding; as plain data, for paths where `uninterruptibleMask` costs too much. */
export interface Masked {
  readonly fiber: Fiber.RuntimeFiber<unknown, unknown>
  /** Whether there is something to restore. */
  readonly interruptible: boolean
}

/** Runs uninterruptibly what `body` returns. */
export const masked = <A, E, R>(body: (mask: Masked) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withFiberRuntime((fiber, { runtimeFlags }) => {
    const interruptible = RuntimeFlags.interruption(runtimeFlags)
    const effect = body({ fiber, interruptible })
    return interruptible ? Effect.uninterruptible(effect) : effect
  })

export interface Holding {
  /** Whatever `win` leaves undone when it fails or is interrupted is undone here, before anybody hears of it. */
  readonly hold: <E>(operation: string, key: string, win: Win<E>, mask: Masked) => Effect.Effect<Held, E>
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
  const hold: Holding["hold"] = (operation, key, win, { fiber, interruptible }) => {
    const own = new Obligations()
    const winning = traced(fiber, operation, { "lock.key": key }, Effect.suspend(() => win(own)))
    return Effect.matchCauseEffect(interruptible ? Effect.interruptible(winning) : winning, {
      onFailure: (cause) => Effect.flatMap(Effect.suspend(() => own.settle()), () => Effect.failCause(cause)),
      onSuccess: (won) => Handle.make(client, kind, key, won, own, isDebugging(fiber))
    })
  }

  const scoped: Holding["scoped"] = (operation, key, win) =>
    masked((mask) =>
      Effect.flatMap(hold(operation, key, win, mask), (held) =>
        // A scope of its own, so that nothing of what was released stays in one that lives on.
        Effect.scopeWith((outer) =>
          Effect.flatMap(
            Scope.fork(outer, ExecutionStrategy.sequential),
            (scope) => Effect.map(Scope.addFinalizer(scope, held.close), () => held.lock(scope))
          )
        ))
    )

  const around: Holding["around"] = (operation, key, win, body, onLost) =>
    masked((mask) =>
      Effect.flatMap(hold(operation, key, win, mask), (held) => protect(held, body, onLost, mask.interruptible))
    )

  return { hold, scoped, around }
}
