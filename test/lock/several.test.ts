import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as Lock from "../../src/Lock.js"
import * as Session from "../../src/Session.js"
import { TestEtcd } from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { eventually, pass, process, scenario, settle, whileTimePasses } from "../support/memory.js"
import { holding as hold, lockKeys, waiting } from "./support.js"

/** Another process on the same etcd. */
const another = (connection: string) => Layer.build(process({ connection }))

const isRunning = (fiber: Fiber.RuntimeFiber<unknown, unknown>) => Effect.map(Fiber.poll(fiber), Option.isNone)

describe("acquireAll", () => {
  it.effect("takes free locks in one call, in Go's layout, and gives them back with the scope", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const session = yield* (yield* Session.Sessions).get("10 seconds")
      const hex = (yield* session.lease).toString(16)
      yield* etcd.resetUsage
      const { lock, release } = yield* hold(Lock.acquireAll(["b", "a", "c/d"], { ttl: "10 seconds" }))
      const { calls } = yield* etcd.usage
      assert.deepStrictEqual([calls.txn, calls.range, calls.watch], [1, 0, 0])
      assert.deepStrictEqual(lock.keys, ["b", "a", "c/d"])
      assert.deepStrictEqual(lock.etcdKeys, [`/locks/b/${hex}`, `/locks/a/${hex}`, `/locks/c/d/${hex}`])
      for (const kv of yield* etcd.snapshot) assert.strictEqual(kv.createRevision, lock.fencingToken)
      for (const key of lock.keys) {
        assert.strictEqual((yield* Effect.flip(Effect.scoped(Lock.tryAcquire(key))))._tag, "LockConflict")
      }
      yield* release
      assert.deepStrictEqual(yield* lockKeys, [])
      // The names are free again.
      const again = yield* hold(Lock.acquireAll(["a", "b"], { ttl: "10 seconds" }))
      assert.deepStrictEqual(again.lock.etcdKeys, [`/locks/a/${hex}`, `/locks/b/${hex}`])
      assert.isTrue(again.lock.fencingToken > lock.fencingToken)
    }).pipe(Effect.scoped, scenario))

  it.effect("takes part in the order of each queue", () =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const queued = (name: string, ...names: ReadonlyArray<string>) =>
        Effect.fork(Lock.withLocks(names)(Effect.sync(() => void order.push(name))))
      const holder = yield* hold(Lock.acquire("b"))
      const fibers = [yield* queued("ab", "a", "b")]
      yield* waiting("b", 1)
      // Behind it in one queue, although nobody holds that lock.
      const single = yield* Effect.fork(Lock.withLock("a")(Effect.sync(() => void order.push("a"))))
      yield* waiting("a", 1)
      fibers.push(yield* queued("ba", "b", "a"))
      yield* waiting("b", 2)
      yield* waiting("a", 2)
      yield* settle
      assert.deepStrictEqual(order, [])
      yield* holder.release
      yield* whileTimePasses(Effect.forEach([...fibers, single], Fiber.join))
      assert.deepStrictEqual(order, ["ab", "a", "ba"])
    }).pipe(scenario))

  it.effect("never locks dead, in whatever order the keys are named", () =>
    Effect.gen(function*() {
      const first = yield* hold(Lock.acquireAll(["a", "b"]))
      const second = yield* Effect.fork(hold(Lock.acquireAll(["b", "c", "a"])))
      yield* waiting("c", 0)
      yield* waiting("a", 1)
      const third = yield* Effect.fork(hold(Lock.acquireAll(["c", "a"])))
      yield* waiting("c", 1)
      yield* first.release
      const { release } = yield* whileTimePasses(Fiber.join(second))
      assert.isTrue(yield* isRunning(third))
      yield* release
      yield* whileTimePasses(Fiber.join(third))
    }).pipe(scenario))

  it.effect("excludes whoever holds one of them, also when the names continue each other", () =>
    Effect.gen(function*() {
      const other = yield* another("other")
      const holder = yield* Effect.provide(hold(Lock.acquire("a")), other)
      // Under the folder of `a` stand those of `a/b` and `a/b/c` as well, and they are newer than the holder.
      const all = yield* Effect.fork(hold(Lock.acquireAll(["a/b", "a", "a/b/c"])))
      yield* waiting("a", 1)
      yield* settle
      assert.isTrue(yield* isRunning(all))
      yield* holder.release
      const { release } = yield* whileTimePasses(Fiber.join(all))
      const nested = yield* Effect.provide(Effect.fork(hold(Lock.acquire("a/b"))), other)
      yield* waiting("a/b", 1)
      yield* settle
      assert.isTrue(yield* isRunning(nested))
      yield* release
      yield* whileTimePasses(Fiber.join(nested))
    }).pipe(Effect.scoped, scenario))

  it.effect("counts a key that is named twice once", () =>
    Effect.gen(function*() {
      const { lock, release } = yield* hold(Lock.acquireAll(["a", "b", "a"]))
      assert.deepStrictEqual(lock.keys, ["a", "b"])
      assert.lengthOf(yield* lockKeys, 2)
      yield* release
      assert.deepStrictEqual(yield* lockKeys, [])
    }).pipe(scenario))

  it.effect("takes as many as one transaction can, and refuses more", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const names = Array.from({ length: 64 }, (_, index) => `n${index}`)
      for (const count of [1, 63, 64]) {
        const { lock, release } = yield* hold(Lock.acquireAll(names.slice(0, count)))
        assert.lengthOf(lock.keys, count)
        assert.lengthOf(yield* lockKeys, count)
        const next = yield* Effect.fork(hold(Lock.acquireAll(names.slice(0, count))))
        yield* waiting("n0", 1)
        yield* release
        yield* Effect.flatMap(whileTimePasses(Fiber.join(next)), ({ release }) => release)
        assert.deepStrictEqual(yield* lockKeys, [])
      }
      yield* etcd.resetUsage
      const error = yield* Effect.flip(Effect.scoped(Lock.acquireAll([...names, "more"])))
      assert.isTrue(error._tag === "InvalidArgument" && error.argument === "keys")
      assert.include(error.message, "65 keys")
      assert.include(error.message, "64")
      assert.strictEqual((yield* etcd.usage).calls.txn, 0)
    }).pipe(scenario))

  it.effect("those who ask for as many locks in the same instant are one after the other", () =>
    Effect.gen(function*() {
      const names = Array.from({ length: 64 }, (_, index) => `n${index}`)
      const tokens = yield* Effect.forEach(
        Array.from({ length: 4 }),
        () => Lock.withLocks(names)(({ fencingToken }) => Effect.succeed(fencingToken)),
        { concurrency: "unbounded" }
      ).pipe(whileTimePasses)
      assert.strictEqual(new Set(tokens).size, 4)
    }).pipe(scenario))

  it.effect("refuses bad input at once", () =>
    Effect.gen(function*() {
      for (
        const [argument, names, options] of [
          ["keys", [], {}],
          ["keys", ["a", ""], {}],
          ["keys", ["a", "b/../c"], {}],
          ["keys", "ab" as unknown as ReadonlyArray<string>, {}],
          ["keys", Object.create(null) as ReadonlyArray<string>, {}],
          ["ttl", ["a"], { ttl: 0 }],
          ["timeout", ["a"], { timeout: -1 }]
        ] as const
      ) {
        const error = yield* Effect.flip(Effect.scoped(Lock.acquireAll(names, options)))
        assert.isTrue(error._tag === "InvalidArgument" && error.argument === argument)
        const same = yield* Effect.flip(Lock.withLocks(names, options)(Effect.void))
        assert.isTrue(same._tag === "InvalidArgument" && same.argument === argument)
      }
      assert.lengthOf(yield* (yield* TestEtcd).leases, 0)
    }).pipe(scenario))

  it.effect("gives up at its timeout, says for which it waited, and leaves all queues", () =>
    Effect.gen(function*() {
      const holder = yield* hold(Lock.acquire("b"))
      const error = yield* whileTimePasses(
        Effect.flip(Effect.scoped(Lock.acquireAll(["a", "b", "c"], { timeout: "2 seconds" })))
      )
      assert.isTrue(error._tag === "LockTimeout" && error.key === "b")
      assert.deepStrictEqual(yield* lockKeys, [holder.lock.etcdKey])
    }).pipe(scenario))

  it.effect("names the first of those it waits for, in the order in which they were asked for", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* hold(Lock.acquire("b"))
      const acquiring = yield* Effect.fork(
        Effect.flip(Effect.scoped(Lock.acquireAll(["a", "b"], { timeout: "5 seconds" })))
      )
      yield* waiting("b", 1)
      yield* settle
      // It had its turn for the first one, and has to wait for it again.
      const { holder } = yield* Lock.inspect("a")
      yield* hold(Effect.zipRight(etcd.deleteKey(Option.getOrThrow(holder).etcdKey), Lock.acquire("a")))
      const { waiters } = yield* Lock.inspect("b")
      yield* etcd.deleteKey(waiters[0].etcdKey)
      yield* waiting("a", 1)
      const error = yield* whileTimePasses(Fiber.join(acquiring))
      assert.isTrue(error._tag === "LockTimeout" && error.key === "a")
    }).pipe(scenario))

  it.effect("leaves all queues when it is interrupted, also while etcd does not answer", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const holder = yield* hold(Lock.acquire("b", { ttl: "1 hour" }))
      const acquiring = Effect.scoped(Lock.acquireAll(["a", "b", "c"], { ttl: "1 hour" }))
      const first = yield* Effect.fork(acquiring)
      yield* waiting("b", 1)
      yield* Fiber.interrupt(first)
      assert.deepStrictEqual(yield* lockKeys, [holder.lock.etcdKey])
      yield* etcd.stall({ applied: true, streams: false })
      const second = yield* Effect.fork(acquiring)
      yield* eventually("it is applied", Effect.map(lockKeys, (all) => all.length === 4))
      const interrupting = yield* Effect.fork(Fiber.interrupt(second))
      yield* pass("3 seconds")
      assert.isFalse(yield* isRunning(interrupting), "interruption is bounded")
      yield* etcd.resume
      yield* pass("3 seconds")
      assert.deepStrictEqual(yield* lockKeys, [holder.lock.etcdKey])
    }).pipe(scenario))

  it.effect("bars what is still on its way when it was given up", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* EtcdClient
      // What is sent, to be sent again when nobody expects it any more.
      const sent: Array<Txn.TxnRequest> = []
      const recording = Layer.succeed(EtcdClient, {
        ...client,
        txn: (request, call) => {
          sent.push(request)
          return client.txn(request, call)
        }
      })
      const locks = yield* Layer.build(Layer.provide(Lock.layer(), Layer.provideMerge(Session.layer, recording)))
      yield* etcd.loseRequest({ match: ({ operation }) => operation === "txn", times: Infinity })
      const acquiring = Effect.provide(Effect.scoped(Lock.acquireAll(["a", "b"], { ttl: "1 hour" })), locks)
      yield* whileTimePasses(Effect.flip(acquiring))
      yield* etcd.clear
      yield* pass("3 seconds")
      assert.isFalse((yield* client.txn(sent[0])).succeeded)
      assert.deepStrictEqual(yield* lockKeys, [])
      yield* acquiring
    }).pipe(Effect.scoped, scenario))

  it.effect("is entered anew, all of it, when an entry is deleted while it waits", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const holder = yield* hold(Lock.acquire("b"))
      const acquiring = yield* Effect.fork(hold(Lock.acquireAll(["a", "b"])))
      yield* waiting("b", 1)
      // Its turn has come for one of them; then that is given to another.
      const { holder: head } = yield* Lock.inspect("a")
      yield* etcd.deleteKey(Option.getOrThrow(head).etcdKey)
      const thief = yield* hold(Lock.acquire("a"))
      yield* holder.release
      yield* settle
      assert.isTrue(yield* isRunning(acquiring), "it does not hold what it has lost")
      yield* thief.release
      const { lock } = yield* whileTimePasses(Fiber.join(acquiring))
      assert.isTrue(lock.fencingToken > thief.lock.fencingToken)
      assert.sameMembers([...yield* lockKeys], [...lock.etcdKeys])
    }).pipe(scenario))

  it.effect("never holds on a lease that died in the queue", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const other = yield* another("other")
      const holder = yield* Effect.provide(hold(Lock.acquire("b", { ttl: "1 hour" })), other)
      const acquiring = yield* Effect.fork(Lock.acquireAll(["a", "b"], { ttl: "10 seconds" }))
      yield* waiting("b", 1)
      const [mine] = (yield* Lock.inspect("b")).waiters
      yield* etcd.expireLease(mine.lease)
      yield* pass("5 seconds")
      yield* waiting("b", 1)
      yield* holder.release
      const lock = yield* whileTimePasses(Fiber.join(acquiring))
      assert.isTrue(lock.fencingToken > mine.fencingToken)
      assert.isFalse(yield* lock.isExpired)
    }).pipe(Effect.scoped, scenario))

  it.effect("survives lost answers without a ghost and without a second holder", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* Effect.scoped(Lock.acquire("warm"))
      yield* etcd.loseResponse({ match: ({ operation }) => operation === "txn", times: 2 })
      const { lock, release } = yield* whileTimePasses(hold(Lock.acquireAll(["a", "b"])))
      assert.sameMembers([...yield* lockKeys], [...lock.etcdKeys])
      yield* etcd.loseResponse({ match: ({ operation }) => operation === "txn" })
      yield* whileTimePasses(release)
      yield* pass("3 seconds")
      assert.deepStrictEqual(yield* lockKeys, [])
      assert.lengthOf(yield* etcd.leases, 1, "on a lease that lives on")
    }).pipe(scenario))
})

describe("the handle of several locks", () => {
  it.effect("tells and renews the time to live", () =>
    Effect.gen(function*() {
      const lock = yield* Lock.acquireAll(["a", "b"], { ttl: "30 seconds" })
      yield* pass("5 seconds")
      assert.deepStrictEqual((yield* lock.ttl).toString(), "Duration(25s)")
      assert.deepStrictEqual((yield* lock.renew).toString(), "Duration(30s)")
    }).pipe(scenario))

  it.effect("is released once", () =>
    Effect.gen(function*() {
      const { lock, release } = yield* hold(Lock.acquireAll(["a", "b"]))
      assert.isFalse(yield* lock.isExpired)
      yield* lock.release
      assert.isTrue(yield* lock.isExpired)
      assert.deepStrictEqual(yield* lockKeys, [])
      assert.strictEqual((yield* Effect.flip(lock.release))._tag, "LockNotHeld")
      yield* release
    }).pipe(scenario))

  it.effect("hears of the loss of any of them, and releases the others", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { lock } = yield* hold(Lock.acquireAll(["a", "b", "c"]))
      yield* pass("1 second")
      const lost = yield* Effect.fork(Effect.flip(lock.lost))
      yield* etcd.deleteKey(lock.etcdKeys[1])
      const error = yield* whileTimePasses(Fiber.join(lost))
      assert.deepStrictEqual([error.key, error.reason, error.fencingToken], ["b", "deleted", lock.fencingToken])
      assert.isTrue(yield* lock.isExpired)
      const refused = yield* Effect.flip(lock.release)
      assert.deepStrictEqual([refused._tag, refused.key], ["LockNotHeld", "b"])
      assert.deepStrictEqual(yield* lockKeys, [], "one that is gone does not keep the others there")
    }).pipe(scenario))

  it.effect("guards transactions: all are held, or nothing is written", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* EtcdClient
      const { lock } = yield* hold(Lock.acquireAll(["a", "b"]))
      const write = client.txn({ compare: lock.guards, success: [Txn.put({ key: "data", value: "mine" })] })
      assert.isTrue((yield* write).succeeded)
      yield* etcd.deleteKey(lock.etcdKeys[1])
      assert.isFalse((yield* write).succeeded)
    }).pipe(scenario))
})

describe("withLocks", () => {
  it.effect("runs the body under all locks and releases them, also when it fails", () =>
    Effect.gen(function*() {
      assert.lengthOf(yield* Lock.withLocks(["a", "b"])(lockKeys), 2)
      assert.deepStrictEqual(yield* lockKeys, [])
      assert.strictEqual(yield* Effect.flip(Lock.withLocks(["a", "b"])(Effect.fail("no"))), "no")
      assert.deepStrictEqual(yield* lockKeys, [])
    }).pipe(scenario))

  it.effect("interrupts the body when one of them is lost", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const started = yield* Deferred.make<Lock.LocksHandle>()
      let interrupted = false
      const running = yield* Effect.fork(
        Lock.withLocks(["a", "b"])((lock) =>
          Effect.onInterrupt(
            Effect.zipRight(Deferred.succeed(started, lock), Effect.never),
            () => Effect.sync(() => interrupted = true)
          )
        )
      )
      const lock = yield* Deferred.await(started)
      yield* pass("1 second")
      yield* etcd.deleteKey(lock.etcdKeys[0])
      const error = yield* whileTimePasses(Effect.flip(Fiber.join(running)))
      assert.isTrue(error._tag === "LockExpired" && error.key === "a" && error.reason === "deleted")
      assert.isTrue(interrupted)
      assert.deepStrictEqual(yield* lockKeys, [])
    }).pipe(scenario))

  it.effect("knows of the loss of the lease before etcd gives the locks away", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const started = yield* Deferred.make<void>()
      const running = yield* Effect.fork(
        Lock.withLocks(["a", "b"], { ttl: "10 seconds" })(
          Effect.zipRight(Deferred.succeed(started, void 0), Effect.never)
        )
      )
      yield* Deferred.await(started)
      yield* etcd.stall()
      const error = yield* whileTimePasses(Effect.flip(Fiber.join(running)))
      assert.isTrue(error._tag === "LockExpired" && error.key === "a" && error.reason === "expired")
      assert.lengthOf(yield* lockKeys, 2)
      yield* etcd.resume
    }).pipe(scenario))
})
