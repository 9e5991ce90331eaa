import { assert } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { WatchError } from "../../../src/EtcdClient.js"
import type { EtcdError } from "../../../src/EtcdError.js"
import * as Key from "../../../src/Key.js"
import * as Txn from "../../../src/Txn.js"
import { Backend } from "../Backend.js"
import { type It, refused, type Stage, stageOf, text, unique } from "../support.js"

interface Pair {
  /** Inside the namespace; its keys have no prefix of their own. */
  readonly inside: Stage
  /** Sees everything, with the full keys of the namespace shortened to `ns/…`. */
  readonly outside: Stage
  /** The full key. */
  readonly full: (name: string) => string
}

const test = (
  it: It,
  name: string,
  body: (pair: Pair) => Effect.Effect<void, EtcdError | WatchError, Scope.Scope>
): void =>
  it.scoped(name, () =>
    Effect.gen(function*() {
      const prefix = `/${unique()}`
      const clients = yield* Effect.flatMap(Backend, ({ pair }) => pair(`${prefix}/ns/`))
      const outside = yield* stageOf(clients.outside, `${prefix}/`)
      // neighbours on both sides, and names that only begin alike
      yield* outside.puts("a=out", "ns=out", "ns.=out", "ns0=out", "z=out")
      const inside = yield* stageOf(clients.inside, "")
      yield* body({ inside, outside, full: (key) => `${prefix}/ns/${key}` })
    }))

const everything = { key: "\0", rangeEnd: "\0" }

/** What the neighbours look like for as long as nobody touches them; deletes and range ends may go wrong. */
const untouched = ["a", "ns", "ns.", "ns0", "z"]

const neighbours = ({ outside }: Pair) =>
  Effect.map(client(outside), (names) => names.filter((name) => !name.startsWith("ns/")))

const client = ({ all, client, name }: Stage) =>
  Effect.map(client.range(all), ({ kvs }) => kvs.map(({ key }) => name(key)))

export const namespaces = (it: It) => {
  test(
    it,
    "puts every key under the prefix, and takes it off again",
    ({ full, inside, outside }) =>
      Effect.gen(function*() {
        assert.strictEqual(inside.client.namespace, full(""))
        assert.strictEqual(outside.client.namespace, "")
        yield* inside.puts("k=1", "k=2")
        assert.strictEqual(text(Option.getOrThrow(yield* outside.client.get(full("k"))).value), "2")
        assert.strictEqual(text(Option.getOrThrow(yield* inside.client.get("k")).key), "k")
        assert.deepStrictEqual(yield* inside.client.get("a"), Option.none())
        const { prevKv } = yield* inside.client.put({ key: "k", value: "3", prevKv: true })
        assert.strictEqual(prevKv && inside.kv(prevKv), "k=2 c1 m2 v2")
        yield* outside.client.put({ key: full("given"), value: "1" })
        assert.deepStrictEqual(inside.kvs((yield* inside.client.range({ key: "given" })).kvs), ["given=1 c4 m4 v1"])
      })
  )

  test(it, "reads nothing outside, wherever a range ends", ({ full, inside, outside }) =>
    Effect.gen(function*() {
      yield* inside.puts("a=1", "b=2", "c=3")
      const { client, names } = inside
      assert.strictEqual(names(yield* client.range(everything)), "a b c")
      assert.strictEqual(names(yield* client.range(Key.prefix(""))), "a b c")
      assert.strictEqual(names(yield* client.range({ key: "b", rangeEnd: "\0" })), "b c")
      assert.strictEqual(names(yield* client.range({ key: "b", rangeEnd: Uint8Array.of(0) })), "b c")
      assert.strictEqual(names(yield* client.range({ key: "a", rangeEnd: "c" })), "a b")
      assert.strictEqual(names(yield* client.range({ key: "\0", rangeEnd: Uint8Array.of(255) })), "a b c")
      assert.strictEqual(names(yield* client.range({ key: "a", rangeEnd: "" })), "a")
      assert.strictEqual((yield* client.range({ ...everything, countOnly: true })).count, 3n)
      const pages = yield* Stream.runCollect(client.pages(everything, { pageSize: 1 }))
      assert.deepStrictEqual(Chunk.toReadonlyArray(Chunk.map(pages, names)), ["a", "b", "c"])
      const prefixed = yield* client.pages(Key.prefix("b"), { pageSize: 1 }).pipe(Stream.runCollect)
      assert.deepStrictEqual(Chunk.toReadonlyArray(Chunk.map(prefixed, names)), ["b"])
      assert.strictEqual((yield* outside.client.get(full("a")))._tag, "Some")
    }))

  test(it, "deletes nothing outside", (pair) =>
    Effect.gen(function*() {
      const { client, kvs, puts } = pair.inside
      yield* puts("a=1", "b=2", "c=3", "z=4")
      const rest = yield* client.delete({ key: "c", rangeEnd: "\0", prevKv: true })
      assert.deepStrictEqual(kvs(rest.prevKvs), ["c=3 c3 m3 v1", "z=4 c4 m4 v1"])
      assert.strictEqual((yield* client.delete({ key: "a" })).deleted, 1n)
      const last = yield* client.delete({ ...everything, prevKv: true })
      assert.deepStrictEqual(kvs(last.prevKvs), ["b=2 c2 m2 v1"])
      assert.deepStrictEqual(yield* neighbours(pair), untouched)
      yield* refused(
        client.delete({ key: "", rangeEnd: "\0" }),
        "InvalidRequest",
        "etcdserver: key is not provided",
        ""
      )
      assert.deepStrictEqual(yield* neighbours(pair), untouched)
    }))

  test(it, "compares inside, single keys and ranges", ({ inside }) =>
    Effect.gen(function*() {
      const { at, client, puts } = inside
      const holds = (compare: Txn.Compare) =>
        Effect.map(client.txn({ compare: [compare] }), ({ succeeded }) => succeeded)
      assert.isTrue(yield* holds(Txn.absent("a")))
      assert.isTrue(yield* holds({ ...Txn.absent("\0"), rangeEnd: "\0" }))
      yield* puts("b=1", "c=1")
      assert.isTrue(yield* holds(Txn.exists("b")))
      assert.isTrue(yield* holds({ ...Txn.value("\0", "=", "1"), rangeEnd: "\0" }))
      assert.isTrue(yield* holds({ ...Txn.createRevision("b", ">", at(0)), rangeEnd: "\0" }))
      assert.isFalse(yield* holds({ ...Txn.createRevision("b", ">", at(1)), rangeEnd: "d" }))
      assert.isTrue(yield* holds({ ...Txn.createRevision("c", ">", at(1)), rangeEnd: "d" }))
    }))

  test(it, "rewrites transactions on every level, and their answers", (pair) =>
    Effect.gen(function*() {
      const { answer, client, rev } = pair.inside
      const response = yield* client.txn({
        compare: [Txn.absent("a")],
        success: [
          Txn.put({ key: "a", value: "1" }),
          Txn.txn({
            compare: [Txn.exists("a")],
            failure: [
              Txn.put({ key: "b", value: "1" }),
              Txn.txn({ success: [Txn.put({ key: "c", value: "1" }), Txn.range(everything)] })
            ]
          }),
          Txn.range({ key: "b", rangeEnd: "\0" })
        ]
      })
      assert.deepStrictEqual([rev(response.header.revision), response.succeeded, ...response.responses.map(answer)], [
        1,
        true,
        "put",
        [false, "put", [true, "put", ["a=1 c1 m1 v1", "b=1 c1 m1 v1", "c=1 c1 m1 v1"]]],
        ["b=1 c1 m1 v1", "c=1 c1 m1 v1"]
      ])
      const deleted = yield* client.txn({
        compare: [Txn.absent("a")],
        failure: [
          Txn.put({ key: "a", value: "2", prevKv: true }),
          Txn.txn({ success: [Txn.del({ key: "b", rangeEnd: "\0", prevKv: true })] })
        ]
      })
      assert.deepStrictEqual(deleted.responses.map(answer), [
        "put < a=1 c1 m1 v1",
        [true, ["deleted 2", "b=1 c1 m1 v1", "c=1 c1 m1 v1"]]
      ])
      assert.deepStrictEqual(yield* neighbours(pair), untouched)
      const emptyKey = "etcdserver: key is not provided"
      yield* refused(client.txn({ compare: [Txn.absent("")] }), "InvalidRequest", emptyKey)
      yield* refused(client.txn({ success: [Txn.range({ key: "" })] }), "InvalidRequest", emptyKey)
      yield* refused(client.txn({ success: [Txn.put({ key: "", value: "" })] }), "InvalidRequest", emptyKey)
    }))

  test(it, "watches nothing outside", ({ full, inside, outside }) =>
    Effect.gen(function*() {
      const { at, client, event, expectEvents } = inside
      const all = yield* client.openWatch({ ...everything, prevKv: true })
      const rest = yield* client.openWatch({ key: "b", rangeEnd: "\0" })
      const one = yield* client.openWatch({ key: "a" })
      yield* outside.puts("a=2", "ns0=2", "ns.=2", "z=2") // 1 to 4
      yield* inside.puts("a=1") // 5
      yield* outside.client.put({ key: full("b"), value: "1" }) // 6
      yield* client.delete({ key: "a" }) // 7
      yield* expectEvents(all, ["+a=1 c5 m5 v1", "+b=1 c6 m6 v1", "-a m7 < a=1 c5 m5 v1"])
      yield* expectEvents(rest, ["+b=1 c6 m6 v1"])
      yield* expectEvents(one, ["+a=1 c5 m5 v1", "-a m7"])
      const stream = yield* client.watch({ ...everything, startRevision: at(1) }).pipe(
        Stream.map(event),
        Stream.take(3),
        Stream.runCollect
      )
      assert.deepStrictEqual(Chunk.toReadonlyArray(stream), ["+a=1 c5 m5 v1", "+b=1 c6 m6 v1", "-a m7"])
    }))

  test(
    it,
    "lists only its own keys of a lease, whose end still takes them all",
    ({ full, inside, outside }) =>
      Effect.gen(function*() {
        const { id } = yield* inside.client.leaseGrant({ ttl: "60 seconds" })
        yield* inside.client.put({ key: "a", value: "1", lease: id })
        yield* outside.client.put({ key: outside.k("shared"), value: "1", lease: id })
        const own = yield* inside.client.leaseTimeToLive(id, { keys: true })
        assert.deepStrictEqual(own.keys.map(text), ["a"])
        const all = yield* outside.client.leaseTimeToLive(id, { keys: true })
        assert.deepStrictEqual(all.keys.map(text).sort(), [full("a"), outside.k("shared")])
        yield* inside.client.leaseRevoke(id)
        assert.deepStrictEqual(yield* outside.client.get(outside.k("shared")), Option.none())
        assert.deepStrictEqual(yield* inside.client.get("a"), Option.none())
      })
  )

  test(it, "names the full key in errors", ({ full, inside }) =>
    Effect.gen(function*() {
      const value = new Uint8Array(1.5 * 1024 * 1024)
      const error = yield* Effect.flip(inside.client.put({ key: "large", value })).pipe(
        Effect.orDieWith(() => "a value over the limit was accepted")
      )
      assert.strictEqual(error.reason, "TooLarge")
      assert.strictEqual(error.key, full("large"))
    }))
}
