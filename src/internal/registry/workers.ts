/** Fibres for those who only now and then have something to do, and cannot start one where they notice it. */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"

export interface Workers {
  /** Starts it in the background, in a fibre of its own. */
  readonly start: (work: Effect.Effect<void>) => void
}

export const make: Effect.Effect<Workers, never, Scope.Scope> = Effect.gen(function*() {
  const scope = yield* Effect.scope
  const due = yield* Queue.unbounded<Effect.Effect<void>>()
  yield* Queue.take(due).pipe(
    Effect.flatMap((work) => Effect.forkIn(Effect.interruptible(work), scope)),
    Effect.forever,
    Effect.interruptible,
    Effect.forkIn(scope)
  )
  return { start: (work) => void due.unsafeOffer(work) }
})
