import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { hostname } from "node:os"
import type { EtcdClient } from "../../src/EtcdClient.js"
import type { InvalidArgument } from "../../src/EtcdError.js"
import * as Lock from "../../src/Lock.js"
import * as ReadWriteLock from "../../src/ReadWriteLock.js"
import * as Semaphore from "../../src/Semaphore.js"
import type { Sessions } from "../../src/Session.js"
import { TestEtcd } from "../../src/testing.js"
import { scenario } from "../support/memory.js"

const conflict = (key: string) =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(Effect.scoped(Lock.tryAcquire(key)))
    return error instanceof Lock.LockConflict ? error : assert.fail(`it is ${error._tag}`)
  })

describe("a conflict", () => {
  it.effect("says who holds the lock, since when, and with which key", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(Date.UTC(2024, 1, 3, 4, 5, 6))
      const named = yield* Layer.build(Lock.layer({ name: "indexer" }))
      const { etcdKey } = yield* Effect.provide(Lock.acquire("a"), named)
      const { holder, message, owner } = yield* conflict("a")
      assert.strictEqual(holder, etcdKey)
      const since = "2024-02-03T04:05:06.000Z"
      assert.deepStrictEqual(owner, { host: hostname(), pid: process.pid, name: "indexer", since })
      assert.strictEqual(
        message,
        `the lock "a" is taken by "indexer" (process ${process.pid} on ${hostname()}), there since ${since}`
      )
    }).pipe(Effect.scoped, scenario))

  it.effect("says so too when a longer name has to be looked past", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* Lock.acquire("a/b")
      const { etcdKey } = yield* Lock.acquire("a")
      // Now the first key below the folder is not of its queue.
      const { holder, owner } = yield* conflict("a")
      assert.strictEqual(holder, etcdKey)
      assert.strictEqual(owner?.pid, process.pid)
      assert.strictEqual((yield* etcd.snapshot).length, 2, "nothing stays in the queue")
    }).pipe(Effect.scoped, scenario))

  it.effect("names the key where the entry does not say whose it is", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      for (const value of ["", "somebody", "{\"host\":1}"]) {
        yield* etcd.putKey("/locks/a/1", value)
        const { holder, message, owner } = yield* conflict("a")
        assert.strictEqual(holder, "/locks/a/1")
        assert.isUndefined(owner)
        assert.strictEqual(message, "the lock \"a\" is taken by /locks/a/1")
      }
    }).pipe(scenario))

  it.effect("can say who it is, as nothing is taken for the name of a program but a text", () =>
    Effect.gen(function*() {
      for (const { make } of [Lock, Semaphore, ReadWriteLock]) {
        for (const name of [5, 5n, null, {}]) {
          const error = yield* Effect.flip<unknown, InvalidArgument, EtcdClient | Sessions | Scope>(
            make({ name: name as unknown as string })
          )
          assert.isTrue(error._tag === "InvalidArgument" && error.argument === "name")
        }
      }
    }).pipe(Effect.scoped, scenario))

  it("can be sent to another process", () => {
    const error = new Lock.LockConflict({
      key: "a",
      holder: "/locks/a/1",
      owner: { host: "h", pid: 1, name: "n", since: "2024-02-03T04:05:06.000Z" }
    })
    const received = Schema.decodeUnknownSync(Lock.LockConflict)(
      JSON.parse(JSON.stringify(Schema.encodeSync(Lock.LockConflict)(error)))
    )
    assert.strictEqual(received.message, error.message)
  })
})
