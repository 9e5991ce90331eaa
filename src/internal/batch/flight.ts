/** Requests that have left together, until they are answered. */
import { constVoid } from "effect/Function"
import type { Place } from "../bag.js"
import type { Cancel } from "../transport.js"
import type { Footprint, Footprints } from "./footprint.js"
import type { Waiting } from "./member.js"

/** A call that is under way, for as long as the last of its members has time. */
export class Flight {
  readonly deadline: number
  members: ReadonlyArray<Waiting>
  readonly #footprints: () => Footprints
  #union: Footprints | undefined = undefined
  cancel: Cancel = constVoid
  /** How many still wait for its answers. */
  waiting: number
  place: Place | undefined = undefined

  constructor(deadline: number, members: ReadonlyArray<Waiting>, footprints: () => Footprints) {
    this.deadline = deadline
    this.members = members
    this.waiting = Math.max(1, members.length)
    this.#footprints = footprints
  }

  writesSame(footprint: Footprint): boolean {
    if (footprint.writes.length === 0 && footprint.removals.length === 0) return false
    this.#union ??= this.#footprints()
    return this.#union.writeSame(footprint)
  }
}
