import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Lock from "../../src/Lock.js"
import * as Session from "../../src/Session.js"
import { refusals, TestEtcd } from "../../src/testing.js"
import { pass, process, scenario, settle, whileTimePasses } from "../support/memory.js"
import { hold, lockKeys, waiting } from "./support.js"
import { countingWakes } from "./wakes.js"

/** The same while time passes. */
const waitingInTime = (key: string, count: number) =>
  whileTimePasses(
    Effect.repeat(Effect.delay(Lock.inspect(key), "100 millis"), {
      until: ({ waiters }) => waiters.length === count
    })
  )

/** The locks of another process on the same etcd, which has held one before. */
const another = (connection: string) =>
  Effect.tap(
    Effect.map(Layer.build(process({ connection })), Context.get(Lock.Lock)),
    (lock) => Effect.scoped(lock.acquire("warm"))
  )

const watchers = (connection: string) =>
  Effect.flatMap(TestEtcd, (etcd) => Effect.map(etcd.connection(connection).usage, ({ watchers }) => watchers))

/** Waits in the background, and says in which order who holds. */
const queueing = (order: Array<string>, lock: Lock.Lock["Type"], name: string, options?: Lock.AcquireOptions) =>
  Effect.fork(
    Effect.scoped(Effect.tap(lock.acquire("a", options), () => Effect.sync(() => order.push(name))))
  )

describe("the queue", () => {
  it.effect("is not looked at by those who are alone in it, nor when they come before there is a lease", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const lock = yield* Effect.map(Layer.build(process({ connection: "p" })), Context.get(Lock.Lock))
      const names = ["a", "b", "c", "d"]
      for (const round of [1, 2]) {
        yield* Effect.forEach(names, (name) => lock.withLock(name)(Effect.void), { concurrency: "unbounded" })
        const { calls } = yield* etcd.connection("p").usage
        assert.strictEqual(calls.range, 0, `round ${round}`)
        assert.strictEqual(yield* watchers("p"), 0, `round ${round}`)
      }
    }).pipe(Effect.scoped, scenario))

  it.effect("serves 200 waiters of 4 processes in the order of their tokens, waking each fibre once", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const names = ["p0", "p1", "p2", "p3"]
      const processes = yield* Effect.forEach(names, another)
      const holder = yield* hold("a")
      const served: Array<{ readonly token: bigint; readonly wakes: number }> = []
      const fibers = yield* Effect.forEach(
        Array.from({ length: 200 }, (_, index) => processes[index % 4]),
        (lock) =>
          Effect.fork(Effect.scoped(
            Effect.map(
              countingWakes(lock.acquire("a")),
              ({ result, wakes }) => served.push({ token: result.fencingToken, wakes })
            )
          ))
      )
      yield* waiting("a", 200)
      yield* settle
      yield* etcd.resetUsage
      assert.deepStrictEqual(yield* Effect.forEach(names, watchers), [1, 1, 1, 1], "one watch per process")
      yield* holder.release
      yield* Effect.forEach(fibers, Fiber.join)
      assert.lengthOf(served, 200)
      assert.isTrue(served.every(({ token }, i) => i === 0 || token > served[i - 1].token))
      // By the answer to its entering, and by its turn.
      assert.deepStrictEqual(new Set(served.map(({ wakes }) => wakes)), new Set([2]))
      const { calls } = yield* etcd.usage
      assert.deepStrictEqual([calls.txn, calls.range, calls.watch], [201, 0, 0], "nothing but the holders' deletes")
    }).pipe(scenario))

  it.effect("is followed by one watch, which begins with two calls", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const lock = yield* another("p")
      yield* hold("a")
      yield* etcd.connection("p").resetUsage
      const first = yield* Effect.fork(Effect.scoped(lock.acquire("a")))
      yield* waiting("a", 1)
      yield* settle
      const begin = yield* etcd.connection("p").usage
      assert.deepStrictEqual([begin.calls.txn, begin.calls.watch, begin.calls.range], [1, 1, 1])
      const others = yield* Effect.replicateEffect(Effect.fork(Effect.scoped(lock.acquire("a"))), 5)
      yield* waiting("a", 6)
      yield* settle
      const { calls } = yield* etcd.connection("p").usage
      assert.deepStrictEqual([calls.txn, calls.watch, calls.range], [6, 1, 1], "the others need no more than their put")
      yield* Effect.forEach([first, ...others], Fiber.interrupt)
    }).pipe(scenario))

  it.effect("is followed for some seconds after the last waiter has left, and not longer", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const lock = yield* another("p")
      const holder = yield* hold("a")
      yield* Fiber.interrupt(yield* Effect.tap(Effect.fork(Effect.scoped(lock.acquire("a"))), () => waiting("a", 1)))
      yield* pass("5 seconds")
      assert.strictEqual(yield* watchers("p"), 1)
      yield* etcd.connection("p").resetUsage
      const waiter = yield* Effect.fork(Effect.scoped(lock.acquire("a")))
      yield* waiting("a", 1)
      yield* holder.release
      yield* Fiber.join(waiter)
      assert.strictEqual((yield* etcd.connection("p").usage).calls.watch, 0, "in step still")
      yield* pass("9 seconds")
      assert.strictEqual(yield* watchers("p"), 1)
      yield* pass("3 seconds")
      assert.strictEqual(yield* watchers("p"), 0)
      yield* whileTimePasses(Effect.scoped(lock.acquire("a")))
    }).pipe(scenario))

  it.effect("is one of a bounded number that are followed while nobody waits", () =>
    Effect.gen(function*() {
      const lock = yield* another("p")
      for (let i = 0; i < 150; i++) {
        const holder = yield* hold(`k${i}`)
        const waiter = yield* Effect.fork(Effect.scoped(lock.acquire(`k${i}`)))
        yield* waiting(`k${i}`, 1)
        yield* holder.release
        yield* Fiber.join(waiter)
      }
      assert.strictEqual(yield* watchers("p"), 150)
      yield* pass("1100 millis")
      assert.strictEqual(yield* watchers("p"), 128)
    }).pipe(scenario))

  it.effect("hands over inside one process without waiting for the watch", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const order: Array<string> = []
      const lock = yield* another("p")
      const scope = yield* Scope.make()
      yield* Scope.extend(lock.acquire("a"), scope)
      const waiters: Array<Fiber.Fiber<unknown, unknown>> = []
      for (const name of ["1", "2", "3"]) {
        waiters.push(yield* queueing(order, lock, name))
        yield* waiting("a", waiters.length)
      }
      yield* settle
      yield* etcd.connection("p").stall({ calls: false })
      yield* etcd.connection("p").resetUsage
      yield* Scope.close(scope, Exit.void)
      yield* Effect.forEach(waiters, Fiber.join)
      assert.deepStrictEqual(order, ["1", "2", "3"])
      assert.strictEqual((yield* etcd.connection("p").usage).calls.txn, 4, "the deletes")
      yield* etcd.connection("p").resume
    }).pipe(scenario))

  it.effect("does not hand over inside one process what others have to get before", () =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const [mine, other] = [yield* another("mine"), yield* another("other")]
      const scope = yield* Scope.make()
      yield* Scope.extend(mine.acquire("a"), scope)
      const waiters: Array<Fiber.Fiber<unknown, unknown>> = []
      for (const [name, lock] of [["1", other], ["2", mine], ["3", other], ["4", mine]] as const) {
        waiters.push(yield* queueing(order, lock, name))
        yield* waiting("a", waiters.length)
      }
      yield* Scope.close(scope, Exit.void)
      yield* Effect.forEach(waiters, Fiber.join)
      assert.deepStrictEqual(order, ["1", "2", "3", "4"])
    }).pipe(scenario))

  it.effect("does not know of a delete before etcd has confirmed it", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const lock = yield* another("p")
      const scope = yield* Scope.make()
      const { guard } = yield* Scope.extend(lock.acquire("a", { ttl: "1 hour" }), scope)
      const waiter = yield* Effect.fork(Effect.scoped(lock.acquire("a", { ttl: "1 hour" })))
      yield* waiting("a", 1)
      yield* settle
      yield* etcd.connection("p").stall()
      const releasing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* pass("3 seconds")
      assert.isTrue(Option.isSome(yield* Fiber.poll(releasing)), "it was given up to the background")
      // A late write of the one before would still be accepted: nobody else may hold yet.
      assert.include(yield* lockKeys, guard.key)
      assert.isTrue(Option.isNone(yield* Fiber.poll(waiter)))
      yield* etcd.connection("p").resume
      yield* whileTimePasses(Fiber.join(waiter))
    }).pipe(scenario))
})

describe("those who leave the queue", () => {
  it.effect("in the middle, by interruption, a timeout or their death, do not hold up those behind", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const order: Array<string> = []
      const [mine, doomed] = [yield* another("mine"), yield* another("doomed")]
      const holder = yield* hold("a", { ttl: "1 hour" })
      const fibers = new Map<string, Effect.Effect.Success<ReturnType<typeof queueing>>>()
      const enter = (name: string, lock: Lock.Lock["Type"], options: Lock.AcquireOptions) =>
        Effect.gen(function*() {
          fibers.set(name, yield* queueing(order, lock, name, options))
          yield* waiting("a", fibers.size)
        })
      yield* enter("interrupted", mine, { ttl: "1 hour" })
      yield* enter("1", mine, { ttl: "1 hour" })
      yield* enter("timed out", mine, { ttl: "1 hour", timeout: "2 seconds" })
      yield* enter("dies", doomed, { ttl: "5 seconds" })
      yield* enter("2", mine, { ttl: "1 hour" })
      const of = (name: string) => Option.getOrThrow(Option.fromNullable(fibers.get(name)))
      yield* Fiber.interrupt(of("interrupted"))
      yield* waiting("a", 4)
      // A process that is killed: nothing of it arrives any more.
      yield* etcd.connection("doomed").down
      yield* pass("10 seconds")
      const error = yield* Effect.flip(Fiber.join(of("timed out")))
      assert.strictEqual(error._tag, "LockTimeout")
      yield* waiting("a", 2)
      yield* holder.release
      yield* Fiber.join(of("1"))
      yield* Fiber.join(of("2"))
      assert.deepStrictEqual(order, ["1", "2"])
      yield* Fiber.interruptFork(of("dies"))
      yield* pass("1 second")
      yield* etcd.connection("doomed").up
      yield* pass("3 seconds")
      assert.deepStrictEqual(yield* lockKeys, [])
    }).pipe(scenario))

  it.effect("leave nothing behind in the process", () =>
    Effect.gen(function*() {
      const lock = yield* another("p")
      const holder = yield* hold("a", { ttl: "1 hour" })
      for (let i = 0; i < 20; i++) {
        const waiter = yield* Effect.fork(Effect.scoped(lock.acquire("a")))
        // At any moment: before it is asked for, on its way, while the copy is read, while it waits.
        for (let j = 0; j < i; j++) yield* Effect.yieldNow()
        yield* Fiber.interrupt(waiter)
      }
      yield* waiting("a", 0)
      yield* pass("12 seconds")
      assert.strictEqual(yield* watchers("p"), 0)
      yield* holder.release
      assert.deepStrictEqual(yield* lockKeys, [])
    }).pipe(scenario))

  it.effect("because somebody deleted their entry enter again, at the end", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const order: Array<string> = []
      const lock = yield* another("p")
      const holder = yield* hold("a")
      const first = yield* queueing(order, lock, "first")
      yield* waiting("a", 1)
      const second = yield* queueing(order, lock, "second")
      yield* waiting("a", 2)
      const { waiters } = yield* Lock.inspect("a")
      yield* etcd.deleteKey(waiters[0].etcdKey)
      yield* waiting("a", 2)
      yield* holder.release
      yield* Effect.forEach([first, second], Fiber.join)
      assert.deepStrictEqual(order, ["second", "first"])
    }).pipe(scenario))

  it.effect("notice it too when the watch has nothing to tell of it any more", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const order: Array<string> = []
      const lock = yield* another("p")
      const holder = yield* hold("a", { ttl: "1 hour" })
      const first = yield* queueing(order, lock, "first", { ttl: "1 hour" })
      yield* waiting("a", 1)
      yield* settle
      yield* etcd.connection("p").stall({ calls: false })
      const second = yield* queueing(order, lock, "second", { ttl: "1 hour" })
      yield* waiting("a", 2)
      // It comes and goes between two states that the copy will see.
      const { waiters } = yield* Lock.inspect("a")
      yield* etcd.deleteKey(waiters[1].etcdKey)
      yield* etcd.compact()
      yield* etcd.connection("p").disconnect
      yield* etcd.connection("p").resume
      yield* waitingInTime("a", 2)
      yield* holder.release
      yield* whileTimePasses(Effect.forEach([first, second], Fiber.join))
      assert.deepStrictEqual(order, ["first", "second"])
    }).pipe(scenario))

  it.effect("with their lease enter again, on another", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const order: Array<string> = []
      const lock = yield* another("p")
      const holder = yield* hold("a", { ttl: "1 hour" })
      const waiters = [yield* queueing(order, lock, "1", { ttl: "10 seconds" })]
      yield* waiting("a", 1)
      waiters.push(yield* queueing(order, lock, "2", { ttl: "10 seconds" }))
      yield* waiting("a", 2)
      const [{ lease }] = (yield* Lock.inspect("a")).waiters
      yield* etcd.expireLease(lease)
      yield* waiting("a", 0)
      yield* pass("5 seconds")
      yield* waiting("a", 2)
      yield* holder.release
      yield* whileTimePasses(Effect.forEach(waiters, Fiber.join))
      assert.sameMembers(order, ["1", "2"])
    }).pipe(scenario))
})

describe("those who wait", () => {
  /** A lock that is held and two who wait for it, in the first case before and in the second after `trouble`. */
  const survive = (
    trouble: Effect.Effect<unknown, never, TestEtcd>,
    after: Effect.Effect<unknown, never, TestEtcd> = Effect.void
  ) =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const lock = yield* another("p")
      const holder = yield* hold("a", { ttl: "1 hour" })
      const waiters = [yield* queueing(order, lock, "1", { ttl: "1 hour" })]
      yield* waiting("a", 1)
      yield* trouble
      yield* pass("3 seconds")
      yield* after
      waiters.push(yield* queueing(order, lock, "2", { ttl: "1 hour" }))
      yield* waitingInTime("a", 2)
      assert.deepStrictEqual(order, [])
      yield* holder.release
      yield* whileTimePasses(Effect.forEach(waiters, Fiber.join))
      assert.deepStrictEqual(order, ["1", "2"])
      assert.deepStrictEqual(yield* lockKeys, [])
    }).pipe(scenario)

  const etcd = <A>(act: (etcd: TestEtcd["Type"]) => Effect.Effect<A>) => Effect.flatMap(TestEtcd, act)

  it.effect("go on waiting through an outage", () => survive(etcd(({ down }) => down), etcd(({ up }) => up)))

  it.effect("go on waiting over a cut connection", () => survive(etcd((etcd) => etcd.connection("p").disconnect)))

  it.effect("go on waiting over a restart", () => survive(etcd(({ restart }) => restart)))

  it.effect("go on waiting under a new leader", () => survive(etcd(({ failOver }) => failOver)))

  it.effect("go on waiting through a compaction that their watch has missed", () =>
    survive(
      etcd((etcd) => etcd.connection("p").down),
      etcd((etcd) => Effect.all([etcd.putKey("/other", "x"), etcd.compact(), etcd.connection("p").up]))
    ))

  it.effect("hear what happened during an outage", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const order: Array<string> = []
      const lock = yield* another("p")
      const holder = yield* hold("a", { ttl: "1 hour" })
      const waiters = [yield* queueing(order, lock, "1", { ttl: "1 hour" })]
      yield* waiting("a", 1)
      waiters.push(yield* queueing(order, lock, "2", { ttl: "1 hour" }))
      yield* waiting("a", 2)
      yield* etcd.connection("p").down
      yield* holder.release
      const { holder: next } = yield* Lock.inspect("a")
      yield* etcd.deleteKey(Option.getOrThrow(next).etcdKey)
      yield* pass("3 seconds")
      yield* etcd.connection("p").up
      yield* whileTimePasses(Effect.forEach(waiters, Fiber.join))
      assert.deepStrictEqual(order, ["2", "1"])
    }).pipe(scenario))

  it.effect("enter again where etcd has lost its data", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const order: Array<string> = []
      const lock = yield* another("p")
      for (let i = 0; i < 50; i++) yield* etcd.putKey("x", "y")
      yield* hold("a")
      const waiters = [yield* queueing(order, lock, "1")]
      yield* waiting("a", 1)
      waiters.push(yield* queueing(order, lock, "2"))
      yield* waiting("a", 2)
      yield* etcd.restartWithoutData
      yield* whileTimePasses(Effect.forEach(waiters, Fiber.join))
      assert.sameMembers(order, ["1", "2"])
      // The revisions are far below those that were seen before.
      const scope = yield* Scope.make()
      const { fencingToken } = yield* whileTimePasses(Scope.extend(lock.acquire("a"), scope))
      assert.isTrue(fencingToken < 50n)
      const next = yield* Effect.fork(Effect.scoped(lock.acquire("a")))
      yield* waitingInTime("a", 1)
      yield* Scope.close(scope, Exit.void)
      yield* whileTimePasses(Fiber.join(next))
    }).pipe(scenario))

  it.effect("for a are not concerned with a/b, nor the other way round", () =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const lock = yield* another("p")
      const inner = yield* hold("a/b")
      const outer = yield* hold("a")
      const waiter = yield* queueing(order, lock, "a")
      yield* waiting("a", 1)
      const nested = yield* Effect.fork(
        Effect.scoped(Effect.tap(lock.acquire("a/b"), () => Effect.sync(() => order.push("a/b"))))
      )
      yield* waiting("a/b", 1)
      yield* outer.release
      yield* Fiber.join(waiter)
      assert.deepStrictEqual(order, ["a"])
      yield* inner.release
      yield* Fiber.join(nested)
      assert.deepStrictEqual(order, ["a", "a/b"])
    }).pipe(scenario))

  it.effect("do not wait longer than their session lasts, with etcd away", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const lock = yield* another("p")
      yield* hold("a", { ttl: "1 hour" })
      const waiter = yield* Effect.fork(Effect.scoped(lock.acquire("a", { ttl: "10 seconds" })))
      yield* waiting("a", 1)
      yield* etcd.connection("p").down
      yield* pass("8 seconds")
      assert.isTrue(Option.isNone(yield* Fiber.poll(waiter)))
      const error = yield* whileTimePasses(Effect.flip(Fiber.join(waiter)))
      assert.isTrue(error._tag === "EtcdError" && error.reason === "Unavailable", "it cannot enter again")
    }).pipe(scenario))

  it.effect("do not hold on a session that ended just before their turn, when nothing has told of that yet", () =>
    Effect.gen(function*() {
      const sessions = yield* Session.Sessions
      let stalled = true
      const lock = yield* Lock.make().pipe(Effect.provideService(Session.Sessions, {
        ...sessions,
        lend: () => undefined,
        borrow: (ttl, owe) =>
          Effect.map(sessions.borrow(ttl, owe), (session) => ({
            ...session,
            check: Effect.suspend(() => {
              const found = stalled
                ? Effect.fail(new Session.SessionExpired({ lease: 1n, reason: "expired" }))
                : session.check
              stalled = false
              return found
            })
          }))
      }))
      const holder = yield* hold("a")
      const waiter = yield* Effect.fork(lock.acquire("a"))
      yield* waiting("a", 1)
      const { waiters: [first] } = yield* Lock.inspect("a")
      yield* holder.release
      const { fencingToken } = yield* whileTimePasses(Fiber.join(waiter))
      assert.isTrue(fencingToken > first.fencingToken)
    }).pipe(scenario))

  for (const operation of ["watch", "range"] as const) {
    it.effect(`hear that etcd refuses to show the queue (${operation})`, () =>
      Effect.gen(function*() {
        const etcd = yield* TestEtcd
        const lock = yield* another("p")
        const holder = yield* hold("a")
        yield* etcd.connection("p").refuse(refusals.permissionDenied, {
          match: (request) => request.operation === operation,
          times: Infinity
        })
        const errors = yield* whileTimePasses(
          Effect.all(Array.from({ length: 3 }, () => Effect.flip(Effect.scoped(lock.acquire("a")))), {
            concurrency: "unbounded"
          })
        )
        for (const error of errors) assert.isTrue(error._tag === "EtcdError" && error.reason === "PermissionDenied")
        yield* waiting("a", 0)
        yield* etcd.connection("p").clear
        const waiter = yield* Effect.fork(Effect.scoped(lock.acquire("a")))
        yield* waiting("a", 1)
        yield* holder.release
        yield* whileTimePasses(Fiber.join(waiter))
      }).pipe(scenario))
  }
})
