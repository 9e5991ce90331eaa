/** What a peer's module has to offer, and helpers for those that work with promises. */
import type { Meter } from "./meter.js"
import type { Slice } from "./protocol.js"

/** Prepares a slice; the effect that it returns works until the meter says that it is time to end. */
export type Workload = (slice: Slice, meter: Meter) => Promise<() => Promise<void>>

export interface Peer {
  readonly workloads: Readonly<Record<string, Workload>>
  readonly close: () => Promise<void>
}

/** How many keys `get` and `put` choose from, and how long the values are. */
export const keyCount = 1_000
export const valueLength = 256

/** Keys that the benchmark has put there, for reading. */
export const readKey = (): string => `bench/read/${Math.floor(Math.random() * keyCount)}`
export const writeKey = (): string => `bench/write/${Math.floor(Math.random() * keyCount)}`
export const value = "v".repeat(valueLength)

/** The name of a lock that nobody else wants. */
export const ownLock = (slice: Slice, worker: number): string => `bench/${slice.name}/${worker}`

/** Runs `worker` so many times at once, each over and over. */
export const loops =
  (slice: Slice, meter: Meter, worker: (index: number) => Promise<void>) => async (): Promise<void> => {
    await Promise.all(Array.from({ length: slice.inFlight }, async (_, index) => {
      while (meter.running()) await worker(index)
    }))
  }

/** A workload that is one call after the other. */
export const calls = (call: () => Promise<void>): Workload => (slice, meter) => {
  const done = meter.operation("call")
  return Promise.resolve(loops(slice, meter, async () => {
    const begin = meter.now()
    await call()
    done(begin)
  }))
}
