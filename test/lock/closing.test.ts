/** Those who wait for a lock, or come to do so, when the service of locks is closed. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Lock from "../../src/Lock.js"
import { process, scenario, settle, whileTimePasses } from "../support/memory.js"
import { hold, waiting } from "./support.js"

const waitFor = (lock: Lock.Lock["Type"], key: string) => Effect.scoped(Effect.interruptible(lock.acquire(key)))

describe("those who wait", () => {
  it.effect("are let go, and leave the queue, when their locks are closed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const lock = Context.get(yield* Layer.buildWithScope(process({ connection: "p" }), scope), Lock.Lock)
      yield* hold("a")
      const waiter = yield* Effect.fork(Effect.scoped(lock.acquire("a")))
      yield* waiting("a", 1)
      yield* settle
      yield* whileTimePasses(Scope.close(scope, Exit.void))
      assert.isTrue(Exit.isInterrupted(yield* whileTimePasses(Fiber.await(waiter))))
      yield* waiting("a", 0)
    }).pipe(scenario))

  it.effect("come too late when their locks are closed already", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const lock = Context.get(yield* Layer.buildWithScope(Lock.layer(), scope), Lock.Lock)
      yield* hold("a")
      yield* Scope.close(scope, Exit.void)
      const exit = yield* whileTimePasses(Effect.exit(waitFor(lock, "a")))
      assert.isTrue(Exit.isInterrupted(exit))
      yield* waiting("a", 0)
    }).pipe(scenario))

  it.effect("come too late at any moment while their locks are being closed", () =>
    Effect.gen(function*() {
      for (const key of ["a", "b", "c"]) yield* hold(key)
      for (let steps = 0; steps < 20; steps++) {
        const scope = yield* Scope.make()
        const lock = Context.get(yield* Layer.buildWithScope(Lock.layer(), scope), Lock.Lock)
        // Queues that are followed take a while to leave.
        const before = yield* Effect.forEach(["b", "c"], (key) => Effect.fork(waitFor(lock, key)))
        yield* settle
        const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
        yield* Effect.repeatN(Effect.yieldNow(), steps)
        const late = yield* Effect.fork(waitFor(lock, "a"))
        yield* whileTimePasses(Fiber.join(closing))
        for (const waiter of [...before, late]) {
          assert.isTrue(Exit.isInterrupted(yield* whileTimePasses(Fiber.await(waiter))), `${steps} steps`)
        }
      }
    }).pipe(scenario))
})
