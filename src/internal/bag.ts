/** A collection for what comes and goes all the time, in no order. */

/** A place in a bag. */
class Slot<A> {
  readonly value: A
  index: number

  constructor(value: A, index: number) {
    this.value = value
    this.index = index
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

  /** The result takes it out again. */
  add(value: A): () => void {
    const slot = new Slot(value, this.#slots.length)
    this.#slots.push(slot)
    return () => {
      if (slot.index < 0) return
      const last = this.#slots.pop()
      if (last !== undefined && last !== slot) {
        this.#slots[slot.index] = last
        last.index = slot.index
      }
      slot.index = -1
    }
  }

  /** All that are in it now. */
  values(): ReadonlyArray<A> {
    return this.#slots.map(({ value }) => value)
  }
}
