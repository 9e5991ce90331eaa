import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Op, TxnRequest, TxnResponse } from "../../../src/Txn.js"
import * as Txn from "../../../src/Txn.js"
import { type It, refused, type Stage, test } from "../support.js"

const duplicate = "etcdserver: duplicate key given in txn request"
const tooMany = "etcdserver: too many operations in txn request"
const emptyKey = "etcdserver: key is not provided"

const show = ({ answer, rev }: Stage, { header, responses, succeeded }: TxnResponse): unknown => [
  rev(header.revision),
  succeeded,
  ...responses.map(answer)
]

export const transactions = (it: It) => {
  test(it, "runs the branch that the compares choose, and only that", (stage) =>
    Effect.gen(function*() {
      const { client, contents, k } = stage
      const swap = {
        compare: [Txn.absent(k("a"))],
        success: [Txn.put({ key: k("a"), value: "1" }), Txn.put({ key: k("b"), value: "1" })],
        failure: [Txn.range({ key: k("a") }), Txn.del({ key: k("a"), prevKv: true })]
      }
      assert.deepStrictEqual(show(stage, yield* client.txn(swap)), [1, true, "put", "put"])
      assert.deepStrictEqual(yield* contents, ["a=1 c1 m1 v1", "b=1 c1 m1 v1"])
      const deleted = ["deleted 1", "a=1 c1 m1 v1"]
      assert.deepStrictEqual(show(stage, yield* client.txn(swap)), [2, false, ["a=1 c1 m1 v1"], deleted])
      assert.deepStrictEqual(yield* contents, ["b=1 c1 m1 v1"])
      const onlyElse = { compare: [Txn.exists(k("x"))], failure: [Txn.put({ key: k("c"), value: "1" })] }
      assert.deepStrictEqual(show(stage, yield* client.txn(onlyElse)), [3, false, "put"])
    }))

  test(it, "changes no revision when it changes nothing", (stage) =>
    Effect.gen(function*() {
      const { client, k, puts } = stage
      yield* puts("a=1")
      assert.deepStrictEqual(show(stage, yield* client.txn({})), [1, true])
      const nothing = yield* client.txn({ success: [Txn.del({ key: k("x") }), Txn.range({ key: k("x") })] })
      assert.deepStrictEqual(show(stage, nothing), [1, true, ["deleted 0"], []])
      const reads = yield* client.txn({ success: [Txn.txn({ success: [Txn.range({ key: k("a") })] })] })
      assert.deepStrictEqual(show(stage, reads), [1, true, [true, ["a=1 c1 m1 v1"]]])
    }))

  test(
    it,
    "makes all changes in one revision, and later operations see earlier ones",
    (stage) =>
      Effect.gen(function*() {
        const { all, client, contents, k, puts } = stage
        yield* puts("a=0", "b=0", "c=0")
        const answers = yield* client.txn({
          success: [
            Txn.range(all),
            Txn.put({ key: k("a"), value: "1", prevKv: true }),
            Txn.range({ ...all, sort: { by: "mod", order: "descend" }, limit: 1 }),
            Txn.del({ key: k("b"), prevKv: true }),
            Txn.range({ ...all, countOnly: true }),
            Txn.put({ key: k("d"), value: "1" }),
            Txn.range(all)
          ]
        })
        assert.deepStrictEqual(show(stage, answers), [
          4,
          true,
          ["a=0 c1 m1 v1", "b=0 c2 m2 v1", "c=0 c3 m3 v1"],
          "put < a=0 c1 m1 v1",
          ["a=1 c1 m4 v2"],
          ["deleted 1", "b=0 c2 m2 v1"],
          [],
          "put",
          ["a=1 c1 m4 v2", "c=0 c3 m3 v1", "d=1 c4 m4 v1"]
        ])
        const counted = answers.responses[4]
        assert.strictEqual(counted._tag === "Range" ? counted.response.count : -1n, 2n)
        assert.deepStrictEqual(yield* contents, ["a=1 c1 m4 v2", "c=0 c3 m3 v1", "d=1 c4 m4 v1"])
      })
  )

  test(it, "reads past revisions, and refuses those that are not there yet", (stage) =>
    Effect.gen(function*() {
      const { at, client, k, puts, revision } = stage
      yield* puts("a=1", "a=2")
      const past = yield* client.txn({
        success: [Txn.put({ key: k("a"), value: "3" }), Txn.range({ key: k("a"), revision: at(1) })]
      })
      assert.deepStrictEqual(show(stage, past), [3, true, "put", ["a=1 c1 m1 v1"]])
      // the revision that the transaction itself makes does not count
      for (const ahead of [4, 5]) {
        yield* refused(
          client.txn({
            success: [Txn.put({ key: k("a"), value: "4" }), Txn.range({ key: k("a"), revision: at(ahead) })]
          }),
          "FutureRevision",
          "etcdserver: mvcc: required revision is a future revision",
          k("a")
        )
      }
      assert.strictEqual(yield* revision, 3)
    }))

  test(
    it,
    "nests: the compares of all levels see the state before, the operations what was done",
    (stage) =>
      Effect.gen(function*() {
        const { all, client, contents, k } = stage
        const answers = yield* client.txn({
          compare: [Txn.absent(k("a"))],
          success: [
            Txn.put({ key: k("a"), value: "1" }),
            Txn.txn({
              compare: [Txn.absent(k("a"))],
              success: [Txn.put({ key: k("b"), value: "absent" }), Txn.range(all)],
              failure: [Txn.put({ key: k("b"), value: "present" })]
            }),
            Txn.txn({
              compare: [Txn.exists(k("b"))],
              success: [Txn.put({ key: k("c"), value: "present" })],
              failure: [
                Txn.txn({ success: [Txn.put({ key: k("c"), value: "deep" }), Txn.del({ key: k("x") })] }),
                Txn.range({ key: k("c") })
              ]
            }),
            Txn.txn({})
          ]
        })
        assert.deepStrictEqual(show(stage, answers), [
          1,
          true,
          "put",
          [true, "put", ["a=1 c1 m1 v1", "b=absent c1 m1 v1"]],
          [false, [true, "put", ["deleted 0"]], ["c=deep c1 m1 v1"]],
          [true]
        ])
        assert.deepStrictEqual(yield* contents, ["a=1 c1 m1 v1", "b=absent c1 m1 v1", "c=deep c1 m1 v1"])
      })
  )

  test(it, "nests deep", ({ client, contents, k }) =>
    Effect.gen(function*() {
      const deep = (depth: number): TxnRequest =>
        depth === 0
          ? { success: [Txn.put({ key: k("deep"), value: "1" })] }
          : { compare: [Txn.exists(k("x"))], failure: [Txn.txn(deep(depth - 1))] }
      yield* client.txn(deep(40))
      assert.deepStrictEqual(yield* contents, ["deep=1 c1 m1 v1"])
    }))

  test(
    it,
    "undoes nothing by halves: one bad operation refuses all",
    ({ client, contents, k, puts, revision }) =>
      Effect.gen(function*() {
        yield* puts("a=1")
        const first = Txn.put({ key: k("a"), value: "2" })
        const last = Txn.put({ key: k("z"), value: "2" })
        const lease = Txn.put({ key: k("b"), value: "2", lease: 404_404n })
        yield* refused(
          client.txn({ success: [first, lease, last] }),
          "LeaseNotFound",
          "etcdserver: requested lease not found",
          k("a")
        )
        yield* refused(
          client.txn({ success: [first, Txn.txn({ success: [lease] }), last] }),
          "LeaseNotFound",
          "etcdserver: requested lease not found",
          k("a")
        )
        yield* refused(
          client.txn({ success: [first, Txn.put({ key: k("b"), value: "", ignoreValue: true })] }),
          "InvalidRequest",
          "etcdserver: key not found"
        )
        // only the branch that runs is looked at
        yield* client.txn({ compare: [Txn.exists(k("a"))], failure: [lease] })
        assert.deepStrictEqual(yield* contents, ["a=1 c1 m1 v1"])
        assert.strictEqual(yield* revision, 1)
      })
  )

  test(it, "refuses a key that is written twice", ({ client, k, puts, revision, span }) =>
    Effect.gen(function*() {
      yield* puts("a=1")
      const put = (name: string) => Txn.put({ key: k(name), value: "2" })
      const del = (name: string) => Txn.del({ key: k(name) })
      const forbidden: ReadonlyArray<ReadonlyArray<Op>> = [
        [put("a"), put("a")],
        [put("a"), put("b"), put("a")],
        [put("a"), del("a")],
        [del("a"), put("a")],
        [Txn.del(span("a", "c")), put("b")],
        [put("b"), Txn.del(span("a", "c"))],
        [put("a"), Txn.txn({ success: [put("a")] })],
        [put("a"), Txn.txn({ failure: [put("a")] })],
        [Txn.txn({ success: [put("a")] }), Txn.txn({ success: [put("a")] })],
        [del("a"), Txn.txn({ success: [put("a")] })],
        [Txn.txn({ success: [del("a")] }), put("a")],
        [Txn.txn({ success: [del("a")] }), Txn.txn({ success: [put("a")] })]
      ]
      for (const success of forbidden) {
        yield* refused(client.txn({ success }), "DuplicateKey", duplicate)
        yield* refused(client.txn({ failure: success }), "DuplicateKey", duplicate)
        yield* refused(client.txn({ success: [Txn.txn({ success })] }), "DuplicateKey", duplicate)
      }
      assert.strictEqual(yield* revision, 1)
    }))

  test(it, "allows what only looks like it", ({ client, contents, k, puts, span }) =>
    Effect.gen(function*() {
      yield* puts("a=1", "b=1")
      const put = (name: string) => Txn.put({ key: k(name), value: "2" })
      const del = (name: string) => Txn.del({ key: k(name) })
      // each branch for itself
      yield* client.txn({ success: [put("a")], failure: [put("a")] })
      yield* client.txn({ success: [put("a")], failure: [del("a")] })
      yield* client.txn({ success: [Txn.txn({ success: [put("a")], failure: [put("a")] }), put("c")] })
      // deletes may meet each other, and a span ends before its end
      yield* client.txn({ success: [del("a"), del("a"), Txn.del(span("a", "c")), put("c")] })
      assert.deepStrictEqual(yield* contents, ["c=2 c5 m6 v2"])
    }))

  test(it, "takes 128 operations and no more", (stage) =>
    Effect.gen(function*() {
      const { client, contents, k, revision } = stage
      const ops = (count: number) => Array.from({ length: count }, (_, i) => Txn.put({ key: k(`${i}`), value: "" }))
      const reads = (count: number) => Array.from({ length: count }, (_, i) => Txn.range({ key: k(`${i}`) }))
      const compares = (count: number) => Array.from({ length: count }, () => Txn.absent(k("x")))
      yield* refused(client.txn({ success: ops(129) }), "TooLarge", tooMany, k("0"))
      yield* refused(client.txn({ failure: ops(129) }), "TooLarge", tooMany)
      yield* refused(client.txn({ success: reads(129) }), "TooLarge", tooMany)
      yield* refused(client.txn({ compare: compares(129) }), "TooLarge", tooMany)
      // a nested transaction may have what its surroundings leave over
      yield* refused(client.txn({ success: [Txn.txn({ success: reads(128) })] }), "TooLarge", tooMany)
      yield* refused(
        client.txn({ compare: compares(28), success: [Txn.txn({ success: reads(101) })] }),
        "TooLarge",
        tooMany
      )
      assert.strictEqual(yield* revision, 0)
      assert.strictEqual((yield* client.txn({ success: [Txn.txn({ success: reads(127) })] })).responses.length, 1)
      const most = yield* client.txn({ compare: compares(128), success: ops(128), failure: reads(128) })
      assert.strictEqual(most.responses.length, 128)
      assert.strictEqual((yield* contents).length, 128)
      assert.strictEqual(yield* revision, 1)
    }))

  test(it, "refuses empty keys wherever they are", ({ client, k, revision }) =>
    Effect.gen(function*() {
      const bad: ReadonlyArray<TxnRequest> = [
        { compare: [Txn.absent("")] },
        { success: [Txn.range({ key: "" })] },
        { success: [Txn.put({ key: k("a"), value: "1" }), Txn.put({ key: "", value: "1" })] },
        { failure: [Txn.del({ key: "", rangeEnd: "\0" })] },
        { success: [Txn.txn({ failure: [Txn.put({ key: "", value: "1" })] })] }
      ]
      for (const request of bad) yield* refused(client.txn(request), "InvalidRequest", emptyKey)
      yield* refused(
        client.txn({ failure: [Txn.put({ key: k("a"), value: "1", ignoreValue: true })] }),
        "InvalidRequest",
        "etcdserver: value is provided"
      )
      yield* refused(
        client.txn({ failure: [Txn.put({ key: k("a"), value: "", ignoreLease: true, lease: 1n })] }),
        "InvalidRequest",
        "etcdserver: lease is provided"
      )
      assert.strictEqual(yield* revision, 0)
    }))
}
