import { assert, describe, it, layer } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import type { EtcdError } from "../../src/EtcdError.js"
import * as Txn from "../../src/Txn.js"
import * as EtcdServer from "../support/EtcdServer.js"
import { bounded, connect, everything, failure, outcome, take, text } from "./support.js"

const mebibyte = 1024 * 1024
const bytes = (size: number, fill = 1) => new Uint8Array(size).fill(fill)

const refusedAs = (error: EtcdError, reason: EtcdError["reason"], key: string | undefined) =>
  assert.deepStrictEqual([error.reason, error.mayBeApplied, error.key], [reason, false, key])

for (const version of [undefined, "3.5"]) {
  layer(EtcdServer.layer({ version }), { excludeTestServices: true })(`etcd ${version ?? "by default"}`, (it) => {
    it.scoped("refuses what can never work, and nothing of it is left behind", () =>
      Effect.gen(function*() {
        const server = yield* EtcdServer.EtcdServer
        const client = yield* connect({ endpoints: server.endpoint })
        const put = (key: string, value: Txn.Bytes = "") => Txn.put({ key, value })
        const cases: ReadonlyArray<
          readonly [EtcdError["reason"], string | undefined, Effect.Effect<unknown, unknown>]
        > = [
          ["InvalidRequest", "", client.put({ key: "", value: "" })],
          ["InvalidRequest", "", client.get("")],
          ["InvalidRequest", "", client.delete({ key: "" })],
          ["InvalidRequest", "a", client.txn({ success: [put("a"), put("")] })],
          ["InvalidRequest", "", Effect.scoped(client.openWatch({ key: "" }))],
          ["InvalidRequest", "", Stream.runDrain(client.watch({ key: "" }))],
          ["DuplicateKey", "a", client.txn({ success: [put("a"), put("a")] })],
          ["LeaseNotFound", "a", client.put({ key: "a", value: "", lease: 12345n })],
          ["LeaseNotFound", "a", client.txn({ success: [Txn.put({ key: "a", value: "", lease: 12345n })] })],
          ["InvalidRequest", "a", client.put({ key: "a", value: "", ignoreValue: true })],
          ["TooLarge", "large", client.put({ key: "large", value: bytes(1.6 * mebibyte) })],
          ["TooLarge", "large", client.put({ key: "large", value: bytes(3 * mebibyte) })],
          ["TooLarge", "large", client.put({ key: "large", value: bytes(40 * mebibyte) })],
          ["TooLarge", "large", client.txn({ success: [put("large", bytes(2 * mebibyte))] })],
          [
            "TooLarge",
            "many0",
            client.txn({ success: Array.from({ length: 129 }, (_, index) => put(`many${index}`)) })
          ],
          ["InvalidRequest", undefined, client.leaseGrant({ ttl: 0 })],
          ["InvalidRequest", undefined, client.leaseGrant({ ttl: -1 })],
          ["FutureRevision", "a", client.range({ key: "a", revision: 1_000_000n })],
          ["InvalidRequest", undefined, client.status("127.0.0.1:1")]
        ]
        for (const [reason, key, call] of cases) {
          refusedAs((yield* failure(call)) as EtcdError, reason, key)
        }
        const huge = (yield* failure(client.leaseGrant({ ttl: "150000 days" }))) as EtcdError
        assert.include(["InvalidRequest", "Unexpected"], huge.reason)
        assert.strictEqual(yield* server.etcdctl(["get", "", "--prefix", "--keys-only"]), "")
        assert.match(yield* server.etcdctl(["lease", "list"]), /found 0 leases/)
      }))

    it.scoped("stores what fits, and answers with as much as there is", () =>
      Effect.gen(function*() {
        const server = yield* EtcdServer.EtcdServer
        const client = yield* connect({ endpoints: server.endpoint })
        const { header } = yield* client.put({ key: "big/0", value: bytes(1.4 * mebibyte, 0) })
        for (let index = 1; index < 5; index++) {
          yield* client.put({ key: `big/${index}`, value: bytes(1.4 * mebibyte, index) })
        }
        const { kvs } = yield* client.range({ key: "big/", rangeEnd: "big0" })
        assert.deepStrictEqual(
          kvs.map(({ value }) => [value.length, value[0], value[value.length - 1]]),
          [
            0,
            1,
            2,
            3,
            4
          ].map((index) => [Math.floor(1.4 * mebibyte), index, index])
        )
        const watch = yield* client.openWatch({ key: "big/", rangeEnd: "big0", startRevision: header.revision })
        assert.deepStrictEqual(
          (yield* take(watch, 5)).map(({ kv }) => [text(kv.key), kv.value.length, kv.value[0]]),
          kvs.map(({ key, value }) => [text(key), value.length, value[0]])
        )
        // Answers to a watch are cut into pieces that are not much larger than a request may be.
        const small = yield* connect({ endpoints: server.endpoint, maxReceiveBytes: 4 * mebibyte })
        const pieces = yield* small.openWatch({ key: "big/", rangeEnd: "big0", startRevision: header.revision })
        assert.lengthOf(yield* take(pieces, 5), 5)
        // A transaction that answers with all of it.
        const { responses } = yield* client.txn({ success: [Txn.range({ key: "big/", rangeEnd: "big0" })] })
        assert.lengthOf(responses, 1)
        yield* client.delete({ key: "big/", rangeEnd: "big0" })
      }))

    it.scoped("keeps to the client's own limits", () =>
      Effect.gen(function*() {
        const server = yield* EtcdServer.EtcdServer
        const writer = yield* connect({ endpoints: server.endpoint })
        const client = yield* connect({ endpoints: server.endpoint, maxReceiveBytes: mebibyte, maxSendBytes: 2_000 })
        yield* writer.put({ key: "own", value: bytes(1.4 * mebibyte) })
        refusedAs(yield* failure(client.range({ key: "own" })), "TooLarge", "own")
        refusedAs(yield* failure(client.put({ key: "sent", value: bytes(2_001) })), "TooLarge", "sent")
        assert.strictEqual((yield* writer.get("sent"))._tag, "None")
        // A write whose answer is too large was carried out all the same.
        const swapped = yield* failure(client.put({ key: "own", value: "small", prevKv: true }))
        assert.deepStrictEqual(outcome(swapped), ["TooLarge", true])
        yield* client.put({ key: "sent", value: bytes(1_500) })
        assert.strictEqual((yield* client.range({ key: "own" })).kvs.length, 1)
        yield* writer.delete({ key: "\0", rangeEnd: "\0" })
      }))

    it.scoped("pages through a large range at one revision", () =>
      Effect.gen(function*() {
        const server = yield* EtcdServer.EtcdServer
        for (const namespace of ["", "/paged/"]) {
          const client = yield* connect({ endpoints: server.endpoint, namespace })
          const keys = Array.from({ length: 250 }, (_, index) => `page/${String(index).padStart(3, "0")}`)
          yield* Effect.forEach([0, 100, 200], (from) =>
            client.txn({ success: keys.slice(from, from + 100).map((key) => Txn.put({ key, value: "" })) }))
          const seen = yield* client.pages({ key: "page/", rangeEnd: "page0" }, { pageSize: 100 }).pipe(
            // What changes meanwhile is not seen.
            Stream.tap(() =>
              client.delete({ key: "page/249" })
            ),
            Stream.tap(() => client.put({ key: "page/100x", value: "" })),
            Stream.runCollect
          )
          assert.deepStrictEqual(Chunk.toReadonlyArray(seen).map(({ kvs }) => kvs.length), [100, 100, 50])
          assert.deepStrictEqual(
            Chunk.toReadonlyArray(seen).flatMap(({ kvs }) => kvs.map(({ key }) => text(key))),
            keys
          )
          yield* client.delete(everything)
        }
      }))
  })
}

describe("a namespace", () => {
  const setup = Effect.gen(function*() {
    const server = Context.get(yield* Layer.build(EtcdServer.layer()), EtcdServer.EtcdServer)
    const inside = yield* connect({ endpoints: server.endpoint, namespace: "/ns/" })
    const outside = yield* connect({ endpoints: server.endpoint })
    const keys = Effect.map(
      server.etcdctl(["get", "", "--prefix", "--keys-only"]),
      (output) => output.split("\n").filter((line) => line !== "")
    )
    return { server, inside, outside, keys }
  })

  it.scopedLive("is all that there is", () =>
    Effect.gen(function*() {
      const { inside, keys, outside, server } = yield* setup
      const neighbours = ["/n", "/ns", "/ns.", "/ns0", "/nt", "a", "\u00ff"]
      yield* Effect.forEach(neighbours, (key) => outside.put({ key, value: "outside" }))
      const everywhere = yield* inside.openWatch({ ...everything, prevKv: true })
      const one = yield* inside.openWatch({ key: "b" })

      yield* inside.put({ key: "a", value: "1" })
      const put = yield* inside.put({ key: "a", value: "2", prevKv: true })
      assert.strictEqual(text(put.prevKv?.key ?? new Uint8Array()), "a")
      yield* inside.txn({
        compare: [Txn.exists("a"), Txn.absent("/ns/a"), Txn.absent("b")],
        success: [
          Txn.put({ key: "b", value: "3" }),
          Txn.txn({ compare: [Txn.exists("a")], success: [Txn.put({ key: "c", value: "4" })] })
        ]
      })
      assert.deepStrictEqual(
        (yield* keys).filter((key) => !neighbours.includes(key)),
        ["/ns/a", "/ns/b", "/ns/c"]
      )
      assert.strictEqual(yield* server.etcdctl(["get", "/ns/b", "--print-value-only"]), "3\n")

      const { count, kvs } = yield* inside.range(everything)
      assert.deepStrictEqual([count, ...kvs.map(({ key }) => text(key))], [3n, "a", "b", "c"])
      const open = yield* inside.range({ key: "b", rangeEnd: "\0" })
      assert.deepStrictEqual(open.kvs.map(({ key }) => text(key)), ["b", "c"])
      assert.deepStrictEqual((yield* inside.range({ key: "a", rangeEnd: "c" })).kvs.length, 2)
      assert.strictEqual((yield* inside.get("/ns/a"))._tag, "None")

      const { id } = yield* inside.leaseGrant({ ttl: "1 minute" })
      yield* inside.put({ key: "leased", value: "", lease: id })
      yield* outside.put({ key: "other", value: "", lease: id })
      assert.deepStrictEqual((yield* inside.leaseTimeToLive(id, { keys: true })).keys.map(text), ["leased"])
      yield* inside.leaseRevoke(id)

      const deleted = yield* inside.delete({ ...everything, prevKv: true })
      assert.deepStrictEqual(deleted.prevKvs.map(({ key }) => text(key)), ["a", "b", "c"])
      assert.sameMembers(yield* keys, neighbours)

      // None of the neighbours' changes, and bare keys, before each change too.
      const events = yield* take(everywhere, 9)
      assert.deepStrictEqual(
        events.map(({ _tag, kv, prevKv }) =>
          `${_tag === "Put" ? "+" : "-"}${text(kv.key)}<${prevKv === undefined ? "" : text(prevKv.key)}`
        ),
        ["+a<", "+a<a", "+b<", "+c<", "+leased<", "-leased<leased", "-a<a", "-b<b", "-c<c"]
      )
      assert.deepStrictEqual((yield* take(one, 2)).map(({ kv }) => text(kv.key)), ["b", "b"])
      assert.strictEqual(inside.namespace, "/ns/")
    }))

  it.scopedLive("does not make an empty key a good one, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const { inside, keys } = yield* setup
      const calls: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
        inside.put({ key: "", value: "" }),
        inside.get(""),
        inside.delete({ key: "" }),
        inside.txn({ success: [Txn.put({ key: "", value: "" })] }),
        Effect.scoped(inside.openWatch({ key: "" })),
        inside.put({ key: "large", value: bytes(2 * mebibyte) })
      ]
      for (const call of calls) {
        const error = (yield* failure(call)) as EtcdError
        assert.include(["InvalidRequest", "TooLarge"], error.reason)
        assert.isFalse(error.mayBeApplied)
      }
      assert.deepStrictEqual(yield* keys, [])
    }))
})

describe("a watch under the client's own limit", () => {
  it.scopedLive("ends with TooLarge when a change is larger", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.make()
      const writer = yield* connect({ endpoints: server.endpoint })
      const client = yield* connect({ endpoints: server.endpoint, maxReceiveBytes: 1_000 })
      const watch = yield* client.openWatch({ key: "large" })
      yield* writer.put({ key: "large", value: bytes(2_000) })
      const error = (yield* bounded(failure(watch.next))) as EtcdError
      assert.strictEqual(error.reason, "TooLarge")
    }))
})
