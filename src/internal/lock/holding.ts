/** Ways to hold what was won in a queue: for as long as a scope is open, or around a body. */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import type * as Exit from "effect/Exit"
import { constVoid } from "effect/Function"
import * as Scope from "effect/Scope"
import type { EtcdClient } from "../../EtcdClient.js"
import type { Body, LockHandle, WithLockOptions } from "../../Lock.js"
import type { Kind, LockExpired } from "../../LockError.js"
import type { Masked } from "../masked.js"
import { masked, restored } from "../masked.js"
import { Obligations } from "../obligations.js"
import { isDebugging, isTraced, traced } from "../traced.js"
import type { Held, Won } from "./handle.js"
import * as Handle from "./handle.js"
import { Protected } from "./protect.js"

/** Who wants to hold something, and is told when it does. */
export interface Winner<in E> {
  /** What it owes until it is given back: settling it is also how it is given up. */
  readonly own: Obligations
  readonly won: (won: Won) => void
  /** Told instead: an effect that is the rest of the way. */
  readonly rest: (rest: Effect.Effect<Won, E>) => void
}

/** How it is won. The winner is told once, at once or later. */
export type Win<E> = (winner: Winner<E>) => void

/** A way that is an effect from its beginning. */
export const byEffect = <E>(way: (own: Obligations) => Effect.Effect<Won, E>): Win<E> => (winner) =>
  winner.rest(Effect.suspend(() => way(winner.own)))

/** No way at all. */
export const failing = <E>(error: E): Win<E> => (winner) => winner.rest(Effect.fail(error))

/** The way as an effect, whatever its beginning. */
const toEffect = <E>(win: Win<E>, own: Obligations): Effect.Effect<Won, E> =>
  Effect.async((resume) => win({ own, won: (won) => resume(Effect.succeed(won)), rest: resume }))

/** Runs the body while something is held, and gives that back whatever happens. To be run where it cannot be interrupted. */
export const protect = <A, E, R, Handle>(
  held: Held<Handle>,
  body: Body<A, E, R, Handle>,
  onLost: WithLockOptions["onLost"],
  mask: Masked
): Effect.Effect<A, E | LockExpired, R> =>
  Effect.contextWithEffect((context: Context.Context<R>) => {
    const work = new Protected(body, onLost, mask, context)
    return Effect.matchCauseEffect(restored(mask, work.run(held)), {
      onFailure: (cause) => Effect.zipRight(Effect.zipRight(work.stop, held.close), Effect.failCause(cause)),
      onSuccess: (exit) => Effect.flatMap(held.close, () => exit)
    })
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

const notAcquired = (kind: Kind, key: string, cause: Cause.Cause<unknown>): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logDebug(`${kind} not acquired`), {
    [kind]: key,
    reason: Cause.isInterruptedOnly(cause)
      ? "interrupted"
      : Cause.prettyErrors(cause).map(({ message }) => message).join("; ")
  })

/** Undoes what was done on the way to something that is not held after all, before anybody hears of that. */
export const giveUp = <E>(
  kind: Kind,
  key: string,
  own: Obligations,
  cause: Cause.Cause<E>,
  { fiber }: Masked
): Effect.Effect<never, E> =>
  Effect.suspend(() => own.settle()).pipe(
    Effect.zipRight(isDebugging(fiber) ? notAcquired(kind, key, cause) : Effect.void),
    Effect.zipRight(Effect.failCause(cause))
  )

/** @param kind what is held, for errors, spans and logs */
export const make = (client: EtcdClient["Type"], kind: Kind): Holding => {
  const hold: Holding["hold"] = (operation, key, win, mask) => {
    const own = new Obligations()
    const winning = traced(mask.fiber, operation, { "lock.key": key }, toEffect(win, own))
    return Effect.matchCauseEffect(restored(mask, winning), {
      onFailure: (cause) => giveUp(kind, key, own, cause, mask),
      onSuccess: (won) => {
        const held = Handle.make(client, kind, key, won, own, isDebugging(mask.fiber))
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

  const around: Holding["around"] = <E, A, E2, R>(
    operation: string,
    key: string,
    win: Win<E>,
    body: Body<A, E2, R>,
    onLost: WithLockOptions["onLost"]
  ): Effect.Effect<A, E | E2 | LockExpired, R> =>
    Effect.contextWithEffect((context: Context.Context<R>) =>
      masked((mask) =>
        isTraced(mask.fiber) || isDebugging(mask.fiber)
          ? Effect.flatMap(hold(operation, key, win, mask), (held) => protect(held, body, onLost, mask))
          : new Unseen<A, E | E2, R>(client, kind, key, body, onLost, mask, context).around(win)
      )
    )

  return { hold, scoped, around }
}

/**
 * A lock held around a body where nobody sees spans or debug logs: the answer that brings it starts the body, and the caller
 * sleeps through both. One object, as hundreds may wait.
 */
class Unseen<A, E, R> extends Protected<A, E, R, LockHandle> implements Winner<E> {
  readonly own = new Obligations()
  readonly #client: EtcdClient["Type"]
  readonly #kind: Kind
  readonly #key: string
  readonly #mask: Masked
  #win: Win<E> | undefined = undefined
  #held: Held | undefined = undefined
  #resume: (outcome: Effect.Effect<Exit.Exit<A, E | LockExpired>, E>) => void = constVoid

  constructor(
    client: EtcdClient["Type"],
    kind: Kind,
    key: string,
    body: Body<A, E, R>,
    onLost: WithLockOptions["onLost"],
    mask: Masked,
    context: Context.Context<R>
  ) {
    super(body, onLost, mask, context)
    this.#client = client
    this.#kind = kind
    this.#key = key
    this.#mask = mask
  }

  around(win: Win<E>): Effect.Effect<A, E | LockExpired> {
    this.#win = win
    return Effect.matchCauseEffect(restored(this.#mask, outcomeOf(this)), {
      onFailure: (cause) => Effect.zipRight(Effect.zipRight(this.stop, this.#close()), Effect.failCause(cause)),
      onSuccess: (exit) => Effect.flatMap(this.#close(), () => exit)
    })
  }

  begin(resume: (outcome: Effect.Effect<Exit.Exit<A, E | LockExpired>, E>) => void): void {
    this.#resume = resume
    this.#win?.(this)
  }

  won(won: Won): void {
    this.start(this.#hold(won), this.#resume)
  }

  rest(rest: Effect.Effect<Won, E>): void {
    this.#resume(Effect.flatMap(rest, (won) => this.run(this.#hold(won))))
  }

  #hold(won: Won): Held {
    return this.#held = Handle.make(this.#client, this.#kind, this.#key, won, this.own, false)
  }

  /** It lets go of what it held, as what `Effect.async` was given is kept for longer (see `outcomeOf` in `batch/member.ts`). */
  #close(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const held = this.#held
      this.#held = undefined
      this.#resume = constVoid
      this.#win = undefined
      this.forget()
      return held === undefined ? this.own.settle() : held.close
    })
  }
}

const outcomeOf = <A, E, R>(unseen: Unseen<A, E, R>): Effect.Effect<Exit.Exit<A, E | LockExpired>, E> =>
  Effect.async((resume) => unseen.begin(resume))
