import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Statuses } from "../../src/internal/etcdErrors.js"
import * as TestEtcd from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { assertRefused, call, keysOf, text } from "./support.js"

const connect = (options?: TestEtcd.Options) =>
  Effect.gen(function*() {
    const etcd = yield* TestEtcd.make(options)
    const client = yield* etcd.transport()
    return {
      etcd,
      client,
      put: (key: string, value = "") => client.put({ key, value }, call),
      range: (request: Txn.RangeRequest) => client.range(request, call),
      txn: (request: Txn.TxnRequest) => client.txn(request, call)
    }
  })

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

describe("transactions", () => {
  it.scoped("compares, and runs one branch", () =>
    Effect.gen(function*() {
      const { etcd, put, txn } = yield* connect()
      yield* put("a", "m")
      const holds = (compare: Txn.Compare) => Effect.map(txn({ compare: [compare] }), ({ succeeded }) => succeeded)
      const results = (compare: (result: Txn.CompareResult) => Txn.Compare) =>
        Effect.map(
          Effect.forEach(["<", "=", "!=", ">"] as const, (result) => holds(compare(result))),
          (all) => all.map(Number).join("")
        )
      assert.strictEqual(yield* results((result) => Txn.value("a", result, "n")), "1010")
      assert.strictEqual(yield* results((result) => Txn.value("a", result, "m")), "0100")
      assert.strictEqual(yield* results((result) => Txn.value("a", result, "")), "0011")
      assert.strictEqual(yield* results((result) => Txn.createRevision("a", result, 2n)), "0100")
      assert.strictEqual(yield* results((result) => Txn.modRevision("a", result, 3n)), "1010")
      assert.strictEqual(yield* results((result) => Txn.version("a", result, 0n)), "0011")
      assert.strictEqual(yield* results((result) => Txn.lease("a", result, 0n)), "0100")
      // a key that does not exist is zero, and has no value that could be compared
      assert.strictEqual(yield* results((result) => Txn.createRevision("x", result, 0n)), "0100")
      assert.strictEqual(yield* results((result) => Txn.version("x", result, 1n)), "1010")
      assert.strictEqual(yield* results((result) => Txn.value("x", result, "")), "0000")
      assert.strictEqual(yield* etcd.revision, 2n)
    }))

  it.scoped("compares every key of a range", () =>
    Effect.gen(function*() {
      const { put, txn } = yield* connect()
      yield* put("a/1", "x")
      yield* put("a/2", "x")
      const holds = (compare: Txn.Compare) => Effect.map(txn({ compare: [compare] }), ({ succeeded }) => succeeded)
      const range = { key: "a/", rangeEnd: "a0" }
      assert.isTrue(yield* holds({ ...range, target: "value", result: "=", operand: "x" }))
      assert.isFalse(yield* holds({ ...range, target: "mod", result: "=", operand: 2n }))
      assert.isTrue(yield* holds({ ...range, target: "mod", result: ">", operand: 1n }))
      assert.isFalse(yield* holds({ ...range, target: "create", result: "=", operand: 0n }))
      const empty = { key: "b/", rangeEnd: "b0" }
      assert.isTrue(yield* holds({ ...empty, target: "create", result: "=", operand: 0n }))
      assert.isFalse(yield* holds({ ...empty, target: "value", result: "!=", operand: "x" }))
      assert.isTrue(yield* holds({ key: "b", rangeEnd: "\0", target: "version", result: "=", operand: 0n }))
    }))

  it.scoped("gives all writes one revision, and reads see the writes before them", () =>
    Effect.gen(function*() {
      const { etcd, put, txn } = yield* connect()
      yield* put("old", "1")
      const response = yield* txn({
        success: [
          Txn.range({ key: "new" }),
          Txn.put({ key: "new", value: "1" }),
          Txn.range({ key: "new" }),
          Txn.del({ key: "old", prevKv: true }),
          Txn.range({ key: "old", revision: 2n })
        ]
      })
      assert.isTrue(response.succeeded)
      assert.strictEqual(response.header.revision, 3n)
      const summary = response.responses.map((one) =>
        one._tag === "Range"
          ? [one.response.header.revision, one.response.count]
          : one._tag === "Delete"
          ? [one.response.header.revision, one.response.deleted]
          : [one.response.header.revision]
      )
      assert.deepStrictEqual(summary, [[2n, 0n], [3n], [3n, 1n], [3n, 1n], [3n, 1n]])
      assert.deepStrictEqual(keysOf(yield* etcd.snapshot), ["new"])
      assert.strictEqual((yield* txn({ success: [Txn.del({ key: "none" })] })).header.revision, 3n)
    }))

  it.scoped("chooses nested branches by the state before the whole transaction", () =>
    Effect.gen(function*() {
      const { etcd, txn } = yield* connect()
      const response = yield* txn({
        success: [
          Txn.put({ key: "a", value: "1" }),
          Txn.txn({
            compare: [Txn.exists("a")],
            success: [Txn.put({ key: "b", value: "seen" })],
            failure: [Txn.put({ key: "b", value: "not seen" }), Txn.range({ key: "a" })]
          })
        ]
      })
      const nested = response.responses[1]
      assert(nested?._tag === "Txn")
      assert.isFalse(nested.response.succeeded)
      const range = nested.response.responses[1]
      assert(range?._tag === "Range")
      assert.strictEqual(range.response.count, 1n)
      assert.deepStrictEqual((yield* etcd.snapshot).map(({ modRevision, value }) => [text(value), modRevision]), [
        ["1", 2n],
        ["not seen", 2n]
      ])
    }))

  const put = (key: string) => Txn.put({ key, value: "" })
  const nest = (success: ReadonlyArray<Txn.Op>, failure: ReadonlyArray<Txn.Op> = []) => Txn.txn({ success, failure })
  const duplicates: ReadonlyArray<readonly [string, ReadonlyArray<Txn.Op>, boolean]> = [
    ["two puts", [put("a"), put("a")], true],
    ["a put and a delete", [put("a"), Txn.del({ key: "a" })], true],
    ["a put and a delete over it", [Txn.del({ key: "a", rangeEnd: "c" }), put("b")], true],
    ["a put at the end of a delete", [Txn.del({ key: "a", rangeEnd: "b" }), put("b")], false],
    ["two deletes", [Txn.del({ key: "a" }), Txn.del({ key: "a" })], false],
    ["a put and a nested put", [put("a"), nest([put("a")])], true],
    ["a delete and a nested put", [Txn.del({ key: "a" }), nest([put("a")])], true],
    ["a put and a nested delete", [put("a"), nest([], [Txn.del({ key: "a" })])], true],
    ["puts in both branches", [nest([put("a")], [put("a")])], false],
    ["a put and a delete in the branches", [nest([put("a")], [Txn.del({ key: "a" })])], false],
    ["puts in two nested ones", [nest([put("a")]), nest([], [put("a")])], true],
    ["puts in both branches of two nested ones", [nest([put("a")], [put("a")]), nest([], [put("a")])], true],
    ["a nested delete, then a nested put", [nest([Txn.del({ key: "a" })]), nest([put("a")])], true],
    // what etcd's check does not find is carried out in order
    ["a nested put, then a nested delete", [nest([put("a")]), nest([Txn.del({ key: "a" })])], false],
    ["a delete without an end", [put("a"), Txn.del({ key: "a", rangeEnd: "\0" })], false],
    ["a duplicate in the failure branch", [nest([], [put("a"), put("a")])], true]
  ]
  for (const [name, ops, refused] of duplicates) {
    it.scoped(`${refused ? "refuses" : "accepts"} ${name}`, () =>
      Effect.gen(function*() {
        const { etcd, txn } = yield* connect()
        if (refused) {
          yield* assertRefused(txn({ success: ops }), "DuplicateKey", Statuses.duplicateKey.details)
          yield* assertRefused(txn({ failure: ops }), "DuplicateKey", Statuses.duplicateKey.details)
          assert.strictEqual(yield* etcd.revision, 1n)
        } else {
          yield* txn({ success: ops })
        }
      }))
  }

  it.scoped("carries out in order what writes one key twice", () =>
    Effect.gen(function*() {
      const { client, etcd, txn } = yield* connect()
      yield* txn({ success: [put("a"), Txn.del({ key: "a", rangeEnd: "\0" })] })
      assert.deepStrictEqual(yield* etcd.snapshot, [])
      yield* txn({ success: [put("a")] })
      yield* txn({ success: [Txn.del({ key: "a", rangeEnd: "\0" }), put("a")] })
      const { kvs } = yield* client.range({ key: "a" }, call)
      assert.deepStrictEqual([kvs[0]?.version, kvs[0]?.createRevision], [1n, 4n])
    }))

  it.scoped("counts operations along the nesting", () =>
    Effect.gen(function*() {
      const { txn } = yield* connect()
      const puts = (count: number) => Array.from({ length: count }, (_, index) => put(`k${index}`))
      yield* txn({ success: puts(128) })
      yield* assertRefused(txn({ success: puts(129) }), "TooLarge", Statuses.tooManyOps.details)
      yield* assertRefused(
        txn({ compare: puts(129).map(() => Txn.absent("a")) }),
        "TooLarge",
        Statuses.tooManyOps.details
      )
      yield* txn({ success: [nest(puts(127))] })
      yield* assertRefused(txn({ success: [nest(puts(128))] }), "TooLarge", Statuses.tooManyOps.details)
      // the longest list of a level counts against all that is nested in it
      yield* txn({ success: [nest(puts(28)), ...puts(99).map((_, index) => put(`outer${index}`))] })
      yield* assertRefused(
        txn({ success: [nest(puts(29)), ...puts(99).map((_, index) => put(`outer${index}`))] }),
        "TooLarge",
        Statuses.tooManyOps.details
      )
      // siblings do not add up
      yield* txn({ success: Array.from({ length: 100 }, (_, index) => nest([put(`${index}/1`), put(`${index}/2`)])) })
      let deep: Txn.Op = put("x")
      for (let depth = 0; depth < 127; depth++) {
        deep = nest([deep])
      }
      yield* txn({ success: [deep] })
      yield* assertRefused(txn({ success: [nest([deep])] }), "TooLarge", Statuses.tooManyOps.details)
    }))

  it.scoped("changes nothing when one operation is refused", () =>
    Effect.gen(function*() {
      const { client, etcd, txn } = yield* connect()
      yield* client.put({ key: "z", value: "1" }, call)
      yield* client.compact(2n, false, call)
      const after = (op: Txn.Op) => txn({ success: [put("a"), nest([put("b"), op])] })
      yield* assertRefused(after(Txn.put({ key: "c", value: "", lease: 5n })), "LeaseNotFound", /lease not found/)
      yield* assertRefused(
        after(Txn.put({ key: "c", value: "", ignoreValue: true })),
        "InvalidRequest",
        /key not found/
      )
      yield* assertRefused(after(Txn.put({ key: "", value: "" })), "InvalidRequest", Statuses.emptyKey.details)
      yield* assertRefused(after(Txn.range({ key: "a", revision: 1n })), "Compacted", /compacted/)
      // the transaction's own revision is not readable by number
      yield* assertRefused(after(Txn.range({ key: "a", revision: 3n })), "FutureRevision", /future/)
      // refused while it is being carried out
      yield* assertRefused(
        txn({
          success: [
            put("a"),
            Txn.del({ key: "x", rangeEnd: "\0" }),
            Txn.put({ key: "z", value: "", ignoreValue: true })
          ]
        }),
        "InvalidRequest",
        /key not found/
      )
      assert.strictEqual(yield* etcd.revision, 2n)
      assert.deepStrictEqual(keysOf(yield* etcd.snapshot), ["z"])
      assert.strictEqual((yield* client.range({ key: "a" }, call)).count, 0n)
      // nothing of a refused transaction comes to light with the next revision
      yield* client.put({ key: "y", value: "" }, call)
      assert.deepStrictEqual(keysOf(yield* etcd.snapshot), ["y", "z"])
      // what is not chosen is not checked
      yield* txn({ failure: [Txn.put({ key: "c", value: "", lease: 5n })] })
    }))

  it.scoped("tells its status", () =>
    Effect.gen(function*() {
      const { client } = yield* connect({ version: "3.4.23" })
      const status = yield* client.status(client.endpoints[0] ?? "", call)
      assert.strictEqual(status.version, "3.4.23")
      assert.strictEqual(status.leader, status.header.memberId)
    }))
})
