import { assert } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Txn from "../../../src/Txn.js"
import { type Client, type It, refused, test, text, unique } from "../support.js"

const notFound = "etcdserver: requested lease not found"

/** Above 2^53, where numbers would lose digits. */
const ownId = () => (1n << 62n) + BigInt(Date.now()) * 1_000n + BigInt(unique())

/** The order in which etcd lists the keys of a lease is nobody's. */
const keysOf = (client: Client, id: bigint, name: (key: Uint8Array) => string = text) =>
  Effect.map(client.leaseTimeToLive(id, { keys: true }), ({ keys }) => keys.map(name).sort())

export const leases = (it: It) => {
  test(it, "grants under an id of our own, and under one it draws", ({ client, rev }) =>
    Effect.gen(function*() {
      const id = ownId()
      assert.deepStrictEqual(yield* client.leaseGrant({ ttl: "60 seconds", id }), { id, ttl: Duration.seconds(60) })
      const [drawn, another] = yield* Effect.all([
        client.leaseGrant({ ttl: "61 seconds" }),
        client.leaseGrant({ ttl: "61 seconds" })
      ])
      assert.isTrue(drawn.id > 0n && drawn.id !== another.id)
      const { header } = yield* client.range({ key: "\0", limit: 1 })
      assert.strictEqual(rev(header.revision), 0)
      yield* Effect.forEach([id, drawn.id, another.id], (lease) => client.leaseRevoke(lease))
    }))

  test(it, "refuses an id that is taken, until it is free again", ({ client }) =>
    Effect.gen(function*() {
      const id = ownId()
      yield* client.leaseGrant({ ttl: "60 seconds", id })
      yield* refused(client.leaseGrant({ ttl: "90 seconds", id }), "LeaseExists", "etcdserver: lease already exists")
      assert.deepStrictEqual((yield* client.leaseTimeToLive(id)).granted, Duration.seconds(60))
      yield* client.leaseRevoke(id)
      assert.deepStrictEqual((yield* client.leaseGrant({ ttl: "90 seconds", id })).ttl, Duration.seconds(90))
      yield* client.leaseRevoke(id)
    }))

  test(
    it,
    "raises short times to the minimum, whole seconds up, and refuses endless ones",
    ({ client }) =>
      Effect.gen(function*() {
        const granted = (ttl: Duration.DurationInput) =>
          Effect.flatMap(
            client.leaseGrant({ ttl }),
            (lease) => Effect.as(client.leaseRevoke(lease.id), Duration.toSeconds(lease.ttl))
          )
        assert.strictEqual(yield* granted("1 second"), 2)
        assert.strictEqual(yield* granted("1 millis"), 2)
        assert.strictEqual(yield* granted("2 seconds"), 2)
        assert.strictEqual(yield* granted("2100 millis"), 3)
        assert.strictEqual(yield* granted(Duration.seconds(9_000_000_000)), 9_000_000_000)
        yield* refused(
          client.leaseGrant({ ttl: Duration.seconds(9_000_000_001) }),
          "InvalidRequest",
          "etcdserver: too large lease TTL"
        )
        yield* refused(client.leaseGrant({ ttl: 0 }), "InvalidRequest", "the time to live must be above zero")
      })
  )

  test(it, "tells the time to live, and the keys when asked", ({ client, k, name }) =>
    Effect.gen(function*() {
      const { id } = yield* client.leaseGrant({ ttl: "60 seconds" })
      const bare = yield* client.leaseTimeToLive(id)
      assert.deepStrictEqual([bare.id, bare.granted, bare.keys], [id, Duration.seconds(60), []])
      const remaining = Duration.toSeconds(bare.remaining)
      assert.isTrue(remaining > 50 && remaining <= 60, `${remaining}`)
      yield* client.put({ key: k("b"), value: "", lease: id })
      yield* client.put({ key: k("a"), value: "", lease: id })
      assert.deepStrictEqual((yield* client.leaseTimeToLive(id)).keys, [])
      assert.deepStrictEqual(yield* keysOf(client, id, name), ["a", "b"])
      yield* client.leaseRevoke(id)
    }))

  test(
    it,
    "attaches, moves and detaches keys as they are written",
    ({ client, contents, k, name }) =>
      Effect.gen(function*() {
        const [one, two] = [ownId(), ownId()]
        yield* client.leaseGrant({ ttl: "60 seconds", id: one })
        yield* client.leaseGrant({ ttl: "60 seconds", id: two })
        const attached = Effect.all([keysOf(client, one, name), keysOf(client, two, name)])
        const put = (key: string, lease?: bigint) => client.put({ key: k(key), value: "1", lease })
        yield* put("a", one)
        yield* put("b", one)
        yield* put("c", two)
        assert.deepStrictEqual(yield* attached, [["a", "b"], ["c"]])
        yield* put("a", two) // moves
        yield* put("b") // detaches
        yield* client.delete({ key: k("c") }) // detaches
        yield* put("c") // and stays so
        assert.deepStrictEqual(yield* attached, [["a"], []].reverse())
        yield* client.txn({ success: [Txn.put({ key: k("b"), value: "2", lease: one }), Txn.del({ key: k("a") })] })
        assert.deepStrictEqual(yield* attached, [["b"], []])
        yield* client.put({ key: k("b"), value: "3", ignoreLease: true })
        assert.deepStrictEqual(yield* attached, [["b"], []])
        yield* client.leaseRevoke(two)
        assert.deepStrictEqual(yield* contents, [`b=3 c2 m9 v4 l${one}`, "c=1 c7 m7 v1"])
        yield* client.leaseRevoke(one)
        assert.deepStrictEqual(yield* contents, ["c=1 c7 m7 v1"])
      })
  )

  test(
    it,
    "revokes: all keys of the lease go in one revision, and watchers hear of it",
    (stage) =>
      Effect.gen(function*() {
        const { all, client, contents, expectEvents, k, puts, revision } = stage
        const { id } = yield* client.leaseGrant({ ttl: "60 seconds" })
        yield* puts("other=1")
        for (const key of ["c", "a", "b"]) yield* client.put({ key: k(key), value: "1", lease: id })
        const watch = yield* client.openWatch({ ...all, prevKv: true })
        yield* client.leaseRevoke(id)
        assert.strictEqual(yield* revision, 5)
        assert.deepStrictEqual(yield* contents, ["other=1 c1 m1 v1"])
        yield* expectEvents(watch, [
          `-a m5 < a=1 c3 m3 v1 l${id}`,
          `-b m5 < b=1 c4 m4 v1 l${id}`,
          `-c m5 < c=1 c2 m2 v1 l${id}`
        ])
        // without keys there is nothing to tell
        const empty = yield* client.leaseGrant({ ttl: "60 seconds" })
        yield* client.leaseRevoke(empty.id)
        assert.strictEqual(yield* revision, 5)
      })
  )

  test(it, "revokes twice, and what never was, without complaint", ({ client }) =>
    Effect.gen(function*() {
      const { id } = yield* client.leaseGrant({ ttl: "60 seconds" })
      yield* client.leaseRevoke(id)
      yield* client.leaseRevoke(id)
      yield* client.leaseRevoke(ownId())
    }))

  test(it, "does not know a lease that is gone", ({ client, contents, k, revision }) =>
    Effect.gen(function*() {
      const { id } = yield* client.leaseGrant({ ttl: "60 seconds" })
      yield* client.leaseRevoke(id)
      for (const lease of [id, ownId(), 1n]) {
        yield* refused(client.leaseTimeToLive(lease), "LeaseNotFound", notFound)
        yield* refused(client.leaseTimeToLive(lease, { keys: true }), "LeaseNotFound", notFound)
        yield* refused(client.leaseKeepAliveOnce(lease), "LeaseNotFound", "the server does not know the lease")
        yield* refused(
          Stream.runDrain(client.leaseKeepAlive(lease)),
          "LeaseNotFound",
          "the server does not know the lease"
        )
        yield* refused(client.put({ key: k("a"), value: "", lease }), "LeaseNotFound", notFound, k("a"))
      }
      assert.deepStrictEqual(yield* contents, [])
      assert.strictEqual(yield* revision, 0)
    }))

  test(it, "renews: once, for many leases at a time, and one lease many times", ({ client }) =>
    Effect.gen(function*() {
      const ids = Array.from({ length: 50 }, ownId)
      yield* Effect.forEach(ids, (id, i) => client.leaseGrant({ ttl: Duration.seconds(60 + i), id }), {
        concurrency: "unbounded"
      })
      const renewed = yield* Effect.forEach([...ids, ...ids], (id) => client.leaseKeepAliveOnce(id), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(
        renewed,
        [...ids, ...ids].map((id, i) => ({ id, ttl: Duration.seconds(60 + i % 50) }))
      )
      yield* Effect.forEach(ids, (id) => client.leaseRevoke(id), { concurrency: "unbounded", discard: true })
    }))

  test(
    it,
    "lets a lease end, and its keys with it, in one revision",
    ({ backend, ...stage }) =>
      Effect.gen(function*() {
        const { all, client, contents, expectEvents, k, puts } = stage
        const { id } = yield* client.leaseGrant({ ttl: "4 seconds" })
        yield* client.txn({
          success: [
            Txn.put({ key: k("b"), value: "1", lease: id }),
            Txn.put({ key: k("a"), value: "1", lease: id })
          ]
        })
        yield* puts("kept=1")
        const watch = yield* client.openWatch(all)
        yield* backend.passingTime(expectEvents(watch, ["-a m3", "-b m3"]))
        assert.deepStrictEqual(yield* contents, ["kept=1 c2 m2 v1"])
        yield* refused(client.leaseTimeToLive(id), "LeaseNotFound", notFound)
        yield* refused(client.leaseKeepAliveOnce(id), "LeaseNotFound", "the server does not know the lease")
        yield* refused(client.put({ key: k("a"), value: "", lease: id }), "LeaseNotFound", notFound)
        yield* client.leaseRevoke(id)
      })
  )

  test(
    it,
    "keeps a lease alive as a stream, beyond its time",
    ({ backend, client, k, puts }) =>
      Effect.gen(function*() {
        const { id } = yield* client.leaseGrant({ ttl: "4 seconds" })
        const other = yield* client.leaseGrant({ ttl: "4 seconds" })
        yield* client.put({ key: k("a"), value: "1", lease: id })
        yield* client.put({ key: k("b"), value: "1", lease: other.id })
        const watch = yield* client.openWatch({ key: k("b") })
        // the other one ends meanwhile, so time did pass
        const renewals = yield* backend.passingTime(
          Stream.runCollect(Stream.interruptWhen(client.leaseKeepAlive(id), watch.next))
        )
        assert.isTrue(Chunk.size(renewals) >= 3, `${Chunk.size(renewals)} renewals`)
        assert.deepStrictEqual(Chunk.unsafeHead(renewals), { id, ttl: Duration.seconds(4) })
        assert.isTrue(Option.isSome(yield* client.get(k("a"))))
        assert.isTrue(Option.isNone(yield* client.get(k("b"))))
        yield* client.leaseRevoke(id)
        yield* puts("c=1")
        assert.isTrue(Option.isNone(yield* client.get(k("a"))))
      })
  )
}
