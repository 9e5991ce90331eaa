import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as TestContext from "effect/TestContext"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as Mirror from "../../src/Mirror.js"
import { refusals, TestEtcd } from "../../src/testing.js"
import { pass, scenario, settle, text, whileTimePasses } from "../support/memory.js"
import { range, showBoth } from "./support.js"

const present = Effect.flatMap(
  TestEtcd,
  (etcd) =>
    Effect.map(
      etcd.snapshot,
      (kvs) =>
        kvs.filter(({ key }) => text(key).startsWith("m/")).map(({ key, modRevision, value }) =>
          `${text(key)}=${text(value)}@${modRevision}`
        )
    )
)

const copyOf = (mirror: Mirror.Mirror) =>
  Effect.map(
    mirror.entries,
    (kvs) => kvs.map(({ key, modRevision, value }) => `${text(key)}=${text(value)}@${modRevision}`)
  )

const inStep = (mirror: Mirror.Mirror) =>
  Effect.gen(function*() {
    for (let i = 0; i < 400; i++) {
      yield* settle
      const there = yield* present
      const reached = yield* Effect.raceFirst(
        Effect.map(copyOf(mirror), (copy) => JSON.stringify(copy) === JSON.stringify(there)),
        Effect.as(settle, false)
      )
      if (reached) return
      yield* pass("250 millis", "250 millis")
    }
    assert.deepStrictEqual(yield* copyOf(mirror), yield* present)
  })

/** A reader of changes, which takes one when asked. */
const reader = (mirror: Mirror.Mirror) =>
  Effect.gen(function*() {
    const queue = yield* Queue.bounded<Mirror.Change>(1)
    yield* Effect.forkScoped(Stream.runForEach(mirror.changes, (change) => Queue.offer(queue, change)))
    return { next: Queue.take(queue), some: (count: number) => Effect.replicateEffect(Queue.take(queue), count) }
  })

const make = Mirror.make(range)

describe("Mirror", () => {
  it.effect("copies a prefix and follows it", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.putKey("m/a", "1")
      yield* etcd.putKey("n", "not mine")
      const mirror = yield* make
      assert.strictEqual((yield* mirror.state)._tag, "Loading")
      const changes = yield* reader(mirror)
      assert.strictEqual(showBoth(yield* changes.next), "m/a=1")
      yield* etcd.putKey("m/b", "2")
      yield* etcd.putKey("m/a", "3")
      yield* etcd.deleteKey("m/a")
      assert.deepStrictEqual((yield* changes.some(3)).map(showBoth), ["m/b=2", "m/a=3 (1)", "-m/a (3)"])
      assert.deepStrictEqual(yield* copyOf(mirror), yield* present)
      assert.strictEqual(text(Option.getOrThrow(yield* mirror.get("m/b")).value), "2")
      assert.isTrue(Option.isNone(yield* mirror.get("m/a")))
      assert.strictEqual((yield* mirror.state)._tag, "Following")
    }).pipe(scenario))

  it.effect("lists in pages at one revision", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      for (let i = 0; i < 2_500; i++) yield* etcd.putKey(`m/${i}`, "v")
      const mirror = yield* make
      yield* mirror.ready
      assert.strictEqual(HashMap.size((yield* mirror.snapshot).entries), 2_500)
      assert.strictEqual((yield* etcd.usage).calls.range, 3)
    }).pipe(scenario))

  it.effect("keeps its copy while etcd is away, says since when, and catches up", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.putKey("m/a", "1")
      const mirror = yield* make
      yield* mirror.ready
      yield* settle
      yield* etcd.down
      yield* pass("5 seconds")
      const state = yield* mirror.state
      assert.deepInclude(state, { _tag: "Stale", sinceMillis: 0 })
      assert.deepStrictEqual(yield* copyOf(mirror), ["m/a=1@2"])
      yield* etcd.putKey("m/a", "2")
      yield* etcd.up
      yield* inStep(mirror)
      assert.strictEqual((yield* mirror.state)._tag, "Following")
    }).pipe(scenario))

  it.effect("starts with etcd away", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.down
      const mirror = yield* make
      const waiting = yield* Effect.fork(mirror.ready)
      yield* pass("30 seconds")
      assert.isTrue(Option.isNone(yield* Fiber.poll(waiting)), "an outage is waited out")
      const state = yield* mirror.state
      assert.isTrue(state._tag === "Loading" && Option.isSome(state.error))
      yield* etcd.up
      yield* whileTimePasses(Fiber.join(waiting))
    }).pipe(scenario))

  it.effect("tells those who wait that etcd refuses, and recovers when it no longer does", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.refuse(refusals.permissionDenied, {
        match: ({ operation }) => operation === "range",
        times: Infinity
      })
      const mirror = yield* make
      const error = yield* whileTimePasses(Effect.flip(mirror.snapshot))
      assert.strictEqual(error.reason, "PermissionDenied")
      yield* etcd.clear
      yield* whileTimePasses(mirror.ready)
    }).pipe(scenario))

  it.effect("compares after a compaction: no put missing, deletes with the last known value", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.putKey("m/stays", "1")
      yield* etcd.putKey("m/goes", "2")
      yield* etcd.putKey("m/changes", "3")
      const mirror = yield* make
      const changes = yield* reader(mirror)
      yield* changes.some(3)
      yield* etcd.down
      yield* etcd.deleteKey("m/goes")
      yield* etcd.putKey("m/changes", "4")
      yield* etcd.putKey("m/new", "5")
      yield* etcd.compact()
      yield* etcd.up
      const seen = yield* whileTimePasses(changes.some(3))
      assert.deepStrictEqual(seen.map(showBoth), ["-m/goes (2)", "m/changes=4 (3)", "m/new=5"])
      yield* etcd.putKey("m/after", "6")
      assert.strictEqual(showBoth(yield* changes.next), "m/after=6")
    }).pipe(scenario))

  it.effect("ends equal to an etcd that lost its data, in a new epoch", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      for (let i = 0; i < 10; i++) yield* etcd.putKey(`m/${i}`, "old")
      const mirror = yield* make
      const changes = yield* reader(mirror)
      yield* changes.some(10)
      assert.strictEqual((yield* mirror.snapshot).epoch, 0)
      yield* etcd.restartWithoutData
      yield* etcd.putKey("m/3", "new")
      const seen = yield* whileTimePasses(changes.some(10))
      assert.deepStrictEqual(
        seen.slice(0, 9).map(showBoth).sort(),
        [0, 1, 2, 4, 5, 6, 7, 8, 9].map((i) => `-m/${i} (old)`)
      )
      assert.strictEqual(showBoth(seen[9]), "m/3=new (old)")
      assert.strictEqual((yield* mirror.snapshot).epoch, 1)
      yield* etcd.putKey("m/4", "newer")
      assert.strictEqual(showBoth(yield* changes.next), "m/4=newer")
      yield* inStep(mirror)
    }).pipe(scenario))

  it.effect("reads every change to a reader that lags far behind, and delays nobody", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const mirror = yield* make
      const slow = yield* reader(mirror)
      const fast = yield* Effect.forkScoped(Stream.runCollect(Stream.take(mirror.changes, 12_000)))
      yield* mirror.ready
      yield* settle
      for (let i = 0; i < 120; i++) {
        for (let j = 0; j < 100; j++) yield* etcd.putKey(`m/${j % 13}`, String(i * 100 + j))
        yield* settle
      }
      assert.lengthOf(yield* whileTimePasses(Fiber.join(fast)), 12_000)
      const seen: Array<string> = []
      while (seen.length < 12_000) {
        seen.push(showBoth(yield* whileTimePasses(slow.next)).replace(/ \(.*/, "").replace(/.*=/, ""))
      }
      assert.deepStrictEqual(seen, Array.from({ length: 12_000 }, (_, i) => String(i)))
      // It has met the log again: its own watch is gone.
      yield* etcd.putKey("m/x", "last")
      assert.strictEqual(showBoth(yield* slow.next), "m/x=last")
      yield* settle
      assert.strictEqual((yield* etcd.usage).watchers, 1)
    }).pipe(scenario))

  it.effect("tells a reader that lags, and whose history is gone, the difference", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.putKey("m/old", "1")
      const mirror = yield* make
      const slow = yield* reader(mirror)
      yield* mirror.ready
      yield* settle
      yield* etcd.deleteKey("m/old")
      for (let i = 0; i < 60; i++) {
        for (let j = 0; j < 100; j++) yield* etcd.putKey(`m/${j % 3}`, String(i * 100 + j))
        yield* settle
      }
      yield* etcd.compact()
      const state = new Map<string, string>()
      const expected = new Map([["m/0", "5999"], ["m/1", "5997"], ["m/2", "5998"]])
      const applied = Effect.map(slow.next, (change) => {
        if (change._tag === "Put") state.set(text(change.kv.key), text(change.kv.value))
        else state.delete(text(change.key))
        return JSON.stringify([...state].sort()) === JSON.stringify([...expected].sort())
      })
      yield* whileTimePasses(Effect.repeat(applied, { until: (done) => done }))
    }).pipe(scenario))

  it.effect("coalesces states for slow readers", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const mirror = yield* make
      const states: Array<number> = []
      const reading = yield* Effect.forkScoped(
        mirror.snapshots.pipe(
          Stream.tap(({ entries }) => Effect.sync(() => states.push(HashMap.size(entries)))),
          Stream.tap(() => Effect.sleep("1 second")),
          Stream.takeUntil(({ entries }) => HashMap.size(entries) === 50),
          Stream.runDrain
        )
      )
      yield* mirror.ready
      yield* settle
      for (let i = 0; i < 50; i++) {
        yield* etcd.putKey(`m/${i}`, "v")
        yield* settle
      }
      yield* whileTimePasses(Fiber.join(reading))
      assert.deepStrictEqual(states, [0, 50])
    }).pipe(scenario))

  it.effect("waits until it has what this process wrote", () =>
    Effect.gen(function*() {
      const client = yield* EtcdClient
      const mirror = yield* make
      yield* mirror.ready
      for (let i = 0; i < 20; i++) {
        const { header } = yield* client.put({ key: "m/mine", value: String(i) })
        yield* mirror.awaitRevision(header.revision)
        assert.strictEqual(text(Option.getOrThrow(yield* mirror.get("m/mine")).value), String(i))
      }
    }).pipe(scenario))

  it.effect("does not wait for what was lost with etcd's data", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.putKey("m/a", "1")
      const mirror = yield* make
      yield* mirror.ready
      const waiting = yield* Effect.fork(mirror.awaitRevision(100n))
      yield* etcd.putKey("m/a", "2")
      yield* settle
      assert.isTrue(Option.isNone(yield* Fiber.poll(waiting)))
      yield* etcd.restartWithoutData
      yield* whileTimePasses(Fiber.join(waiting))
    }).pipe(scenario))

  it.effect("keeps keys apart that are not UTF-8", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.putKey(Uint8Array.of(0x6d, 0x2f, 0xfe), "1")
      yield* etcd.putKey(Uint8Array.of(0x6d, 0x2f, 0xff), "2")
      const mirror = yield* make
      assert.deepStrictEqual((yield* mirror.entries).map(({ value }) => text(value)), ["1", "2"])
    }).pipe(scenario))

  it("notices a loss of data that no header of its watch gives away", () =>
    Effect.runPromise(Effect.provide(
      mixture([["cut", 5], ["cut", 0], ["put", 2], ["put", 5], ["delete", 3], ["wipe", 0]]),
      TestContext.TestContext
    )))

  it.effect(
    "ends equal to etcd after any mixture of changes, cuts, compactions and losses",
    () =>
      Effect.promise(() =>
        FastCheck.assert(
          FastCheck.asyncProperty(
            FastCheck.array(
              FastCheck.oneof(
                { weight: 8, arbitrary: FastCheck.tuple(FastCheck.constant("put"), FastCheck.nat(5)) },
                { weight: 4, arbitrary: FastCheck.tuple(FastCheck.constant("delete"), FastCheck.nat(5)) },
                {
                  weight: 4,
                  arbitrary: FastCheck.tuple(
                    FastCheck.constantFrom("cut", "down", "up", "compact", "restart", "wipe", "fail over", "pass"),
                    FastCheck.nat(5)
                  )
                }
              ),
              { maxLength: 40 }
            ),
            (steps) => Effect.runPromise(Effect.provide(mixture(steps), TestContext.TestContext))
          ),
          { numRuns: 60 }
        )
      ),
    60_000
  )
})

const mixture = (steps: ReadonlyArray<[string, number]>) =>
  Effect.gen(function*() {
    const etcd = yield* TestEtcd
    const mirror = yield* make
    const told = new Map<string, string>()
    yield* Effect.forkScoped(Stream.runForEach(mirror.changes, (change) =>
      Effect.sync(() => {
        if (change._tag === "Put") {
          assert.strictEqual(told.get(text(change.kv.key)), change.previous && text(change.previous.value))
          told.set(text(change.kv.key), text(change.kv.value))
        } else {
          assert.strictEqual(told.get(text(change.key)), text(change.previous.value))
          told.delete(text(change.key))
        }
      })))
    const actions: Record<string, (n: number) => Effect.Effect<unknown>> = {
      "put": (n) => Effect.flatMap(etcd.revision, (revision) => etcd.putKey(`m/${n}`, `v${revision}`)),
      "delete": (n) => etcd.deleteKey(`m/${n}`),
      "cut": () => etcd.disconnect,
      "down": () => etcd.down,
      "up": () => etcd.up,
      "compact": () => etcd.compact(),
      "restart": () => etcd.restart,
      "wipe": () => etcd.restartWithoutData,
      "fail over": () => etcd.failOver,
      "pass": () => pass("2 seconds", "1 second")
    }
    for (const [action, n] of steps) {
      yield* actions[action](n)
      for (let i = 0; i < n; i++) yield* Effect.yieldNow()
    }
    yield* etcd.up
    yield* inStep(mirror)
    yield* settle
    assert.deepStrictEqual(
      [...told].map(([key, value]) => `${key}=${value}`).sort(),
      (yield* present).map((entry) => entry.replace(/@.*/, ""))
    )
  }).pipe(scenario)
