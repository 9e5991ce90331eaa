import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { RangeRequest, SortTarget } from "../../../src/Txn.js"
import { type It, refused, type Stage, test, text } from "../support.js"

/** Keys whose order by name, creation, change, version and value differ. */
const fill = ({ puts }: Stage) =>
  //    1      2      3      4      5      6      7
  puts("b=2", "a=3", "c=1", "b=9", "d=3", "c=4", "b=5")

const filled = ["a=3 c2 m2 v1", "b=5 c1 m7 v3", "c=4 c3 m6 v2", "d=3 c5 m5 v1"]

export const ranges = (it: It) => {
  test(it, "gets one key, with all that belongs to it", (stage) =>
    Effect.gen(function*() {
      const { at, client, k } = stage
      yield* fill(stage)
      assert.deepStrictEqual(
        Option.map(yield* client.get(k("b")), (kv) => ({ ...kv, key: text(kv.key), value: text(kv.value) })),
        Option.some({
          key: k("b"),
          value: "5",
          createRevision: at(1),
          modRevision: at(7),
          version: 3n,
          lease: 0n
        })
      )
      assert.deepStrictEqual(yield* client.get(k("x")), Option.none())
      const none = yield* client.range({ key: k("x") })
      assert.deepStrictEqual([none.kvs, none.more, none.count, none.header.revision], [[], false, 0n, at(7)])
    }))

  test(it, "keeps keys and values as they are, also when they are no text", ({ client, k }) =>
    Effect.gen(function*() {
      const key = Buffer.concat([Buffer.from(k("")), Uint8Array.of(0, 255, 128, 10)])
      const value = Uint8Array.of(255, 0, 254, 13)
      yield* client.put({ key, value })
      const stored = Option.getOrThrow(yield* client.get(key))
      assert.deepStrictEqual([[...stored.key], [...stored.value]], [[...key], [...value]])
      yield* client.put({ key: k("empty"), value: "" })
      assert.strictEqual(Option.getOrThrow(yield* client.get(k("empty"))).value.length, 0)
    }))

  test(it, "orders keys by their bytes", ({ all, client, k, names }) =>
    Effect.gen(function*() {
      for (const name of ["é", "a/", "a", "B", "a0", "ab", "zz", "~", "A"]) {
        yield* client.put({ key: k(name), value: "" })
      }
      assert.strictEqual(names(yield* client.range(all)), "A B a a/ a0 ab zz ~ é")
    }))

  test(it, "reads spans: without their end, empty, and the wrong way round", (stage) =>
    Effect.gen(function*() {
      const { all, client, k, kvs, names, span } = stage
      yield* fill(stage)
      assert.deepStrictEqual(kvs((yield* client.range(all)).kvs), filled)
      assert.strictEqual(names(yield* client.range(span("a", "c"))), "a b")
      assert.strictEqual(names(yield* client.range(span("aa", "bb"))), "b")
      assert.strictEqual(names(yield* client.range(span("b", "b"))), "")
      assert.strictEqual(names(yield* client.range(span("c", "a"))), "")
      assert.strictEqual(names(yield* client.range({ key: k("b"), rangeEnd: "" })), "b")
      assert.strictEqual(names(yield* client.range({ key: k("a"), rangeEnd: `${k("a")}\0` })), "a")
    }))

  test(it, "reads to the end, and everything, with \"\\0\" as the end", (stage) =>
    Effect.gen(function*() {
      const { client, k, names } = stage
      yield* client.delete({ key: "\0", rangeEnd: "\0" })
      yield* fill(stage)
      assert.strictEqual(names(yield* client.range({ key: k("b"), rangeEnd: "\0" })), "b c d")
      assert.strictEqual(names(yield* client.range({ key: k("d!"), rangeEnd: "\0" })), "")
      assert.strictEqual(names(yield* client.range({ key: "\0", rangeEnd: "\0" })), "a b c d")
      assert.strictEqual(names(yield* client.range({ key: "\0", rangeEnd: k("b") })), "a")
      assert.strictEqual(names(yield* client.range({ key: "\0" })), "")
    }))

  test(it, "sorts by everything, both ways; equal ones by their keys", (stage) =>
    Effect.gen(function*() {
      const { all, client, names } = stage
      yield* fill(stage)
      const sorted = (by: SortTarget) =>
        Effect.all([
          Effect.map(client.range({ ...all, sort: { by, order: "ascend" } }), names),
          Effect.map(client.range({ ...all, sort: { by, order: "descend" } }), names)
        ])
      assert.deepStrictEqual(yield* sorted("key"), ["a b c d", "d c b a"])
      assert.deepStrictEqual(yield* sorted("create"), ["b a c d", "d c a b"])
      assert.deepStrictEqual(yield* sorted("mod"), ["a d c b", "b c d a"])
      assert.deepStrictEqual(yield* sorted("version"), ["a d c b", "b c a d"])
      assert.deepStrictEqual(yield* sorted("value"), ["a d c b", "b c a d"])
    }))

  test(
    it,
    "limits after sorting, counts without the limit, and says whether there is more",
    (stage) =>
      Effect.gen(function*() {
        const { all, client, names } = stage
        yield* fill(stage)
        const limited = (request: Omit<RangeRequest, "key">) =>
          Effect.map(client.range({ ...all, ...request }), (response) => [
            names(response),
            response.more,
            Number(response.count)
          ])
        assert.deepStrictEqual(yield* limited({ limit: 1 }), ["a", true, 4])
        assert.deepStrictEqual(yield* limited({ limit: 3 }), ["a b c", true, 4])
        assert.deepStrictEqual(yield* limited({ limit: 4 }), ["a b c d", false, 4])
        assert.deepStrictEqual(yield* limited({ limit: 5 }), ["a b c d", false, 4])
        assert.deepStrictEqual(yield* limited({ limit: 0 }), ["a b c d", false, 4])
        assert.deepStrictEqual(yield* limited({ limit: -1 }), ["a b c d", false, 4])
        assert.deepStrictEqual(yield* limited({ limit: 2, sort: { by: "key", order: "descend" } }), ["d c", true, 4])
        assert.deepStrictEqual(yield* limited({ limit: 2, sort: { by: "create", order: "ascend" } }), ["b a", true, 4])
        assert.deepStrictEqual(yield* limited({ limit: 1, sort: { by: "mod", order: "descend" } }), ["b", true, 4])
        assert.deepStrictEqual(yield* limited({ limit: 1, sort: { by: "version", order: "descend" } }), ["b", true, 4])
        assert.deepStrictEqual(yield* limited({ limit: 3, sort: { by: "value", order: "ascend" } }), ["a d c", true, 4])
      })
  )

  test(it, "leaves values out, or only counts", (stage) =>
    Effect.gen(function*() {
      const { all, client, k, kvs } = stage
      yield* fill(stage)
      const keysOnly = yield* client.range({ ...all, keysOnly: true })
      assert.deepStrictEqual(kvs(keysOnly.kvs), ["a= c2 m2 v1", "b= c1 m7 v3", "c= c3 m6 v2", "d= c5 m5 v1"])
      const byValue = yield* client.range({ ...all, keysOnly: true, sort: { by: "value", order: "descend" }, limit: 1 })
      assert.deepStrictEqual(kvs(byValue.kvs), ["b= c1 m7 v3"])
      for (const request of [{}, { limit: 1 }, { keysOnly: true }, { minModRevision: 1n << 40n }]) {
        const counted = yield* client.range({ ...all, countOnly: true, ...request })
        assert.deepStrictEqual([counted.kvs, counted.more, counted.count], [[], false, 4n])
      }
      assert.strictEqual((yield* client.range({ key: k("a"), countOnly: true })).count, 1n)
      assert.strictEqual((yield* client.range({ key: k("x"), countOnly: true })).count, 0n)
    }))

  test(it, "filters by revisions of creation and change, which the count ignores", (stage) =>
    Effect.gen(function*() {
      const { all, at, client, names } = stage
      yield* fill(stage)
      const filtered = (request: Omit<RangeRequest, "key">) =>
        Effect.map(client.range({ ...all, ...request }), (response) => [
          names(response),
          response.more,
          Number(response.count)
        ])
      assert.deepStrictEqual(yield* filtered({ minModRevision: at(6) }), ["b c", false, 4])
      assert.deepStrictEqual(yield* filtered({ maxModRevision: at(5) }), ["a d", false, 4])
      assert.deepStrictEqual(yield* filtered({ minModRevision: at(5), maxModRevision: at(6) }), ["c d", false, 4])
      assert.deepStrictEqual(yield* filtered({ minCreateRevision: at(2) }), ["a c d", false, 4])
      assert.deepStrictEqual(yield* filtered({ maxCreateRevision: at(2) }), ["a b", false, 4])
      assert.deepStrictEqual(yield* filtered({ maxCreateRevision: at(0) }), ["", false, 4])
      assert.deepStrictEqual(yield* filtered({ minModRevision: at(8) }), ["", false, 4])
      assert.deepStrictEqual(yield* filtered({ minCreateRevision: at(2), limit: 2 }), ["a c", true, 4])
      assert.deepStrictEqual(yield* filtered({ maxModRevision: at(6), limit: 3 }), ["a c d", false, 4])
      assert.deepStrictEqual(
        yield* filtered({ maxCreateRevision: at(3), limit: 1, sort: { by: "create", order: "descend" } }),
        ["c", true, 4]
      )
    }))

  test(it, "reads past revisions, deleted keys included", (stage) =>
    Effect.gen(function*() {
      const { all, at, client, k, kvs } = stage
      yield* fill(stage)
      yield* client.delete({ key: k("b") }) // 8
      yield* client.put({ key: k("b"), value: "new" }) // 9
      const past = (revision: number) =>
        Effect.map(client.range({ ...all, revision: at(revision) }), ({ count, header, kvs: found }) => {
          assert.strictEqual(header.revision, at(9))
          assert.strictEqual(count, BigInt(found.length))
          return kvs(found)
        })
      assert.deepStrictEqual(yield* past(0), [])
      assert.deepStrictEqual(yield* past(1), ["b=2 c1 m1 v1"])
      assert.deepStrictEqual(yield* past(4), ["a=3 c2 m2 v1", "b=9 c1 m4 v2", "c=1 c3 m3 v1"])
      assert.deepStrictEqual(yield* past(7), filled)
      assert.deepStrictEqual(yield* past(8), ["a=3 c2 m2 v1", "c=4 c3 m6 v2", "d=3 c5 m5 v1"])
      assert.deepStrictEqual(yield* past(9), ["a=3 c2 m2 v1", "b=new c9 m9 v1", "c=4 c3 m6 v2", "d=3 c5 m5 v1"])
      const one = yield* client.range({ key: k("b"), revision: at(6), serializable: true })
      assert.deepStrictEqual(kvs(one.kvs), ["b=9 c1 m4 v2"])
    }))

  test(it, "refuses future revisions, and takes zero and less as the newest", (stage) =>
    Effect.gen(function*() {
      const { all, at, client, k, kvs } = stage
      yield* fill(stage)
      const future = "etcdserver: mvcc: required revision is a future revision"
      yield* refused(client.range({ key: k("a"), revision: at(8) }), "FutureRevision", future, k("a"))
      yield* refused(client.range({ ...all, countOnly: true, revision: at(1_000) }), "FutureRevision", future)
      yield* refused(client.range({ key: k("a"), revision: at(8), serializable: true }), "FutureRevision", future)
      for (const revision of [0n, -1n]) {
        assert.deepStrictEqual(kvs((yield* client.range({ ...all, revision })).kvs), filled)
      }
    }))

  test(it, "reads pages at one revision, whatever is written meanwhile", (stage) =>
    Effect.gen(function*() {
      const { all, at, client, kvs, puts } = stage
      yield* fill(stage)
      const pages = yield* client.pages(all, { pageSize: 2 }).pipe(
        Stream.tap(() => puts("a=late", "c=late", "e=late")),
        Stream.runCollect
      )
      assert.deepStrictEqual([...pages].map((page) => kvs(page.kvs)), [filled.slice(0, 2), filled.slice(2)])
      assert.deepStrictEqual([...pages].map(({ count, more }) => [Number(count), more]), [[4, true], [2, false]])
      const sizes = (pageSize: number) =>
        Stream.runCollect(client.pages({ ...all, revision: at(7), keysOnly: true }, { pageSize })).pipe(
          Effect.map((chunk) => [...chunk].map((page) => page.kvs.map(({ value }) => text(value).length)))
        )
      assert.deepStrictEqual(yield* sizes(1), [[0], [0], [0], [0]])
      assert.deepStrictEqual(yield* sizes(3), [[0, 0, 0], [0]])
      assert.deepStrictEqual(yield* sizes(4), [[0, 0, 0, 0]])
      const empty = yield* Stream.runCollect(client.pages(stage.span("x", "y")))
      assert.deepStrictEqual([...empty].map((page) => page.kvs), [[]])
    }))

  test(it, "refuses an empty key", ({ client }) =>
    Effect.gen(function*() {
      const empty = "etcdserver: key is not provided"
      yield* refused(client.range({ key: "" }), "InvalidRequest", empty, "")
      yield* refused(client.range({ key: new Uint8Array(0), rangeEnd: "b" }), "InvalidRequest", empty, "")
      yield* refused(client.get(""), "InvalidRequest", empty, "")
      yield* refused(Stream.runDrain(client.pages({ key: "" })), "InvalidRequest", empty, "")
    }))
}
