import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as Lock from "../../src/Lock.js"
import * as Session from "../../src/Session.js"
import { TestEtcd } from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { eventually, keys, pass, process, scenario, settle, whileTimePasses } from "../support/memory.js"
import { hold, lockKeys, waiting } from "./support.js"

/** Another process on the same etcd. */
const another = (connection: string) => Layer.build(process({ connection }))

describe("acquire", () => {
  it.effect("takes a free lock in one call, in Go's layout, and gives it back with the scope", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const session = yield* (yield* Session.Sessions).get("10 seconds")
      const lease = yield* session.lease
      yield* etcd.resetUsage
      const { lock, release } = yield* hold("jobs/a", { ttl: "10 seconds" })
      const { calls } = yield* etcd.usage
      assert.deepStrictEqual([calls.txn, calls.range, calls.watch], [1, 0, 0])
      assert.strictEqual(lock.etcdKey, `/locks/jobs/a/${lease.toString(16)}`)
      const [kv] = yield* etcd.snapshot
      assert.strictEqual(lock.fencingToken, kv.createRevision)
      assert.strictEqual(kv.lease, lease)
      yield* release
      assert.deepStrictEqual(yield* lockKeys, [])
      assert.strictEqual((yield* etcd.usage).calls.txn, 2)
    }).pipe(scenario))

  it.effect("serves waiters in the order of their arrival, each with a larger token", () =>
    Effect.gen(function*() {
      const order = yield* Ref.make<ReadonlyArray<number>>([])
      const first = yield* hold("a")
      const tokens: Array<bigint> = [first.lock.fencingToken]
      for (let i = 0; i < 10; i++) {
        yield* Effect.fork(
          Lock.withLock("a")((lock) => {
            tokens.push(lock.fencingToken)
            return Ref.update(order, (all) => [...all, i])
          })
        )
        yield* waiting("a", i + 1)
      }
      yield* first.release
      yield* whileTimePasses(eventually("all served", Effect.map(Ref.get(order), (all) => all.length === 10)))
      assert.deepStrictEqual(yield* Ref.get(order), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
      assert.isTrue(tokens.every((token, i) => i === 0 || token > tokens[i - 1]))
    }).pipe(scenario))

  it.effect("does not take the place of a predecessor that only gave up", () =>
    Effect.gen(function*() {
      const holder = yield* hold("a")
      const givesUp = yield* Effect.fork(Effect.scoped(Lock.acquire("a")))
      yield* waiting("a", 1)
      const patient = yield* Effect.fork(Effect.scoped(Lock.acquire("a")))
      yield* waiting("a", 2)
      yield* Fiber.interrupt(givesUp)
      yield* settle
      assert.isTrue(Option.isNone(yield* Fiber.poll(patient)))
      assert.lengthOf((yield* Lock.inspect("a")).waiters, 1)
      yield* holder.release
      yield* whileTimePasses(Fiber.join(patient))
    }).pipe(scenario))

  it.effect("wakes a waiter for its predecessor only", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const holder = yield* hold("a")
      const waiters: Array<Fiber.Fiber<unknown, unknown>> = []
      for (let i = 0; i < 5; i++) {
        waiters.push(yield* Effect.fork(Effect.scoped(Effect.zipRight(Lock.acquire("a"), Effect.never))))
        yield* waiting("a", i + 1)
      }
      yield* settle
      yield* etcd.resetUsage
      yield* holder.release
      yield* settle
      // The delete: whose turn it is shows without a look.
      const { calls } = yield* etcd.usage
      assert.deepStrictEqual([calls.txn, calls.range], [1, 0])
      yield* Effect.forEach(waiters, Fiber.interrupt)
    }).pipe(scenario))

  it.effect("keeps a and a/b apart", () =>
    Effect.gen(function*() {
      yield* hold("a/b")
      const { lock } = yield* hold("a")
      yield* Effect.scoped(Lock.acquire("a/b/c"))
      assert.lengthOf((yield* Lock.inspect("a")).waiters, 0)
      const second = yield* Effect.fork(Effect.scoped(Lock.acquire("a")))
      yield* waiting("a", 1)
      yield* lock.release
      yield* whileTimePasses(Fiber.join(second))
      yield* Effect.scoped(Lock.tryAcquire("a"))
      yield* Effect.scoped(Effect.flip(Lock.tryAcquire("a/b")))
    }).pipe(scenario))

  it.effect("gives up at its timeout, and leaves the queue", () =>
    Effect.gen(function*() {
      yield* hold("a")
      const error = yield* whileTimePasses(Effect.flip(Effect.scoped(Lock.acquire("a", { timeout: "2 seconds" }))))
      assert.strictEqual(error._tag, "LockTimeout")
      assert.lengthOf(yield* lockKeys, 1)
    }).pipe(scenario))

  it.effect("survives lost answers without a ghost and without a second holder", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* Effect.scoped(Lock.acquire("warm"))
      yield* etcd.loseResponse({ match: ({ operation }) => operation === "txn", times: 2 })
      const { lock, release } = yield* whileTimePasses(hold("a"))
      assert.deepStrictEqual(yield* lockKeys, [lock.etcdKey])
      yield* etcd.loseResponse({ match: ({ operation }) => operation === "txn" })
      yield* whileTimePasses(release)
      yield* whileTimePasses(Effect.scoped(Lock.acquire("a")))
      yield* pass("3 seconds")
      assert.deepStrictEqual(yield* lockKeys, [])
      assert.lengthOf(yield* etcd.leases, 1, "on a lease that lives on")
    }).pipe(scenario))

  it.effect("enters again when its own key is deleted while it waits", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const holder = yield* hold("a")
      const waiter = yield* Effect.fork(Effect.scoped(Lock.acquire("a")))
      yield* waiting("a", 1)
      const { waiters } = yield* Lock.inspect("a")
      yield* etcd.deleteKey(waiters[0].etcdKey)
      yield* holder.release
      yield* whileTimePasses(Fiber.join(waiter))
    }).pipe(scenario))

  it.effect("never holds on a lease that died in the queue", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const other = yield* another("other")
      const holder = yield* Effect.provide(hold("a", { ttl: "1 hour" }), other)
      const waiter = yield* Effect.fork(Lock.acquire("a", { ttl: "10 seconds" }))
      yield* waiting("a", 1)
      const [mine] = (yield* Lock.inspect("a")).waiters
      yield* etcd.expireLease(mine.lease)
      yield* pass("5 seconds")
      yield* waiting("a", 1)
      yield* holder.release
      const lock = yield* whileTimePasses(Fiber.join(waiter))
      assert.isTrue(lock.fencingToken > mine.fencingToken)
      assert.isFalse(yield* lock.isExpired)
    }).pipe(scenario))

  it.effect("waits through an outage", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const holder = yield* hold("a", { ttl: "1 hour" })
      const waiter = yield* Effect.fork(Effect.scoped(Lock.acquire("a", { ttl: "1 hour" })))
      yield* waiting("a", 1)
      yield* etcd.down
      yield* pass("20 seconds")
      yield* etcd.up
      yield* whileTimePasses(holder.release)
      yield* whileTimePasses(Fiber.join(waiter))
    }).pipe(scenario))

  for (const key of ["", "..", "a/../b", "/a", "a/", "a//b", "a\u0000b", "a\nb", "\ud800"]) {
    it.effect(`refuses the key ${JSON.stringify(key)}`, () =>
      Effect.gen(function*() {
        const errors = yield* Effect.all([
          Effect.flip(Effect.scoped(Lock.acquire(key))),
          Effect.flip(Effect.scoped(Lock.tryAcquire(key))),
          Effect.flip(Lock.withLock(key)(Effect.void)),
          Effect.flip(Lock.inspect(key))
        ])
        for (const error of errors) {
          assert.isTrue(error._tag === "InvalidArgument" && error.argument === "key" && error.value === key)
        }
        assert.deepStrictEqual(yield* keys, [])
      }).pipe(scenario))
  }

  it.effect("refuses times that are not above zero", () =>
    Effect.gen(function*() {
      const ttl = yield* Effect.flip(Effect.scoped(Lock.acquire("a", { ttl: 0 })))
      assert.isTrue(ttl._tag === "InvalidArgument" && ttl.argument === "ttl")
      const timeout = yield* Effect.flip(Effect.scoped(Lock.acquire("a", { timeout: -1 })))
      assert.isTrue(timeout._tag === "InvalidArgument" && timeout.argument === "timeout")
      assert.lengthOf(yield* (yield* TestEtcd).leases, 0)
    }).pipe(scenario))
})

describe("tryAcquire", () => {
  it.effect("takes a free lock, and says who has one that is taken", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const lock = yield* Lock.tryAcquire("a")
      yield* etcd.resetUsage
      const error = yield* Effect.flip(Effect.scoped(Lock.tryAcquire("a")))
      assert.isTrue(error._tag === "LockConflict" && error.holder === lock.etcdKey)
      assert.strictEqual((yield* etcd.usage).calls.txn, 1, "a failed try puts nothing into the queue")
    }).pipe(scenario))

  it.effect("survives a lost answer", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* Effect.scoped(Lock.acquire("warm"))
      yield* etcd.loseResponse({ match: ({ operation }) => operation === "txn" })
      const lock = yield* whileTimePasses(Lock.tryAcquire("a"))
      assert.deepStrictEqual(yield* lockKeys, [lock.etcdKey])
    }).pipe(scenario))
})

describe("the handle", () => {
  it.effect("tells and renews the time to live", () =>
    Effect.gen(function*() {
      const lock = yield* Lock.acquire("a", { ttl: "30 seconds" })
      yield* pass("5 seconds")
      assert.deepStrictEqual((yield* lock.ttl).toString(), "Duration(25s)")
      assert.deepStrictEqual((yield* lock.renew).toString(), "Duration(30s)")
      assert.deepStrictEqual((yield* lock.ttl).toString(), "Duration(30s)")
    }).pipe(scenario))

  it.effect("is released once", () =>
    Effect.gen(function*() {
      const { lock, release } = yield* hold("a")
      assert.isFalse(yield* lock.isExpired)
      yield* lock.release
      assert.isTrue(yield* lock.isExpired)
      assert.deepStrictEqual(yield* lockKeys, [])
      assert.strictEqual((yield* Effect.flip(lock.release))._tag, "LockNotHeld")
      yield* release
    }).pipe(scenario))

  it.effect("releases nobody else's lock", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { lock, release } = yield* hold("a")
      yield* etcd.deleteKey(lock.etcdKey)
      yield* etcd.putKey(lock.etcdKey, "somebody else's")
      assert.isTrue(yield* lock.isExpired)
      yield* release
      assert.deepStrictEqual(yield* lockKeys, [lock.etcdKey])
    }).pipe(scenario))

  it.effect("guards transactions: the write of a stale holder is refused", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* EtcdClient
      const { lock } = yield* hold("a")
      const write = client.txn({ compare: [lock.guard], success: [Txn.put({ key: "data", value: "mine" })] })
      assert.isTrue((yield* write).succeeded)
      yield* etcd.deleteKey(lock.etcdKey)
      assert.isFalse((yield* write).succeeded)
    }).pipe(scenario))

  it.effect("hears that its key was deleted by hand", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { lock } = yield* hold("a")
      yield* pass("1 second")
      const lost = yield* Effect.fork(Effect.flip(lock.lost))
      yield* etcd.deleteKey(lock.etcdKey)
      const error = yield* whileTimePasses(Fiber.join(lost))
      assert.deepStrictEqual([error.reason, error.fencingToken], ["deleted", lock.fencingToken])
      assert.strictEqual((yield* Effect.flip(lock.release))._tag, "LockNotHeld")
    }).pipe(scenario))

  it.effect("hears of a delete that happened before it began to watch, and was compacted away", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { lock } = yield* hold("a")
      yield* etcd.deleteKey(lock.etcdKey)
      yield* etcd.putKey("x", "y")
      yield* etcd.compact()
      assert.strictEqual((yield* whileTimePasses(Effect.flip(lock.lost))).reason, "deleted")
    }).pipe(scenario))

  it.effect("knows of the loss before another process can hold the lock", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const mine = yield* another("mine")
      const order = yield* Ref.make<ReadonlyArray<string>>([])
      const note = (what: string) => Ref.update(order, (all) => [...all, what])
      const { lock } = yield* Effect.provide(hold("a", { ttl: "10 seconds" }), mine)
      yield* Effect.fork(Effect.zipRight(Effect.flip(lock.lost), note("lost")))
      const next = yield* Effect.fork(Effect.zipRight(Lock.acquire("a", { ttl: "1 hour" }), note("next")))
      yield* waiting("a", 1)
      yield* etcd.connection("mine").stall()
      yield* whileTimePasses(Fiber.join(next))
      assert.deepStrictEqual(yield* Ref.get(order), ["lost", "next"])
      yield* etcd.connection("mine").resume
    }).pipe(scenario))
})

describe("withLock", () => {
  it.effect("runs the body under the lock and releases it, also when the body fails", () =>
    Effect.gen(function*() {
      const inside = yield* Lock.withLock("a")(lockKeys)
      assert.lengthOf(inside, 1)
      assert.deepStrictEqual(yield* lockKeys, [])
      assert.strictEqual(yield* Effect.flip(Lock.withLock("a")(Effect.fail("no"))), "no")
      assert.deepStrictEqual(yield* lockKeys, [])
    }).pipe(scenario))

  it.effect("interrupts the body when the lock is lost", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const interrupted = yield* Deferred.make<void>()
      const started = yield* Deferred.make<void>()
      const running = yield* Effect.fork(
        Lock.withLock("a", { ttl: "10 seconds" })(
          Effect.onInterrupt(
            Effect.zipRight(Deferred.succeed(started, void 0), Effect.never),
            () => Deferred.succeed(interrupted, void 0)
          )
        )
      )
      yield* Deferred.await(started)
      yield* etcd.stall()
      yield* whileTimePasses(Deferred.await(interrupted))
      yield* etcd.resume
      const error = yield* whileTimePasses(Effect.flip(Fiber.join(running)))
      assert.isTrue(error._tag === "LockExpired" && error.reason === "expired")
    }).pipe(scenario))

  it.effect("signals the loss at once and waits for a body that cannot be interrupted", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const signalled = yield* Deferred.make<void>()
      const finish = yield* Deferred.make<void>()
      const running = yield* Effect.fork(
        Lock.withLock("a", { ttl: "10 seconds" })((lock) =>
          Effect.zipRight(
            Effect.fork(Effect.catchAll(lock.lost, () => Deferred.succeed(signalled, void 0))),
            Effect.uninterruptible(Deferred.await(finish))
          )
        )
      )
      yield* eventually("held", Effect.map(lockKeys, (all) => all.length === 1))
      yield* pass("1 second")
      const { holder } = yield* Lock.inspect("a")
      yield* etcd.deleteKey(Option.getOrThrow(holder).etcdKey)
      yield* whileTimePasses(Deferred.await(signalled))
      yield* pass("1 second")
      assert.isTrue(Option.isNone(yield* Fiber.poll(running)))
      yield* Deferred.succeed(finish, void 0)
      assert.strictEqual((yield* whileTimePasses(Effect.flip(Fiber.join(running))))._tag, "LockExpired")
    }).pipe(scenario))

  it.effect("leaves such a body behind when asked to", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const finish = yield* Deferred.make<void>()
      const running = yield* Effect.fork(
        Lock.withLock("a", { onLost: "abandon" })(Effect.uninterruptible(Deferred.await(finish)))
      )
      yield* eventually("held", Effect.map(lockKeys, (all) => all.length === 1))
      yield* pass("1 second")
      const { holder } = yield* Lock.inspect("a")
      yield* etcd.deleteKey(Option.getOrThrow(holder).etcdKey)
      assert.strictEqual((yield* whileTimePasses(Effect.flip(Fiber.join(running))))._tag, "LockExpired")
      yield* Deferred.succeed(finish, void 0)
    }).pipe(scenario))

  it.effect("does not pass a result on that was made after the loss", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const session = yield* (yield* Session.Sessions).get("30 seconds")
      const error = yield* Effect.flip(
        Lock.withLock("a", { ttl: "30 seconds" })(
          // The lease ends while the body works; it ends before any message about that can arrive.
          Effect.zipRight(
            Effect.zipRight(Effect.flatMap(session.lease, etcd.expireLease), Effect.ignore(session.renew)),
            Effect.succeed("done")
          )
        )
      )
      assert.strictEqual(error._tag, "LockExpired")
    }).pipe(scenario))

  it.effect("hands on what the body has changed of fibre references", () =>
    Effect.gen(function*() {
      const ref = yield* FiberRef.make(1)
      yield* Lock.withLock("a")(Effect.void)
      assert.strictEqual(yield* FiberRef.get(ref), 1)
      yield* Lock.withLock("a")(FiberRef.set(ref, 2))
      assert.strictEqual(yield* FiberRef.get(ref), 2)
    }).pipe(Effect.scoped, scenario))

  it.effect("shows a span to a tracer", () =>
    Effect.gen(function*() {
      const spans: Array<readonly [string, unknown]> = []
      const native = yield* Effect.tracer
      const tracer = Tracer.make({
        context: native.context,
        span: (name, ...rest) => {
          const span = native.span(name, ...rest)
          spans.push([name, span.attributes])
          return span
        }
      })
      yield* Effect.withTracer(Lock.withLock("a")(Effect.void), tracer)
      assert.deepStrictEqual(spans, [["Lock.acquire", new Map([["lock.key", "a"]])]])
    }).pipe(scenario))

  it.effect("skips the body when the lock is taken and that is asked for", () =>
    Effect.gen(function*() {
      const free = yield* Lock.withLockIfAvailable("a")(Effect.succeed(1))
      assert.deepStrictEqual(free, Option.some(1))
      yield* hold("a")
      assert.deepStrictEqual(yield* Lock.withLockIfAvailable("a")(Effect.succeed(1)), Option.none())
    }).pipe(scenario))
})

describe("interruption and closing", () => {
  it.effect("of a waiter while etcd does not answer leaves no key on a lease that lives on", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const holder = yield* hold("a", { ttl: "1 hour" })
      const waiter = yield* Effect.fork(Effect.scoped(Lock.acquire("a", { ttl: "1 hour" })))
      yield* waiting("a", 1)
      yield* etcd.stall()
      const interrupting = yield* Effect.fork(Fiber.interrupt(waiter))
      yield* pass("3 seconds")
      assert.isTrue(Option.isSome(yield* Fiber.poll(interrupting)))
      yield* etcd.resume
      yield* pass("3 seconds")
      assert.deepStrictEqual(yield* lockKeys, [holder.lock.etcdKey])
    }).pipe(scenario))

  it.effect("of the whole layer while etcd is away takes 5 seconds at most and leaves nothing open", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const scope = yield* Scope.make()
      const own = yield* Layer.buildWithScope(process({ connection: "mine" }), scope)
      const locks = Context.get(own, Lock.Lock)
      const inner = yield* Scope.fork(scope, { _tag: "Sequential" })
      for (let i = 0; i < 20; i++) yield* Scope.extend(locks.acquire(`k${i}`, { ttl: "10 seconds" }), inner)
      yield* Effect.forkIn(Scope.extend(Effect.ignore(locks.acquire("k0")), inner), scope)
      yield* pass("1 second")
      yield* etcd.connection("mine").stall()
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* pass("5 seconds")
      assert.isTrue(Option.isSome(yield* Fiber.poll(closing)), "closed within 5 seconds")
      const { callsInFlight, leaseStreams, watchStreams, watchers } = yield* etcd.connection("mine").usage
      assert.deepStrictEqual({ callsInFlight, leaseStreams, watchStreams, watchers }, {
        callsInFlight: 0,
        leaseStreams: 0,
        watchStreams: 0,
        watchers: 0
      })
      yield* pass("40 seconds", "1 second")
      assert.deepStrictEqual(yield* keys, [])
    }).pipe(scenario))
})
