/** Interruption at every step of a fibre and its children, one after the other: also between two of which it seldom comes. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Scheduler from "effect/Scheduler"

/** Interrupts the first fibre that it sees, at step number `at` of that one and of those that it has forked. */
class Interrupting implements Scheduler.Scheduler {
  readonly #at: number
  #fiber: Fiber.RuntimeFiber<unknown, unknown> | undefined
  #steps = 0

  constructor(at: number) {
    this.#at = at
  }

  shouldYield(fiber: Fiber.RuntimeFiber<unknown, unknown>): number | false {
    const first = this.#fiber ??= fiber
    if (first.unsafePoll() === null && ++this.#steps === this.#at) first.unsafeInterruptAsFork(FiberId.none)
    return Scheduler.defaultScheduler.shouldYield(fiber)
  }

  get hasInterrupted(): boolean {
    return this.#steps >= this.#at
  }

  scheduleTask(task: Scheduler.Task, priority: number): void {
    Scheduler.defaultScheduler.scheduleTask(task, priority)
  }
}

/**
 * Runs the effect again and again, interrupted one step later each time and followed by `afterwards`, until it comes to its
 * end before that. Gives the number of its steps.
 */
export const interruptedAtEveryStep = <E, R, E2, R2>(
  effect: Effect.Effect<unknown, E, R>,
  afterwards: Effect.Effect<unknown, E2, R2>
): Effect.Effect<number, E | E2, R | R2> =>
  Effect.gen(function*() {
    for (let step = 1;; step++) {
      const interrupting = new Interrupting(step)
      const fiber = yield* Effect.fork(Effect.withScheduler(effect, interrupting))
      const exit = yield* Fiber.await(fiber)
      yield* afterwards
      if (Exit.isFailure(exit) && !Exit.isInterrupted(exit)) return yield* Effect.failCause(exit.cause)
      if (!interrupting.hasInterrupted) return step
    }
  })
