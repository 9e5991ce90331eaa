import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { compacted, type It, test } from "../support.js"

export const watchStreams = (it: It) => {
  test(
    it,
    "carries 200 watchers, created at once, over one stream",
    ({ client, event, k, puts }) =>
      Effect.gen(function*() {
        const names = Array.from({ length: 200 }, (_, i) => `${i}`.padStart(3, "0"))
        const watches = yield* Effect.forEach(names, (name) => client.openWatch({ key: k(name) }), {
          concurrency: "unbounded"
        })
        yield* Effect.forEach(names, (name) => puts(`${name}=1`))
        const events = yield* Effect.forEach(watches, ({ next }) => next, { concurrency: "unbounded" })
        assert.deepStrictEqual(
          events.map((one) => one.map(event)),
          names.map((name, i) => [`+${name}=1 c${i + 1} m${i + 1} v1`])
        )
        assert.strictEqual((yield* client.watchConnection.get)._tag, "Connected")
      })
  )

  test(it, "sends nothing to watchers that were closed, and lets the others be", (stage) =>
    Effect.gen(function*() {
      const { all, client, expectEvents, puts } = stage
      const scope = yield* Scope.make()
      const closed = yield* Scope.extend(client.openWatch(all), scope)
      const kept = yield* client.openWatch(all)
      yield* puts("a=1")
      yield* expectEvents(closed, ["+a=1 c1 m1 v1"])
      yield* Scope.close(scope, Exit.void)
      yield* puts("a=2")
      yield* expectEvents(kept, ["+a=1 c1 m1 v1", "+a=2 c1 m2 v2"])
      const heard = yield* Effect.race(Effect.as(closed.next, "closed"), Effect.as(kept.next, "kept")).pipe(
        Effect.zipLeft(puts("a=3"), { concurrent: true })
      )
      assert.strictEqual(heard, "kept")
    }))

  test(it, "survives watchers that come and go all the time", ({ all, client, event, puts }) =>
    Effect.gen(function*() {
      const kept = yield* client.openWatch(all)
      yield* Effect.forEach(
        Array.from({ length: 50 }),
        () => Effect.scoped(Effect.timeout(client.openWatch(all), "5 seconds")),
        { concurrency: 10, discard: true }
      ).pipe(Effect.orDie)
      yield* puts("a=1")
      const own = yield* client.openWatch(all)
      yield* puts("a=2")
      assert.deepStrictEqual((yield* own.next).map(event), ["+a=2 c1 m2 v2"])
      const events: Array<string> = []
      while (events.length < 2) events.push(...(yield* kept.next).map(event))
      assert.deepStrictEqual(events, ["+a=1 c1 m1 v1", "+a=2 c1 m2 v2"])
    }))

  test(it, "lets a slow consumer catch up without a gap", ({ all, client, puts, rev }) =>
    Effect.gen(function*() {
      const slow = yield* client.openWatch(all)
      const quick = yield* client.openWatch(all)
      // more than what is held back for one watcher
      const large = "x".repeat(512 * 1024)
      for (let i = 0; i < 20; i++) {
        yield* puts(`a=${large}`)
        yield* quick.next
      }
      const revisions: Array<number> = []
      while (revisions.length < 20) revisions.push(...(yield* slow.next).map(({ kv }) => rev(kv.modRevision)))
      assert.deepStrictEqual(revisions, Array.from({ length: 20 }, (_, i) => i + 1))
    }))

  test(it, "ends a watch whose past was compacted, and says where that ends", (stage) =>
    Effect.gen(function*() {
      const { all, at, client, expectEvents, puts } = stage
      yield* puts("a=1", "a=2", "a=3", "a=4")
      const inStep = yield* client.openWatch({ ...all, startRevision: at(1) })
      yield* expectEvents(inStep, ["+a=1 c1 m1 v1", "+a=2 c1 m2 v2", "+a=3 c1 m3 v3", "+a=4 c1 m4 v4"])
      const next = yield* client.openWatch({ ...all, startRevision: at(5) })
      yield* client.compact(at(3))
      for (const start of [1, 2]) {
        const gone = yield* client.openWatch({ ...all, startRevision: at(start) })
        const error = yield* compacted(gone.next)
        assert.deepStrictEqual([error.startRevision, error.compactRevision], [at(start), at(3)])
      }
      const stream = yield* compacted(Stream.runDrain(client.watch({ ...all, startRevision: at(2) })))
      assert.strictEqual(stream.compactRevision, at(3))
      // the compacted revision itself can still be watched
      const first = yield* client.openWatch({ ...all, startRevision: at(3) })
      yield* expectEvents(first, ["+a=3 c1 m3 v3", "+a=4 c1 m4 v4"])
      // and whoever was in step does not notice
      yield* puts("a=5", "a=6")
      yield* expectEvents(inStep, ["+a=5 c1 m5 v5", "+a=6 c1 m6 v6"])
      yield* expectEvents(first, ["+a=5 c1 m5 v5", "+a=6 c1 m6 v6"])
      yield* expectEvents(next, ["+a=5 c1 m5 v5", "+a=6 c1 m6 v6"])
    }))

  test(it, "tells of deletes of the compacted revision itself", ({ backend, ...stage }) =>
    Effect.gen(function*() {
      const { all, at, client, expectEvents, puts } = stage
      yield* puts("a=1", "b=1")
      yield* client.delete(all)
      yield* puts("c=1")
      yield* client.compact(at(3), { physical: true })
      const watch = yield* client.openWatch({ ...all, startRevision: at(3), prevKv: true })
      const lost = backend.deviations.has("lostDeleteAtCompaction")
      yield* expectEvents(watch, [...lost ? [] : ["-a m3", "-b m3"], "+c=1 c4 m4 v1"])
    }))

  test(it, "leaves the version before out where it was compacted", (stage) =>
    Effect.gen(function*() {
      const { all, at, client, expectEvents, k, puts } = stage
      yield* puts("a=1", "a=2", "a=3")
      yield* client.delete({ key: k("a") })
      yield* client.compact(at(2))
      const watch = yield* client.openWatch({ ...all, startRevision: at(2), prevKv: true })
      yield* expectEvents(watch, ["+a=2 c1 m2 v2", "+a=3 c1 m3 v3 < a=2 c1 m2 v2", "-a m4 < a=3 c1 m3 v3"])
    }))

  test(it, "goes on for a watcher in step when everything before now is compacted", (stage) =>
    Effect.gen(function*() {
      const { all, at, client, event, k, puts } = stage
      const watch = yield* client.openWatch(all)
      const events: Array<string> = []
      for (let i = 1; i <= 5; i++) {
        yield* puts(`a=${i}`)
        events.push(...(yield* watch.next).map(event))
        yield* client.compact(at(i), { physical: true })
      }
      yield* client.delete({ key: k("a") })
      events.push(...(yield* watch.next).map(event))
      assert.deepStrictEqual(events, [
        "+a=1 c1 m1 v1",
        "+a=2 c1 m2 v2",
        "+a=3 c1 m3 v3",
        "+a=4 c1 m4 v4",
        "+a=5 c1 m5 v5",
        "-a m6"
      ])
    }))
}
