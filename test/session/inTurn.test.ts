/** One at a time, in order, whoever is interrupted. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as InTurn from "../../src/internal/inTurn.js"
import { interruptedAtEveryStep } from "../support/interruptedAtEveryStep.js"
import { settle } from "../support/memory.js"

describe("what is done in turn", () => {
  it.effect("is done in the order of the calls, also of one that comes while the next is told", () =>
    Effect.gen(function*() {
      const inTurn = InTurn.make()
      const done: Array<string> = []
      const doing = yield* Effect.makeLatch()
      const work = (name: string) => inTurn(Effect.zipRight(doing.await, Effect.sync(() => done.push(name))))
      const first = yield* Effect.fork(Effect.zipRight(work("a1"), work("a2")))
      yield* settle
      const others = yield* Effect.forEach(["b", "c", "d"], (name) => Effect.fork(work(name)))
      yield* settle
      yield* Fiber.interrupt(others[1])
      yield* doing.open
      yield* Fiber.join(first)
      assert.deepStrictEqual(done, ["a1", "b", "d", "a2"])
    }))

  it.effect("is done by the next one, wherever the one before was interrupted", () =>
    Effect.gen(function*() {
      const inTurn = InTurn.make()
      let inside = 0
      const work = inTurn(Effect.acquireUseRelease(
        Effect.sync(() => assert.strictEqual(++inside, 1)),
        () => Effect.yieldNow(),
        () => Effect.sync(() => inside--)
      ))
      const next = Effect.gen(function*() {
        const working = yield* Effect.fork(work)
        yield* settle
        assert.isTrue(Option.isSome(yield* Fiber.poll(working)))
      })
      yield* interruptedAtEveryStep(work, next)
      // The same for one that has to wait.
      const waiting = Effect.zipRight(Effect.fork(work), work)
      yield* interruptedAtEveryStep(waiting, next)
    }))
})
