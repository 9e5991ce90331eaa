/** What others have written runs for so long, and holds nobody up if it hangs. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { firstOf } from "./firstOf.js"

export interface Bounded<A, E> {
  /** `None`: it took too long, and is being interrupted. */
  readonly exit: Option.Option<Exit.Exit<A, E>>
  /** Waits until nothing of it goes on any more. */
  readonly ended: Effect.Effect<void>
}

/** How long one who is interrupted waits for what is being interrupted. */
const closeTimeout = "2 seconds"

/** Waits for a fibre for so long. Most are over before there is a reason to set a timer. */
const within = <A>(fiber: Fiber.RuntimeFiber<A>, time: Duration.DurationInput): Effect.Effect<Option.Option<A>> =>
  Effect.flatMap(Effect.yieldNow(), () => {
    const exit = fiber.unsafePoll()
    return exit !== null ? Effect.asSome(exit) : firstOf(
      Effect.asSome(Effect.flatten(Fiber.await(fiber))),
      Effect.as(Effect.sleep(time), Option.none())
    )
  })

/** Interrupts, and waits for the end; not for ever, as it may be in a region that cannot be interrupted. */
const leave = (fiber: Fiber.RuntimeFiber<unknown>): Effect.Effect<void> =>
  Effect.zipRight(Fiber.interruptFork(fiber), Effect.asVoid(within(fiber, closeTimeout)))

/** Runs in a fibre of its own. Interruption ends it. */
export const run = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  timeout: Duration.Duration
): Effect.Effect<Bounded<A, E>, never, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      // A fibre that failed would have its error logged.
      const fiber = yield* Effect.forkDaemon(Effect.exit(Effect.interruptible(effect)))
      const waiting = <X>(wait: Effect.Effect<X>) => Effect.onInterrupt(restore(wait), () => leave(fiber))
      const exit = yield* waiting(within(fiber, timeout))
      if (Option.isSome(exit)) return { exit, ended: Effect.void }
      yield* Fiber.interruptFork(fiber)
      return { exit, ended: waiting(Effect.asVoid(Fiber.await(fiber))) }
    })
  )
