/** How a mirror begins: it watches from now on, and then reads. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Stream from "effect/Stream"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as Mirror from "../../src/Mirror.js"
import { refusals, TestEtcd } from "../../src/testing.js"
import type { KeyRange } from "../../src/Txn.js"
import { pass, scenario, settle, whileTimePasses } from "../support/memory.js"
import { range, show, toldBy } from "./support.js"

/** A mirror whose client tells what is asked for, and does something before each reading. */
const observed = (before: (reading: number) => Effect.Effect<unknown>) =>
  Effect.gen(function*() {
    const client = yield* EtcdClient
    const asked: Array<string> = []
    const observing: EtcdClient["Type"] = {
      ...client,
      openWatch: (request, options) => {
        asked.push(`watch from ${request.startRevision ?? "now"}`)
        return client.openWatch(request, options)
      },
      pages: (request, options) => {
        asked.push("list")
        const reading = asked.filter((one) => one === "list").length
        return Stream.unwrap(Effect.as(before(reading), client.pages(request, options)))
      }
    }
    const mirror = yield* Effect.provideService(Mirror.make(range), EtcdClient, observing)
    return { asked, mirror, told: yield* toldBy(mirror, show) }
  })

describe("a mirror", () => {
  it.effect("ends with its scope wherever it was made", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.down
      // Else the scope of the scenario would not close.
      const mirror = yield* Effect.uninterruptible(Mirror.make(range))
      yield* pass("1 second")
      assert.strictEqual((yield* mirror.state)._tag, "Loading")
    }).pipe(scenario))

  it.effect("has no gap between its watch and its list, and nothing twice", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.putKey("m/changes", "1")
      yield* etcd.putKey("m/goes", "1")
      const { asked, mirror, told } = yield* observed(() =>
        Effect.all([
          etcd.putKey("m/changes", "2"),
          etcd.deleteKey("m/goes"),
          etcd.putKey("m/comes", "1"),
          etcd.putKey("m/comes and goes", "1"),
          etcd.deleteKey("m/comes and goes"),
          settle
        ])
      )
      yield* mirror.ready
      yield* etcd.putKey("m/after", "1")
      yield* settle
      assert.deepStrictEqual(told, ["m/changes=2", "m/comes=1", "m/after=1"])
      assert.deepStrictEqual(asked, ["watch from now", "list"])
      yield* pass("5 seconds")
      assert.deepStrictEqual(asked, ["watch from now", "list"], "nothing is asked for twice")
    }).pipe(scenario))

  it.effect("has none when the connection breaks in between", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.putKey("m/a", "1")
      const { mirror, told } = yield* observed((reading) =>
        reading > 1 ? Effect.void : Effect.all([etcd.disconnect, etcd.putKey("m/a", "2")])
      )
      yield* whileTimePasses(mirror.ready)
      yield* etcd.putKey("m/a", "3")
      yield* pass("10 seconds")
      assert.deepStrictEqual(told, ["m/a=2", "m/a=3"])
    }).pipe(scenario))

  it.effect("is of one history when etcd loses its data in between", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      for (let i = 0; i < 20; i++) yield* etcd.putKey("m/a", `old ${i}`)
      const { mirror, told } = yield* observed((reading) =>
        reading > 1 ? Effect.void : Effect.all([etcd.restartWithoutData, etcd.putKey("m/a", "new")])
      )
      yield* whileTimePasses(mirror.ready)
      yield* pass("10 seconds")
      yield* etcd.putKey("m/a", "newer")
      yield* settle
      assert.deepStrictEqual(told, ["m/a=new", "m/a=newer"])
      assert.strictEqual((yield* mirror.snapshot).revision, yield* etcd.revision)
    }).pipe(scenario))

  it.effect("has no gap either when that new history soon has come further than the old one", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      for (let i = 0; i < 20; i++) yield* etcd.putKey("other", `old ${i}`)
      const { mirror, told } = yield* observed((reading) => reading > 1 ? Effect.void : etcd.restartWithoutData)
      yield* whileTimePasses(mirror.ready)
      for (let i = 0; i < 30; i++) yield* etcd.putKey(`m/${i}`, "new")
      // Comparing, as after every new connection, would take longer than this.
      yield* pass("3 seconds")
      assert.lengthOf(told, 30)
    }).pipe(scenario))

  it.effect("reads again under a new watch when the old one was compacted away", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.putKey("m/a", "1")
      const { asked, mirror, told } = yield* observed(() => Effect.void)
      yield* mirror.ready
      yield* etcd.down
      yield* etcd.putKey("m/a", "2")
      yield* etcd.putKey("m/a", "3")
      yield* etcd.compact()
      yield* etcd.up
      yield* pass("10 seconds")
      assert.deepStrictEqual(told, ["m/a=1", "m/a=3"])
      assert.deepStrictEqual(asked, ["watch from now", "list", "watch from 5", "list"])
    }).pipe(scenario))

  it.effect("says so when it cannot work: nobody waits for what never comes", () =>
    Effect.gen(function*() {
      const logged: Array<unknown> = []
      const listening = Logger.replace(
        Logger.defaultLogger,
        Logger.make(({ logLevel, message }) => {
          if (logLevel === LogLevel.Error) logged.push(message)
        })
      )
      // Where there is no compiler, a name in place of a range.
      const mirror = yield* Effect.provide(Mirror.make("m/" as unknown as KeyRange), listening)
      const exits = [yield* Effect.exit(mirror.ready), yield* Effect.exit(mirror.ready)]
      assert.isTrue(exits.every((exit) => Exit.isFailure(exit) && Cause.isDie(exit.cause)))
      assert.deepStrictEqual(logged, [["a mirror does not follow any more"]])
    }).pipe(scenario))

  for (const operation of ["watch", "range"] as const) {
    it.effect(`tells those who wait that etcd refuses (${operation}), and recovers when it no longer does`, () =>
      Effect.gen(function*() {
        const etcd = yield* TestEtcd
        yield* etcd.refuse(refusals.permissionDenied, {
          match: (request) => request.operation === operation,
          times: Infinity
        })
        const mirror = yield* Mirror.make(range)
        for (let i = 0; i < 2; i++) {
          const error = yield* whileTimePasses(Effect.flip(mirror.ready))
          assert.strictEqual(error.reason, "PermissionDenied")
        }
        yield* etcd.clear
        yield* whileTimePasses(mirror.ready)
        yield* etcd.putKey("m/a", "1")
        yield* settle
        assert.lengthOf(yield* mirror.entries, 1)
      }).pipe(scenario))
  }
})
