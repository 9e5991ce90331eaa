import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Backend, engine } from "./backend.js"
import { behaviours } from "./behaviours.js"

describe("a registry on the embedded engine", () => {
  for (const [name, behaviour] of Object.entries(behaviours)) {
    it.effect(name, () =>
      behaviour.pipe(
        // Closing waits for etcd, and time stands still when the test is over.
        Effect.ensuring(Effect.flatMap(Backend, ({ start }) => start)),
        Effect.scoped,
        Effect.provide(engine())
      ))
  }
})
