/**
 * A message lost at every step of what the library does: each scenario is played once for each of its messages, and in
 * each way in which that message, or its answer, can go wrong.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { countOnEngine, playOnEngine, ways, waysOfRepetitions } from "./lost/engine.js"
import { scenarios } from "./lost/scenarios.js"

for (const [title, group] of Object.entries(scenarios)) {
  describe(title, () => {
    for (const scenario of group) {
      describe(scenario.name, () => {
        const counted = Effect.runSync(Effect.cached(countOnEngine(scenario)))
        for (const way of scenario.repeats === true ? [...ways, ...waysOfRepetitions] : ways) {
          it.effect(`whichever message it is: ${way.name}`, () =>
            Effect.gen(function*() {
              const messages = yield* counted
              let hits = 0
              for (let index = 1; index <= messages; index++) {
                const wasHit = yield* Effect.mapErrorCause(
                  playOnEngine(scenario, way, index),
                  (cause) => Cause.die(new Error(`message ${index} of ${messages}: ${Cause.pretty(cause)}`))
                )
                if (wasHit) hits++
              }
              if (way.counts === "messages") assert.strictEqual(hits, messages)
              else assert.isAbove(hits, 0)
            }))
        }
      })
    }
  })
}
