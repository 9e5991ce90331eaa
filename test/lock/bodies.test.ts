/** A body and its lock: neither goes without the other, whatever ends it. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Lock from "../../src/Lock.js"
import { TestEtcd } from "../../src/testing.js"
import { pass, process, scenario, settle, whileTimePasses } from "../support/memory.js"
import { lockKeys } from "./support.js"

const options = { ttl: "10 seconds" } as const

const ways = {
  withLock: Lock.withLock("a", options),
  withLockIfAvailable: Lock.withLockIfAvailable("a", options),
  withLocks: Lock.withLocks(["a", "b"], options)
}

for (const [name, way] of Object.entries(ways)) {
  describe(`a body of ${name}`, () => {
    it.effect("is ended before its lock is given back, when the caller is interrupted", () =>
      Effect.gen(function*() {
        const started = yield* Deferred.make<void>()
        let held: ReadonlyArray<string> = []
        const tidyUp = Effect.map(Effect.zipRight(settle, lockKeys), (keys) => {
          held = keys
        })
        const running = yield* Effect.fork(
          way(Effect.onInterrupt(Effect.zipRight(Deferred.succeed(started, void 0), Effect.never), () => tidyUp))
        )
        yield* Deferred.await(started)
        yield* Fiber.interrupt(running)
        assert.isNotEmpty(held)
        assert.deepStrictEqual(yield* lockKeys, [])
      }).pipe(scenario))

    it.effect("has not ended well when its time was over, although no timer has fired", () =>
      Effect.gen(function*() {
        let nanos = 0n
        const clock = yield* Effect.clock
        // The event loop stands still: time goes on, and nothing that sleeps wakes up.
        const stalled: Clock.Clock = {
          [Clock.ClockTypeId]: Clock.ClockTypeId,
          currentTimeMillis: clock.currentTimeMillis,
          currentTimeNanos: Effect.sync(() => nanos),
          unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis(),
          unsafeCurrentTimeNanos: () => nanos,
          sleep: () => Effect.never
        }
        const services = yield* Effect.withClock(Layer.build(process()), stalled)
        const end = (at: bigint) =>
          way(Effect.sync(() => {
            nanos = at
          })).pipe(Effect.provide(services), Effect.withClock(stalled))
        yield* end(8_900_000_000n)
        const error = yield* Effect.flip(end(9_100_000_000n))
        assert.isTrue(error._tag === "LockExpired" && error.reason === "expired")
      }).pipe(Effect.scoped, scenario))
  })
}

describe("a body that waits for the loss itself", () => {
  it.effect("hears of it before it is interrupted", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      let heard: string | undefined
      const running = yield* Effect.fork(
        Lock.withLock("a", options)(({ lost }) =>
          Effect.zipRight(
            Effect.yieldNow(),
            Effect.catchAll(lost, ({ reason }) =>
              Effect.sync(() => {
                heard = reason
              }))
          )
        )
      )
      yield* pass("1 second")
      const [key] = yield* lockKeys
      yield* etcd.deleteKey(key)
      const error = yield* whileTimePasses(Effect.flip(Fiber.join(running)))
      assert.strictEqual(error._tag, "LockExpired")
      assert.strictEqual(heard, "deleted")
    }).pipe(scenario))
})
