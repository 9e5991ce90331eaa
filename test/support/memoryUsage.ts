/** What a process occupies, told by those that a test starts. */
import * as Effect from "effect/Effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

/** In MiB: what is in use without garbage, and what the process occupies. */
export interface Usage {
  readonly used: number
  readonly resident: number
}

const measure = Effect.suspend(() => {
  setFlagsFromString("--expose-gc")
  const collectGarbage = runInNewContext("gc") as () => void
  return Effect.sync((): Usage => {
    collectGarbage()
    const { external, heapUsed, rss } = process.memoryUsage()
    return { used: (heapUsed + external) / 1024 ** 2, resident: rss / 1024 ** 2 }
  })
})

/** Lets what is under way come to its end, as far as that needs no waiting. */
const turn = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))

/** Measures until there is nothing more to collect. */
export const usage: Effect.Effect<Usage> = Effect.iterate(
  { now: { used: Infinity, resident: Infinity }, fell: Infinity },
  {
    while: ({ fell }) => fell > 0.5,
    body: ({ now: before }) =>
      Effect.map(Effect.zipRight(turn, measure), (now) => ({ now, fell: before.used - now.used }))
  }
).pipe(Effect.map(({ now }) => now))
