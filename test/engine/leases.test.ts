import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import { Lessor } from "../../src/internal/engine/Lessor.js"
import { Statuses } from "../../src/internal/etcdErrors.js"
import * as TestEtcd from "../../src/testing.js"
import { assertRefused, call, create, keysOf, openLease, openWatch, settle, show, text } from "./support.js"

const connect = (options?: TestEtcd.Options) =>
  Effect.gen(function*() {
    const etcd = yield* TestEtcd.make(options)
    const client = yield* etcd.transport()
    const timeToLive = (id: bigint) => client.leaseTimeToLive({ id, keys: true }, call)
    return {
      etcd,
      client,
      grant: (id: bigint, ttl: bigint) => client.leaseGrant({ id, ttl }, call),
      put: (key: string, lease: bigint) => client.put({ key, value: "", lease }, call),
      ttl: (id: bigint) => Effect.map(timeToLive(id), ({ ttl }) => ttl),
      attached: (id: bigint) => Effect.map(timeToLive(id), ({ keys }) => keys.map(text))
    }
  })

describe("leases", () => {
  it("are looked at only when one may be over", () => {
    const second = 1_000_000_000n
    const lessor = new Lessor(2n)
    assert.isUndefined(lessor.earliest)
    lessor.grant(1n, 10n, 0n)
    lessor.grant(2n, 5n, 0n)
    assert.strictEqual(lessor.earliest, 5n * second)
    lessor.renew(2n, 3n * second)
    // still the old one: a look too early does no harm
    assert.strictEqual(lessor.earliest, 5n * second)
    assert.deepStrictEqual(lessor.due(5n * second), [])
    assert.strictEqual(lessor.earliest, 8n * second)
    assert.deepStrictEqual(lessor.due(10n * second), [2n, 1n])
    assert.isUndefined(lessor.earliest)
  })

  it.scoped("grants what was asked for, at least the minimum", () =>
    Effect.gen(function*() {
      const { client, grant } = yield* connect()
      const granted = yield* grant(1n << 62n, 10n)
      assert.deepStrictEqual([granted.id, granted.ttl, granted.header.revision], [1n << 62n, 10n, 1n])
      assert.strictEqual((yield* grant(2n, 1n)).ttl, 2n)
      // etcd raises these too
      assert.strictEqual((yield* grant(3n, 0n)).ttl, 2n)
      assert.strictEqual((yield* grant(4n, -5n)).ttl, 2n)
      assert.strictEqual((yield* grant(5n, 9_000_000_000n)).ttl, 9_000_000_000n)
      yield* assertRefused(grant(6n, 9_000_000_001n), "InvalidRequest", Statuses.leaseTtlTooLarge.details)
      yield* assertRefused(grant(2n, 10n), "LeaseExists", Statuses.leaseExists.details)
      const generated = [yield* grant(0n, 10n), yield* grant(0n, 10n)]
      assert.isTrue(generated.every(({ id }) => id > 0n))
      assert.notStrictEqual(generated[0]?.id, generated[1]?.id)
      const state = yield* client.leaseTimeToLive({ id: 2n, keys: false }, call)
      assert.deepStrictEqual([state.ttl, state.grantedTtl, state.keys], [2n, 2n, []])
    }))

  it.scoped("has a minimum of one's choice", () =>
    Effect.gen(function*() {
      const { grant } = yield* connect({ minLeaseTtl: "5 seconds" })
      assert.strictEqual((yield* grant(1n, 1n)).ttl, 5n)
    }))

  it.scoped("answers -1 for a lease that does not exist", () =>
    Effect.gen(function*() {
      const { client } = yield* connect()
      const state = yield* client.leaseTimeToLive({ id: 9n, keys: true }, call)
      assert.deepStrictEqual([state.id, state.ttl, state.grantedTtl, state.keys], [9n, -1n, 0n, []])
      yield* assertRefused(client.leaseRevoke(9n, call), "LeaseNotFound", Statuses.leaseNotFound.details)
    }))

  it.scoped("revokes: the keys go in one revision", () =>
    Effect.gen(function*() {
      const { client, etcd, grant, put } = yield* connect()
      yield* grant(1n, 10n)
      for (const key of ["c", "a", "b"]) {
        yield* put(key, 1n)
      }
      yield* put("other", 0n)
      const watch = yield* openWatch(client)
      yield* watch.send(create("\0", { rangeEnd: "\0" }))
      yield* watch.next
      const header = yield* client.leaseRevoke(1n, call)
      assert.strictEqual(header.revision, 6n)
      assert.deepStrictEqual(show(yield* watch.next), ["-a@6", "-b@6", "-c@6"])
      assert.deepStrictEqual(keysOf(yield* etcd.snapshot), ["other"])
      // without keys there is no revision
      yield* grant(1n, 10n)
      assert.strictEqual((yield* client.leaseRevoke(1n, call)).revision, 6n)
    }))

  it.scoped("ends when its time is over, and not before", () =>
    Effect.gen(function*() {
      const { client, etcd, grant, put, ttl } = yield* connect()
      const watch = yield* openWatch(client)
      yield* grant(1n, 10n)
      yield* put("a", 1n)
      yield* watch.send(create("a"))
      yield* watch.next
      yield* TestClock.adjust("9999 millis")
      assert.strictEqual(yield* ttl(1n), 0n)
      assert.deepStrictEqual(keysOf(yield* etcd.snapshot), ["a"])
      assert.deepStrictEqual(yield* watch.rest, [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(show(yield* watch.next), ["-a@3"])
      assert.strictEqual(yield* ttl(1n), -1n)
      assert.deepStrictEqual(yield* etcd.leases, [])
    }))

  it.scoped("ends leases in the order of their ends, each in its own revision", () =>
    Effect.gen(function*() {
      const { client, grant, put } = yield* connect()
      // the earliest is granted last, when the clock's fibre already sleeps for a later one
      yield* grant(1n, 30n)
      yield* settle
      yield* grant(2n, 20n)
      yield* settle
      yield* grant(3n, 10n)
      yield* put("a", 1n)
      yield* put("b", 2n)
      yield* put("c", 3n)
      const watch = yield* openWatch(client)
      yield* watch.send(create("a", { rangeEnd: "z" }))
      yield* watch.next
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(show(yield* watch.next), ["-c@5"])
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual((yield* watch.rest).map(show), [["-b@6"], ["-a@7"]])
    }))

  it.scoped("is kept alive from the time of the keep-alive on", () =>
    Effect.gen(function*() {
      const { client, etcd, grant, ttl } = yield* connect()
      const stream = yield* openLease(client)
      yield* grant(1n, 10n)
      for (let round = 0; round < 5; round++) {
        yield* TestClock.adjust("9 seconds")
        yield* stream.send(1n)
        const answer = yield* stream.next
        assert.deepStrictEqual([answer.id, answer.ttl, answer.header.revision], [1n, 10n, 1n])
      }
      assert.strictEqual(yield* ttl(1n), 10n)
      yield* TestClock.adjust("10 seconds")
      yield* stream.send(1n)
      assert.strictEqual((yield* stream.next).ttl, 0n)
      yield* stream.send(77n)
      assert.deepStrictEqual([(yield* stream.next).id, (yield* etcd.leases).length], [77n, 0])
    }))

  it.scoped("answers keep-alives in order", () =>
    Effect.gen(function*() {
      const { client, grant } = yield* connect()
      const stream = yield* openLease(client)
      yield* grant(1n, 10n)
      yield* grant(2n, 20n)
      yield* stream.send(2n)
      yield* stream.send(3n)
      yield* stream.send(1n)
      assert.deepStrictEqual((yield* stream.rest).map(({ id, ttl }) => [id, ttl]), [[2n, 20n], [3n, 0n], [1n, 10n]])
    }))

  it.scoped("follows keys from lease to lease", () =>
    Effect.gen(function*() {
      const { attached, client, etcd, grant, put } = yield* connect()
      yield* grant(1n, 10n)
      yield* grant(2n, 20n)
      yield* put("b", 1n)
      yield* put("a", 1n)
      yield* put("c", 1n)
      assert.deepStrictEqual(yield* attached(1n), ["a", "b", "c"])
      yield* put("b", 2n)
      yield* put("c", 0n)
      assert.deepStrictEqual([yield* attached(1n), yield* attached(2n)], [["a"], ["b"]])
      yield* client.put({ key: "b", value: "2", ignoreLease: true }, call)
      assert.deepStrictEqual(yield* attached(2n), ["b"])
      yield* client.del({ key: "a" }, call)
      assert.deepStrictEqual(yield* attached(1n), [])
      yield* client.txn({ success: [{ _tag: "Put", request: { key: "d", value: "", lease: 1n } }] }, call)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(keysOf(yield* etcd.snapshot), ["b", "c"])
      const [lease] = yield* etcd.leases
      assert.deepStrictEqual([lease?.id, lease?.ttl, lease?.keys.map(text)], [2n, 20n, ["b"]])
      assert.strictEqual(Duration.toMillis(lease?.remaining ?? 0), 10_000)
    }))

  it.scoped("is over at once when the test says so", () =>
    Effect.gen(function*() {
      const { etcd, grant, put } = yield* connect()
      yield* grant(1n, 10n)
      yield* put("a", 1n)
      assert.isTrue(yield* etcd.expireLease(1n))
      assert.isFalse(yield* etcd.expireLease(1n))
      assert.deepStrictEqual(yield* etcd.snapshot, [])
    }))

  it.scoped("starts over after a restart and after an election", () =>
    Effect.gen(function*() {
      const { etcd, grant, ttl } = yield* connect({ electionTimeout: "3 seconds" })
      yield* grant(1n, 10n)
      yield* TestClock.adjust("9 seconds")
      yield* etcd.restart
      assert.strictEqual(yield* ttl(1n), 13n)
      yield* TestClock.adjust("12 seconds")
      yield* etcd.failOver
      assert.strictEqual(yield* ttl(1n), 13n)
      yield* TestClock.adjust("13 seconds")
      assert.strictEqual(yield* ttl(1n), -1n)
    }))

  it.live("ends in time though the clock's fibre is late", () =>
    Effect.scoped(Effect.gen(function*() {
      const { grant, ttl } = yield* connect({ minLeaseTtl: "1 second" })
      yield* grant(1n, 1n)
      const end = performance.now() + 1050
      // a busy process: no timer fires
      while (performance.now() < end);
      assert.strictEqual(yield* ttl(1n), -1n)
    })))

  it.live("ends by the real clock too", () =>
    Effect.scoped(Effect.gen(function*() {
      const { client, grant, put } = yield* connect({ minLeaseTtl: "1 second" })
      const watch = yield* openWatch(client)
      const granted = performance.now()
      yield* grant(1n, 1n)
      yield* put("a", 1n)
      yield* watch.send(create("a"))
      yield* watch.next
      assert.deepStrictEqual(show(yield* watch.next), ["-a@3"])
      // Not early, by clocks that may differ by a millisecond; how late is the machine's affair.
      assert.isAtLeast(performance.now() - granted, 999)
    })))
})
