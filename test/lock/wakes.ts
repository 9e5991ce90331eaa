/** Counts how often a fibre goes on after it was suspended. */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Supervisor from "effect/Supervisor"

class Wakes extends Supervisor.AbstractSupervisor<void> {
  readonly value = Effect.void
  readonly #counts = new WeakMap<object, number>()

  override onResume<A, E>(fiber: Fiber.RuntimeFiber<A, E>): void {
    this.#counts.set(fiber, this.of(fiber) + 1)
  }

  of(fiber: object): number {
    return this.#counts.get(fiber) ?? 0
  }
}

/** Gives the result, and how often the fibre was woken on the way to it. */
export const countingWakes = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<{ readonly result: A; readonly wakes: number }, E, R> =>
  Effect.suspend(() => {
    const wakes = new Wakes()
    return Effect.withFiberRuntime<{ readonly result: A; readonly wakes: number }, E, R>((fiber) => {
      const before = wakes.of(fiber)
      return Effect.map(effect, (result) => ({ result, wakes: wakes.of(fiber) - before }))
    }).pipe(Effect.supervised(wakes))
  })
