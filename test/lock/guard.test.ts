import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Config from "../../src/Config.js"
import type { EtcdClient } from "../../src/EtcdClient.js"
import * as Lock from "../../src/Lock.js"
import type * as Session from "../../src/Session.js"
import { TestEtcd } from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { process, scenario, whileTimePasses } from "../support/memory.js"

/** A process with its configuration, beside the one of the scenario. */
const inProcess = <A, E, R>(
  body: Effect.Effect<A, E, R | Config.Config | EtcdClient | Session.Sessions | Lock.Lock>
) => Effect.provide(body, Layer.provideMerge(Config.layer(), process({ connection: "mine" })))

/** Every way to write under a guard, each on a value that is there. */
const writes = (guard: Config.WriteOptions["guard"]) =>
  Effect.gen(function*() {
    const version = yield* Config.set("v", Schema.Int, 0)
    yield* Config.set("d", Schema.Int, 0)
    return {
      set: Config.set("v", Schema.Int, 1, { guard }),
      compareAndSet: Config.compareAndSet("v", Schema.Int, 1, version, { guard }),
      "compareAndSet with an old version": Config.compareAndSet("v", Schema.Int, 1, version - 1n, { guard }),
      delete: Config.delete("d", { guard }),
      "delete of nothing": Config.delete("none", { guard })
    }
  })

/** All of them fail with the loss of the lock, and change nothing. */
const areRefused = (guard: Config.WriteOptions["guard"], expected: Pick<Lock.LockExpired, "key" | "reason">) =>
  Effect.gen(function*() {
    const all = yield* writes(guard)
    for (const [name, write] of Object.entries(all)) {
      const error = yield* Effect.flip(Effect.asVoid<unknown, unknown, Config.Config>(write))
      if (!(error instanceof Lock.LockExpired)) return assert.fail(`${name} fails with ${String(error)}`)
      assert.deepStrictEqual([error.key, error.reason], [expected.key, expected.reason], name)
    }
    assert.deepStrictEqual(
      yield* Effect.all([Config.get("v", Schema.Int), Config.get("d", Schema.Int)]),
      [0, 0]
    )
  })

describe("a write under the guard of a lock", () => {
  it.effect("is carried out while the lock is held", () =>
    inProcess(Effect.gen(function*() {
      const lock = yield* Lock.acquire("a")
      const version = yield* Config.set("v", Schema.Int, 1, { guard: lock.guard })
      yield* Config.compareAndSet("v", Schema.Int, 2, version, { guard: lock.guard })
      assert.strictEqual(yield* Config.get("v", Schema.Int), 2)
      const conflict = yield* Effect.flip(Config.compareAndSet("v", Schema.Int, 3, version, { guard: lock.guard }))
      assert.strictEqual(conflict._tag, "VersionConflict")
      yield* Config.delete("v", { guard: lock.guard })
      assert.strictEqual((yield* Effect.flip(Config.delete("v", { guard: lock.guard })))._tag, "NotFound")
      assert.isFalse(yield* lock.isExpired)
    })).pipe(Effect.scoped, scenario))

  it.effect("is refused with the loss of the lock, by etcd itself, when another holds it", () =>
    inProcess(Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const lock = yield* Lock.acquire("a")
      // Nobody has told this process yet.
      yield* etcd.deleteKey(lock.etcdKey)
      const next = yield* Effect.provide(Lock.acquire("a"), process({ connection: "other" }))
      assert.isTrue(next.fencingToken > lock.fencingToken)
      yield* areRefused(lock.guard, { key: "a", reason: "deleted" })
    })).pipe(Effect.scoped, scenario))

  it.effect("is refused too when the lease has gone with nobody else there", () =>
    inProcess(Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const lock = yield* Lock.acquire("a")
      const { holder } = yield* Lock.inspect("a")
      yield* etcd.expireLease(Option.getOrThrow(holder).lease)
      yield* areRefused(lock.guard, { key: "a", reason: "deleted" })
    })).pipe(Effect.scoped, scenario))

  it.effect("tells those who wait for the loss, and ends the body", () =>
    inProcess(Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const heard = yield* Deferred.make<Lock.LockExpired>()
      const error = yield* Effect.flip(
        Lock.withLock("a")((lock) =>
          Effect.gen(function*() {
            yield* Effect.fork(Effect.catchAll(lock.lost, (error) => Deferred.succeed(heard, error)))
            yield* etcd.deleteKey(lock.etcdKey)
            yield* Effect.ignore(Config.set("v", Schema.Int, 1, { guard: lock.guard }))
            return yield* Effect.never
          })
        )
      )
      assert.isTrue(error._tag === "LockExpired" && error.message === (yield* Deferred.await(heard)).message)
    })).pipe(Effect.scoped, scenario))

  it.effect("is not sent after a loss that is known", () =>
    inProcess(Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const lock = yield* Lock.acquire("a", { ttl: "10 seconds" })
      const all = yield* writes(lock.guard)
      yield* etcd.connection("mine").stall()
      const lost = yield* whileTimePasses(Effect.flip(lock.lost))
      yield* etcd.connection("mine").resume
      yield* etcd.resetUsage
      for (const write of Object.values(all)) {
        const error = yield* Effect.flip(Effect.asVoid<unknown, unknown, Config.Config>(write))
        assert.isTrue(error instanceof Lock.LockExpired && error.message === lost.message)
      }
      assert.strictEqual(lost.reason, "expired")
      assert.strictEqual((yield* etcd.usage).calls.txn, 0)
    })).pipe(Effect.scoped, scenario))

  it.effect("is refused when the holder itself has given the lock back", () =>
    inProcess(Effect.gen(function*() {
      const lock = yield* Lock.acquire("a")
      yield* lock.release
      yield* areRefused(lock.guard, { key: "a", reason: "released" })
      // Whoever decides by an answer of etcd gets the same.
      assert.strictEqual((yield* Effect.flip(lock.guard.refused)).reason, "released")
    })).pipe(Effect.scoped, scenario))

  it.effect("can be one under several locks: all have to be held", () =>
    inProcess(Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const locks = yield* Lock.acquireAll(["a", "b"])
      yield* Config.set("v", Schema.Int, 1, { guard: locks.guards })
      yield* etcd.deleteKey(locks.etcdKeys[1])
      yield* areRefused(locks.guards, { key: "b", reason: "deleted" })
      assert.strictEqual((yield* Effect.flip(locks.lost)).key, "b")
    })).pipe(Effect.scoped, scenario))
})

describe("a write under any other condition", () => {
  it.effect("fails with what did not hold", () =>
    inProcess(Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const token = yield* etcd.putKey("/locks/a/1", "")
      const guard = Txn.createRevision("/locks/a/1", "=", token)
      const lock = yield* Lock.acquire("b")
      yield* Config.set("v", Schema.Int, 0)
      yield* Config.set("v", Schema.Int, 1, { guard: [lock.guard, guard] })
      yield* etcd.deleteKey("/locks/a/1")
      for (
        const write of [
          Config.set("v", Schema.Int, 2, { guard }),
          Config.set("v", Schema.Int, 2, { guard: [lock.guard, guard] }),
          Config.delete("v", { guard })
        ]
      ) {
        const error = yield* Effect.flip(Effect.asVoid<unknown, unknown, Config.Config>(write))
        assert.isTrue(error instanceof Config.GuardFailed && error.guard === "/locks/a/1")
      }
      assert.strictEqual((yield* Effect.flip(Config.delete("none", { guard })))._tag, "NotFound")
      assert.strictEqual(yield* Config.get("v", Schema.Int), 1)
      assert.isFalse(yield* lock.isExpired, "that of the lock holds")
      // Where both fail, the loss is what matters.
      yield* etcd.deleteKey(lock.etcdKey)
      const error = yield* Effect.flip(Config.set("v", Schema.Int, 2, { guard: [guard, lock.guard] }))
      assert.strictEqual(error._tag, "LockExpired")
    })).pipe(Effect.scoped, scenario))
})
