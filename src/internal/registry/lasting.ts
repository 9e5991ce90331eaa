/**
 * A list that outlasts accidents: instances that vanish because etcd has lost its data, or all of a service at once, have
 * most likely only lost their entries, and put them back within moments.
 */
import type { ServiceInfo } from "./model.js"
import { isDraining } from "./traits.js"

export interface Lasting {
  /**
   * Takes what etcd has now, by key and in order. Whether something is kept from now on that was not before.
   *
   * @param lostData etcd has begun a new history since the last time
   */
  readonly next: (there: ReadonlyMap<string, ServiceInfo>, lostData: boolean) => boolean
  /** What is there, and what is kept, by key. */
  readonly list: () => ReadonlyArray<ServiceInfo>
  /** A number for what is kept now. */
  readonly mark: () => number
  /** Lets go of what has been kept since a mark and before it. Whether there was any. */
  readonly drop: (mark: number) => boolean
}

interface Kept {
  readonly service: ServiceInfo
  readonly since: number
}

export const make = (): Lasting => {
  let present: ReadonlyMap<string, ServiceInfo> = new Map()
  const kept = new Map<string, Kept>()
  let marks = 0

  return {
    next: (there, lostData) => {
      for (const key of there.keys()) kept.delete(key)
      const before = kept.size
      if (lostData || there.size === 0) {
        for (const [key, service] of present) {
          // Who was about to leave has left.
          if (!there.has(key) && !isDraining(service)) kept.set(key, { service, since: marks })
        }
      }
      present = there
      return kept.size > before
    },
    list: () => {
      if (kept.size === 0) return Array.from(present.values())
      const all = [...present, ...Array.from(kept, ([key, { service }]) => [key, service] as const)]
      return all.sort(([a], [b]) => a < b ? -1 : 1).map(([, service]) => service)
    },
    mark: () => marks++,
    drop: (mark) => {
      const before = kept.size
      for (const [key, { since }] of kept) {
        if (since <= mark) kept.delete(key)
      }
      return kept.size < before
    }
  }
}
