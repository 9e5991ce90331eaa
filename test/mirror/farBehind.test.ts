/** What one is told who reads so slowly that the mirror's log has long dropped what comes next. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as MirrorCopy from "../../src/internal/mirror/copy.js"
import * as MirrorReader from "../../src/internal/mirror/reader.js"
import { refusals, TestEtcd } from "../../src/testing.js"
import { pass, scenario, settle, text, whileTimePasses } from "../support/memory.js"
import { put, range, showBoth } from "./support.js"

/** One who reads when asked, of a mirror whose log has long dropped what comes next: 2 of 300 versions. */
const behind = (before: (at: bigint, reading: number) => Effect.Effect<unknown> = () => Effect.void) =>
  Effect.gen(function*() {
    const etcd = yield* TestEtcd
    const client = yield* EtcdClient
    const listed: Array<bigint> = []
    const replay = MirrorReader.replayOf(client, range)
    // Revision 2 is the first, and its value is its number.
    yield* put("2")
    const { log, ready } = yield* MirrorCopy.make(client, range, { maxEvents: 50 })
    yield* ready
    const present = log.current() ?? assert.fail("no copy")
    const next = yield* MirrorReader.reader(log, {
      ...replay,
      list: (at) => {
        listed.push(at)
        return Effect.zipRight(before(at, listed.length), replay.list(at))
      }
    }, present)
    const part = Effect.map(
      next,
      (changes) => changes.map((change) => change._tag === "Put" ? text(change.kv.value) : "-")
    )
    yield* part
    for (let value = 3; value < 303; value += 10) {
      yield* put(...Array.from({ length: 10 }, (_, index) => String(value + index)))
      yield* settle
    }
    /** All that it is told until it is in step. */
    const rest = Effect.gen(function*() {
      const told: Array<string> = []
      while (told.at(-1) !== "302") told.push(...(yield* whileTimePasses(part)))
      yield* put("after")
      assert.deepStrictEqual(yield* part, ["after"])
      yield* settle
      // It has met the log again: its own watch is gone.
      assert.strictEqual((yield* etcd.usage).watchers, 1)
      return told
    })
    return { listed, rest }
  })

/** The versions from one on. */
const versions = (first: number) => Array.from({ length: 303 - first }, (_, index) => String(first + index))

describe("a reader far behind its mirror", () => {
  it.effect("tells what has survived a compaction, each version alone", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { listed, rest } = yield* behind()
      yield* etcd.compact(100n)
      assert.deepStrictEqual(yield* rest, versions(100))
      assert.deepStrictEqual(listed, [100n])
    }).pipe(scenario))

  it.effect("tells the same from the mirror's log, if that reaches back to there", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { listed, rest } = yield* behind()
      yield* etcd.compact(285n)
      const told = yield* rest
      // The log has a state of shortly before.
      assert.isTrue(Number(told[0]) <= 285 && Number(told[0]) > 270, told[0])
      assert.deepStrictEqual(told, versions(Number(told[0])))
      assert.deepStrictEqual(listed, [])
    }).pipe(scenario))

  for (const further of [1n, 50n]) {
    it.effect(`tells the same after another compaction in the meantime, ${further} further`, () =>
      Effect.gen(function*() {
        const etcd = yield* TestEtcd
        const { listed, rest } = yield* behind((at, reading) =>
          reading === 1 ? etcd.compact(at + further) : Effect.void
        )
        yield* etcd.compact(100n)
        assert.deepStrictEqual(yield* rest, versions(100 + Number(further)))
        assert.deepStrictEqual(listed, [100n, 100n + further])
      }).pipe(scenario))
  }

  it.effect("tells the same when etcd goes away in the meantime", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { listed, rest } = yield* behind()
      yield* etcd.refuse(refusals.noLeader, { match: ({ operation }) => operation === "range", times: 6 })
      yield* etcd.compact(100n)
      assert.deepStrictEqual(yield* rest, versions(100))
      assert.deepStrictEqual(listed, [100n, 100n])
    }).pipe(scenario))

  it.effect("waits until it may read", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { listed, rest } = yield* behind()
      yield* etcd.refuse(refusals.permissionDenied, { match: ({ operation }) => operation === "watch", times: 3 })
      assert.deepStrictEqual(yield* rest, versions(3))
      assert.deepStrictEqual(listed, [])
    }).pipe(scenario))

  it.effect("leaves a history that is over", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* EtcdClient
      yield* put("1")
      const { log, ready } = yield* MirrorCopy.make(client, range, { maxEvents: 3 })
      yield* ready
      const next = yield* MirrorReader.reader(log, {
        // Slow as well: one version, and nothing for long.
        watch: (after) =>
          Effect.map(MirrorReader.replayOf(client, range).watch(after), (next) => {
            let asked = 0
            return Effect.suspend(() => asked++ > 0 ? Effect.never : Effect.map(next, (events) => events.slice(0, 1)))
          }),
        list: () => Effect.dieMessage("nothing was compacted")
      }, log.current() ?? assert.fail("no copy"))
      const part = Effect.map(next, (changes) => changes.map(showBoth))
      assert.deepStrictEqual(yield* part, ["m/a=1"])
      for (const value of ["2", "3", "4", "5", "6", "7"]) {
        yield* put(value)
        yield* settle
      }
      assert.deepStrictEqual(yield* part, ["m/a=2 (1)"])
      yield* etcd.restartWithoutData
      yield* pass("10 seconds", "500 millis")
      assert.deepStrictEqual(yield* whileTimePasses(part), ["-m/a (2)"])
    }).pipe(scenario))

  it.effect("ends equal to the mirror where it may not read the past", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { rest } = yield* behind()
      yield* etcd.refuse({ code: 3, details: "not this one" }, { match: ({ operation }) => operation === "range" })
      yield* etcd.compact(100n)
      assert.deepStrictEqual(yield* rest, ["302"])
    }).pipe(scenario))
})
