/** Semaphores and read-write locks of several clients on a real etcd, as parts of `Coord`. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Coord from "../../src/Coord.js"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as Key from "../../src/Key.js"
import * as ReadWriteLock from "../../src/ReadWriteLock.js"
import * as Semaphore from "../../src/Semaphore.js"
import * as EtcdServer from "../support/EtcdServer.js"
import { text } from "../support/memory.js"

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index)

const clients = (count: number) =>
  Effect.flatMap(EtcdServer.make(), ({ endpoint }) =>
    Effect.forEach(numbers(count), () =>
      Layer.build(Coord.layer({
        endpoints: endpoint,
        semaphorePrefix: "/permits",
        readWriteLockPrefix: "/shared",
        namespace: "/test"
      }))))

/** The largest sum at any time. */
const gauge = () => {
  let present = 0
  let most = 0
  return {
    during: (amount: number) =>
      Effect.acquireUseRelease(
        Effect.sync(() => most = Math.max(most, present += amount)),
        () => Effect.sleep("2 millis"),
        () => Effect.sync(() => present -= amount)
      ),
    most: () => most
  }
}

const keysBelow = (prefix: string) =>
  Effect.flatMap(
    EtcdClient,
    (client) =>
      Effect.map(client.range({ ...Key.prefix(prefix), keysOnly: true }), ({ kvs }) => kvs.map(({ key }) => text(key)))
  )

describe("on etcd", () => {
  it.scopedLive("a semaphore gives out no more than its limit", () =>
    Effect.gen(function*() {
      const contexts = yield* clients(3)
      const { during, most } = gauge()
      yield* Effect.forEach(numbers(150), (index) => {
        const permits = 1 + index % 4
        return Effect.provide(
          Semaphore.withPermits("a", { limit: 7, permits })(during(permits)),
          contexts[index % 3]
        )
      }, { concurrency: "unbounded", discard: true })
      assert.isAtMost(most(), 7)
      assert.isAtLeast(most(), 4)
      yield* Effect.scoped(Effect.provide(
        Effect.gen(function*() {
          const { etcdKey } = yield* Semaphore.acquire("a", { limit: 1 })
          assert.deepStrictEqual(yield* keysBelow("/permits/"), [etcdKey])
        }),
        contexts[0]
      ))
      assert.deepStrictEqual(yield* Effect.provide(keysBelow("/permits/"), contexts[0]), [])
    }), 60_000)

  it.scopedLive("a read-write lock has many readers or one writer", () =>
    Effect.gen(function*() {
      const contexts = yield* clients(3)
      const { during, most } = gauge()
      yield* Effect.forEach(numbers(150), (index) =>
        Effect.provide(
          index % 5 === 0
            ? ReadWriteLock.withWrite("a")(during(1_000))
            : ReadWriteLock.withRead("a")(during(1)),
          contexts[index % 3]
        ), { concurrency: "unbounded", discard: true })
      assert.strictEqual(most(), 1_000)
      assert.deepStrictEqual(yield* Effect.provide(keysBelow("/shared/"), contexts[0]), [])
    }), 60_000)
})
