/** What those who use a semaphore say of its limit has to be the same. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Semaphore from "../../src/Semaphore.js"
import { TestEtcd } from "../../src/testing.js"
import { scenario, settle, whileTimePasses } from "../support/memory.js"
import { another, hold, semaphoreKeys, waiting, withSemaphores } from "./support.js"

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index)

describe("the limit", () => {
  it.effect("is refused when others say another, and nothing is left behind", () =>
    Effect.gen(function*() {
      const { handle, release } = yield* hold("a", { limit: 3 })
      const errors = yield* Effect.all([
        Effect.flip(Effect.scoped(Semaphore.acquire("a", { limit: 5 }))),
        Effect.flip(Effect.scoped(Semaphore.tryAcquire("a", { limit: 5 }))),
        Effect.flip(Semaphore.withPermits("a", { limit: 2 })(Effect.void)),
        Effect.flip(Semaphore.withPermitsIfAvailable("a", { limit: 5 })(Effect.void))
      ])
      for (const error of errors) {
        assert.isTrue(error._tag === "SemaphoreLimitMismatch")
        assert.deepInclude(error, { key: "a", limitInUse: 3, holder: handle.etcdKey })
      }
      assert.strictEqual(
        errors[0].message,
        `the semaphore "a" has a limit of 3, as the entry ${handle.etcdKey} says, not of 5`
      )
      assert.deepStrictEqual(yield* semaphoreKeys, [handle.etcdKey])
      yield* release
      yield* Effect.scoped(Semaphore.acquire("a", { limit: 5 }))
    }).pipe(withSemaphores, scenario))

  it.effect("is refused although the answer to the entering was lost", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* hold("a", { limit: 3 })
      yield* etcd.loseResponse({ match: ({ operation }) => operation === "txn" })
      const error = yield* whileTimePasses(Effect.flip(Effect.scoped(Semaphore.acquire("a", { limit: 5 }))))
      assert.strictEqual(error._tag, "SemaphoreLimitMismatch")
      assert.lengthOf(yield* semaphoreKeys, 1)
    }).pipe(withSemaphores, scenario))

  it.effect("is refused to one of two who come at the same time, and never two hold", () =>
    Effect.gen(function*() {
      const [one, two] = [yield* another("one"), yield* another("two")]
      for (let i = 0; i < 20; i++) {
        const limits = new Set<number>()
        const use = (semaphore: Semaphore.Semaphore["Type"], limit: number, delay: number) =>
          Effect.zipRight(
            Effect.forEach(numbers(delay), () => Effect.yieldNow()),
            Effect.either(
              semaphore.withPermits("a", { limit })(
                Effect.gen(function*() {
                  limits.add(limit)
                  assert.strictEqual(limits.size, 1)
                  yield* settle
                  limits.delete(limit)
                })
              )
            )
          )
        const outcomes = yield* Effect.all([use(one, 3, i), use(two, 5, 10)], { concurrency: 2 })
        assert.isTrue(outcomes.some(({ _tag }) => _tag === "Right"))
        for (const outcome of outcomes) {
          if (outcome._tag === "Left") assert.strictEqual(outcome.left._tag, "SemaphoreLimitMismatch")
        }
        assert.deepStrictEqual(yield* semaphoreKeys, [])
      }
    }).pipe(withSemaphores, scenario))

  it.effect("of others makes those behind them wait, however they came in", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const holder = yield* hold("a", { limit: 3 })
      yield* etcd.putKey("/semaphores/a/other", JSON.stringify({ kind: "semaphore", permits: 1, limit: 9 }))
      const behind = yield* Effect.fork(Semaphore.acquire("a", { limit: 3 }))
      yield* waiting("a", 2)
      yield* settle
      assert.isTrue(Option.isNone(yield* Fiber.poll(behind)))
      yield* holder.release
      yield* settle
      assert.isTrue(Option.isNone(yield* Fiber.poll(behind)), "the other one holds")
      yield* etcd.deleteKey("/semaphores/a/other")
      yield* Fiber.join(behind)
    }).pipe(withSemaphores, scenario))

  it.effect("counts as taken by an entry that cannot be read", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      for (const value of ["", "?", "{}", "{\"kind\":\"semaphore\",\"permits\":4,\"limit\":3}"]) {
        const holder = yield* hold("a", { limit: 3 })
        yield* etcd.putKey("/semaphores/a/other", value)
        const behind = yield* Effect.fork(Effect.scoped(Semaphore.acquire("a", { limit: 3 })))
        yield* waiting("a", 2)
        yield* holder.release
        yield* settle
        assert.isTrue(Option.isNone(yield* Fiber.poll(behind)))
        const { holders } = yield* Semaphore.inspect("a")
        assert.deepStrictEqual(holders.map(({ permits }) => permits), [Option.none()])
        assert.strictEqual(
          (yield* Effect.flip(Effect.scoped(Semaphore.tryAcquire("a", { limit: 3 }))))._tag,
          "LockConflict"
        )
        yield* etcd.deleteKey("/semaphores/a/other")
        yield* Fiber.join(behind)
      }
    }).pipe(withSemaphores, scenario))

  it.effect("is not refused because of one who was refused as well, and is about to leave", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const holder = yield* hold("a", { limit: 3 })
      // It has seen the holder, and has not left yet.
      yield* etcd.putKey("/semaphores/a/other", JSON.stringify({ kind: "semaphore", permits: 1, limit: 9 }))
      yield* holder.release
      const conflict = yield* Effect.flip(Effect.scoped(Semaphore.tryAcquire("a", { limit: 3 })))
      assert.isTrue(conflict._tag === "LockConflict" && conflict.holder === "/semaphores/a/other")
      const behind = yield* Effect.fork(Semaphore.acquire("a", { limit: 3 }))
      yield* waiting("a", 1)
      yield* settle
      assert.isTrue(Option.isNone(yield* Fiber.poll(behind)))
      yield* etcd.deleteKey("/semaphores/a/other")
      yield* Fiber.join(behind)
    }).pipe(withSemaphores, scenario))

  it.effect("is refused because of one who was the first, also when nobody knows that any more", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const refused = Effect.gen(function*() {
        const errors = [
          yield* Effect.flip(Effect.scoped(Semaphore.acquire("a", { limit: 3 }))),
          yield* Effect.flip(Effect.scoped(Semaphore.tryAcquire("a", { limit: 3 })))
        ]
        for (const error of errors) {
          assert.isTrue(error._tag === "SemaphoreLimitMismatch" && error.limitInUse === 9)
        }
        assert.lengthOf(yield* semaphoreKeys, 1)
      })
      yield* hold("a", { limit: 9 })
      yield* refused
      yield* etcd.putKey("x", "y")
      yield* etcd.compact()
      yield* refused
    }).pipe(withSemaphores, scenario))
})
