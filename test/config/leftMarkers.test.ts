/** What is left of writes that were given up on their way does not pile up. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import * as Config from "../../src/Config.js"
import { TestEtcd } from "../../src/testing.js"
import { keys, settle } from "../support/memory.js"
import { embedded } from "./support.js"

const markers = Effect.map(keys, (all) => all.filter((key) => key.startsWith("/coord/attempts/")).length)
const leases = Effect.flatMap(TestEtcd, (etcd) => Effect.map(etcd.leases, ({ length }) => length))

const write = (name: string) => Config.compareAndSet(name, Schema.Int, 1, 0n)

describe("the markers of writes that were interrupted", () => {
  it.effect("go with their lease, although this client writes on", () =>
    Effect.gen(function*() {
      const count = 16
      for (let i = 1; i <= count; i++) {
        yield* write(`${i}`)
        assert.deepStrictEqual([yield* leases, yield* markers], [1, i])
        const writing = yield* Effect.fork(write("given-up"))
        yield* Effect.yieldNow()
        yield* Fiber.interrupt(writing)
        yield* settle
      }
      yield* write("next")
      assert.deepStrictEqual([yield* leases, yield* markers], [2, count + 1])
      for (const later of ["later", "last"]) {
        yield* TestClock.adjust("40 seconds")
        yield* write(later)
      }
      assert.deepStrictEqual([yield* leases, yield* markers], [1, 1])
    }).pipe(Effect.provide(embedded())))
})
