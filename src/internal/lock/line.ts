/**
 * A local copy of a queue, in the order of the create revisions, with those of this process who wait in it.
 *
 * Whatever changes, only those who begin to hold are looked at, so that the length of the queue does not matter.
 */
import type { Recipe } from "./recipe.js"

/** Who waits behind an entry. Exactly one of the two is called, once. */
export interface Waiter {
  /** The entry holds. */
  readonly onTurn: () => void
  /** The entry is gone. */
  readonly onGone: () => void
}

interface Place<Info> {
  readonly key: string
  readonly createRevision: bigint
  readonly info: Info
  before: Place<Info> | undefined
  after: Place<Info> | undefined
  holds: boolean
  waiter: Waiter | undefined
}

interface Expected {
  readonly createRevision: bigint
  readonly waiter: Waiter
}

/** How many entries that went before they came are kept in mind. Whoever is forgotten is deleted a little later. */
const maxForeseen = 1_024

const identity = (key: string, createRevision: bigint): string => `${key} ${createRevision}`

export class Line<Info, State> {
  readonly #recipe: Recipe<Info, State>
  readonly #places = new Map<string, Place<Info>>()
  /** Those whose entry is not in the copy yet. */
  readonly #expected = new Map<string, Expected>()
  /** Entries that are known to be gone, and that the copy has not come to yet. */
  readonly #foreseen = new Set<string>()
  #first: Place<Info> | undefined
  #last: Place<Info> | undefined
  #lastHolder: Place<Info> | undefined
  #held: State

  constructor(recipe: Recipe<Info, State>) {
    this.#recipe = recipe
    this.#held = recipe.none
  }

  /** The entry is there. Takes effect with {@link advance}. */
  put(key: string, createRevision: bigint, value: Uint8Array): void {
    if (this.#foreseen.delete(identity(key, createRevision))) return
    const known = this.#places.get(key)
    // Written again: what an entry asked for when it entered is what counts.
    if (known?.createRevision === createRevision) return
    if (known !== undefined) this.#take(known)
    const expected = this.#expected.get(key)
    const isExpected = expected?.createRevision === createRevision
    if (isExpected) this.#expected.delete(key)
    this.#insert({
      key,
      createRevision,
      info: this.#recipe.read(value),
      before: undefined,
      after: undefined,
      holds: false,
      waiter: isExpected ? expected.waiter : undefined
    })
  }

  /** The entry is gone. Takes effect with {@link advance}. */
  delete(key: string): void {
    const place = this.#places.get(key)
    if (place !== undefined) this.#take(place)
  }

  /** The entry is gone, although the copy may not have come to that yet. Takes effect at once. */
  foresee(key: string, createRevision: bigint): void {
    const place = this.#places.get(key)
    if (place?.createRevision === createRevision) {
      this.#take(place)
      return this.advance()
    }
    this.#foreseen.add(identity(key, createRevision))
    if (this.#foreseen.size > maxForeseen) {
      for (const oldest of this.#foreseen) {
        this.#foreseen.delete(oldest)
        break
      }
    }
  }

  /** Tells those who hold now. To be called when the copy is one that etcd has had. */
  advance(): void {
    for (;;) {
      const next = this.#lastHolder === undefined ? this.#first : this.#lastHolder.after
      if (next === undefined) return
      const held = this.#recipe.admit(this.#held, next.info)
      if (held === undefined) return
      this.#held = held
      this.#lastHolder = next
      next.holds = true
      const waiter = next.waiter
      next.waiter = undefined
      waiter?.onTurn()
    }
  }

  /** Waits for an entry. The result takes it back. */
  wait(key: string, createRevision: bigint, waiter: Waiter): () => void {
    const place = this.#places.get(key)
    if (place?.createRevision !== createRevision) {
      const expected: Expected = { createRevision, waiter }
      this.#expected.set(key, expected)
      return () => {
        if (this.#expected.get(key) === expected) this.#expected.delete(key)
        else this.#forget(key, waiter)
      }
    }
    if (place.holds) {
      waiter.onTurn()
      return () => {}
    }
    place.waiter = waiter
    return () => this.#forget(key, waiter)
  }

  /** Those who wait for an entry that the copy does not have. */
  expected(): ReadonlyArray<readonly [key: string, createRevision: bigint]> {
    return Array.from(this.#expected, ([key, { createRevision }]) => [key, createRevision] as const)
  }

  isExpecting(key: string, createRevision: bigint): boolean {
    return this.#expected.get(key)?.createRevision === createRevision
  }

  /** The entry will not come any more. */
  giveUp(key: string, createRevision: bigint): void {
    const expected = this.#expected.get(key)
    if (expected?.createRevision !== createRevision) return
    this.#expected.delete(key)
    expected.waiter.onGone()
  }

  #forget(key: string, waiter: Waiter): void {
    const place = this.#places.get(key)
    if (place?.waiter === waiter) place.waiter = undefined
  }

  #insert(place: Place<Info>): void {
    this.#places.set(place.key, place)
    // Entries come in order, nearly always: the last one is the one before.
    let before = this.#last
    while (before !== undefined && isBehind(before, place)) before = before.before
    const after = before === undefined ? this.#first : before.after
    place.before = before
    place.after = after
    if (before === undefined) this.#first = place
    else before.after = place
    if (after === undefined) this.#last = place
    else after.before = place
    if (after?.holds === true) this.#startOver()
  }

  #take(place: Place<Info>): void {
    this.#places.delete(place.key)
    if (place.before === undefined) this.#first = place.after
    else place.before.after = place.after
    if (place.after === undefined) this.#last = place.before
    else place.after.before = place.before
    if (place.holds) {
      this.#held = this.#recipe.leave(this.#held, place.info)
      if (this.#lastHolder === place) this.#lastHolder = place.before
    }
    place.waiter?.onGone()
  }

  /** Somebody came before those who hold: only in another history of etcd, of which their sessions will tell them. */
  #startOver(): void {
    for (let place = this.#lastHolder; place !== undefined; place = place.before) place.holds = false
    this.#held = this.#recipe.none
    this.#lastHolder = undefined
  }
}

const isBehind = <Info>(a: Place<Info>, b: Place<Info>): boolean =>
  a.createRevision > b.createRevision || a.createRevision === b.createRevision && a.key > b.key
