import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { EtcdClient } from "../../src/EtcdClient.js"
import type { WatchEvent, WatchRequest } from "../../src/EtcdClient.js"
import * as Key from "../../src/Key.js"
import { refusals, TestEtcd } from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { eventually, pass, scenario, settle, text, whileTimePasses } from "../support/memory.js"

const show = ({ _tag, kv }: WatchEvent): string => `${_tag} ${text(kv.key)}=${text(kv.value)}@${kv.modRevision}`

/** Collects what a watch says until it has said `count` things. */
const collect = (request: WatchRequest, count: number) =>
  Effect.flatMap(
    EtcdClient,
    (client) =>
      Effect.map(Stream.runCollect(Stream.take(client.watch(request), count)), (all) =>
        Chunk.toReadonlyArray(all).map(show))
  )

const write = (from: number, to: number) =>
  Effect.flatMap(TestEtcd, (etcd) =>
    Effect.forEach(
      Array.from({ length: to - from }, (_, i) => from + i),
      (i) => etcd.putKey(`w/${i % 7}`, String(i)),
      { discard: true }
    ))

const expected = (from: number, to: number): ReadonlyArray<string> =>
  Array.from({ length: to - from }, (_, i) => from + i).map((i) => `Put w/${i % 7}=${i}@${i + 2}`)

describe("a watch", () => {
  for (const fragmentEvents of [undefined, 1, 3]) {
    it.effect(`loses and repeats nothing when it is cut again and again (fragments of ${fragmentEvents})`, () =>
      Effect.gen(function*() {
        const etcd = yield* TestEtcd
        const collecting = yield* Effect.fork(collect({ ...Key.prefix("w/"), startRevision: 2n }, 300))
        for (let i = 0; i < 30; i++) {
          yield* write(i * 10, i * 10 + 10)
          // Some cuts fall between the messages of a replay, some into silence.
          for (let j = 0; j < i; j++) yield* Effect.yieldNow()
          yield* etcd.disconnect
          if (i % 3 === 0) yield* pass("300 millis")
        }
        assert.deepStrictEqual(yield* whileTimePasses(Fiber.join(collecting)), expected(0, 300))
      }).pipe((test) => scenario(test, { engine: { fragmentEvents } })))
  }

  it.effect("delivers the events of a transaction together, whatever the fragments", () =>
    Effect.gen(function*() {
      const client = yield* EtcdClient
      const { next } = yield* client.openWatch(Key.prefix("t/"))
      const puts = Array.from({ length: 20 }, (_, i) => Txn.put({ key: `t/${String(i).padStart(2, "0")}`, value: "v" }))
      yield* client.txn({ success: puts })
      assert.lengthOf(yield* next, 20)
      yield* client.txn({ success: puts })
      assert.lengthOf(yield* next, 20)
    }).pipe((test) => scenario(test, { engine: { fragmentEvents: 3 } })))

  it.effect("says at which revision it stands, and misses nothing above it", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* EtcdClient
      yield* write(0, 5)
      const { next, revision } = yield* client.openWatch(Key.prefix("w/"))
      assert.strictEqual(revision, 6n)
      yield* etcd.disconnect
      yield* write(5, 6)
      assert.deepStrictEqual((yield* whileTimePasses(next)).map(show), expected(5, 6))
    }).pipe(scenario))

  it.effect("that lags gives its place on the server up, keeps a bounded buffer, and loses nothing", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* EtcdClient
      const { next } = yield* client.openWatch({ ...Key.prefix("w/"), startRevision: 2n })
      const fast = yield* Effect.fork(collect({ ...Key.prefix("w/"), startRevision: 2n }, 10_000))
      yield* settle
      assert.strictEqual((yield* etcd.usage).watchers, 2)
      yield* Effect.forEach(
        Array.from({ length: 100 }, (_, i) => i),
        (i) => Effect.zipRight(write(i * 100, i * 100 + 100), settle),
        { discard: true }
      )
      assert.deepStrictEqual(yield* Fiber.join(fast), expected(0, 10_000), "the other one is not delayed")
      assert.strictEqual((yield* etcd.usage).watchers, 0, "the slow one watches no more")
      const seen: Array<string> = []
      let largest = 0
      while (seen.length < 10_000) {
        const events = yield* whileTimePasses(next)
        largest = Math.max(largest, events.length)
        seen.push(...events.map(show))
        yield* settle
      }
      assert.deepStrictEqual(seen, expected(0, 10_000))
      assert.isAtMost(largest, 10_000 - 4_000)
    }).pipe(scenario))

  it.effect("is told when what it needs was compacted away", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* write(0, 10)
      yield* etcd.compact(8n)
      const error = yield* Effect.flip(collect({ ...Key.prefix("w/"), startRevision: 3n }, 1))
      assert.isTrue(error._tag === "WatchCompacted" && error.compactRevision === 8n && error.startRevision === 3n)
    }).pipe(scenario))

  it.effect("goes on through a compaction that it is ahead of", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const collecting = yield* Effect.fork(collect({ ...Key.prefix("w/"), startRevision: 2n }, 20))
      yield* write(0, 10)
      yield* settle
      yield* etcd.compact()
      yield* etcd.disconnect
      yield* write(10, 20)
      assert.deepStrictEqual(yield* whileTimePasses(Fiber.join(collecting)), expected(0, 20))
    }).pipe(scenario))

  it.effect("is told when it was cut off and its place was compacted away", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* EtcdClient
      const { next } = yield* client.openWatch(Key.prefix("w/"))
      yield* etcd.down
      yield* write(0, 10)
      yield* etcd.compact()
      yield* etcd.up
      assert.strictEqual((yield* whileTimePasses(Effect.flip(next)))._tag, "WatchCompacted")
    }).pipe(scenario))

  it.effect("is told when etcd lost its data", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* EtcdClient
      yield* write(0, 10)
      const { next } = yield* client.openWatch({ ...Key.prefix("w/"), startRevision: 2n })
      assert.lengthOf(yield* next, 10)
      yield* etcd.restartWithoutData
      const error = yield* whileTimePasses(Effect.flip(next))
      assert.isTrue(error._tag === "WatchNewEpoch" && error.startRevision === 12n && error.revision === 1n)
    }).pipe(scenario))

  it.effect("is not told so for a member that is only behind", () =>
    Effect.gen(function*() {
      // A watch from a future revision looks just like one on a member that lags.
      yield* write(0, 3)
      const collecting = yield* Effect.fork(collect({ ...Key.prefix("w/"), startRevision: 5n }, 2))
      yield* settle
      yield* write(3, 5)
      assert.deepStrictEqual(yield* Fiber.join(collecting), expected(3, 5))
    }).pipe(scenario))

  it.effect("that is refused fails alone", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const collecting = yield* Effect.fork(collect({ ...Key.prefix("w/"), startRevision: 2n }, 4))
      yield* settle
      yield* etcd.refuse(refusals.permissionDenied, {
        match: ({ keys, operation }) => operation === "watch" && keys.includes("secret")
      })
      const others = yield* Effect.fork(collect({ ...Key.prefix("w/"), startRevision: 2n }, 4))
      const refused = yield* Effect.flip(collect({ key: "secret" }, 1))
      const late = yield* Effect.fork(collect({ ...Key.prefix("w/"), startRevision: 2n }, 4))
      assert.isTrue(refused._tag === "EtcdError" && refused.reason === "PermissionDenied" && refused.key === "secret")
      yield* write(0, 4)
      for (const fiber of [collecting, others, late]) {
        assert.deepStrictEqual(yield* Fiber.join(fiber), expected(0, 4))
      }
    }).pipe(scenario))

  it.effect("gets a new stream when its token is not accepted any more", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.refuse(refusals.invalidAuthToken, { match: ({ operation }) => operation === "watch" })
      const collecting = yield* Effect.fork(collect({ ...Key.prefix("w/"), startRevision: 2n }, 4))
      yield* write(0, 4)
      assert.deepStrictEqual(yield* whileTimePasses(Fiber.join(collecting)), expected(0, 4))
    }).pipe(scenario))

  it.effect("fails alone when a new token is not accepted either", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const collecting = yield* Effect.fork(collect({ ...Key.prefix("w/"), startRevision: 2n }, 4))
      yield* settle
      yield* etcd.refuse(refusals.invalidAuthToken, {
        match: ({ keys, operation }) => operation === "watch" && keys.includes("other"),
        times: Infinity
      })
      const refused = yield* whileTimePasses(Effect.flip(collect({ key: "other" }, 1)))
      assert.isTrue(refused._tag === "EtcdError" && refused.reason === "Unauthenticated")
      yield* write(0, 4)
      assert.deepStrictEqual(yield* whileTimePasses(Fiber.join(collecting)), expected(0, 4))
    }).pipe(scenario))

  it.effect("is created together with others, over one stream", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const fibers = yield* Effect.forEach(
        Array.from({ length: 500 }, (_, i) => i),
        (i) => Effect.fork(collect({ key: `w/${i % 7}`, startRevision: 2n }, 1))
      )
      yield* settle
      const { watchers, watchStreams } = yield* etcd.usage
      assert.deepStrictEqual([watchers, watchStreams], [500, 1])
      yield* write(0, 7)
      yield* Effect.forEach(fibers, Fiber.join)
      yield* settle
      assert.strictEqual((yield* etcd.usage).watchers, 0, "nothing is left on the server")
    }).pipe(scenario))

  it.effect("notices a stream that has gone silent, and lets an idle one be", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* EtcdClient
      const { next } = yield* client.openWatch(Key.prefix("w/"))
      yield* etcd.resetUsage
      yield* pass("2 minutes", "1 second")
      assert.strictEqual((yield* client.watchConnection.get)._tag, "Connected")
      assert.isAtMost((yield* etcd.usage).calls.watch, 12, "one question every ten seconds, no new stream")
      assert.strictEqual((yield* etcd.usage).watchers, 1, "the questions leave nothing behind")
      yield* etcd.stall()
      yield* pass("30 seconds", "1 second")
      assert.strictEqual((yield* client.watchConnection.get)._tag, "Disconnected")
      yield* etcd.resume
      yield* write(0, 1)
      assert.deepStrictEqual((yield* whileTimePasses(next)).map(show), expected(0, 1))
    }).pipe(scenario))

  it.effect("fails at once for an empty key, and in time when etcd is away", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* EtcdClient
      const empty = yield* Effect.flip(collect({ key: "" }, 1))
      assert.isTrue(empty._tag === "EtcdError" && empty.reason === "InvalidRequest")
      yield* etcd.down
      const error = yield* whileTimePasses(Effect.flip(Effect.scoped(client.openWatch({ key: "a" }))))
      assert.isTrue(error._tag === "EtcdError" && error.reason === "DeadlineExceeded")
      yield* etcd.up
      yield* pass("2 seconds")
      assert.strictEqual((yield* etcd.usage).watchers, 0)
    }).pipe(scenario))

  it.effect("is not kept by the scope of those who did not get it in time, or do not wait for it", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* EtcdClient
      yield* etcd.stall()
      for (let i = 0; i < 3; i++) {
        yield* whileTimePasses(Effect.flip(client.openWatch({ key: "a" }, { timeout: "1 second" })))
        yield* whileTimePasses(Effect.timeoutOption(client.openWatch({ key: "a" }), "500 millis"))
      }
      yield* etcd.resume
      yield* client.openWatch({ key: "a" })
      yield* settle
      assert.strictEqual((yield* etcd.usage).watchers, 1)
    }).pipe(scenario))

  it.effect("can be ended while it waits to be created", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const collecting = yield* Effect.fork(collect({ key: "a" }, 1))
      yield* eventually("asked for", Effect.map(etcd.usage, ({ calls }) => calls.watch === 1))
      yield* Fiber.interrupt(collecting)
      yield* settle
      assert.strictEqual((yield* etcd.usage).watchers, 0)
    }).pipe(scenario))
})
