/** What is given up while etcd has not answered yet leaves nothing behind on a lease that lives on. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Lock from "../../src/Lock.js"
import * as Session from "../../src/Session.js"
import { TestEtcd } from "../../src/testing.js"
import { eventually, keys, pass, scenario, settle, whileTimePasses } from "../support/memory.js"

const markers = Effect.map(keys, (all) => all.filter((key) => key.startsWith("/coord/attempts/")))
const entries = (name: string) => Effect.map(keys, (all) => all.filter((key) => key.startsWith(`/locks/${name}/`)))

const sessions = Effect.flatMap(Session.Sessions, ({ all }) => all)

describe("a lock that is given up while it is asked for", () => {
  it.effect("leaves neither its key nor a marker, wherever that comes, though others hold on to the lease", () =>
    scenario(Effect.gen(function*() {
      yield* Lock.acquire("held")
      let gone = 0
      for (let steps = 0; steps < 40; steps++) {
        const asking = yield* Effect.fork(Effect.scoped(Effect.zipRight(Lock.acquire("a"), Effect.never)))
        yield* Effect.repeatN(Effect.yieldNow(), steps)
        if ((yield* entries("a")).length > 0) gone++
        yield* Fiber.interrupt(asking)
        assert.deepStrictEqual([yield* entries("a"), yield* markers], [[], []], `${steps} steps`)
      }
      // Some were interrupted before they had a key, and some after.
      assert.isTrue(gone > 0 && gone < 40)
      assert.strictEqual((yield* sessions).length, 1)
    })))

  it.effect("is never sent when it is given up before its turn", () =>
    scenario(Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* Lock.acquire("held")
      const transactions = Effect.map(etcd.usage, ({ calls }) => calls.txn)
      const before = yield* transactions
      yield* etcd.stall()
      // Two calls are under way, and the next ones wait for one of them.
      const asking = yield* Effect.forEach(
        ["a", "b", "c"],
        (key) => Effect.zipLeft(Effect.fork(Effect.scoped(Lock.acquire(key))), settle)
      )
      yield* Fiber.interrupt(asking[2])
      yield* etcd.resume
      yield* Effect.forEach(asking.slice(0, 2), Fiber.join)
      yield* settle
      // Each of the two came and went.
      assert.strictEqual((yield* transactions) - before, 4)
      assert.deepStrictEqual(yield* markers, [])
    })))

  it.effect("without an answer leaves a marker; with many, the session is left to those who have it, and ends with them", () =>
    scenario(Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const held = yield* Lock.acquire("held")
      const count = 16
      for (let marked = 1; marked <= count; marked++) {
        assert.strictEqual((yield* sessions).length, 1)
        yield* etcd.stall()
        const asking = yield* Effect.fork(Effect.scoped(Lock.acquire("a")))
        yield* settle
        yield* whileTimePasses(Fiber.interrupt(asking))
        yield* etcd.resume
        yield* whileTimePasses(
          Effect.repeat(Effect.delay(markers, "100 millis"), { until: ({ length }) => length === marked })
        )
      }
      // Those who come now share another lease.
      const other = yield* Lock.acquire("other")
      assert.isFalse(yield* held.isExpired)
      assert.strictEqual((yield* sessions).length, 2)
      yield* held.release
      yield* eventually("its session is closed", Effect.map(sessions, ({ length }) => length === 1))
      yield* pass("1 second")
      assert.deepStrictEqual(yield* markers, [])
      assert.isFalse(yield* other.isExpired)
    })))
})
