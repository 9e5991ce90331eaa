import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Lock from "../../src/Lock.js"
import { TestEtcd } from "../../src/testing.js"
import { keys, pass, process, scenario, whileTimePasses } from "../support/memory.js"

const ways = {
  "after its timeout": { attempt: Effect.scoped(Lock.acquire("a", { timeout: "1 second" })), first: false },
  "twice": { attempt: Lock.withLock("a")(Effect.void), first: true }
}

describe("a lock that is being given up while etcd does not answer", () => {
  for (const [how, { attempt, first }] of Object.entries(ways)) {
    it.effect(`leaves no entry when it is interrupted ${how}`, () =>
      Effect.gen(function*() {
        const etcd = yield* TestEtcd
        const mine = yield* Layer.build(process({ connection: "p" }))
        yield* Effect.provide(Effect.scoped(Lock.acquire("warm")), mine)
        yield* etcd.connection("p").stall({ applied: true })
        const waiter = yield* Effect.fork(Effect.provide(Effect.exit(attempt), mine))
        yield* pass("1 second")
        if (first) yield* Fiber.interruptFork(waiter)
        yield* pass("500 millis")
        const stop = yield* Effect.fork(Fiber.interrupt(waiter))
        yield* pass("100 millis")
        yield* etcd.connection("p").resume
        yield* whileTimePasses(Fiber.join(stop))
        yield* pass("1 minute", "1 second")
        assert.deepStrictEqual((yield* keys).filter((key) => key.startsWith("/locks/")), [])
      }).pipe(scenario))
  }
})
