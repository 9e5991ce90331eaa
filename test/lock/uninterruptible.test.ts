/** Acquiring where nobody may interrupt, as in the first half of `acquireRelease`. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Lock from "../../src/Lock.js"
import { pass, scenario, whileTimePasses } from "../support/memory.js"
import { hold, lockKeys, waiting } from "./support.js"

const ways = {
  "acquire": (options: Lock.AcquireOptions) => Effect.scoped(Lock.acquire("b", options)),
  "acquireAll": (options: Lock.AcquireOptions) => Effect.scoped(Lock.acquireAll(["a", "b"], options)),
  "withLock": (options: Lock.AcquireOptions) => Lock.withLock("b", options)(Effect.void)
}

describe("where it cannot be interrupted", () => {
  for (const [name, way] of Object.entries(ways)) {
    it.effect(`${name} gives up at its timeout, and leaves the queue`, () =>
      Effect.gen(function*() {
        const { lock } = yield* hold("b")
        const error = yield* whileTimePasses(
          Effect.disconnect(Effect.uninterruptible(Effect.flip(way({ timeout: "2 seconds" }))))
        )
        assert.isTrue(error._tag === "LockTimeout" && error.key === "b")
        assert.deepStrictEqual(yield* lockKeys, [lock.etcdKey])
      }).pipe(scenario))

    it.effect(`${name} goes on waiting when it is interrupted, with a timeout as well`, () =>
      Effect.gen(function*() {
        const { release } = yield* hold("b")
        let done = false
        const waiter = yield* Effect.fork(
          Effect.uninterruptible(Effect.tap(way({ timeout: "1 minute" }), () => Effect.sync(() => done = true)))
        )
        yield* waiting("b", 1)
        const interrupting = yield* Effect.fork(Fiber.interrupt(waiter))
        yield* pass("2 seconds")
        assert.isTrue(Option.isNone(yield* Fiber.poll(interrupting)))
        yield* release
        yield* whileTimePasses(Fiber.join(interrupting))
        assert.isTrue(done)
        assert.deepStrictEqual(yield* lockKeys, [])
      }).pipe(scenario))
  }
})
