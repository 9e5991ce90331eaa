/** A collection for what comes and goes all the time, in no order. */

/** Where something stands. */
export interface Place {
  /** Takes it away; nothing the second time. */
  readonly leave: () => void
}

class Slot<A> implements Place {
  readonly value: A
  readonly #slots: Array<Slot<A>>
  #index: number

  constructor(value: A, slots: Array<Slot<A>>) {
    this.value = value
    this.#slots = slots
    this.#index = slots.length
    slots.push(this)
  }

  leave(): void {
    if (this.#index < 0) return
    const last = this.#slots.pop()
    if (last !== undefined && last !== this) {
      this.#slots[this.#index] = last
      last.#index = this.#index
    }
    this.#index = -1
  }
}

/**
 * Adding and removing take constant time, and leave nothing behind. A `Set` in the old generation would: its outgrown
 * tables keep what was in them alive until the next full collection, which makes all the short ones expensive.
 */
export class Bag<A> {
  readonly #slots: Array<Slot<A>> = []

  get size(): number {
    return this.#slots.length
  }

  add(value: A): Place {
    return new Slot(value, this.#slots)
  }

  /** All that are in it now. */
  values(): ReadonlyArray<A> {
    return this.#slots.map(({ value }) => value)
  }
}
