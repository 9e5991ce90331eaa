import { assert, describe, it, layer } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import type * as EtcdClient from "../../src/EtcdClient.js"
import type { WatchCompacted, WatchNewEpoch } from "../../src/EtcdError.js"
import * as EtcdServer from "../support/EtcdServer.js"
import { watchersOf } from "../support/metrics.js"
import * as TcpProxy from "../support/TcpProxy.js"
import type { Client } from "./support.js"
import { assertSequence, below, connect, failure, show, take, until, write } from "./support.js"

const proxied = Effect.gen(function*() {
  const server = yield* EtcdServer.EtcdServer
  const proxy = yield* TcpProxy.make(server.endpoint)
  return {
    server,
    proxy,
    client: yield* connect({ endpoints: proxy.endpoint }),
    // One revision for each write.
    writer: yield* connect({ endpoints: server.endpoint, batch: false })
  }
})

/** Reads on while there is something to read, up to the last event expected, and compares the whole sequence. */
const sees = (watch: EtcdClient.Watch, expected: ReadonlyArray<string>) =>
  Effect.map(take(watch, expected.length), (events) => assertSequence(events.map(show), expected))

/** Nothing more comes: a change made now is the next event. */
const isQuiet = (watch: EtcdClient.Watch, writer: Client, prefix: string) =>
  Effect.flatMap(write(writer, prefix, 1), (last) => sees(watch, last))

for (const version of [undefined, "3.5"]) {
  const etcd = layer(EtcdServer.layer({ version }), { excludeTestServices: true })

  etcd(`a watch over connections that break (etcd ${version ?? "by default"})`, (it) => {
    it.scoped("sees every change once and in order, wherever the connection is cut", () =>
      Effect.gen(function*() {
        const { client, proxy, writer } = yield* proxied
        const prefix = "/cut/"
        const watch = yield* client.openWatch(below(prefix))
        let written = false
        const events = 500
        const writing = yield* Effect.fork(
          Effect.tap(write(writer, prefix, events), () => Effect.sync(() => void (written = true)))
        )
        // Cuts in the middle of frames, at ever other places; each is awaited before the next.
        const cutting = yield* Effect.fork(Effect.gen(function*() {
          for (let cuts = 0; !written || cuts < 10; cuts++) {
            const before = yield* proxy.accepted
            if (cuts % 2 === 0) yield* proxy.cut({ reset: cuts % 4 === 0 })
            else yield* proxy.cutAfterBytes(1 + (cuts * 977) % 4_000, "down")
            yield* until(
              "another connection",
              Effect.map(proxy.accepted, (accepted) => accepted > before || (written && cuts % 2 === 1))
            )
          }
        }))
        const expected = yield* Fiber.join(writing)
        yield* Fiber.join(cutting)
        yield* proxy.resume
        assert.isAbove(yield* proxy.accepted, 5)
        yield* sees(watch, expected)
        yield* isQuiet(watch, writer, prefix)
      }))

    it.scoped("catches up with thousands of changes, cut again meanwhile", () =>
      Effect.gen(function*() {
        const { client, proxy, writer } = yield* proxied
        const prefix = "/behind/"
        const watch = yield* client.openWatch(below(prefix))
        yield* proxy.refuse
        yield* proxy.cut()
        const { header } = yield* writer.put({ key: `${prefix}first`, value: "" })
        yield* Effect.forEach(
          Array.from({ length: 2_600 }),
          (_, index) => writer.put({ key: `${prefix}${index % 50}`, value: String(index) }),
          { concurrency: 100, discard: true }
        )
        // etcd sends a thousand revisions at a time: these cuts fall into the first and the second thousand.
        for (const bytes of [15_000, 40_000]) {
          const before = yield* proxy.accepted
          yield* proxy.cutAfterBytes(bytes, "down")
          yield* proxy.accept
          yield* until("the next connection", Effect.map(proxy.accepted, (accepted) => accepted > before))
          yield* proxy.refuse
          yield* until("its cut", Effect.map(proxy.open, (count) => count === 0))
        }
        yield* proxy.accept
        const revisions = (yield* take(watch, 2_601)).map(({ kv }) => kv.modRevision)
        assertSequence(revisions.map(String), revisions.map((_, index) => String(header.revision + BigInt(index))))
        yield* isQuiet(watch, writer, prefix)
      }))

    it.scoped("sees whole revisions, also of many changes, cut at any byte", () =>
      Effect.gen(function*() {
        const { client, proxy, writer } = yield* proxied
        const prefix = "/whole/"
        // With what was before, a revision is larger than what etcd sends in one piece.
        const watch = yield* client.openWatch({ ...below(prefix), prevKv: true })
        const rounds = 8
        const batches: Array<ReadonlyArray<EtcdClient.WatchEvent>> = []
        const reading = yield* Effect.fork(Effect.gen(function*() {
          while (batches.flat().length < rounds * 60) batches.push(yield* watch.next)
        }))
        for (let round = 0; round < rounds; round++) {
          yield* proxy.cutAfterBytes(1 + round * 412_345, "down")
          yield* writer.txn({
            success: Array.from({ length: 60 }, (_, index) => ({
              _tag: "Put" as const,
              request: { key: `${prefix}${index}`, value: "x".repeat(20_000) }
            }))
          })
        }
        yield* proxy.resume
        yield* Fiber.join(reading)
        for (const batch of batches) {
          const counts = new Map<bigint, number>()
          for (const { kv } of batch) counts.set(kv.modRevision, (counts.get(kv.modRevision) ?? 0) + 1)
          assert.deepStrictEqual(Array.from(new Set(counts.values())), [60])
        }
        const revisions = batches.flat().map(({ kv }) => kv.modRevision)
        assert.deepStrictEqual(revisions, revisions.toSorted((a, b) => Number(a - b)))
      }))

    it.scoped("of many on one stream, each sees its own", () =>
      Effect.gen(function*() {
        const { client, proxy, writer } = yield* proxied
        const prefixes = Array.from({ length: 60 }, (_, index) => `/many/${index}/`)
        const watches = yield* Effect.forEach(prefixes, (prefix) => client.openWatch(below(prefix)), {
          concurrency: "unbounded"
        })
        const streaming = yield* Effect.fork(
          Stream.runCollect(
            Stream.take(client.watch({ ...below("/many/"), startRevision: watches[0].revision + 1n }), 300)
          )
        )
        const expected = yield* Effect.forEach(prefixes, (prefix, index) =>
          Effect.zipLeft(write(writer, prefix, 5), index % 20 === 10 ? proxy.cut() : Effect.void))
        yield* Effect.forEach(watches, (watch, index) =>
          sees(watch, expected[index]), { concurrency: "unbounded" })
        assertSequence(Chunk.toReadonlyArray(yield* Fiber.join(streaming)).map(show), expected.flat())
        // All of them share a connection.
        assert.strictEqual(yield* proxy.open, 1)
      }))

    it.scoped("that is slow loses nothing, and does not hold others up", () =>
      Effect.gen(function*() {
        const { client, writer } = yield* proxied
        const prefix = "/slow/"
        const slow = yield* client.openWatch(below(prefix))
        const fast = yield* client.openWatch(below(prefix))
        const events = 8_000
        const reading = yield* Effect.fork(take(fast, events))
        yield* Effect.forEach(Array.from({ length: events / 100 }), (_, round) =>
          writer.txn({
            success: Array.from({ length: 100 }, (_, index) => ({
              _tag: "Put" as const,
              request: { key: `${prefix}${index}`, value: String(round) }
            }))
          }), { concurrency: 4 })
        const seen = (yield* Fiber.join(reading)).map(show)
        // What was held back for the slow one is bounded.
        const held = yield* slow.next
        assert.isBelow(held.length, 6_000)
        const rest = yield* take(slow, events - held.length)
        assertSequence([...held, ...rest].map(show), seen)
        yield* isQuiet(slow, writer, prefix)
      }))

    it.scoped("that needs what was compacted meanwhile ends with WatchCompacted, and others go on", () =>
      Effect.gen(function*() {
        const { client, proxy, writer } = yield* proxied
        const prefix = "/compacted/"
        const behind = yield* client.openWatch(below(prefix))
        const first = yield* write(writer, prefix, 1)
        yield* sees(behind, first)
        yield* proxy.refuse
        yield* proxy.cut()
        const missed = yield* write(writer, prefix, 10)
        const { header } = yield* writer.put({ key: "/other", value: "" })
        yield* writer.compact(header.revision)
        yield* proxy.accept
        const error = (yield* failure(behind.next)) as WatchCompacted
        assert.strictEqual(error._tag, "WatchCompacted")
        assert.strictEqual(error.compactRevision, header.revision)
        assert.include(missed[0], `@${error.startRevision}`)
        // For good.
        assert.strictEqual((yield* failure(behind.next))._tag, "WatchCompacted")

        const next = yield* client.openWatch({ ...below(prefix), startRevision: header.revision + 1n })
        const late = yield* failure(
          Effect.flatMap(client.openWatch({ ...below(prefix), startRevision: 1n }), ({ next }) => next)
        )
        assert.strictEqual(late._tag, "WatchCompacted")
        const streamed = yield* failure(Stream.runDrain(client.watch({ ...below(prefix), startRevision: 1n })))
        assert.strictEqual(streamed._tag, "WatchCompacted")
        yield* isQuiet(next, writer, prefix)
      }))

    it.scoped("may ask for a part, and for what was before", () =>
      Effect.gen(function*() {
        const { client, writer } = yield* proxied
        const range = below("/part/")
        const puts = yield* client.openWatch({ ...range, noDelete: true })
        const deletes = yield* client.openWatch({ ...range, noPut: true, prevKv: true })
        yield* writer.put({ key: "/part/a", value: "1" })
        yield* writer.delete({ key: "/part/a" })
        yield* writer.put({ key: "/part/a", value: "2" })
        assert.deepStrictEqual((yield* take(puts, 2)).map((event) => show(event).split("@")[0]), [
          "+/part/a=1",
          "+/part/a=2"
        ])
        const [deleted] = yield* take(deletes, 1)
        assert.strictEqual(deleted.prevKv?.version, 1n)
      }))

    it.scoped("that is closed leaves nothing on the server, and the others alone", () =>
      Effect.gen(function*() {
        const { client, server, writer } = yield* proxied
        const kept = yield* client.openWatch(below("/closed/"))
        for (let round = 0; round < 50; round++) {
          yield* Effect.scoped(client.openWatch(below("/closed/")))
          yield* Effect.fork(Stream.runDrain(client.watch({ key: "/closed/a" }))).pipe(Effect.flatMap(Fiber.interrupt))
        }
        yield* isQuiet(kept, writer, "/closed/")
        yield* until("one watcher", Effect.map(watchersOf(server), (count) => count === 1))
      }))
  })
}

describe("a server that lost its data", () => {
  it.scopedLive("ends watches with WatchNewEpoch; new ones see its new history", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.make()
      const client = yield* connect({ endpoints: server.endpoint })
      const before = yield* client.openWatch(below("/epoch/"))
      const fromPast = yield* client.openWatch({ ...below("/epoch/"), startRevision: 2n })
      const expected = yield* write(client, "/epoch/", 20)
      yield* sees(before, expected)
      yield* sees(fromPast, expected)
      yield* server.kill
      yield* server.startWithoutData
      for (const watch of [before, fromPast]) {
        const error = (yield* failure(watch.next)) as WatchNewEpoch
        assert.strictEqual(error._tag, "WatchNewEpoch")
        assert.strictEqual(error.revision, 1n)
        assert.include(expected[19], `@${error.startRevision - 1n}`)
      }
      const after = yield* client.openWatch(below("/epoch/"))
      yield* sees(after, yield* write(client, "/epoch/", 5))
    }))

  it.scopedLive("is not suspected when it restarts with them", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.make()
      const client = yield* connect({ endpoints: server.endpoint })
      const watch = yield* client.openWatch(below("/restart/"))
      const expected: Array<string> = []
      for (let round = 0; round < 2; round++) {
        expected.push(...yield* write(client, "/restart/", 20))
        yield* server.kill
        yield* server.start
      }
      expected.push(...yield* write(client, "/restart/", 1))
      yield* sees(watch, expected)
    }))
})
