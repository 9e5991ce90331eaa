/** What a peer's module has to offer, and helpers for those that work with promises. */
import { Schema } from "effect"
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

/** Settings that the benchmark has put there, as long as the values; they stand below {@link settingsFolder}. */
export const settingsFolder = "/config/"
export const settingOf = (index: number): string => `bench/setting/${index}`
export const settingKey = (): string => settingOf(Math.floor(Math.random() * keyCount))
export const Setting = Schema.Struct({
  requests: Schema.Int,
  burst: Schema.Int,
  tags: Schema.Array(Schema.String),
  note: Schema.String
})
const plain = { requests: 100, burst: 20, tags: ["a", "b"], note: "" }
export const setting: typeof Setting.Type = {
  ...plain,
  note: "n".repeat(valueLength - JSON.stringify(plain).length)
}

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
