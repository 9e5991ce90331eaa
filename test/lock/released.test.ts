/** What is left of a lock after it was released, and what the log says of how it went. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Lock from "../../src/Lock.js"
import * as ReadWriteLock from "../../src/ReadWriteLock.js"
import { TestEtcd } from "../../src/testing.js"
import { memory, pass, settle, whileTimePasses } from "../support/memory.js"

const services = Layer.provideMerge(ReadWriteLock.layer(), memory())

describe("a lock that was released", () => {
  it.scoped("has no time to live and cannot be renewed, though its lease lives on for others", () =>
    Effect.gen(function*() {
      yield* Lock.acquire("other", { ttl: "10 seconds" })
      for (
        const acquire of [
          Lock.acquire("a", { ttl: "10 seconds" }),
          Lock.acquireAll(["b", "c"], { ttl: "10 seconds" }),
          ReadWriteLock.write("d", { ttl: "10 seconds" })
        ]
      ) {
        const { release, renew, ttl } = yield* acquire
        yield* ttl
        yield* renew
        yield* release
        for (const asked of [ttl, renew]) {
          const error = yield* Effect.flip(asked)
          assert.isTrue(error._tag === "LockExpired" && error.reason === "released")
        }
      }
    }).pipe(Effect.provide(services)))

  it.scoped("is not watched, and hears nothing of the end of its session", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const other = yield* Lock.acquire("other", { ttl: "10 seconds" })
      const { lost, release } = yield* Lock.acquire("a", { ttl: "10 seconds" })
      yield* release
      yield* pass("1 second")
      assert.strictEqual((yield* etcd.usage).calls.watch, 1, "the other one is")
      const waiting = yield* Effect.fork(lost)
      const [{ id }] = yield* etcd.leases
      yield* etcd.expireLease(id)
      yield* whileTimePasses(Effect.flip(other.lost))
      yield* settle
      assert.isTrue(Option.isNone(yield* Fiber.poll(waiting)))
    }).pipe(Effect.provide(services)))
})

describe("the log, at debug level,", () => {
  it.scoped("tells of each attempt how it ended", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.make(({ annotations, message }) => {
        const { lock, reason } = Object.fromEntries(HashMap.toEntries(annotations))
        lines.push([message, lock, reason].filter((part) => part !== undefined).join(" | "))
      })
      yield* Effect.gen(function*() {
        const { release } = yield* Lock.acquire("a")
        yield* Effect.flip(Effect.scoped(Lock.tryAcquire("a")))
        yield* Effect.flip(whileTimePasses(Effect.scoped(Lock.acquire("a", { timeout: "1 second" }))))
        const waiting = yield* Effect.fork(Lock.withLock("a")(Effect.void))
        yield* settle
        yield* Fiber.interrupt(waiting)
        yield* Effect.flip(whileTimePasses(Lock.withLocks(["b", "a"], { timeout: "1 second" })(Effect.void)))
        yield* release
      }).pipe(
        Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
        Logger.withMinimumLogLevel(LogLevel.Debug)
      )
      assert.deepStrictEqual(lines.map((line) => line.replace(/ is taken by .*/, " is taken")), [
        "lock acquired | a",
        "lock not acquired | a | the lock \"a\" is taken",
        "lock not acquired | a | the lock \"a\" was not free within 1s",
        "lock not acquired | a | interrupted",
        "lock not acquired | b, a | the lock \"a\" was not free within 1s",
        "lock released | a"
      ])
    }).pipe(Effect.provide(memory())))
})
