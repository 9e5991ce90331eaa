import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Lock from "../../src/Lock.js"
import { TestEtcd } from "../../src/testing.js"
import { keys, pass, process, scenario, whileTimePasses } from "../support/memory.js"

describe("an answer that comes when the session is over", () => {
  const ways: Readonly<Record<string, Effect.Effect<unknown, unknown, Lock.Lock | TestEtcd>>> = {
    "a try in a scope": Effect.scoped(Effect.zipRight(Lock.tryAcquire("a", { ttl: "5 seconds" }), keys)),
    "a try around a body": Lock.withLockIfAvailable("a", { ttl: "5 seconds" })(keys),
    "waiting for it": Lock.withLock("a", { ttl: "5 seconds" })(keys)
  }
  for (const [what, attempt] of Object.entries(ways)) {
    it.effect(`brings no lock: ${what} begins again, with another session`, () =>
      Effect.gen(function*() {
        const etcd = yield* TestEtcd
        const mine = yield* Layer.build(process({ connection: "p", requestTimeout: "1 minute" }))
        yield* Effect.provide(Effect.scoped(Lock.acquire("warm", { ttl: "5 seconds" })), mine)
        yield* etcd.connection("p").stall({ applied: true })
        const trying = yield* Effect.fork(Effect.provide(attempt, mine))
        yield* pass("9 seconds")
        assert.deepStrictEqual(yield* keys, [], "the entry went with its lease")
        yield* etcd.connection("p").resume
        const present = yield* whileTimePasses(Fiber.join(trying))
        assert.strictEqual(JSON.stringify(present).match(/\/locks\/a\//g)?.length, 1, "it is held while it runs")
      }).pipe(scenario))
  }
})
