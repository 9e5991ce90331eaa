/** Interruption at any step of the way to a lock, through it and out of it again leaves nothing behind. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Lock from "../../src/Lock.js"
import * as ReadWriteLock from "../../src/ReadWriteLock.js"
import * as Semaphore from "../../src/Semaphore.js"
import * as TestEtcd from "../../src/testing.js"
import { interruptedAtEveryStep } from "../support/interruptedAtEveryStep.js"
import { memory } from "../support/memory.js"
import { inVirtualTime } from "../support/virtualTime.js"
import { lockKeys } from "./support.js"

const services = Layer.provideMerge(Layer.mergeAll(Semaphore.layer(), ReadWriteLock.layer()), memory())

const body = Effect.yieldNow()

type Services = Layer.Layer.Success<typeof services>

const ways: Readonly<Record<string, Effect.Effect<unknown, unknown, Services>>> = {
  "acquire": Effect.scoped(Effect.flatMap(Lock.acquire("a"), ({ release }) => release)),
  "tryAcquire": Effect.scoped(Lock.tryAcquire("a")),
  "withLock": Lock.withLock("a")(body),
  "withLock with a timeout": Lock.withLock("a", { timeout: "1 minute" })(body),
  "withLockIfAvailable": Lock.withLockIfAvailable("a")(body),
  "withLocks": Lock.withLocks(["a", "b"])(body),
  "withPermits": Semaphore.withPermits("a", { limit: 2 })(body),
  "withPermitsIfAvailable": Semaphore.withPermitsIfAvailable("a", { limit: 2 })(body),
  "withRead": ReadWriteLock.withRead("a")(body)
}

/** Nobody is left in any queue, so that all can be had at once. */
const isFree = Effect.scoped(Effect.all([
  Lock.acquireAll(["a", "b"], { timeout: "5 seconds" }),
  Semaphore.acquire("a", { limit: 2, permits: 2, timeout: "5 seconds" }),
  ReadWriteLock.write("a", { timeout: "5 seconds" })
]))

const freeLater = Effect.zipRight(Effect.sleep("100 millis"), isFree)

describe("an interruption at any step", () => {
  for (const [name, way] of Object.entries(ways)) {
    it.live(`of ${name} leaves nobody in the queue`, () =>
      Effect.gen(function*() {
        const etcd = yield* TestEtcd.TestEtcd
        yield* isFree
        assert.isAbove(
          yield* interruptedAtEveryStep(way, freeLater),
          20
        )
        yield* Effect.sleep("12 seconds")
        const { callsInFlight, watchers } = yield* etcd.usage
        assert.deepStrictEqual([yield* lockKeys, callsInFlight, watchers], [[], 0, 0])
      }).pipe(Effect.provide(services), inVirtualTime))
  }

  for (const name of ["acquire", "withLock"]) {
    it.live(`of ${name} leaves nobody in the queue when somebody else holds the lock`, () =>
      Effect.gen(function*() {
        const busy = Effect.zipRight(
          Effect.forkDaemon(Lock.withLock("a")(Effect.sleep("50 millis"))),
          Effect.sleep("10 millis")
        )
        yield* busy
        const steps = yield* interruptedAtEveryStep(ways[name], Effect.zipRight(freeLater, busy))
        assert.isAbove(steps, 50)
        yield* freeLater
        assert.deepStrictEqual(yield* lockKeys, [])
      }).pipe(Effect.provide(services), inVirtualTime))
  }
})
