import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as Semaphore from "../../src/Semaphore.js"
import { TestEtcd } from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { pass, scenario, settle, text, whileTimePasses } from "../support/memory.js"
import { another, hold, semaphoreKeys, waiting, waitingInTime, withSemaphores } from "./support.js"

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index)

describe("acquire", () => {
  it.effect("takes a free permit in one call, and gives it back with the scope", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* Effect.scoped(Semaphore.acquire("warm", { limit: 1 }))
      yield* etcd.resetUsage
      const { handle, release } = yield* hold("jobs/a", { limit: 3, permits: 2 })
      const { calls } = yield* etcd.usage
      assert.deepStrictEqual([calls.txn, calls.range, calls.watch], [1, 0, 0])
      const [kv] = (yield* etcd.snapshot).filter(({ key }) => text(key) === handle.etcdKey)
      assert.match(handle.etcdKey, /^\/semaphores\/jobs\/a\/[0-9a-f]+$/)
      assert.strictEqual(handle.fencingToken, kv.createRevision)
      const { host, name, pid, since, ...rest } = JSON.parse(text(kv.value))
      assert.deepStrictEqual(rest, { kind: "semaphore", permits: 2, limit: 3 })
      assert.deepStrictEqual([typeof host, typeof name, pid, typeof since], ["string", "string", process.pid, "string"])
      yield* release
      assert.deepStrictEqual(yield* semaphoreKeys, [])
      assert.strictEqual((yield* etcd.usage).calls.txn, 2)
    }).pipe(withSemaphores, scenario))

  it.effect("takes what is left in one call as well", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* hold("a", { limit: 3 })
      yield* etcd.resetUsage
      yield* hold("a", { limit: 3, permits: 2 })
      const { calls } = yield* etcd.usage
      assert.deepStrictEqual([calls.txn, calls.range, calls.watch], [1, 0, 0])
      const { holders, waiters } = yield* Semaphore.inspect("a")
      assert.deepStrictEqual(
        [...holders, "|", ...waiters].map((entry) =>
          typeof entry === "string" ? entry : Option.getOrNull(entry.permits)
        ),
        [{ permits: 1, limit: 3 }, { permits: 2, limit: 3 }, "|"]
      )
    }).pipe(withSemaphores, scenario))

  it.effect("gives out no more than the limit, in the order of arrival, to any number of processes", () =>
    Effect.gen(function*() {
      const processes = yield* Effect.forEach(numbers(3), (index) => another(`p${index}`))
      const limit = 5
      let taken = 0
      let most = 0
      const tokens: Array<bigint> = []
      const users = numbers(120).map((index) => {
        const permits = 1 + (index * 7) % limit
        return processes[index % 3].withPermits("a", { limit, permits })(({ fencingToken }) =>
          Effect.gen(function*() {
            tokens.push(fencingToken)
            taken += permits
            most = Math.max(most, taken)
            for (let i = 0; i < (index * 13) % 50; i++) yield* Effect.yieldNow()
            taken -= permits
          })
        )
      })
      yield* whileTimePasses(Effect.all(users, { concurrency: "unbounded", discard: true }))
      assert.strictEqual(most, limit)
      // Those that hold at the same time may begin in either order.
      assert.lengthOf(tokens, 120)
      tokens.forEach((token, index) =>
        assert.isBelow(tokens.slice(0, index).filter((other) => other > token).length, limit)
      )
      assert.deepStrictEqual(yield* semaphoreKeys, [])
    }).pipe(withSemaphores, scenario))

  it.effect("serves one who wants many before those who come later and want few", () =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const few = yield* Effect.forEach(numbers(4), () => hold("a", { limit: 4 }))
      const queueing = (name: string, permits: number) =>
        Effect.fork(Effect.scoped(
          Effect.zipRight(
            Semaphore.acquire("a", { limit: 4, permits }),
            Effect.zipRight(Effect.sync(() => order.push(name)), Effect.never)
          )
        ))
      const many = yield* queueing("many", 4)
      yield* waiting("a", 1)
      yield* Effect.forEach(numbers(3), (index) => Effect.zipRight(queueing("few", 1), waiting("a", index + 2)))
      for (const { release } of few) {
        assert.deepStrictEqual(order, [])
        yield* release
        yield* settle
      }
      assert.deepStrictEqual(order, ["many"])
      yield* Fiber.interrupt(many)
      yield* settle
      assert.deepStrictEqual(order, ["many", "few", "few", "few"])
    }).pipe(withSemaphores, scenario))

  it.effect("serves those behind one who wanted many and gives up, at once", () =>
    Effect.gen(function*() {
      yield* hold("a", { limit: 3, permits: 2 })
      const many = yield* Effect.fork(Effect.scoped(Semaphore.acquire("a", { limit: 3, permits: 2 })))
      yield* waiting("a", 1)
      const few = yield* Effect.fork(Semaphore.acquire("a", { limit: 3 }))
      yield* waiting("a", 2)
      yield* Fiber.interrupt(many)
      yield* Fiber.join(few)
    }).pipe(withSemaphores, scenario))

  it.effect("needs nothing but the holders' deletes to hand permits on, by one watch per process", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const processes = yield* Effect.forEach(numbers(4), (index) => another(`p${index}`))
      const holder = yield* hold("a", { limit: 40, permits: 40 })
      const served: Array<number> = []
      const fibers = yield* Effect.forEach(numbers(200), (index) =>
        Effect.fork(Effect.scoped(
          Effect.tap(processes[index % 4].acquire("a", { limit: 40 }), () => Effect.sync(() => served.push(index)))
        )))
      yield* waiting("a", 200)
      yield* settle
      yield* etcd.resetUsage
      yield* holder.release
      yield* Effect.forEach(fibers, Fiber.join)
      assert.lengthOf(served, 200)
      const { calls, watchers } = yield* etcd.usage
      // Many may go into one transaction.
      assert.isAtMost(calls.txn, 201)
      assert.deepStrictEqual([calls.range, calls.watch, watchers], [0, 0, 4])
    }).pipe(withSemaphores, scenario))

  it.effect("counts more holders than are looked at when one enters", () =>
    Effect.gen(function*() {
      const all = yield* Effect.forEach(numbers(100), () => hold("a", { limit: 100 }))
      const waiter = yield* Effect.fork(Semaphore.acquire("a", { limit: 100 }))
      yield* waiting("a", 1)
      yield* settle
      assert.isTrue(Option.isNone(yield* Fiber.poll(waiter)))
      yield* all[50].release
      yield* Fiber.join(waiter)
    }).pipe(withSemaphores, scenario))

  it.effect("gives up at its timeout, and leaves the queue", () =>
    Effect.gen(function*() {
      yield* hold("a", { limit: 1 })
      const error = yield* whileTimePasses(
        Effect.flip(Effect.scoped(Semaphore.acquire("a", { limit: 1, timeout: "2 seconds" })))
      )
      assert.isTrue(error._tag === "LockTimeout" && error.kind === "semaphore" && error.key === "a")
      assert.lengthOf(yield* semaphoreKeys, 1)
    }).pipe(withSemaphores, scenario))

  it.effect("enters again when its entry or its lease is lost while it waits", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const holder = yield* hold("a", { limit: 2, permits: 2, ttl: "1 hour" })
      const waiter = yield* Effect.fork(Semaphore.acquire("a", { limit: 2, ttl: "10 seconds" }))
      yield* waiting("a", 1)
      const [first] = (yield* Semaphore.inspect("a")).waiters
      yield* etcd.deleteKey(first.etcdKey)
      yield* waitingInTime("a", 1)
      const [second] = (yield* Semaphore.inspect("a")).waiters
      assert.isTrue(second.fencingToken > first.fencingToken)
      yield* etcd.expireLease(second.lease)
      yield* waiting("a", 0)
      yield* waitingInTime("a", 1)
      yield* holder.release
      const handle = yield* whileTimePasses(Fiber.join(waiter))
      assert.isTrue(handle.fencingToken > second.fencingToken)
      assert.isFalse(yield* handle.isExpired)
    }).pipe(withSemaphores, scenario))

  it.effect("keeps a and a/b apart", () =>
    Effect.gen(function*() {
      yield* hold("a/b", { limit: 1 })
      yield* hold("a", { limit: 2 })
      const last = yield* hold("a", { limit: 2 })
      const outer = yield* Effect.fork(Semaphore.acquire("a", { limit: 2 }))
      const inner = yield* Effect.fork(Semaphore.acquire("a/b", { limit: 1 }))
      yield* waiting("a", 1)
      yield* waiting("a/b", 1)
      yield* last.release
      yield* Fiber.join(outer)
      assert.isTrue(Option.isNone(yield* Fiber.poll(inner)))
      yield* Fiber.interrupt(inner)
    }).pipe(withSemaphores, scenario))

  const refused: ReadonlyArray<readonly [string, Semaphore.AcquireOptions, string]> = [
    ["a/", { limit: 1 }, "name"],
    ["a", { limit: 0 }, "limit"],
    ["a", { limit: 1.5 }, "limit"],
    ["a", { limit: Infinity }, "limit"],
    ["a", { limit: NaN }, "limit"],
    ["a", { limit: 2, permits: 3 }, "permits"],
    ["a", { limit: 2, permits: 0 }, "permits"],
    ["a", { limit: 2, permits: -1 }, "permits"],
    ["a", { limit: 2, permits: 0.5 }, "permits"],
    ["a", { limit: 1, ttl: 0 }, "ttl"],
    ["a", { limit: 1, timeout: "0 seconds" }, "timeout"]
  ]
  for (const [name, options, argument] of refused) {
    it.effect(`refuses ${JSON.stringify({ name, ...options })}`, () =>
      Effect.gen(function*() {
        const errors = yield* Effect.all([
          Effect.flip(Effect.scoped(Semaphore.acquire(name, options))),
          Effect.flip(Semaphore.withPermits(name, options)(Effect.void)),
          ...argument === "timeout" ? [] : [
            Effect.flip(Effect.scoped(Semaphore.tryAcquire(name, options))),
            Effect.flip(Semaphore.withPermitsIfAvailable(name, options)(Effect.void))
          ]
        ])
        for (const error of errors) assert.isTrue(error._tag === "InvalidArgument" && error.argument === argument)
        assert.deepStrictEqual(yield* (yield* TestEtcd).snapshot, [])
      }).pipe(withSemaphores, scenario))
  }
})

describe("what is no number at all", () => {
  it.effect("is refused as a limit, and as permits", () =>
    Effect.gen(function*() {
      for (const value of ["1", null, {}, Object.create(null), 1n, Symbol("one")]) {
        const number = value as unknown as number
        const limit = yield* Effect.flip(Effect.scoped(Semaphore.acquire("a", { limit: number })))
        assert.isTrue(limit._tag === "InvalidArgument" && limit.argument === "limit")
        const permits = yield* Effect.flip(Effect.scoped(Semaphore.acquire("a", { limit: 1, permits: number })))
        assert.isTrue(permits._tag === "InvalidArgument" && permits.argument === "permits")
      }
    }).pipe(withSemaphores, scenario))
})

describe("without options", () => {
  it.effect("is refused, however it is called", () =>
    Effect.gen(function*() {
      for (const missing of [undefined, null]) {
        const options = missing as unknown as Semaphore.AcquireOptions
        const errors = yield* Effect.all([
          Effect.flip(Effect.scoped(Semaphore.acquire("a", options))),
          Effect.flip(Effect.scoped(Semaphore.tryAcquire("a", options))),
          Effect.flip(Semaphore.withPermits("a", options)(Effect.void)),
          Effect.flip(Semaphore.withPermitsIfAvailable("a", options)(Effect.void))
        ])
        for (const error of errors) {
          assert.isTrue(error._tag === "InvalidArgument" && error.argument === "options")
        }
      }
    }).pipe(withSemaphores, scenario))
})

describe("tryAcquire", () => {
  it.effect("takes what is free, and puts nothing into the queue otherwise", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const first = yield* Semaphore.tryAcquire("a", { limit: 3, permits: 2 })
      const revision = yield* etcd.revision
      yield* etcd.resetUsage
      const error = yield* Effect.flip(Effect.scoped(Semaphore.tryAcquire("a", { limit: 3, permits: 2 })))
      assert.isTrue(error._tag === "LockConflict" && error.kind === "semaphore" && error.holder === first.etcdKey)
      assert.strictEqual((yield* etcd.usage).calls.txn, 1)
      assert.strictEqual(yield* etcd.revision, revision)
      yield* Effect.scoped(Semaphore.tryAcquire("a", { limit: 3 }))
      yield* Effect.fork(Semaphore.acquire("a", { limit: 3, permits: 2 }))
      yield* waiting("a", 1)
      const behind = yield* Effect.flip(Effect.scoped(Semaphore.tryAcquire("a", { limit: 3 })))
      assert.strictEqual(behind._tag, "LockConflict", "nobody is overtaken")
      assert.lengthOf(yield* semaphoreKeys, 2)
    }).pipe(withSemaphores, scenario))

  it.effect("tries again when its entry is deleted before it has looked for its turn", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* EtcdClient
      const holder = yield* hold("a", { limit: 3 })
      let deleted = 0n
      const deleteOnce = Effect.gen(function*() {
        if (deleted > 0n) return
        const kvs = yield* etcd.snapshot
        const mine = kvs.find(({ createRevision }) => createRevision > holder.handle.fencingToken)
        if (mine === undefined) return assert.fail("nothing was put")
        deleted = mine.createRevision
        yield* etcd.deleteKey(mine.key)
      })
      const looking = Layer.succeed(EtcdClient, {
        ...client,
        range: (request, options) => Effect.zipRight(deleteOnce, client.range(request, options))
      })
      const services = yield* Layer.build(Layer.provide(Semaphore.layer(), looking))
      const handle = yield* Effect.provide(Semaphore.tryAcquire("a", { limit: 3 }), services)
      assert.isTrue(deleted > 0n && handle.fencingToken > deleted)
      assert.isFalse(yield* handle.isExpired)
    }).pipe(Effect.scoped, withSemaphores, scenario))

  it.effect("counts more holders than are looked at", () =>
    Effect.gen(function*() {
      yield* Effect.forEach(numbers(59), () => hold("a", { limit: 60 }))
      yield* Semaphore.tryAcquire("a", { limit: 60 })
      const error = yield* Effect.flip(Effect.scoped(Semaphore.tryAcquire("a", { limit: 60 })))
      assert.strictEqual(error._tag, "LockConflict")
      assert.lengthOf(yield* semaphoreKeys, 60)
    }).pipe(withSemaphores, scenario))
})

describe("withPermits", () => {
  it.effect("runs the body while the permits are held, and is interrupted when they are lost", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      assert.strictEqual(yield* Semaphore.withPermits("a", { limit: 1 })(Effect.succeed(1)), 1)
      assert.deepStrictEqual(yield* semaphoreKeys, [])
      let interrupted = false
      const running = yield* Effect.fork(
        Semaphore.withPermits("a", { limit: 2, permits: 2 })(
          Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted = true))
        )
      )
      yield* pass("1 second")
      const { holders: [holder] } = yield* Semaphore.inspect("a")
      yield* etcd.deleteKey(holder.etcdKey)
      const error = yield* whileTimePasses(Effect.flip(Fiber.join(running)))
      assert.isTrue(error._tag === "LockExpired" && error.kind === "semaphore" && error.reason === "deleted")
      assert.isTrue(interrupted)
    }).pipe(withSemaphores, scenario))

  it.effect("is passed by when the permits are taken and that is asked for", () =>
    Effect.gen(function*() {
      const run = Semaphore.withPermitsIfAvailable("a", { limit: 2 })(({ fencingToken }) =>
        Effect.succeed(typeof fencingToken)
      )
      assert.deepStrictEqual(yield* run, Option.some("bigint"))
      yield* hold("a", { limit: 2, permits: 2 })
      assert.deepStrictEqual(yield* run, Option.none())
    }).pipe(withSemaphores, scenario))

  it.effect("guards transactions while the permits are held", () =>
    Effect.gen(function*() {
      const client = yield* EtcdClient
      yield* hold("a", { limit: 3 })
      const { handle, release } = yield* hold("a", { limit: 3 })
      const write = client.txn({ compare: [handle.guard], success: [Txn.put({ key: "data", value: "mine" })] })
      assert.isTrue((yield* write).succeeded)
      yield* release
      assert.isFalse((yield* write).succeeded)
      assert.strictEqual((yield* Effect.flip(handle.release))._tag, "LockNotHeld")
    }).pipe(withSemaphores, scenario))
})
