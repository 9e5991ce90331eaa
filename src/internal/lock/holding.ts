/** Ways to hold what was won in a queue: for as long as a scope is open, or around a body. */
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import type * as Runtime from "effect/Runtime"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as Scope from "effect/Scope"
import type { EtcdClient } from "../../EtcdClient.js"
import type { Body, LockHandle, WithLockOptions } from "../../Lock.js"
import type { Kind, LockExpired } from "../../LockError.js"
import { Obligations } from "../obligations.js"
import { isDebugging, isTraced, traced } from "../traced.js"
import type { Held, Won } from "./handle.js"
import * as Handle from "./handle.js"
import { Protected } from "./protect.js"

/**
 * How it is won: ends with `onWon`, or with `onRest` and an effect that is the rest of the way. What it owes meanwhile is
 * told to `own`, which is also how it is given up.
 */
export type Win<E> = (
  own: Obligations,
  onWon: (won: Won) => void,
  onRest: (rest: Effect.Effect<Won, E>) => void
) => void

/** A way that is an effect from its beginning. */
export const byEffect = <E>(way: (own: Obligations) => Effect.Effect<Won, E>): Win<E> => (own, _, onRest) =>
  onRest(Effect.suspend(() => way(own)))

/** No way at all. */
export const failing = <E>(error: E): Win<E> => (_, __, onRest) => onRest(Effect.fail(error))

/** The way as an effect, whatever its beginning. */
export const toEffect = <E>(win: Win<E>, own: Obligations): Effect.Effect<Won, E> =>
  Effect.async((resume) => win(own, (won) => resume(Effect.succeed(won)), resume))

/** Where nothing may come between winning and holding; as plain data, for paths where `uninterruptibleMask` costs too much. */
export interface Masked {
  readonly fiber: Fiber.RuntimeFiber<unknown, unknown>
  readonly restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** Runs uninterruptibly what `body` returns. */
export const masked = <A, E, R>(body: (mask: Masked) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withFiberRuntime((fiber, { runtimeFlags }) =>
    RuntimeFlags.interruption(runtimeFlags)
      ? Effect.uninterruptible(body({ fiber, restore: Effect.interruptible }))
      : body({ fiber, restore: identity })
  )

/** Whatever became of the work: it is over, and then what was held is given back. */
const finish = <A, E, E2>(
  outcome: Effect.Effect<Exit.Exit<A, E>, E2>,
  work: { readonly stop: Effect.Effect<void> },
  close: Effect.Effect<void>
): Effect.Effect<A, E | E2> =>
  Effect.matchCauseEffect(outcome, {
    onFailure: (cause) => Effect.zipRight(Effect.zipRight(work.stop, close), Effect.failCause(cause)),
    onSuccess: (exit) => Effect.flatMap(close, () => exit)
  })

/** Runs the body while something is held, and gives that back whatever happens. To be run where it cannot be interrupted. */
export const protect = <A, E, R, Handle>(
  held: Held<Handle>,
  body: Body<A, E, R, Handle>,
  onLost: WithLockOptions["onLost"],
  runtime: Runtime.Runtime<R>,
  { restore }: Masked
): Effect.Effect<A, E | LockExpired> => {
  const work = new Protected(runtime, body, onLost)
  return finish(restore(work.run(held)), work, held.close)
}

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
  const hold: Holding["hold"] = (operation, key, win, { fiber, restore }) => {
    const own = new Obligations()
    const winning = traced(fiber, operation, { "lock.key": key }, toEffect(win, own))
    return Effect.matchCauseEffect(restore(winning), {
      onFailure: (cause) => Effect.flatMap(Effect.suspend(() => own.settle()), () => Effect.failCause(cause)),
      onSuccess: (won) => {
        const held = Handle.make(client, kind, key, won, own, isDebugging(fiber))
        return Effect.as(held.announce, held)
      }
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

  /** Nobody sees spans or debug logs: the answer that brings the lock starts the body, and the caller sleeps through it. */
  const aroundUnseen = <E, A, E2, R>(
    key: string,
    win: Win<E>,
    body: Body<A, E2, R>,
    onLost: WithLockOptions["onLost"],
    runtime: Runtime.Runtime<R>
  ): Effect.Effect<A, E | E2 | LockExpired> =>
    masked(({ restore }) => {
      const own = new Obligations()
      const work = new Protected(runtime, body, onLost)
      let held: Held | undefined
      const hold = (won: Won): Held => held = Handle.make(client, kind, key, won, own, false)
      const outcome: Effect.Effect<Exit.Exit<A, E2 | LockExpired>, E> = Effect.async((resume) =>
        win(
          own,
          (won) => work.start(hold(won), resume),
          (rest) => resume(Effect.flatMap(rest, (won) => work.run(hold(won))))
        )
      )
      return finish(restore(outcome), work, Effect.suspend(() => held === undefined ? own.settle() : held.close))
    })

  const around: Holding["around"] = <E, A, E2, R>(
    operation: string,
    key: string,
    win: Win<E>,
    body: Body<A, E2, R>,
    onLost: WithLockOptions["onLost"]
  ) =>
    Effect.flatMap(
      Effect.runtime<R>(),
      (runtime): Effect.Effect<A, E | E2 | LockExpired> =>
        Effect.withFiberRuntime((fiber) =>
          isTraced(fiber) || isDebugging(fiber)
            ? masked((mask) =>
              Effect.flatMap(hold(operation, key, win, mask), (held) => protect(held, body, onLost, runtime, mask))
            )
            : aroundUnseen(key, win, body, onLost, runtime)
        )
    )

  return { hold, scoped, around }
}
