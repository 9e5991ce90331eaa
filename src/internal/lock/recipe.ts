/** What distinguishes one kind of lock from another: how many of those who are first in the queue hold at the same time. */

/**
 * Holders are always the first in the queue, without gaps, so it is enough to say who may hold beside those who do, and
 * what remains when one of them goes. Both are asked in the order of the queue, once per entry: no change of the queue costs
 * more than there are entries that begin to hold with it.
 *
 * @typeParam Info what an entry's value says
 * @typeParam State what all that hold amount to
 */
export interface Recipe<Info, State> {
  readonly read: (value: Uint8Array) => Info
  /** Nobody holds. */
  readonly none: State
  /** What they amount to with this one; `undefined` when it has to wait, and all behind it. The first one never waits. */
  readonly admit: (held: State, next: Info) => State | undefined
  /** What is left of it when one that holds goes. */
  readonly leave: (held: State, gone: Info) => State
  /** Whether several may hold: then it is worth a look at the first of the queue when one enters. */
  readonly isShared: boolean
}

/** How many hold of those that are first in the queue. */
export const holders = <Info, State>(recipe: Recipe<Info, State>, first: ReadonlyArray<Info>): number => {
  let held = recipe.none
  for (let count = 0; count < first.length; count++) {
    const more = recipe.admit(held, first[count])
    if (more === undefined) return count
    held = more
  }
  return first.length
}

/** The first one holds. */
export const lock: Recipe<void, boolean> = {
  read: () => {},
  none: false,
  admit: (held) => held ? undefined : true,
  leave: () => false,
  isShared: false
}
