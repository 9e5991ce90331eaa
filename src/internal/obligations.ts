/** What has to be undone once, whatever happens. */
import * as Effect from "effect/Effect"

/** Undoes something: at once, or by the effect it returns. Does not fail. */
export type Undo = () => Effect.Effect<void> | void

class Owed {
  readonly undo: Undo
  readonly before: Owed | undefined

  constructor(undo: Undo, before: Owed | undefined) {
    this.undo = undo
    this.before = before
  }
}

/**
 * A scope for one owner on a hot path: nothing but a list. What is owed is said by plain code, before the deed, so that no
 * interruption can come between; whoever holds it settles it in an uninterruptible region.
 */
export class Obligations {
  #last: Owed | undefined = undefined

  readonly owe = (undo: Undo): void => {
    this.#last = new Owed(undo, this.#last)
  }

  /** Undoes everything, the latest first; nothing the second time. */
  settle(): Effect.Effect<void> {
    while (this.#last !== undefined) {
      const { before, undo } = this.#last
      this.#last = before
      const undoing = undo()
      if (undoing !== undefined) {
        return this.#last === undefined ? undoing : Effect.flatMap(undoing, () => this.settle())
      }
    }
    return Effect.void
  }
}
