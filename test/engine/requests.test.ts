import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Statuses } from "../../src/internal/etcdErrors.js"
import * as Txn from "../../src/Txn.js"
import { assertRefused, call, connect, keysOf, text } from "./support.js"

describe("ranges", () => {
  const filled = Effect.gen(function*() {
    const etcd = yield* connect()
    // revision            2        3        4        5        6
    for (const [key, value] of [["b", "2"], ["a", "3"], ["c", "1"], ["b", "9"], ["d", "3"]] as const) {
      yield* etcd.put(key, value)
    }
    return etcd
  })

  it.scoped("reads one key, a span, everything from a key, and everything", () =>
    Effect.gen(function*() {
      const { range } = yield* filled
      const one = yield* range({ key: "b" })
      assert.deepStrictEqual(one.kvs, [{
        key: new Uint8Array([98]),
        value: new Uint8Array([57]),
        createRevision: 2n,
        modRevision: 5n,
        version: 2n,
        lease: 0n
      }])
      assert.strictEqual(one.count, 1n)
      assert.strictEqual(one.header.revision, 6n)
      assert.deepStrictEqual(keysOf((yield* range({ key: "a", rangeEnd: "c" })).kvs), ["a", "b"])
      assert.deepStrictEqual(keysOf((yield* range({ key: "b", rangeEnd: "\0" })).kvs), ["b", "c", "d"])
      assert.deepStrictEqual(keysOf((yield* range({ key: "\0", rangeEnd: "\0" })).kvs), ["a", "b", "c", "d"])
      assert.deepStrictEqual(keysOf((yield* range({ key: "c", rangeEnd: "a" })).kvs), [])
      assert.deepStrictEqual((yield* range({ key: "x" })).kvs, [])
    }))

  it.scoped("limits and counts", () =>
    Effect.gen(function*() {
      const { range } = yield* filled
      const all = { key: "\0", rangeEnd: "\0" }
      const two = yield* range({ ...all, limit: 2 })
      assert.deepStrictEqual([keysOf(two.kvs), two.more, two.count], [["a", "b"], true, 4n])
      const four = yield* range({ ...all, limit: 4 })
      assert.deepStrictEqual([four.kvs.length, four.more], [4, false])
      const count = yield* range({ ...all, countOnly: true, limit: 2 })
      assert.deepStrictEqual([count.kvs.length, count.more, count.count], [0, false, 4n])
      const keys = yield* range({ ...all, keysOnly: true })
      assert.isTrue(keys.kvs.every(({ value }) => value.length === 0))
    }))

  it.scoped("sorts before it limits", () =>
    Effect.gen(function*() {
      const { range } = yield* filled
      const sorted = (by: Txn.SortTarget, order: "ascend" | "descend", limit = 0) =>
        Effect.map(range({ key: "\0", rangeEnd: "\0", sort: { by, order }, limit }), ({ kvs }) => keysOf(kvs).join(""))
      assert.strictEqual(yield* sorted("key", "descend"), "dcba")
      assert.strictEqual(yield* sorted("create", "ascend"), "bacd")
      assert.strictEqual(yield* sorted("create", "descend", 1), "d")
      assert.strictEqual(yield* sorted("mod", "ascend"), "acbd")
      assert.strictEqual(yield* sorted("version", "descend"), "bacd")
      assert.strictEqual(yield* sorted("version", "ascend"), "acdb")
      assert.strictEqual(yield* sorted("value", "ascend"), "cadb")
    }))

  it.scoped("filters by revision without changing the count", () =>
    Effect.gen(function*() {
      const { range } = yield* filled
      const filtered = (filter: Partial<Txn.RangeRequest>) =>
        Effect.map(
          range({ key: "\0", rangeEnd: "\0", ...filter }),
          ({ count, kvs, more }) => [keysOf(kvs).join(""), count, more]
        )
      assert.deepStrictEqual(yield* filtered({ minModRevision: 5n }), ["bd", 4n, false])
      assert.deepStrictEqual(yield* filtered({ maxModRevision: 4n }), ["ac", 4n, false])
      assert.deepStrictEqual(yield* filtered({ minCreateRevision: 4n }), ["cd", 4n, false])
      assert.deepStrictEqual(yield* filtered({ maxCreateRevision: 3n, limit: 1 }), ["a", 4n, true])
      assert.deepStrictEqual(yield* filtered({ maxCreateRevision: 3n, minModRevision: 5n }), ["b", 4n, false])
    }))

  it.scoped("reads the past until it is compacted", () =>
    Effect.gen(function*() {
      const { client, etcd, range } = yield* filled
      yield* client.del({ key: "b" }, call)
      const at = (revision: bigint) => range({ key: "\0", rangeEnd: "\0", revision })
      assert.deepStrictEqual(keysOf((yield* at(3n)).kvs), ["a", "b"])
      assert.deepStrictEqual(keysOf((yield* at(6n)).kvs), ["a", "b", "c", "d"])
      assert.strictEqual((yield* at(3n)).header.revision, 7n)
      yield* assertRefused(at(8n), "FutureRevision", Statuses.futureRevision.details)
      yield* client.compact(5n, true, call)
      assert.strictEqual(yield* etcd.compactRevision, 5n)
      assert.deepStrictEqual((yield* at(5n)).kvs.map(({ value }) => text(value)), ["3", "9", "1"])
      yield* assertRefused(at(4n), "Compacted", Statuses.compacted.details)
      yield* assertRefused(client.compact(5n, false, call), "Compacted", Statuses.compacted.details)
      yield* assertRefused(client.compact(9n, false, call), "FutureRevision", Statuses.futureRevision.details)
      yield* client.compact(7n, true, call)
      assert.deepStrictEqual(keysOf((yield* at(7n)).kvs), ["a", "c", "d"])
    }))

  it.scoped("orders keys by their bytes", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* connect()
      const ordered = [[0], [97], [97, 0], [0xc3, 0xa9], [0xef, 0xbf, 0xbf], [0xf0, 0x9f, 0x98, 0x80], [255]]
      for (const key of [...ordered].reverse()) {
        yield* client.put({ key: new Uint8Array(key), value: "" }, call)
      }
      assert.deepStrictEqual((yield* etcd.snapshot).map(({ key }) => [...key]), ordered)
      const emoji = yield* client.range({ key: "😀" }, call)
      assert.strictEqual(emoji.count, 1n)
    }))

  it.scoped("hands out bytes that nobody else holds", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* connect()
      const value = new Uint8Array([1])
      yield* client.put({ key: "a", value }, call)
      value[0] = 2
      const first = yield* client.range({ key: "a" }, call)
      first.kvs[0]!.value[0] = 3
      assert.deepStrictEqual([...(yield* etcd.snapshot)[0]!.value], [1])
    }))
})

describe("puts and deletes", () => {
  it.scoped("puts with the value, lease or answer of before", () =>
    Effect.gen(function*() {
      const { client, put } = yield* connect()
      yield* client.leaseGrant({ id: 7n, ttl: 10n }, call)
      const first = yield* client.put({ key: "a", value: "1", lease: 7n, prevKv: true }, call)
      assert.deepStrictEqual([first.header.revision, first.prevKv], [2n, undefined])
      const second = yield* client.put({ key: "a", value: "", ignoreValue: true, prevKv: true }, call)
      assert.deepStrictEqual([second.header.revision, second.prevKv?.lease], [3n, 7n])
      yield* client.put({ key: "a", value: "2", lease: 7n }, call)
      yield* client.put({ key: "a", value: "3", ignoreLease: true }, call)
      const { kvs } = yield* client.range({ key: "a" }, call)
      assert.deepStrictEqual([text(kvs[0]!.value), kvs[0]!.lease, kvs[0]!.version], ["3", 7n, 4n])
      assert.strictEqual((yield* put("a", "4")).prevKv, undefined)
    }))

  it.scoped("refuses what etcd refuses", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* connect()
      yield* assertRefused(client.put({ key: "", value: "1" }, call), "InvalidRequest", Statuses.emptyKey.details)
      yield* assertRefused(client.range({ key: "" }, call), "InvalidRequest", Statuses.emptyKey.details)
      yield* assertRefused(client.del({ key: "" }, call), "InvalidRequest", Statuses.emptyKey.details)
      yield* assertRefused(
        client.put({ key: "a", value: "1", ignoreValue: true }, call),
        "InvalidRequest",
        Statuses.valueProvided.details
      )
      yield* assertRefused(
        client.put({ key: "a", value: "1", ignoreLease: true, lease: 1n }, call),
        "InvalidRequest",
        Statuses.leaseProvided.details
      )
      yield* assertRefused(
        client.put({ key: "a", value: "", ignoreValue: true }, call),
        "InvalidRequest",
        Statuses.keyNotFound.details
      )
      yield* assertRefused(
        client.put({ key: "a", value: "", lease: 1n }, call),
        "LeaseNotFound",
        Statuses.leaseNotFound.details
      )
      assert.strictEqual(yield* etcd.revision, 1n)
    }))

  it.scoped("deletes a span, and raises the revision only if there was something", () =>
    Effect.gen(function*() {
      const { client, etcd, put } = yield* connect()
      for (const key of ["a", "b", "c"]) {
        yield* put(key, key)
      }
      const none = yield* client.del({ key: "x" }, call)
      assert.deepStrictEqual([none.deleted, none.header.revision], [0n, 4n])
      const two = yield* client.del({ key: "a", rangeEnd: "c", prevKv: true }, call)
      assert.deepStrictEqual([two.deleted, keysOf(two.prevKvs), two.header.revision], [2n, ["a", "b"], 5n])
      const last = yield* client.del({ key: "\0", rangeEnd: "\0" }, call)
      assert.deepStrictEqual([last.deleted, last.prevKvs.length], [1n, 0])
      assert.deepStrictEqual(yield* etcd.snapshot, [])
      yield* put("a")
      const again = yield* client.range({ key: "a" }, call)
      assert.deepStrictEqual([again.kvs[0]?.version, again.kvs[0]?.createRevision], [1n, 7n])
    }))

  it.scoped("measures requests", () =>
    Effect.gen(function*() {
      const { client, put } = yield* connect()
      const limit = 1.5 * 1024 * 1024
      yield* put("a", "x".repeat(limit - 100))
      yield* assertRefused(put("a", "x".repeat(limit)), "TooLarge", Statuses.requestTooLarge.details)
      yield* assertRefused(
        client.txn({ success: [Txn.put({ key: "a", value: "x".repeat(limit) })] }, call),
        "TooLarge",
        Statuses.requestTooLarge.details
      )
      yield* assertRefused(put("a", "x".repeat(limit + 600_000)), "TooLarge", /^grpc: received message larger than max/)
      // a read is not proposed to the cluster
      yield* client.range({ key: "x".repeat(limit) }, call)
    }))
})
