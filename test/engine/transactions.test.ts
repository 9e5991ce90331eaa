import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Statuses } from "../../src/internal/etcdErrors.js"
import * as Txn from "../../src/Txn.js"
import { assertRefused, call, connect, keysOf, text } from "./support.js"

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
})
