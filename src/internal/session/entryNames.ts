/**
 * Names for a session's entries. They are used again as soon as their delete is confirmed: etcd walks over every name it
 * has deleted since the last compaction when it reads a queue, so a new name for every acquisition would make a busy lock
 * slower and slower.
 */
import { leaseHex } from "../ids.js"

export interface EntryName {
  readonly key: string
  /**
   * A key that does not exist, as a condition of the put. Once it is created, a sending of the put that is still on its
   * way can no longer be applied.
   */
  readonly bar: string
  /** The name is free for the next one. */
  readonly giveBack: () => void
}

export interface EntryNames {
  readonly take: (folder: string, lease: bigint) => EntryName
}

const lowestFree = (used: ReadonlySet<number>): number => {
  let number = 0
  while (used.has(number)) number++
  return number
}

export const make = (): EntryNames => {
  const inUse = new Map<string, Set<number>>()
  let attempts = 0
  return {
    take: (folder, lease) => {
      const used = inUse.get(folder) ?? new Set()
      const number = lowestFree(used)
      used.add(number)
      inUse.set(folder, used)
      const hex = leaseHex(lease)
      return {
        key: `${folder}${hex}${number === 0 ? "" : `-${number}`}`,
        bar: `/coord/attempts/${hex}-${++attempts}`,
        giveBack: () => {
          used.delete(number)
          if (used.size === 0 && inUse.get(folder) === used) inUse.delete(folder)
        }
      }
    }
  }
}
