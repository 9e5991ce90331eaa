import { assert } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { WatchNewEpoch } from "../../../src/EtcdError.js"
import * as Key from "../../../src/Key.js"
import * as Txn from "../../../src/Txn.js"
import { type It, refused, test } from "../support.js"

export const watches = (it: It) => {
  test(it, "tells of changes from now on, and at which revision that is", (stage) =>
    Effect.gen(function*() {
      const { all, at, client, expectEvents, k, puts } = stage
      yield* puts("a=0", "b=0")
      const watch = yield* client.openWatch(all)
      assert.strictEqual(watch.revision, at(2))
      yield* puts("a=1", "c=1")
      yield* client.delete({ key: k("b") })
      yield* client.delete({ key: k("never") })
      yield* puts("b=2")
      yield* expectEvents(watch, ["+a=1 c1 m3 v2", "+c=1 c4 m4 v1", "-b m5", "+b=2 c6 m6 v1"])
    }))

  test(it, "tells of the past from a revision on, and goes on from there", (stage) =>
    Effect.gen(function*() {
      const { all, at, client, expectEvents, k, puts } = stage
      yield* puts("a=0", "b=0")
      yield* client.delete({ key: k("a") })
      yield* puts("a=1")
      const watch = yield* client.openWatch({ ...all, startRevision: at(2) })
      assert.strictEqual(watch.revision, at(4))
      yield* expectEvents(watch, ["+b=0 c2 m2 v1", "-a m3", "+a=1 c4 m4 v1"])
      yield* puts("a=2")
      yield* expectEvents(watch, ["+a=2 c4 m5 v2"])
      // the revision after the newest one is no different
      const next = yield* client.openWatch({ ...all, startRevision: at(6) })
      yield* puts("a=3")
      yield* expectEvents(next, ["+a=3 c4 m6 v3"])
    }))

  test(it, "takes a start beyond the next revision for one of another history", (stage) =>
    Effect.gen(function*() {
      const { all, at, client, expectEvents, puts } = stage
      const next = yield* client.openWatch({ ...all, startRevision: at(1) })
      for (const start of [2, 1_000]) {
        const watch = yield* client.openWatch({ ...all, startRevision: at(start) })
        const error = yield* Effect.flip(watch.next).pipe(Effect.orDieWith(() => "events of a revision to come"))
        assert.instanceOf(error, WatchNewEpoch)
        assert.deepStrictEqual([error.startRevision, error.revision], [at(start), at(0)])
      }
      yield* puts("a=1")
      yield* expectEvents(next, ["+a=1 c1 m1 v1"])
    }))

  test(it, "watches one key, a span, to the end, and everything", (stage) =>
    Effect.gen(function*() {
      const { client, expectEvents, k, puts, span } = stage
      const one = yield* client.openWatch({ key: k("b") })
      const some = yield* client.openWatch(span("b", "d"))
      const rest = yield* client.openWatch({ key: k("b"), rangeEnd: "\0" })
      const everything = yield* client.openWatch({ key: "\0", rangeEnd: "\0" })
      yield* puts("a=1", "b=2", "bb=3", "c=4", "d=5")
      yield* expectEvents(one, ["+b=2 c2 m2 v1"])
      yield* expectEvents(some, ["+b=2 c2 m2 v1", "+bb=3 c3 m3 v1", "+c=4 c4 m4 v1"])
      yield* expectEvents(rest, ["+b=2 c2 m2 v1", "+bb=3 c3 m3 v1", "+c=4 c4 m4 v1", "+d=5 c5 m5 v1"])
      yield* expectEvents(everything, [
        "+a=1 c1 m1 v1",
        "+b=2 c2 m2 v1",
        "+bb=3 c3 m3 v1",
        "+c=4 c4 m4 v1",
        "+d=5 c5 m5 v1"
      ])
    }))

  test(it, "watches a prefix, and what only begins alike is none of it", (stage) =>
    Effect.gen(function*() {
      const { client, expectEvents, k, puts } = stage
      const watch = yield* client.openWatch(Key.prefix(k("app/")))
      yield* puts("app=1", "application=2", "app/=3", "app0=4", "app/x=5", "app/\xff=6", "ap=7", "app/x/y=8")
      yield* expectEvents(watch, [
        "+app/=3 c3 m3 v1",
        "+app/x=5 c5 m5 v1",
        "+app/\xff=6 c6 m6 v1",
        "+app/x/y=8 c8 m8 v1"
      ])
    }))

  test(it, "carries the version before each change, when asked", (stage) =>
    Effect.gen(function*() {
      const { all, at, client, expectEvents, k, puts } = stage
      const { id } = yield* client.leaseGrant({ ttl: "60 seconds" })
      const live = yield* client.openWatch({ ...all, prevKv: true })
      yield* puts("a=1", "a=2")
      yield* client.put({ key: k("a"), value: "3", lease: id })
      yield* client.delete({ key: k("a") })
      yield* puts("a=5")
      yield* client.txn({ success: [Txn.put({ key: k("a"), value: "6" }), Txn.put({ key: k("b"), value: "6" })] })
      const past = yield* client.openWatch({ ...all, prevKv: true, startRevision: at(1) })
      for (const watch of [live, past]) {
        yield* expectEvents(watch, [
          "+a=1 c1 m1 v1",
          "+a=2 c1 m2 v2 < a=1 c1 m1 v1",
          `+a=3 c1 m3 v3 l${id} < a=2 c1 m2 v2`,
          `-a m4 < a=3 c1 m3 v3 l${id}`,
          "+a=5 c5 m5 v1",
          "+a=6 c5 m6 v2 < a=5 c5 m5 v1",
          "+b=6 c6 m6 v1"
        ])
      }
      yield* client.leaseRevoke(id)
    }))

  test(it, "leaves puts, deletes, or both out", (stage) =>
    Effect.gen(function*() {
      const { all, at, client, expectEvents, k, puts } = stage
      const changes = Effect.gen(function*() {
        yield* puts("a=1", "b=1")
        yield* client.delete({ key: k("a") })
        yield* client.txn({ success: [Txn.put({ key: k("c"), value: "1" }), Txn.del({ key: k("b") })] })
      })
      const noPut = yield* client.openWatch({ ...all, noPut: true })
      const noDelete = yield* client.openWatch({ ...all, noDelete: true })
      const neither = yield* client.openWatch({ ...all, noPut: true, noDelete: true })
      yield* changes
      const past = yield* client.openWatch({ ...all, noPut: true, startRevision: at(1) })
      yield* expectEvents(noPut, ["-a m3", "-b m4"])
      yield* expectEvents(past, ["-a m3", "-b m4"])
      yield* expectEvents(noDelete, ["+a=1 c1 m1 v1", "+b=1 c2 m2 v1", "+c=1 c4 m4 v1"])
      const heard = yield* Effect.race(Effect.as(neither.next, "event"), Effect.as(noDelete.next, "other")).pipe(
        Effect.zipLeft(puts("d=1"), { concurrent: true })
      )
      assert.strictEqual(heard, "other")
    }))

  test(
    it,
    "hands the events of a transaction over together, in the order of its operations",
    (stage) =>
      Effect.gen(function*() {
        const { all, at, client, event, k, puts, rev } = stage
        const live = yield* client.openWatch(all)
        yield* puts("x=1", "y=1")
        yield* client.txn({
          success: [
            Txn.put({ key: k("c"), value: "1" }),
            Txn.del({ key: k("y") }),
            Txn.txn({ success: [Txn.put({ key: k("b"), value: "1" })] }),
            Txn.put({ key: k("a"), value: "1" }),
            Txn.del({ key: k("x") })
          ]
        })
        yield* puts("z=1")
        const past = yield* client.openWatch({ ...all, startRevision: at(1) })
        for (const watch of [live, past]) {
          const batches: Array<ReadonlyArray<string>> = []
          const revisions: Array<ReadonlyArray<number>> = []
          while (batches.flat().length < 8) {
            const events = yield* watch.next
            batches.push(events.map(event))
            revisions.push([...new Set(events.map(({ kv }) => rev(kv.modRevision)))])
          }
          assert.deepStrictEqual(batches.flat(), [
            "+x=1 c1 m1 v1",
            "+y=1 c2 m2 v1",
            "+c=1 c3 m3 v1",
            "-y m3",
            "+b=1 c3 m3 v1",
            "+a=1 c3 m3 v1",
            "-x m3",
            "+z=1 c4 m4 v1"
          ])
          // no revision is spread over two batches
          assert.deepStrictEqual(revisions.flat(), [1, 2, 3, 4])
        }
      })
  )

  test(it, "tells the deletes of a span in the order of the keys", (stage) =>
    Effect.gen(function*() {
      const { all, client, expectEvents, puts } = stage
      yield* puts("b=1", "c=1", "a=1")
      const watch = yield* client.openWatch({ ...all, prevKv: true })
      yield* client.delete(all)
      yield* expectEvents(watch, ["-a m4 < a=1 c3 m3 v1", "-b m4 < b=1 c1 m1 v1", "-c m4 < c=1 c2 m2 v1"])
    }))

  test(it, "tells several watchers the same, each on its own", (stage) =>
    Effect.gen(function*() {
      const { all, at, client, expectEvents, k, puts } = stage
      const [first, second] = [yield* client.openWatch(all), yield* client.openWatch(all)]
      yield* puts("a=1")
      const late = yield* client.openWatch({ key: k("a"), startRevision: at(1) })
      yield* puts("a=2")
      for (const watch of [second, late, first]) {
        yield* expectEvents(watch, ["+a=1 c1 m1 v1", "+a=2 c1 m2 v2"])
      }
    }))

  test(it, "loses nothing of a past that is longer than one message", (stage) =>
    Effect.gen(function*() {
      const { all, at, client, k, rev } = stage
      const puts = (part: number) =>
        Array.from({ length: 100 }, (_, i) => Txn.put({ key: k(`${part}/${i}`), value: "1" }))
      yield* Effect.forEach(Array.from({ length: 60 }, (_, i) => i), (part) => client.txn({ success: puts(part) }))
      const past = yield* client.watch({ ...all, startRevision: at(1) }).pipe(Stream.take(6_000), Stream.runCollect)
      assert.deepStrictEqual(
        Chunk.toReadonlyArray(past).map(({ kv }) => rev(kv.modRevision)),
        Array.from({ length: 6_000 }, (_, i) => 1 + Math.floor(i / 100))
      )
    }))

  test(it, "is a stream as well", ({ all, at, client, event, k, puts }) =>
    Effect.gen(function*() {
      yield* puts("a=1", "b=1")
      yield* client.delete({ key: k("a") })
      const events = yield* client.watch({ ...all, startRevision: at(1), prevKv: true }).pipe(
        Stream.map(event),
        Stream.take(3),
        Stream.runCollect
      )
      assert.deepStrictEqual(Chunk.toReadonlyArray(events), [
        "+a=1 c1 m1 v1",
        "+b=1 c2 m2 v1",
        "-a m3 < a=1 c1 m1 v1"
      ])
    }))

  test(it, "refuses a span without room for a key, and lets the other watchers be", (stage) =>
    Effect.gen(function*() {
      const { all, client, expectEvents, k, puts, span } = stage
      const kept = yield* client.openWatch(all)
      const empty = "mvcc: watcher range is empty"
      yield* refused(client.openWatch(span("d", "b")), "InvalidRequest", empty, k("d"))
      yield* refused(client.openWatch(span("b", "b")), "InvalidRequest", empty, k("b"))
      yield* refused(Stream.runDrain(client.watch(span("d", "b"))), "InvalidRequest", empty, k("d"))
      yield* puts("b=1")
      yield* expectEvents(kept, ["+b=1 c1 m1 v1"])
    }))

  test(it, "refuses an empty key", ({ client }) =>
    Effect.gen(function*() {
      const emptyKey = "etcdserver: key is not provided"
      yield* refused(Stream.runDrain(client.watch({ key: "" })), "InvalidRequest", emptyKey, "")
      yield* refused(Effect.scoped(client.openWatch({ key: "", rangeEnd: "\0" })), "InvalidRequest", emptyKey, "")
    }))
}
