import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { AcquireOptions, WithLockOptions } from "../../src/Lock.js"
import * as ReadWriteLock from "../../src/ReadWriteLock.js"
import { TestEtcd } from "../../src/testing.js"
import { eventually, keys, pass, process, scenario, settle, text, whileTimePasses } from "../support/memory.js"

const withLocks = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Layer.build(ReadWriteLock.layer()), (context) => Effect.provide(effect, context))

/** The locks of another process on the same etcd, which has held one before. */
const another = (connection: string) =>
  Effect.tap(
    Effect.map(
      Layer.build(Layer.provideMerge(ReadWriteLock.layer(), process({ connection }))),
      Context.get(ReadWriteLock.ReadWriteLock)
    ),
    (lock) => Effect.scoped(lock.read("warm"))
  )

const lockKeys = Effect.map(keys, (all) => all.filter((key) => key.startsWith("/rwlocks/")))

const waiting = (name: string, count: number) =>
  eventually(
    `${count} wait for ${name}`,
    Effect.map(ReadWriteLock.inspect(name), ({ waiters }) => waiters.length === count)
  )

/** Holds in a scope of its own, which is handed out: closing it releases. */
const hold = (mode: "read" | "write", name: string, options?: AcquireOptions) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const handle = yield* Scope.extend(ReadWriteLock[mode](name, options), scope)
    return { handle, release: Scope.close(scope, Exit.void) }
  })

const isWaiting = <A, E>(fiber: Fiber.RuntimeFiber<A, E>) =>
  Effect.zipRight(settle, Effect.map(Fiber.poll(fiber), Option.isNone))

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index)

describe("ReadWriteLock", () => {
  it.effect("is taken in one call, by a writer and by readers beside each other", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* Effect.scoped(ReadWriteLock.read("warm"))
      yield* etcd.resetUsage
      const writer = yield* hold("write", "jobs/a")
      assert.match(writer.handle.etcdKey, /^\/rwlocks\/jobs\/a\/[0-9a-f]+$/)
      const [kv] = (yield* etcd.snapshot).filter(({ key }) => text(key) === writer.handle.etcdKey)
      const { host, name, pid, since, ...rest } = JSON.parse(text(kv.value))
      assert.deepStrictEqual(rest, { kind: "write" })
      assert.deepStrictEqual([typeof host, typeof name, typeof pid, typeof since], [
        "string",
        "string",
        "number",
        "string"
      ])
      yield* writer.release
      const readers = yield* Effect.forEach(numbers(3), () => hold("read", "jobs/a"))
      const { calls } = yield* etcd.usage
      assert.deepStrictEqual([calls.txn, calls.range, calls.watch], [5, 0, 0])
      const { holders, waiters } = yield* ReadWriteLock.inspect("jobs/a")
      assert.deepStrictEqual(holders.map(({ mode }) => Option.getOrNull(mode)), ["read", "read", "read"])
      assert.lengthOf(waiters, 0)
      yield* Effect.forEach(readers, ({ release }) => release)
      assert.deepStrictEqual(yield* lockKeys, [])
    }).pipe(withLocks, scenario))

  it.effect("has readers wait for a writer, and a writer for all before it", () =>
    Effect.gen(function*() {
      const one = yield* hold("read", "a")
      const two = yield* hold("read", "a")
      const writer = yield* Effect.fork(hold("write", "a"))
      yield* waiting("a", 1)
      const readers = yield* Effect.forEach(numbers(3), (index) =>
        Effect.tap(Effect.fork(hold("read", "a")), () => waiting("a", index + 2)))
      const second = yield* Effect.fork(hold("write", "a"))
      yield* waiting("a", 5)
      yield* two.release
      assert.isTrue(yield* isWaiting(writer))
      yield* one.release
      const { handle, release } = yield* Fiber.join(writer)
      for (const reader of readers) {
        assert.isTrue(yield* isWaiting(reader))
      }
      yield* release
      const held = yield* Effect.forEach(readers, Fiber.join)
      assert.isTrue(held.every((reader) =>
        reader.handle.fencingToken > handle.fencingToken
      ))
      assert.isTrue(yield* isWaiting(second))
      yield* Effect.forEach(held, (reader) => reader.release)
      yield* (yield* Fiber.join(second)).release
      assert.deepStrictEqual(yield* lockKeys, [])
    }).pipe(withLocks, scenario))

  it.effect("lets readers of several processes in together, and a writer alone", () =>
    Effect.gen(function*() {
      const processes = yield* Effect.forEach(numbers(3), (index) => another(`p${index}`))
      let reading = 0
      let writing = 0
      let mostReading = 0
      const users = numbers(90).map((index) =>
        index % 5 === 0
          ? processes[index % 3].withWrite("a")(Effect.gen(function*() {
            writing++
            assert.deepStrictEqual([reading, writing], [0, 1])
            for (let i = 0; i < 5; i++) yield* Effect.yieldNow()
            assert.deepStrictEqual([reading, writing], [0, 1])
            writing--
          }))
          : processes[index % 3].withRead("a")(Effect.gen(function*() {
            reading++
            mostReading = Math.max(mostReading, reading)
            for (let i = 0; i < 5 + index % 30; i++) {
              assert.strictEqual(writing, 0)
              yield* Effect.yieldNow()
            }
            reading--
          }))
      )
      yield* whileTimePasses(Effect.all(users, { concurrency: "unbounded", discard: true }))
      assert.isAtLeast(mostReading, 2)
      assert.deepStrictEqual(yield* lockKeys, [])
    }).pipe(withLocks, scenario))

  it.effect("does not let a stream of readers overtake a writer", () =>
    Effect.gen(function*() {
      const [readers, writers] = [yield* another("readers"), yield* another("writers")]
      const served: Array<string> = []
      const reader = (index: number) =>
        readers.withRead("a")(Effect.zipRight(
          Effect.sync(() => served.push(`read ${index}`)),
          Effect.forEach(numbers(20), () => Effect.yieldNow())
        ))
      // There is always one that reads when the next one comes.
      const stream = yield* Effect.fork(Effect.gen(function*() {
        let last = yield* Effect.fork(reader(0))
        for (let index = 1;; index++) {
          for (let i = 0; i < 4; i++) yield* Effect.yieldNow()
          const next = yield* Effect.fork(reader(index))
          if (index > 3) yield* Fiber.join(last)
          last = next
        }
      }))
      yield* eventually("many read", Effect.sync(() => served.length > 10))
      yield* writers.withWrite("a")(Effect.sync(() => served.push("write")))
      yield* eventually("they go on", Effect.sync(() => served.length > served.indexOf("write") + 10))
      yield* Fiber.interrupt(stream)
    }).pipe(withLocks, scenario))

  it.effect("needs nothing but the holders' deletes to be handed on, by one watch per process", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const processes = yield* Effect.forEach(numbers(2), (index) => another(`p${index}`))
      const holder = yield* hold("write", "a")
      let reading = 0
      const readers = yield* Effect.forEach(numbers(100), (index) =>
        Effect.fork(Effect.scoped(
          Effect.zipRight(
            processes[index % 2].read("a"),
            Effect.zipRight(Effect.sync(() => reading++), Effect.never)
          )
        )))
      yield* waiting("a", 100)
      yield* settle
      yield* etcd.resetUsage
      yield* holder.release
      yield* eventually("all read", Effect.sync(() => reading === 100))
      const { calls, watchers } = yield* etcd.usage
      assert.deepStrictEqual([calls.txn, calls.range, calls.watch, watchers], [1, 0, 0, 2])
      yield* Fiber.interruptAll(readers)
      assert.deepStrictEqual(yield* lockKeys, [])
    }).pipe(withLocks, scenario))

  it.effect("lets the readers behind a writer in that gives up", () =>
    Effect.gen(function*() {
      yield* hold("read", "a")
      const writer = yield* Effect.fork(Effect.scoped(ReadWriteLock.write("a", { timeout: "5 seconds" })))
      yield* waiting("a", 1)
      const reader = yield* Effect.fork(ReadWriteLock.read("a"))
      yield* waiting("a", 2)
      assert.isTrue(yield* isWaiting(reader))
      const error = yield* whileTimePasses(Effect.flip(Fiber.join(writer)))
      assert.isTrue(error._tag === "LockTimeout" && error.kind === "read-write lock")
      yield* Fiber.join(reader)
    }).pipe(withLocks, scenario))

  it.effect("takes an entry that cannot be read for a writer", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const first = yield* hold("read", "a")
      yield* etcd.putKey("/rwlocks/a/other", "?")
      const reader = yield* Effect.fork(ReadWriteLock.read("a"))
      yield* waiting("a", 2)
      yield* first.release
      assert.isTrue(yield* isWaiting(reader))
      const { holders } = yield* ReadWriteLock.inspect("a")
      assert.deepStrictEqual(holders.map(({ mode }) => mode), [Option.none()])
      yield* etcd.deleteKey("/rwlocks/a/other")
      yield* Fiber.join(reader)
    }).pipe(withLocks, scenario))

  it.effect("can be tried, and nobody is overtaken by that", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const first = yield* ReadWriteLock.tryRead("a")
      yield* ReadWriteLock.tryRead("a")
      const revision = yield* etcd.revision
      const error = yield* Effect.flip(Effect.scoped(ReadWriteLock.tryWrite("a")))
      assert.isTrue(error._tag === "LockConflict" && error.kind === "read-write lock")
      assert.strictEqual(error._tag === "LockConflict" ? error.holder : undefined, first.etcdKey)
      assert.strictEqual(yield* etcd.revision, revision, "a failed try puts nothing into the queue")
      const writer = yield* Effect.fork(Effect.scoped(ReadWriteLock.write("a")))
      yield* waiting("a", 1)
      assert.strictEqual((yield* Effect.flip(Effect.scoped(ReadWriteLock.tryRead("a"))))._tag, "LockConflict")
      assert.deepStrictEqual(yield* ReadWriteLock.withReadIfAvailable("a")(Effect.succeed(1)), Option.none())
      yield* Fiber.interrupt(writer)
      assert.deepStrictEqual(yield* ReadWriteLock.withReadIfAvailable("a")(Effect.succeed(1)), Option.some(1))
      assert.deepStrictEqual(yield* ReadWriteLock.withWriteIfAvailable("a")(Effect.succeed(1)), Option.none())
      assert.deepStrictEqual(yield* ReadWriteLock.withWriteIfAvailable("b")(Effect.succeed(1)), Option.some(1))
      yield* Effect.scoped(ReadWriteLock.tryWrite("b"))
    }).pipe(withLocks, scenario))

  it.effect("keeps a and a/b apart", () =>
    Effect.gen(function*() {
      yield* hold("write", "a/b")
      yield* hold("read", "a")
      yield* Effect.scoped(ReadWriteLock.read("a"))
      const inner = yield* Effect.fork(ReadWriteLock.read("a/b"))
      yield* waiting("a/b", 1)
      assert.isTrue(yield* isWaiting(inner))
      yield* Fiber.interrupt(inner)
    }).pipe(withLocks, scenario))

  it.effect("interrupts the body when it is lost", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const running = yield* Effect.fork(ReadWriteLock.withRead("a")(Effect.never))
      yield* pass("1 second")
      const { holders: [holder] } = yield* ReadWriteLock.inspect("a")
      yield* etcd.deleteKey(holder.etcdKey)
      const error = yield* whileTimePasses(Effect.flip(Fiber.join(running)))
      assert.isTrue(error._tag === "LockExpired" && error.kind === "read-write lock" && error.reason === "deleted")
    }).pipe(withLocks, scenario))

  it.effect("refuses bad names and times", () =>
    Effect.gen(function*() {
      const errors = yield* Effect.all([
        Effect.flip(Effect.scoped(ReadWriteLock.read("a//b"))),
        Effect.flip(Effect.scoped(ReadWriteLock.tryWrite("a/"))),
        Effect.flip(ReadWriteLock.withWrite("")(Effect.void)),
        Effect.flip(ReadWriteLock.inspect(".."))
      ])
      for (const error of errors) assert.isTrue(error._tag === "InvalidArgument" && error.argument === "name")
      const ttl = yield* Effect.flip(Effect.scoped(ReadWriteLock.write("a", { ttl: 0 })))
      assert.isTrue(ttl._tag === "InvalidArgument" && ttl.argument === "ttl")
      const none = null as unknown as WithLockOptions
      const missing = yield* Effect.all([
        Effect.flip(ReadWriteLock.withRead("a", none)(Effect.void)),
        Effect.flip(ReadWriteLock.withWriteIfAvailable("a", none)(Effect.void))
      ])
      for (const error of missing) assert.isTrue(error._tag === "InvalidArgument" && error.argument === "options")
      assert.deepStrictEqual(yield* (yield* TestEtcd).snapshot, [])
    }).pipe(withLocks, scenario))
})
