import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Compare, CompareResult } from "../../../src/Txn.js"
import * as Txn from "../../../src/Txn.js"
import { type It, test } from "../support.js"

const results: ReadonlyArray<CompareResult> = ["<", "=", "!=", ">"]

export const compares = (it: It) => {
  test(
    it,
    "compares every property of a key that exists, with every operator",
    ({ at, client, k, puts }) =>
      Effect.gen(function*() {
        const { id } = yield* client.leaseGrant({ ttl: "60 seconds", id: (1n << 62n) + BigInt(Date.now()) })
        yield* puts("a=0") // 1
        yield* client.put({ key: k("a"), value: "m", lease: id }) // 2: created at 1, version 2
        const holding = (compare: (result: CompareResult) => Compare) =>
          Effect.filter(
            results,
            (result) => Effect.map(client.txn({ compare: [compare(result)] }), ({ succeeded }) => succeeded)
          )
        for (
          const [make, actual] of [
            [Txn.createRevision, at(1)],
            [Txn.modRevision, at(2)],
            [Txn.version, 2n],
            [Txn.lease, id]
          ] as const
        ) {
          assert.deepStrictEqual(yield* holding((result) => make(k("a"), result, actual)), ["="])
          assert.deepStrictEqual(yield* holding((result) => make(k("a"), result, actual + 1n)), ["<", "!="])
          assert.deepStrictEqual(yield* holding((result) => make(k("a"), result, actual - 1n)), ["!=", ">"])
          assert.deepStrictEqual(yield* holding((result) => make(k("a"), result, -1n)), ["!=", ">"])
          assert.deepStrictEqual(yield* holding((result) => make(k("a"), result, 0n)), ["!=", ">"])
        }
        const value = (operand: string | Uint8Array) => holding((result) => Txn.value(k("a"), result, operand))
        assert.deepStrictEqual(yield* value("m"), ["="])
        assert.deepStrictEqual(yield* value("n"), ["<", "!="])
        assert.deepStrictEqual(yield* value("mm"), ["<", "!="])
        assert.deepStrictEqual(yield* value("a"), ["!=", ">"])
        assert.deepStrictEqual(yield* value("lzzz"), ["!=", ">"])
        assert.deepStrictEqual(yield* value(""), ["!=", ">"])
        assert.deepStrictEqual(yield* value(Uint8Array.of(0xff)), ["<", "!="])
        yield* client.leaseRevoke(id)
      })
  )

  test(
    it,
    "compares a key that does not exist as zero, and its value never",
    ({ client, k, puts }) =>
      Effect.gen(function*() {
        yield* puts("gone=1")
        yield* client.delete({ key: k("gone") })
        for (const key of [k("never"), k("gone")]) {
          const holding = (compare: (result: CompareResult) => Compare) =>
            Effect.filter(
              results,
              (result) => Effect.map(client.txn({ compare: [compare(result)] }), ({ succeeded }) => succeeded)
            )
          for (const make of [Txn.createRevision, Txn.modRevision, Txn.version, Txn.lease]) {
            assert.deepStrictEqual(yield* holding((result) => make(key, result, 0n)), ["="])
            assert.deepStrictEqual(yield* holding((result) => make(key, result, 1n)), ["<", "!="])
            assert.deepStrictEqual(yield* holding((result) => make(key, result, -1n)), ["!=", ">"])
          }
          assert.deepStrictEqual(yield* holding((result) => Txn.value(key, result, "")), [])
          assert.deepStrictEqual(yield* holding((result) => Txn.value(key, result, "x")), [])
          assert.isTrue((yield* client.txn({ compare: [Txn.absent(key)] })).succeeded)
          assert.isFalse((yield* client.txn({ compare: [Txn.exists(key)] })).succeeded)
        }
      })
  )

  test(
    it,
    "compares every key of a range; an empty range as an absent key",
    ({ at, client, k, prefix, puts, span }) =>
      Effect.gen(function*() {
        yield* puts("a=1", "b=1", "c=2", "b=1") // b: version 2
        const holds = (compare: Compare) => Effect.map(client.txn({ compare: [compare] }), ({ succeeded }) => succeeded)
        const over = (from: string, to: string, compare: (key: string) => Compare) =>
          holds({ ...compare(k(from)), ...span(from, to) })
        assert.isTrue(yield* over("a", "c", (key) => Txn.value(key, "=", "1")))
        assert.isFalse(yield* over("a", "d", (key) => Txn.value(key, "=", "1")))
        assert.isTrue(yield* over("a", "d", (key) => Txn.value(key, "!=", "3")))
        assert.isFalse(yield* over("a", "d", (key) => Txn.value(key, "!=", "2")))
        assert.isTrue(yield* over("a", "d", (key) => Txn.createRevision(key, "<", at(4))))
        assert.isFalse(yield* over("a", "d", (key) => Txn.modRevision(key, "<", at(4))))
        assert.isFalse(yield* over("a", "d", (key) => Txn.version(key, "=", 1n)))
        assert.isTrue(yield* over("a", "d", (key) => Txn.lease(key, "=", 0n)))
        assert.isTrue(yield* over("a", "d", (key) => Txn.exists(key)))
        assert.isFalse(yield* over("a", "d", (key) => Txn.absent(key)))
        // nothing there
        assert.isTrue(yield* over("x", "z", (key) => Txn.absent(key)))
        assert.isFalse(yield* over("x", "z", (key) => Txn.exists(key)))
        assert.isTrue(yield* over("x", "z", (key) => Txn.version(key, "<", 1n)))
        assert.isFalse(yield* over("x", "z", (key) => Txn.value(key, "!=", "1")))
        assert.isTrue(yield* over("c", "a", (key) => Txn.absent(key)))
        // to the end
        const end = { key: k("b"), rangeEnd: "\0" }
        yield* client.delete({ key: `${prefix}~`, rangeEnd: "\0" })
        assert.isTrue(yield* holds({ ...Txn.createRevision("", ">", at(1)), ...end }))
        assert.isFalse(yield* holds({ ...Txn.createRevision("", ">", at(2)), ...end }))
      })
  )

  test(it, "wants all compares to hold, and none to be needed", ({ client, k, puts }) =>
    Effect.gen(function*() {
      yield* puts("a=1")
      const txn = (...compare: ReadonlyArray<Compare>) =>
        Effect.map(client.txn({ compare }), ({ responses, succeeded }) => [succeeded, responses.length])
      assert.deepStrictEqual(yield* txn(), [true, 0])
      assert.deepStrictEqual(yield* txn(Txn.exists(k("a")), Txn.absent(k("b"))), [true, 0])
      assert.deepStrictEqual(yield* txn(Txn.exists(k("a")), Txn.exists(k("b"))), [false, 0])
      assert.deepStrictEqual(yield* txn(Txn.absent(k("a")), Txn.absent(k("b"))), [false, 0])
      assert.deepStrictEqual(yield* txn(Txn.exists(k("a")), Txn.value(k("a"), "=", "1"), Txn.exists(k("a"))), [true, 0])
    }))
}
