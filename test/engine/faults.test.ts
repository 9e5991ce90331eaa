import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as TestEtcd from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { call, connect, create, failure, keysOf, openLease, openWatch, outcome, settle, show } from "./support.js"

describe("a connection that breaks", () => {
  it.scoped("ends streams and calls in flight, and comes back", () =>
    Effect.gen(function*() {
      const { client, etcd, get, put } = yield* connect()
      const watch = yield* openWatch(client)
      const lease = yield* openLease(client)
      yield* watch.send(create("a"))
      yield* watch.next
      const writing = yield* Effect.fork(failure(put("a")))
      const reading = yield* Effect.fork(failure(get("a")))
      yield* Effect.yieldNow()
      yield* etcd.disconnect
      assert.deepStrictEqual(outcome(yield* Fiber.join(writing)), ["Unavailable", true])
      assert.deepStrictEqual(outcome(yield* Fiber.join(reading)), ["Unavailable", false])
      assert.deepStrictEqual(outcome(yield* watch.ended), ["Unavailable", false])
      assert.strictEqual((yield* lease.ended).operation, "leaseKeepAlive")
      assert.deepInclude(yield* etcd.usage, { watchStreams: 0, leaseStreams: 0, watchers: 0, callsInFlight: 0 })
      // an ended stream is deaf and dumb
      yield* watch.send(create("a"))
      yield* put("a")
      yield* etcd.disconnect
      assert.deepStrictEqual(yield* watch.rest, [])
      assert.strictEqual(watch.endings(), 1)
    }))

  it.scoped("loses what was on its way", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* connect()
      const watch = yield* openWatch(client)
      yield* watch.send(create("a"))
      yield* watch.next
      yield* etcd.putKey("a", "1")
      yield* etcd.disconnect
      assert.deepStrictEqual(yield* watch.rest, [])
      yield* watch.ended
    }))

  it.scoped("loses the answer of what was carried out", () =>
    Effect.gen(function*() {
      const { client, etcd, put } = yield* connect()
      const stream = yield* client.openWatch({
        onMessage: ({ events }) => events.length === 0 ? undefined : Effect.runSync(etcd.disconnect),
        onEnd: () => {}
      })
      stream.send(create("a"))
      yield* settle
      assert.deepStrictEqual(outcome(yield* failure(put("a"))), ["Unavailable", true])
      assert.deepStrictEqual(keysOf(yield* etcd.snapshot), ["a"])
    }))

  it.scoped("does not tell a stream that was closed in the meantime", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* connect()
      const watch = yield* Effect.scoped(Effect.tap(openWatch(client), () => etcd.disconnect))
      yield* settle
      assert.strictEqual(watch.endings(), 0)
    }))

  it.scoped("concerns one client, or all", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* connect()
      const other = yield* etcd.transport()
      const mine = yield* openWatch(client)
      const theirs = yield* openWatch(other)
      yield* etcd.connection("a").disconnect
      yield* mine.ended
      yield* theirs.send(create("x"))
      yield* theirs.next
      assert.deepInclude(yield* etcd.usage, { watchStreams: 1, watchers: 1 })
      assert.deepInclude(yield* etcd.connection("a").usage, { watchStreams: 0, watchers: 0 })
      yield* etcd.disconnect
      yield* theirs.ended
    }))

  it.scoped("stays away while it is down", () =>
    Effect.gen(function*() {
      const { client, etcd, get, put } = yield* connect()
      const watch = yield* openWatch(client)
      yield* etcd.down
      yield* watch.ended
      assert.deepStrictEqual(outcome(yield* failure(put("a"))), ["Unavailable", false])
      const late = yield* openWatch(client)
      yield* late.send(create("a"))
      assert.deepStrictEqual(outcome(yield* late.ended), ["Unavailable", false])
      yield* etcd.up
      assert.strictEqual((yield* get("a")).count, 0n)
      const again = yield* openWatch(client)
      yield* again.send(create("a"))
      assert.isTrue((yield* again.next).created)
      assert.deepStrictEqual(yield* late.rest, [])
    }))
})

describe("a connection that stalls", () => {
  it.scoped("lets calls meet their deadlines", () =>
    Effect.gen(function*() {
      const { etcd, get, put } = yield* connect()
      yield* etcd.stall()
      const writing = yield* Effect.fork(failure(put("a")))
      const reading = yield* Effect.fork(failure(get("a")))
      yield* TestClock.adjust("999 millis")
      assert.isNull(yield* Fiber.poll(writing).pipe(Effect.map((exit) => exit._tag === "None" ? null : exit)))
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(outcome(yield* Fiber.join(writing)), ["DeadlineExceeded", true])
      assert.deepStrictEqual(outcome(yield* Fiber.join(reading)), ["DeadlineExceeded", false])
      yield* etcd.resume
      yield* settle
      assert.deepStrictEqual(yield* etcd.snapshot, [])
    }))

  it.scoped("delivers in order what is still wanted", () =>
    Effect.gen(function*() {
      const { client, etcd, put } = yield* connect()
      const watch = yield* openWatch(client)
      yield* watch.send(create("a", { rangeEnd: "z" }))
      yield* watch.next
      yield* etcd.stall()
      yield* etcd.putKey("a", "1")
      yield* settle
      yield* etcd.putKey("b", "2")
      const writing = yield* Effect.fork(put("c", "3"))
      yield* watch.send(create("a"))
      assert.deepStrictEqual(yield* watch.rest, [])
      yield* etcd.putKey("d", "4")
      yield* etcd.resume
      yield* etcd.putKey("e", "5")
      yield* Fiber.join(writing)
      const messages = yield* watch.rest
      assert.deepStrictEqual(messages.flatMap(show), ["+a=1@2", "+b=2@3", "+d=4@4", "+e=5@5", "+c=3@6"])
      assert.isTrue(messages.some(({ created, watchId }) => created && watchId === 1n))
      yield* TestClock.adjust("1 hour")
    }))

  it.scoped("may stall only one way", () =>
    Effect.gen(function*() {
      const { etcd, put } = yield* connect()
      yield* etcd.stall({ applied: true })
      const writing = yield* Effect.fork(failure(put("a")))
      yield* settle
      assert.deepStrictEqual(keysOf(yield* etcd.snapshot), ["a"])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(outcome(yield* Fiber.join(writing)), ["DeadlineExceeded", true])
    }))

  it.scoped("may stall only calls, or only streams, of one client", () =>
    Effect.gen(function*() {
      const { client, etcd, put } = yield* connect()
      const stream = yield* openLease(client)
      yield* client.leaseGrant({ id: 1n, ttl: 5n }, call)
      yield* etcd.connection("a").stall({ calls: false })
      yield* put("a")
      yield* stream.send(1n)
      assert.deepStrictEqual(yield* stream.rest, [])
      // the lease ends meanwhile
      yield* TestClock.adjust("5 seconds")
      yield* etcd.connection("a").resume
      assert.deepStrictEqual((yield* stream.rest).map(({ ttl }) => ttl), [0n])
      yield* etcd.stall({ streams: false })
      yield* stream.send(1n)
      yield* stream.next
    }))

  it.scoped("breaks like any other", () =>
    Effect.gen(function*() {
      const { client, etcd, put } = yield* connect()
      const watch = yield* openWatch(client)
      yield* etcd.stall()
      const writing = yield* Effect.fork(failure(put("a")))
      yield* settle
      yield* etcd.disconnect
      assert.deepStrictEqual(outcome(yield* Fiber.join(writing)), ["Unavailable", true])
      yield* watch.ended
    }))

  it.scoped("keeps nothing of callers that left", () =>
    Effect.gen(function*() {
      const { etcd, put } = yield* connect()
      yield* etcd.stall()
      const writing = yield* Effect.fork(put("a"))
      yield* settle
      yield* Fiber.interrupt(writing)
      assert.strictEqual((yield* etcd.usage).callsInFlight, 0)
      yield* etcd.resume
      yield* settle
      assert.deepStrictEqual(yield* etcd.snapshot, [])
    }))
})

describe("requests and answers that are lost or refused", () => {
  it.scoped("loses the request, or the answer", () =>
    Effect.gen(function*() {
      const { client, etcd, get, put } = yield* connect()
      yield* etcd.loseRequest()
      assert.deepStrictEqual(outcome(yield* failure(put("a"))), ["Unavailable", true])
      assert.deepStrictEqual(yield* etcd.snapshot, [])
      yield* etcd.loseResponse({ times: 2 })
      const watch = yield* openWatch(client)
      yield* watch.send(create("z"))
      assert.isTrue((yield* watch.next).created)
      assert.deepStrictEqual(outcome(yield* failure(put("a"))), ["Unavailable", true])
      assert.deepStrictEqual(keysOf(yield* etcd.snapshot), ["a"])
      assert.deepStrictEqual(outcome(yield* failure(get("a"))), ["Unavailable", false])
      assert.strictEqual((yield* get("a")).count, 1n)
    }))

  it.scoped("hits the requests that match", () =>
    Effect.gen(function*() {
      const { client, etcd, put } = yield* connect()
      yield* etcd.loseResponse({
        match: ({ keys, operation }) => operation === "txn" && keys.includes("nested"),
        times: Infinity
      })
      yield* put("nested")
      yield* client.txn({ compare: [Txn.absent("nested")] }, call)
      const txn = client.txn({ success: [Txn.txn({ failure: [Txn.put({ key: "nested", value: "" })] })] }, call)
      const error = yield* failure(txn)
      assert.deepStrictEqual([error.operation, error.key, error.mayBeApplied], ["txn", "nested", true])
      assert.isFalse((yield* failure(client.txn({ success: [Txn.range({ key: "nested" })] }, call))).mayBeApplied)
      yield* etcd.clear
      yield* txn
    }))

  it.scoped("refuses as etcd would", () =>
    Effect.gen(function*() {
      const { client, etcd, put } = yield* connect()
      yield* etcd.connection("a").refuse(TestEtcd.refusals.permissionDenied, { match: ({ keys }) => keys[0] === "a" })
      yield* put("b")
      const error = yield* failure(put("a"))
      assert.deepStrictEqual([error.reason, error.code, error.mayBeApplied], ["PermissionDenied", 7, false])
      assert.match(error.message, /etcd put "a" at memory:etcd failed with PermissionDenied/)
      yield* put("a")

      const watch = yield* openWatch(client)
      yield* etcd.refuse(TestEtcd.refusals.permissionDenied)
      yield* watch.send(create("a"))
      yield* watch.send(create("b"))
      assert.deepStrictEqual(
        (yield* watch.rest).map(({ canceled, cancelReason, created, watchId }) => [
          watchId,
          created,
          canceled,
          cancelReason
        ]),
        [
          [-1n, true, true, "rpc error: code = PermissionDenied desc = etcdserver: permission denied"],
          [0n, true, false, ""]
        ]
      )
      const lease = yield* openLease(client)
      yield* etcd.refuse(TestEtcd.refusals.noLeader)
      yield* lease.send(1n)
      assert.strictEqual((yield* lease.ended).reason, "Unavailable")
    }))

  it.scoped("loses keep-alives", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* connect()
      const stream = yield* openLease(client)
      yield* client.leaseGrant({ id: 1n, ttl: 10n }, call)
      yield* client.leaseGrant({ id: 2n, ttl: 10n }, call)
      yield* TestClock.adjust("5 seconds")
      const hit = (lease: bigint) => ({ match: (request: TestEtcd.Request) => request.lease === lease })
      yield* etcd.loseRequest(hit(1n))
      yield* etcd.loseResponse(hit(2n))
      yield* stream.send(1n)
      yield* stream.send(2n)
      assert.deepStrictEqual(yield* stream.rest, [])
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual((yield* etcd.leases).map(({ id }) => id), [2n])
    }))
})
