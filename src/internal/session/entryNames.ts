/**
 * Names for a session's entries. They are used again as soon as their delete is confirmed: etcd walks over every name it
 * has deleted since the last compaction when it reads a queue, so a new name for every acquisition would make a busy lock
 * slower and slower.
 */
import { leaseHex } from "../ids.js"

export interface EntryName {
  readonly folder: string
  readonly key: string
  /**
   * A key that does not exist, as a condition of the put. Once it is created, a sending of the put that is still on its
   * way can no longer be applied.
   */
  readonly bar: string
  /** The name is free for the next one; nothing the second time, when it may be the next one's. */
  readonly giveBack: () => void
}

export interface EntryNames {
  readonly take: (folder: string, lease: bigint) => EntryName
}

class Name implements EntryName {
  readonly folder: string
  readonly key: string
  readonly bar: string
  readonly #number: number
  readonly #numbers: Array<boolean>
  readonly #gaveBack: () => void
  #isTaken = true

  constructor(
    folder: string,
    lease: string,
    number: number,
    attempt: number,
    numbers: Array<boolean>,
    gaveBack: () => void
  ) {
    this.folder = folder
    this.key = `${folder}${lease}${number === 0 ? "" : `-${number}`}`
    this.bar = `/coord/attempts/${lease}-${attempt}`
    this.#number = number
    this.#numbers = numbers
    this.#gaveBack = gaveBack
  }

  giveBack(): void {
    if (!this.#isTaken) return
    this.#isTaken = false
    this.#numbers[this.#number] = false
    this.#gaveBack()
  }
}

/** Folders without a name in use are forgotten when there are more of them than of the others, and than this. */
const fewFolders = 1_024

/**
 * The names of a folder stay known for a while after the last of them was given back. A `Map` that grows and shrinks with
 * every lock would keep what it held alive until the next full collection (see `Bag`).
 */
export const make = (): EntryNames => {
  let folders = new Map<string, Array<boolean>>()
  let inUse = 0
  let attempts = 0

  const numbersOf = (folder: string): Array<boolean> => {
    const known = folders.get(folder)
    if (known !== undefined) return known
    if (folders.size >= fewFolders && folders.size > 2 * inUse) {
      folders = new Map(Array.from(folders).filter(([, numbers]) => numbers.includes(true)))
    }
    const numbers: Array<boolean> = []
    folders.set(folder, numbers)
    return numbers
  }

  const gaveBack = (): void => {
    inUse--
  }

  return {
    take: (folder, lease) => {
      const numbers = numbersOf(folder)
      const free = numbers.indexOf(false)
      const number = free === -1 ? numbers.length : free
      numbers[number] = true
      inUse++
      return new Name(folder, leaseHex(lease), number, ++attempts, numbers, gaveBack)
    }
  }
}
