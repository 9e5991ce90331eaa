/** What has to be undone once, whatever happens. */
import * as Effect from "effect/Effect"

/**
 * A scope for one owner on a hot path: nothing but a list. What is owed is said by plain code, before the deed, so that no
 * interruption can come between; whoever holds it settles it in an uninterruptible region.
 */
export class Obligations {
  #owed: Array<Effect.Effect<void>> = []

  /** `undo` does not fail. */
  readonly owe = (undo: Effect.Effect<void>): void => {
    this.#owed.push(undo)
  }

  /** Undoes everything, the latest first; nothing the second time. */
  readonly settle: Effect.Effect<void> = Effect.suspend(() => {
    const undo = this.#owed.pop()
    return undo === undefined ? Effect.void : Effect.zipRight(undo, this.settle)
  })
}
