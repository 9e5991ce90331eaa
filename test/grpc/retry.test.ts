import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/TestClock"
import * as EtcdClient from "../../src/EtcdClient.js"
import { EtcdError } from "../../src/EtcdError.js"
import * as TestEtcd from "../../src/testing.js"
import type { Client } from "./support.js"
import { failure, outcome } from "./support.js"

/** The retry is the same over every transport; the embedded etcd loses exactly what it is told to lose. */
const start = (options: TestEtcd.ClientOptions = {}) =>
  Effect.map(Layer.build(Layer.provideMerge(TestEtcd.client(options), TestEtcd.layer())), (context) => ({
    etcd: Context.get(context, TestEtcd.TestEtcd),
    client: Context.get(context, EtcdClient.EtcdClient)
  }))

const settle = Effect.repeatN(Effect.yieldNow(), 30)

/** Runs with time passing as fast as it can. */
const inTime = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(effect)
    while ((yield* Fiber.poll(fiber))._tag === "None") {
      yield* TestClock.adjust("100 millis")
      yield* settle
    }
    return yield* Fiber.join(fiber)
  })

const put = (client: Client, options?: EtcdClient.CallOptions) => client.put({ key: "key", value: "" }, options)

const writes: Record<string, (client: Client, options?: EtcdClient.CallOptions) => Effect.Effect<unknown, EtcdError>> =
  {
    put,
    delete: (client, options) => client.delete({ key: "key" }, options),
    txn: (client, options) => client.txn({ success: [{ _tag: "Put", request: { key: "key", value: "" } }] }, options),
    compact: (client, options) => client.compact(1n, options)
  }

const reads: Record<string, (client: Client) => Effect.Effect<unknown, EtcdError>> = {
  range: (client) => client.get("key"),
  txn: (client) => client.txn({ success: [{ _tag: "Range", request: { key: "key" } }] }),
  leaseTimeToLive: (client) => client.leaseTimeToLive(1n),
  status: (client) => client.status(client.endpoints[0])
}

describe("a write that got no answer", () => {
  it.scoped("is not repeated: it may have been applied", () =>
    Effect.gen(function*() {
      for (const [name, write] of Object.entries(writes)) {
        for (const lose of ["loseRequest", "loseResponse"] as const) {
          const { client, etcd } = yield* start()
          yield* etcd[lose]()
          const error = yield* inTime(failure(write(client)))
          assert.deepStrictEqual([name, ...outcome(error)], [name, "Unavailable", true])
          assert.deepInclude((yield* etcd.usage).calls, { [name]: 1 })
        }
      }
    }))

  it.scoped("is repeated when the caller says that it is idempotent", () =>
    Effect.gen(function*() {
      for (const [name, write] of Object.entries(writes)) {
        const { client, etcd } = yield* start()
        yield* etcd.loseResponse({ times: 2 })
        yield* inTime(Effect.ignore(write(client, { idempotent: true })))
        assert.deepInclude((yield* etcd.usage).calls, { [name]: 3 })
      }
    }))

  it.scoped("stays in doubt, whatever comes of its repetitions", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* start({ retry: { maxAttempts: 3 } })
      yield* etcd.loseResponse()
      yield* etcd.refuse(TestEtcd.refusals.noLeader, { times: 2 })
      const unavailable = yield* inTime(failure(put(client, { idempotent: true })))
      assert.deepStrictEqual(outcome(unavailable), ["Unavailable", true])
      assert.instanceOf(unavailable, EtcdError)
      assert.match(unavailable.message, /no leader; it may have been applied$/)
      yield* etcd.loseResponse()
      yield* etcd.refuse(TestEtcd.refusals.permissionDenied)
      assert.deepStrictEqual(outcome(yield* inTime(failure(put(client, { idempotent: true })))), [
        "PermissionDenied",
        true
      ])
    }))
})

describe("a call that was certainly not carried out", () => {
  it.scoped("is repeated, writes too", () =>
    Effect.gen(function*() {
      for (const [name, write] of Object.entries(writes)) {
        const { client, etcd } = yield* start()
        yield* etcd.refuse(TestEtcd.refusals.noLeader, { times: 2 })
        yield* inTime(Effect.ignore(write(client)))
        assert.deepInclude((yield* etcd.usage).calls, { [name]: 3 })
      }
      const { client, etcd } = yield* start()
      yield* etcd.down
      const waiting = yield* Effect.fork(put(client))
      yield* TestClock.adjust("1 second")
      yield* etcd.up
      yield* inTime(Fiber.join(waiting))
      assert.lengthOf(yield* etcd.snapshot, 1)
    }))

  it.scoped("is not repeated when that changes nothing", () =>
    Effect.gen(function*() {
      for (const refusal of [TestEtcd.refusals.permissionDenied, TestEtcd.refusals.invalidAuthToken]) {
        const { client, etcd } = yield* start()
        yield* etcd.refuse(refusal)
        assert.isFalse((yield* inTime(failure(put(client, { idempotent: true })))).mayBeApplied)
        assert.strictEqual((yield* etcd.usage).calls.put, 1)
      }
    }))

  it.scoped("is repeated if it is a read, whatever happened", () =>
    Effect.gen(function*() {
      for (const [name, read] of Object.entries(reads)) {
        const { client, etcd } = yield* start()
        yield* etcd.loseRequest()
        yield* etcd.loseResponse()
        yield* inTime(Effect.ignore(read(client)))
        assert.deepInclude((yield* etcd.usage).calls, { [name]: 3 })
      }
    }))
})

describe("repetitions", () => {
  it.scoped("end after so many attempts", () =>
    Effect.gen(function*() {
      for (const maxAttempts of [1, 3]) {
        const { client, etcd } = yield* start({ retry: { maxAttempts } })
        yield* etcd.down
        yield* etcd.resetUsage
        const error = yield* inTime(failure(client.get("key")))
        assert.deepStrictEqual(outcome(error), ["Unavailable", false])
        assert.strictEqual((yield* etcd.usage).calls.range, maxAttempts)
      }
    }))

  it.scoped("wait longer each time, up to a limit", () =>
    Effect.gen(function*() {
      const retry = { maxAttempts: 5, initialDelay: "1 second", multiplier: 2, maxDelay: "3 seconds" } as const
      const { client, etcd } = yield* start({ retry, requestTimeout: "1 minute" })
      yield* etcd.refuse(TestEtcd.refusals.noLeader, { times: Infinity })
      const fiber = yield* Effect.fork(failure(client.get("key")))
      yield* settle
      // Delays are spread by a fifth around 1, 2, 3 and 3 seconds.
      for (const [index, seconds] of [1, 2, 3, 3].entries()) {
        yield* TestClock.adjust(Duration.seconds(seconds * 0.39))
        yield* TestClock.adjust(Duration.seconds(seconds * 0.39))
        assert.strictEqual((yield* etcd.usage).calls.range, index + 1)
        let waited = seconds * 0.78
        while ((yield* etcd.usage).calls.range === index + 1) {
          yield* TestClock.adjust("10 millis")
          yield* settle
          waited += 0.01
        }
        assert.isAtMost(waited, seconds * 1.22)
      }
      assert.deepStrictEqual(outcome(yield* Fiber.join(fiber)), ["Unavailable", false])
    }))

  it.scoped("follow the schedule of the caller", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const retry = Schedule.spaced("1 second").pipe(
        Schedule.whileInput((error: EtcdError) => error.detail !== TestEtcd.refusals.stopped.details),
        Schedule.tapInput((error: EtcdError) => Effect.sync(() => seen.push(error.detail)))
      )
      const { client, etcd } = yield* start({ retry })
      yield* etcd.refuse(TestEtcd.refusals.noLeader, { times: 3 })
      yield* etcd.refuse(TestEtcd.refusals.stopped)
      const fiber = yield* Effect.fork(failure(client.get("key")))
      for (const calls of [1, 2, 3]) {
        yield* settle
        assert.strictEqual((yield* etcd.usage).calls.range, calls)
        yield* TestClock.adjust("999 millis")
        assert.strictEqual((yield* etcd.usage).calls.range, calls)
        yield* TestClock.adjust("1 millis")
      }
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error.detail, TestEtcd.refusals.stopped.details)
      const { noLeader, stopped } = TestEtcd.refusals
      assert.deepStrictEqual(seen, [noLeader, noLeader, noLeader, stopped].map(({ details }) => details))
    }))

  it.scoped("end with the deadline of the whole call", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* start({ retry: Schedule.spaced("300 millis"), requestTimeout: "1 second" })
      yield* etcd.down
      for (const call of [client.get("key"), client.get("key", { timeout: "1 second" })]) {
        const fiber = yield* Effect.fork(failure(call))
        yield* TestClock.adjust("999 millis")
        assert.isTrue((yield* Fiber.poll(fiber))._tag === "None")
        yield* TestClock.adjust("1 millis")
        yield* settle
        assert.deepStrictEqual(outcome(yield* Fiber.join(fiber)), ["Unavailable", false])
      }
      // A stall uses the deadline up at once.
      yield* etcd.up
      yield* etcd.stall()
      const stalled = yield* Effect.fork(failure(put(client)))
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.deepStrictEqual(outcome(yield* Fiber.join(stalled)), ["DeadlineExceeded", true])
    }))

  it.scoped("end when the caller is interrupted", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* start({ retry: Schedule.spaced("1 second"), requestTimeout: "1 hour" })
      yield* etcd.down
      const fiber = yield* Effect.fork(client.get("key"))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.interrupt(fiber)
      const { calls } = yield* etcd.usage
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual((yield* etcd.usage).calls, calls)
    }))
})

describe("leases", () => {
  it.scoped("are granted once, under the same id, although the answer was lost", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* start()
      for (const id of [undefined, 7n]) {
        yield* etcd.resetUsage
        yield* etcd.loseResponse({ times: 2 })
        const lease = yield* inTime(client.leaseGrant({ ttl: "1 minute", id }))
        if (id !== undefined) assert.strictEqual(lease.id, id)
        assert.strictEqual(Duration.toSeconds(lease.ttl), 60)
        assert.strictEqual((yield* etcd.usage).calls.leaseGrant, 3)
        assert.deepStrictEqual((yield* etcd.leases).filter((one) => one.id === lease.id).map(({ ttl }) => ttl), [60n])
      }
      assert.lengthOf(yield* etcd.leases, 2)
    }))

  it.scoped("are others each time that one effect is run", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* start()
      const grant = client.leaseGrant({ ttl: "1 minute" })
      const [first, second] = [yield* grant, yield* grant]
      assert.notStrictEqual(first.id, second.id)
      assert.lengthOf(yield* etcd.leases, 2)
    }))

  it.scoped("of somebody else are not taken for one's own", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* start()
      yield* client.leaseGrant({ ttl: "1 minute", id: 7n })
      const grant = client.leaseGrant({ ttl: "1 minute", id: 7n })
      assert.deepStrictEqual(outcome(yield* failure(grant)), ["LeaseExists", false])
      // Nor after an attempt that was certainly not carried out.
      yield* etcd.refuse(TestEtcd.refusals.noLeader)
      assert.deepStrictEqual(outcome(yield* inTime(failure(grant))), ["LeaseExists", false])
    }))

  it.scoped("are revoked, although the answer was lost or the lease is gone", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* start()
      yield* client.leaseGrant({ ttl: "1 minute", id: 7n })
      yield* etcd.loseResponse()
      yield* inTime(client.leaseRevoke(7n))
      assert.deepStrictEqual(yield* etcd.leases, [])
      yield* client.leaseRevoke(7n)
    }))

  it.scoped("are not renewed again by themselves: that is for whoever counts the time", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* start()
      yield* client.leaseGrant({ ttl: "1 minute", id: 7n })
      yield* etcd.loseResponse()
      assert.deepStrictEqual(outcome(yield* inTime(failure(client.leaseKeepAliveOnce(7n)))), [
        "DeadlineExceeded",
        false
      ])
      assert.strictEqual((yield* etcd.usage).calls.leaseKeepAlive, 1)
      yield* client.leaseKeepAliveOnce(7n)
      assert.strictEqual((yield* failure(client.leaseKeepAliveOnce(8n))).reason, "LeaseNotFound")
      assert.strictEqual((yield* failure(client.leaseTimeToLive(8n))).reason, "LeaseNotFound")
    }))
})
