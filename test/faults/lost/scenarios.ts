/** What is done while messages get lost, and what must be true of it whatever message it was. */
import { assert } from "@effect/vitest"
import * as Array from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Config from "../../../src/Config.js"
import { EtcdClient } from "../../../src/EtcdClient.js"
import * as Lock from "../../../src/Lock.js"
import * as Registry from "../../../src/Registry.js"
import * as Session from "../../../src/Session.js"
import * as Txn from "../../../src/Txn.js"
import { text } from "../../support/memory.js"
import { isTruthful, kvOf, queue, resultOf, type Scenario, until, World } from "./World.js"

/** Runs something scoped in a scope of its own, to be closed by hand. */
const running = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const exit = yield* Effect.exit(Scope.extend(effect, scope))
    return { exit, close: Scope.close(scope, Exit.void) }
  })

const elsewhere = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(World, ({ other }) => Effect.provide(effect, other))

const begin = Effect.flatMap(World, ({ begin }) => begin)
const outcome = Effect.flatMap(World, ({ outcome }) => outcome)

const failureOf = <A, E>(exit: Exit.Exit<A, E>): E | undefined =>
  Exit.isFailure(exit) ? Option.getOrUndefined(Cause.failureOption(exit.cause)) : undefined

/** Where the trouble can be got over, a queue is as long as it should be at once; otherwise in the end. */
const queueIs = (key: string, length: number) =>
  Effect.flatMap(World, ({ passes }) => {
    const isSo = Effect.map(queue(key), (entries) => entries.length === length)
    return passes
      ? Effect.map(queue(key), (entries) => assert.lengthOf(entries, length, `the queue of ${key}`))
      : until(`${length} in the queue of ${key}`, isSo)
  })

/** The lock is held, by the first in the queue, which was put once. */
const isHeld = ({ etcdKey, fencingToken, key }: Pick<Lock.LockHandle, "etcdKey" | "fencingToken" | "key">) =>
  Effect.gen(function*() {
    const { lease } = yield* World
    const [first] = yield* queue(key)
    assert.isDefined(first, "the holder's key is not there")
    assert.deepStrictEqual(
      [text(first.key), first.createRevision, first.version, first.lease],
      [etcdKey, fencingToken, 1n, lease]
    )
  })

/** All are held, by the first of each queue, which were put once. */
const areHeld = (locks: Option.Option<Lock.LocksHandle>) =>
  Effect.forEach(
    Option.toArray(locks).flatMap(({ etcdKeys, keys }) => Array.zip(keys, etcdKeys)),
    ([key, etcdKey]) => isHeld({ key, etcdKey, fencingToken: Option.getOrThrow(locks).fencingToken })
  )

const locks: ReadonlyArray<Scenario> = [
  {
    name: "acquire, and the end of the scope",
    run: Effect.gen(function*() {
      yield* begin
      const { close, exit } = yield* running(Lock.acquire("a"))
      yield* outcome
      const lock = yield* resultOf(exit)
      if (Option.isSome(lock)) {
        yield* isHeld(lock.value)
        yield* queueIs("a", 1)
      }
      yield* close
      yield* queueIs("a", 0)
    })
  },
  {
    name: "acquire, release, and acquire again under the name that is free again",
    repeats: true,
    run: Effect.gen(function*() {
      yield* begin
      const first = yield* running(Lock.acquire("a"))
      yield* first.close
      const { close, exit } = yield* running(Lock.acquire("a"))
      yield* outcome
      yield* resultOf(first.exit)
      const lock = yield* resultOf(exit)
      if (Option.isSome(lock)) {
        yield* isHeld(lock.value)
        yield* queueIs("a", 1)
      }
      yield* close
      yield* queueIs("a", 0)
    })
  },
  {
    name: "release",
    run: Effect.gen(function*() {
      const lock = yield* Lock.acquire("a")
      yield* begin
      yield* lock.release
      yield* outcome
      yield* queueIs("a", 0)
      assert.strictEqual((yield* Effect.flip(lock.release))._tag, "LockNotHeld")
    })
  },
  {
    name: "acquire between one that holds the lock and one that waits",
    run: Effect.gen(function*() {
      const first = yield* elsewhere(running(Lock.acquire("a")))
      yield* begin
      const acquiring = yield* Effect.fork(running(Lock.acquire("a")))
      yield* until("it waits", Effect.map(queue("a"), ({ length }) => length === 2))
      const behind = yield* Effect.fork(elsewhere(running(Lock.acquire("a"))))
      yield* until("another waits", Effect.map(queue("a"), ({ length }) => length === 3))
      yield* first.close
      const { close, exit } = yield* Fiber.join(acquiring)
      yield* outcome
      const lock = yield* resultOf(exit)
      if (Option.isSome(lock)) {
        yield* isHeld(lock.value)
        assert.isTrue(Option.isNone(yield* Fiber.poll(behind)), "two hold the lock")
      }
      yield* close
      const last = yield* Fiber.join(behind)
      assert.isTrue(Exit.isSuccess(last.exit))
      yield* queueIs("a", 1)
      yield* last.close
    })
  },
  {
    name: "acquire that gives up",
    run: Effect.gen(function*() {
      const holder = yield* elsewhere(running(Lock.acquire("a")))
      yield* begin
      const { close, exit } = yield* running(Lock.acquire("a", { timeout: "3 seconds" }))
      yield* outcome
      assert.strictEqual(failureOf(exit)?._tag, "LockTimeout")
      yield* queueIs("a", 1)
      yield* close
      yield* holder.close
    })
  },
  {
    name: "acquire that is interrupted",
    run: Effect.gen(function*() {
      const holder = yield* elsewhere(running(Lock.acquire("a")))
      yield* begin
      const waiting = yield* Effect.fork(Effect.scoped(Lock.acquire("a")))
      yield* until("it waits", Effect.map(queue("a"), ({ length }) => length === 2))
      yield* Fiber.interrupt(waiting)
      yield* outcome
      yield* queueIs("a", 1)
      yield* holder.close
    })
  },
  {
    name: "tryAcquire of a free lock",
    run: Effect.gen(function*() {
      yield* begin
      const { close, exit } = yield* running(Lock.tryAcquire("a"))
      yield* outcome
      const lock = yield* resultOf(exit)
      if (Option.isSome(lock)) {
        yield* isHeld(lock.value)
        yield* queueIs("a", 1)
      }
      yield* close
      yield* queueIs("a", 0)
    })
  },
  {
    name: "tryAcquire of a free lock whose name another one continues",
    run: Effect.gen(function*() {
      const nested = yield* elsewhere(running(Lock.acquire("a/b")))
      yield* begin
      const { close, exit } = yield* running(Lock.tryAcquire("a"))
      yield* outcome
      const lock = yield* resultOf(exit)
      if (Option.isSome(lock)) yield* queueIs("a", 2)
      yield* close
      yield* queueIs("a", 1)
      yield* nested.close
    })
  },
  {
    name: "tryAcquire of a lock that is taken",
    run: Effect.gen(function*() {
      const holder = yield* elsewhere(running(Lock.acquire("a")))
      yield* begin
      const { close, exit } = yield* running(Effect.flip(Lock.tryAcquire("a")))
      yield* outcome
      const error = Option.getOrThrow(yield* resultOf(exit))
      if (error._tag !== "LockConflict") yield* resultOf(Exit.fail(error))
      yield* close
      yield* queueIs("a", 1)
      yield* holder.close
    })
  },
  {
    name: "withLock",
    run: Effect.gen(function*() {
      let bodies = 0
      yield* begin
      const exit = yield* Effect.exit(
        Lock.withLock("a")((lock) => Effect.zipRight(isHeld(lock), Effect.sync(() => ++bodies)))
      )
      yield* outcome
      const result = yield* resultOf(exit)
      assert.strictEqual(bodies, Option.isSome(result) ? 1 : 0)
      yield* queueIs("a", 0)
    })
  },
  {
    name: "acquireAll, and the end of the scope",
    run: Effect.gen(function*() {
      yield* begin
      const { close, exit } = yield* running(Lock.acquireAll(["a", "b"]))
      yield* outcome
      yield* areHeld(yield* resultOf(exit))
      yield* close
      yield* queueIs("a", 0)
      yield* queueIs("b", 0)
    })
  },
  {
    name: "acquireAll behind one that holds, and before one that waits",
    run: Effect.gen(function*() {
      const first = yield* elsewhere(running(Lock.acquire("b")))
      yield* begin
      const acquiring = yield* Effect.fork(running(Lock.acquireAll(["a", "b"])))
      yield* until("it waits", Effect.map(queue("b"), ({ length }) => length === 2))
      const behind = yield* Effect.fork(elsewhere(running(Lock.acquireAll(["b", "a"]))))
      yield* until("another waits", Effect.map(queue("b"), ({ length }) => length === 3))
      yield* first.close
      const { close, exit } = yield* Fiber.join(acquiring)
      yield* outcome
      const locks = yield* resultOf(exit)
      yield* areHeld(locks)
      if (Option.isSome(locks)) assert.isTrue(Option.isNone(yield* Fiber.poll(behind)), "two hold the locks")
      yield* close
      const last = yield* Fiber.join(behind)
      assert.isTrue(Exit.isSuccess(last.exit))
      yield* queueIs("b", 1)
      yield* last.close
    })
  },
  {
    name: "acquireAll that gives up",
    run: Effect.gen(function*() {
      const holder = yield* elsewhere(running(Lock.acquire("b")))
      yield* begin
      const { close, exit } = yield* running(Lock.acquireAll(["a", "b"], { timeout: "3 seconds" }))
      yield* outcome
      assert.strictEqual(failureOf(exit)?._tag, "LockTimeout")
      yield* queueIs("a", 0)
      yield* queueIs("b", 1)
      yield* close
      yield* holder.close
    })
  }
]

const sessions: ReadonlyArray<Scenario> = [
  {
    name: "a session, its lease and its end",
    grants: true,
    run: Effect.gen(function*() {
      const { leases, passes } = yield* World
      yield* begin
      const { close, exit } = yield* running(
        Effect.flatMap(Session.make({ ttl: "10 seconds" }), ({ lease }) => lease)
      )
      yield* outcome
      const lease = yield* resultOf(exit)
      if (Option.isSome(lease)) assert.sameMembers([...yield* leases], [(yield* World).lease, lease.value])
      yield* close
      if (passes) assert.lengthOf(yield* leases, 1)
    })
  },
  {
    name: "leaseGrant and leaseRevoke",
    grants: true,
    run: Effect.gen(function*() {
      const { leases, passes } = yield* World
      const client = yield* EtcdClient
      yield* begin
      const granted = yield* Effect.exit(client.leaseGrant({ ttl: "10 seconds", id: 7n }))
      isTruthful(granted, (yield* leases).includes(7n))
      yield* resultOf(granted)
      yield* outcome
      const revoked = yield* Effect.exit(client.leaseRevoke(7n))
      isTruthful(revoked, !(yield* leases).includes(7n))
      yield* resultOf(revoked)
      if (passes) assert.lengthOf(yield* leases, 1)
    })
  }
]

const service = { id: "u1", name: "user", address: "127.0.0.1", port: 8080 }
const serviceKey = "/services/user/u1"

const registrations: ReadonlyArray<Scenario> = [
  {
    name: "register, and the end of the scope",
    run: Effect.gen(function*() {
      const { lease, passes } = yield* World
      yield* begin
      const { close, exit } = yield* running(Registry.register(service))
      yield* outcome
      const registration = yield* resultOf(exit)
      if (Option.isSome(registration)) {
        assert.deepStrictEqual(yield* registration.value.status, { _tag: "Registered", lease })
        const kv = yield* kvOf(serviceKey)
        assert.deepStrictEqual([kv?.version, kv?.lease], [1n, lease])
      }
      yield* close
      if (passes) assert.isUndefined(yield* kvOf(serviceKey))
    })
  },
  {
    name: "register, unregister, and register again",
    repeats: true,
    run: Effect.gen(function*() {
      const { passes } = yield* World
      yield* begin
      const first = yield* running(Registry.register(service))
      yield* first.close
      const { close, exit } = yield* running(Registry.register(service))
      yield* outcome
      yield* resultOf(first.exit)
      const registration = yield* resultOf(exit)
      if (Option.isSome(registration)) {
        const { status } = registration.value
        yield* until("registered", Effect.map(status, ({ _tag }) => _tag === "Registered"))
        yield* until("there", Effect.map(kvOf(serviceKey), (kv) => kv !== undefined))
      }
      yield* close
      if (passes) assert.isUndefined(yield* kvOf(serviceKey))
    })
  },
  {
    name: "update of a registration",
    run: Effect.gen(function*() {
      const registration = yield* Registry.register(service)
      yield* begin
      const exit = yield* Effect.exit(registration.update({ v: "2" }))
      yield* outcome
      yield* resultOf(exit)
      // What could not be written now is written later.
      yield* until(
        "written",
        Effect.map(kvOf(serviceKey), (kv) => kv !== undefined && text(kv.value).includes("\"v\""))
      )
      assert.strictEqual((yield* kvOf(serviceKey))?.version, 2n)
    })
  },
  {
    name: "unregister of somebody else's entry",
    run: Effect.gen(function*() {
      yield* elsewhere(
        Effect.flatMap(EtcdClient, (client) => client.put({ key: serviceKey, value: JSON.stringify(service) }))
      )
      yield* begin
      const exit = yield* Effect.exit(Registry.unregister("u1", "user"))
      yield* outcome
      isTruthful(exit, (yield* kvOf(serviceKey)) === undefined)
      yield* resultOf(exit)
    })
  }
]

const value = "/config/a"

/** Sets the value as another process does. Its version. */
const prepared = elsewhere(Config.set("a", Schema.Int, 1))

const is = (kv: Txn.KeyValue | undefined, content: string, version: bigint) =>
  kv !== undefined && text(kv.value) === content && kv.version === version

const configuration: ReadonlyArray<Scenario> = [
  {
    name: "compareAndSet that creates",
    grants: true,
    run: Effect.gen(function*() {
      yield* begin
      const exit = yield* Effect.exit(Config.compareAndSet("a", Schema.Int, 1, 0n))
      yield* outcome
      const kv = yield* kvOf(value)
      isTruthful(exit, kv !== undefined)
      if (kv !== undefined) assert.isTrue(is(kv, "1", 1n))
      const version = yield* resultOf(exit)
      if (Option.isSome(version)) assert.strictEqual(version.value, kv?.modRevision)
    })
  },
  {
    name: "compareAndSet that changes",
    grants: true,
    run: Effect.gen(function*() {
      const before = yield* prepared
      yield* begin
      const exit = yield* Effect.exit(Config.compareAndSet("a", Schema.Int, 2, before))
      yield* outcome
      const kv = yield* kvOf(value)
      isTruthful(exit, is(kv, "2", 2n))
      if (!is(kv, "2", 2n)) assert.isTrue(is(kv, "1", 1n))
      const version = yield* resultOf(exit)
      if (Option.isSome(version)) assert.strictEqual(version.value, kv?.modRevision)
    })
  },
  {
    name: "compareAndSet against a real conflict",
    grants: true,
    run: Effect.gen(function*() {
      const actual = yield* prepared
      yield* begin
      const exit = yield* Effect.exit(Config.compareAndSet("a", Schema.Int, 2, actual - 1n))
      yield* outcome
      const error = failureOf(exit)
      if (error?._tag === "VersionConflict") assert.strictEqual(error.actual, actual)
      else assert.isTrue(Option.isNone(yield* resultOf(exit)))
      assert.isTrue(is(yield* kvOf(value), "1", 1n))
    })
  },
  {
    name: "two compareAndSet, one after the other",
    repeats: true,
    grants: true,
    run: Effect.gen(function*() {
      const first = yield* prepared
      yield* begin
      const exit = yield* Effect.exit(
        Effect.flatMap(
          Config.compareAndSet("a", Schema.Int, 2, first),
          (second) => Config.compareAndSet("a", Schema.Int, 3, second)
        )
      )
      yield* outcome
      const kv = yield* kvOf(value)
      isTruthful(exit, is(kv, "3", 3n))
      if (Option.isNone(yield* resultOf(exit))) {
        assert.isTrue(is(kv, "1", 1n) || is(kv, "2", 2n) || is(kv, "3", 3n))
      }
    })
  },
  {
    name: "set with a guard",
    grants: true,
    run: Effect.gen(function*() {
      yield* prepared
      const lock = yield* Lock.acquire("a")
      yield* begin
      const exit = yield* Effect.exit(Config.set("a", Schema.Int, 2, { guard: lock.guard }))
      yield* outcome
      const kv = yield* kvOf(value)
      isTruthful(exit, is(kv, "2", 2n))
      if (!is(kv, "2", 2n)) assert.isTrue(is(kv, "1", 1n))
      yield* resultOf(exit)
    })
  },
  {
    name: "delete of a value",
    grants: true,
    run: Effect.gen(function*() {
      yield* prepared
      yield* begin
      const exit = yield* Effect.exit(Config.delete("a"))
      yield* outcome
      const kv = yield* kvOf(value)
      isTruthful(exit, kv === undefined)
      yield* resultOf(exit)
    })
  },
  {
    name: "set",
    run: Effect.gen(function*() {
      yield* prepared
      yield* begin
      const exit = yield* Effect.exit(Config.set("a", Schema.Int, 2))
      yield* outcome
      const kv = yield* kvOf(value)
      isTruthful(exit, is(kv, "2", 2n))
      if (!is(kv, "2", 2n)) assert.isTrue(is(kv, "1", 1n))
    })
  }
]

const client: ReadonlyArray<Scenario> = [
  {
    name: "put",
    run: Effect.gen(function*() {
      const { put } = yield* EtcdClient
      yield* begin
      const exit = yield* Effect.exit(put({ key: "/data", value: "1" }))
      yield* outcome
      const kv = yield* kvOf("/data")
      isTruthful(exit, kv !== undefined)
      if (kv !== undefined) assert.isTrue(is(kv, "1", 1n))
    })
  },
  {
    name: "delete",
    run: Effect.gen(function*() {
      const client = yield* EtcdClient
      yield* client.put({ key: "/data", value: "1" })
      yield* begin
      const exit = yield* Effect.exit(client.delete({ key: "/data" }))
      yield* outcome
      isTruthful(exit, (yield* kvOf("/data")) === undefined)
      if (Exit.isSuccess(exit)) assert.strictEqual(exit.value.deleted, 1n)
    })
  },
  {
    name: "txn",
    run: Effect.gen(function*() {
      const client = yield* EtcdClient
      yield* begin
      const exit = yield* Effect.exit(client.txn({
        compare: [Txn.absent("/data")],
        success: [Txn.put({ key: "/data", value: "1" })],
        failure: [Txn.range({ key: "/data" })]
      }))
      yield* outcome
      const kv = yield* kvOf("/data")
      isTruthful(exit, kv !== undefined)
      if (kv !== undefined) assert.isTrue(is(kv, "1", 1n))
      if (Exit.isSuccess(exit)) assert.isTrue(exit.value.succeeded, "a conflict with itself")
    })
  }
]

/** What is done at the same moment may share a call, and lose its answer together. */
const together: ReadonlyArray<Scenario> = [
  {
    name: "locks, a registration, settings and writes at the same time",
    grants: true,
    run: Effect.gen(function*() {
      const { passes } = yield* World
      const { put } = yield* EtcdClient
      const before = yield* prepared
      yield* begin
      const [locks, registered, changed, created, puts] = yield* Effect.all([
        Effect.forEach(["a", "b", "c"], (key) => running(Lock.acquire(key)), { concurrency: "unbounded" }),
        running(Registry.register(service)),
        Effect.exit(Config.compareAndSet("a", Schema.Int, 2, before)),
        Effect.exit(Config.compareAndSet("b", Schema.Int, 1, 0n)),
        Effect.forEach([1, 2, 3], (n) => Effect.exit(put({ key: `/data/${n}`, value: "1" })), {
          concurrency: "unbounded"
        })
      ], { concurrency: "unbounded" })
      yield* outcome
      for (const { exit } of locks) {
        const lock = yield* resultOf(exit)
        if (Option.isSome(lock)) yield* isHeld(lock.value)
      }
      if (Option.isSome(yield* resultOf(registered.exit))) assert.strictEqual((yield* kvOf(serviceKey))?.version, 1n)
      isTruthful(changed, is(yield* kvOf(value), "2", 2n))
      yield* resultOf(changed)
      isTruthful(created, is(yield* kvOf("/config/b"), "1", 1n))
      yield* resultOf(created)
      for (const [index, exit] of puts.entries()) {
        const kv = yield* kvOf(`/data/${index + 1}`)
        isTruthful(exit, kv !== undefined)
        if (kv !== undefined) assert.strictEqual(kv.version, 1n)
      }
      yield* Effect.forEach([...locks, registered], ({ close }) => close, { concurrency: "unbounded" })
      for (const key of ["a", "b", "c"]) yield* queueIs(key, 0)
      if (passes) assert.isUndefined(yield* kvOf(serviceKey))
    })
  }
]

export const scenarios = { locks, sessions, registrations, configuration, client, together }
