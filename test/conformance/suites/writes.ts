import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { type It, refused, test } from "../support.js"

const keyNotFound = "etcdserver: key not found"
const emptyKey = "etcdserver: key is not provided"

export const writes = (it: It) => {
  test(
    it,
    "puts: one revision each, versions count from the creation",
    ({ at, client, contents, k, puts }) =>
      Effect.gen(function*() {
        const first = yield* client.put({ key: k("a"), value: "1" })
        assert.deepStrictEqual([first.header.revision, first.prevKv], [at(1), undefined])
        yield* puts("a=2", "a=2", "b=1")
        assert.deepStrictEqual(yield* contents, ["a=2 c1 m3 v3", "b=1 c4 m4 v1"])
        yield* client.delete({ key: k("a") })
        yield* puts("a=3")
        assert.deepStrictEqual(yield* contents, ["a=3 c6 m6 v1", "b=1 c4 m4 v1"])
      })
  )

  test(it, "answers a put with what stood there before, when asked", ({ client, k, kv }) =>
    Effect.gen(function*() {
      const put = (value: string) =>
        Effect.map(client.put({ key: k("a"), value, prevKv: true }), ({ prevKv }) => prevKv && kv(prevKv))
      assert.strictEqual(yield* put("1"), undefined)
      assert.strictEqual(yield* put("2"), "a=1 c1 m1 v1")
      yield* client.delete({ key: k("a") })
      assert.strictEqual(yield* put("3"), undefined)
      assert.strictEqual(yield* put("4"), "a=3 c4 m4 v1")
    }))

  test(
    it,
    "keeps the value or the lease of a key that exists",
    ({ client, contents, k, kv, puts }) =>
      Effect.gen(function*() {
        const { id } = yield* client.leaseGrant({ ttl: "60 seconds" })
        yield* puts("a=1", "b=1")
        yield* client.put({ key: k("a"), value: "", ignoreValue: true, lease: id })
        yield* client.put({ key: k("a"), value: "2", ignoreLease: true })
        const { prevKv } = yield* client.put({
          key: k("a"),
          value: "",
          ignoreValue: true,
          ignoreLease: true,
          prevKv: true
        })
        assert.strictEqual(prevKv && kv(prevKv), `a=2 c1 m4 v3 l${id}`)
        yield* client.put({ key: k("b"), value: "2", ignoreLease: true })
        assert.deepStrictEqual(yield* contents, [`a=2 c1 m5 v4 l${id}`, "b=2 c2 m6 v2"])
        yield* client.put({ key: k("a"), value: "", ignoreValue: true })
        assert.deepStrictEqual(yield* contents, ["a=2 c1 m7 v5", "b=2 c2 m6 v2"])
        yield* client.leaseRevoke(id)
      })
  )

  test(
    it,
    "refuses to keep what does not exist, or what is given",
    ({ client, contents, k, puts, revision }) =>
      Effect.gen(function*() {
        yield* puts("a=1", "gone=1")
        yield* client.delete({ key: k("gone") })
        for (const key of [k("x"), k("gone")]) {
          yield* refused(client.put({ key, value: "", ignoreValue: true }), "InvalidRequest", keyNotFound, key)
          yield* refused(client.put({ key, value: "1", ignoreLease: true }), "InvalidRequest", keyNotFound, key)
        }
        yield* refused(
          client.put({ key: k("a"), value: "2", ignoreValue: true }),
          "InvalidRequest",
          "etcdserver: value is provided"
        )
        yield* refused(
          client.put({ key: k("a"), value: "2", ignoreLease: true, lease: 7n }),
          "InvalidRequest",
          "etcdserver: lease is provided"
        )
        assert.deepStrictEqual(yield* contents, ["a=1 c1 m1 v1"])
        assert.strictEqual(yield* revision, 3)
      })
  )

  test(
    it,
    "deletes one key, a span, and nothing",
    ({ all, at, client, contents, k, kvs, puts, span }) =>
      Effect.gen(function*() {
        yield* puts("a=1", "b=2", "c=3", "d=4")
        const one = yield* client.delete({ key: k("b") })
        assert.deepStrictEqual([one.deleted, one.prevKvs, one.header.revision], [1n, [], at(5)])
        const none = yield* client.delete({ key: k("b"), prevKv: true })
        assert.deepStrictEqual([none.deleted, none.prevKvs, none.header.revision], [0n, [], at(5)])
        const backwards = yield* client.delete({ ...span("d", "a"), prevKv: true })
        assert.deepStrictEqual([backwards.deleted, backwards.header.revision], [0n, at(5)])
        const two = yield* client.delete({ ...span("a", "d"), prevKv: true })
        assert.deepStrictEqual([two.deleted, kvs(two.prevKvs), two.header.revision], [
          2n,
          ["a=1 c1 m1 v1", "c=3 c3 m3 v1"],
          at(6)
        ])
        assert.deepStrictEqual(yield* contents, ["d=4 c4 m4 v1"])
        assert.strictEqual((yield* client.delete(all)).deleted, 1n)
      })
  )

  test(
    it,
    "deletes to the end, and everything, with \"\\0\" as the end",
    ({ client, k, kvs, puts }) =>
      Effect.gen(function*() {
        yield* client.delete({ key: "\0", rangeEnd: "\0" })
        yield* puts("a=1", "b=2", "c=3")
        const rest = yield* client.delete({ key: k("b"), rangeEnd: "\0", prevKv: true })
        assert.deepStrictEqual(kvs(rest.prevKvs).map((one) => one.slice(0, 3)), ["b=2", "c=3"])
        const everything = yield* client.delete({ key: "\0", rangeEnd: "\0", prevKv: true })
        assert.deepStrictEqual(kvs(everything.prevKvs).map((one) => one.slice(0, 3)), ["a=1"])
        assert.strictEqual((yield* client.range({ key: "\0", rangeEnd: "\0", countOnly: true })).count, 0n)
      })
  )

  test(it, "refuses an empty key, and changes nothing", ({ client, revision }) =>
    Effect.gen(function*() {
      yield* refused(client.put({ key: "", value: "1" }), "InvalidRequest", emptyKey, "")
      yield* refused(client.put({ key: new Uint8Array(0), value: "1" }), "InvalidRequest", emptyKey, "")
      yield* refused(client.delete({ key: "" }), "InvalidRequest", emptyKey, "")
      yield* refused(client.delete({ key: "", rangeEnd: "\0" }), "InvalidRequest", emptyKey, "")
      assert.strictEqual(yield* revision, 0)
    }))

  const limit = 1.5 * 1024 * 1024

  test(it, "takes a value just below the limit", ({ client, k }) =>
    Effect.gen(function*() {
      yield* client.put({ key: k("large"), value: new Uint8Array(limit - 200).fill(7) })
      const { kvs } = yield* client.range({ key: k("large") })
      assert.isTrue(Buffer.alloc(limit - 200, 7).equals(kvs[0].value))
    }))

  for (
    const [what, size, detail] of [
      ["etcd's limit", limit + 1, "etcdserver: request is too large"],
      ["the limit of its gRPC server", 3 * 1024 * 1024, /^grpc: received message larger than max \(\d+ vs\. 2097152\)$/]
    ] as const
  ) {
    test(
      it,
      `refuses a value over ${what}, and goes on`,
      ({ client, contents, k, puts, revision }) =>
        Effect.gen(function*() {
          const key = k("large")
          const value = new Uint8Array(size)
          const watch = yield* client.openWatch({ key })
          yield* puts("a=1")
          yield* refused(client.put({ key, value }), "TooLarge", detail, key)
          yield* refused(client.txn({ success: [{ _tag: "Put", request: { key, value } }] }), "TooLarge", detail, key)
          assert.strictEqual(yield* revision, 1)
          yield* puts("large=small")
          assert.deepStrictEqual(yield* contents, ["a=1 c1 m1 v1", "large=small c2 m2 v1"])
          assert.deepStrictEqual((yield* watch.next).map(({ kv }) => kv.value.length), [5])
        })
    )
  }
}
