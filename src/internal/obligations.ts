/** What has to be undone once, whatever happens. */
import * as Effect from "effect/Effect"

/** Undoes something: at once, or by the effect it returns. Does not fail. */
export type Undo = () => Effect.Effect<void> | void

/**
 * A scope for one owner on a hot path: nothing but a list. What is owed is said by plain code, before the deed, so that no
 * interruption can come between; whoever holds it settles it in an uninterruptible region.
 */
export class Obligations {
  readonly #owed: Array<Undo> = []

  readonly owe = (undo: Undo): void => {
    this.#owed.push(undo)
  }

  /** Undoes everything, the latest first; nothing the second time. */
  settle(): Effect.Effect<void> {
    for (let undo = this.#owed.pop(); undo !== undefined; undo = this.#owed.pop()) {
      const undoing = undo()
      if (undoing !== undefined) {
        return this.#owed.length === 0 ? undoing : Effect.flatMap(undoing, () => this.settle())
      }
    }
    return Effect.void
  }
}
