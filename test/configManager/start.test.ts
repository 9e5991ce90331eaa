/** A live setting while etcd is away, silent, refuses, or has lost its data. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as ConfigManager from "../../src/ConfigManager.js"
import { refusals, TestEtcd } from "../../src/testing.js"
import { eventually, pass, scenario, settle, whileTimePasses } from "../support/memory.js"
import {
  becomes,
  etcdKey,
  goEtcdKey,
  isNow,
  isRejected,
  json,
  limits,
  longPass,
  put,
  remove,
  warnings
} from "./support.js"

describe("a live setting that starts", () => {
  for (const state of ["down", "stall"] as const) {
    it.effect(`without etcd (${state}) has the default after a while, and catches up`, () =>
      Effect.gen(function*() {
        const etcd = yield* TestEtcd
        const { layer, lines } = yield* warnings
        yield* put(json(2))
        yield* state === "down" ? etcd.down : etcd.stall()
        const starting = yield* Effect.fork(
          Effect.provide(ConfigManager.make({ ...limits, startTimeout: "3 seconds" }), layer)
        )
        yield* pass("2900 millis")
        assert.isTrue(Option.isNone(yield* Fiber.poll(starting)))
        yield* pass("200 millis")
        const manager = yield* Fiber.join(starting)
        assert.deepStrictEqual(yield* manager.current, { requests: 1 })
        const { connection, source, version } = yield* manager.status
        assert.deepStrictEqual([connection._tag, source, version], ["Loading", "default", 0n])
        assert.deepStrictEqual(lines, [
          "nothing was heard of etcd within 3s: starts with the default of config \"test/billing/limits\""
        ])
        yield* state === "down" ? etcd.up : etcd.resume
        yield* becomes(manager, 2)
        yield* longPass
        const later = yield* manager.status
        assert.deepStrictEqual([later.connection._tag, later.source], ["Following", "etcd"])
      }).pipe(Effect.scoped, scenario))
  }

  it.effect("where it may not read has the default at once, and etcd's value when it may", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { layer, lines } = yield* warnings
      yield* put(json(2))
      yield* etcd.refuse(refusals.permissionDenied, { times: Infinity })
      const manager = yield* Effect.provide(ConfigManager.make(limits), layer)
      assert.deepStrictEqual(yield* manager.current, { requests: 1 })
      const { connection } = yield* manager.status
      assert.isTrue(connection._tag === "Loading" && Option.isSome(connection.error))
      assert.match(lines.join(), /PermissionDenied.*: starts with the default/)
      yield* etcd.clear
      yield* becomes(manager, 2)
    }).pipe(Effect.scoped, scenario))

  it.effect("where it may read its own key alone has what stands there", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put(json(2))
      yield* put(json(3), goEtcdKey)
      yield* etcd.refuse(refusals.permissionDenied, {
        match: ({ keys }) => keys.includes(goEtcdKey),
        times: Infinity
      })
      const manager = yield* ConfigManager.make(limits)
      assert.deepStrictEqual(yield* manager.current, { requests: 2 })
      yield* remove()
      yield* longPass
      // Nobody can say whether there is something under the other key.
      assert.deepStrictEqual(yield* manager.current, { requests: 2 })
      assert.strictEqual((yield* manager.status).connection._tag, "Loading")
      yield* put(json(4))
      yield* isNow(manager, 4)
    }).pipe(scenario))

  it.effect("with etcd going away between its first answers has the default as well", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put(json(2), goEtcdKey)
      yield* etcd.loseRequest({ match: ({ operation }) => operation === "txn", times: Infinity })
      const manager = yield* whileTimePasses(ConfigManager.make({ ...limits, startTimeout: "1 second" }))
      assert.deepStrictEqual(yield* manager.current, { requests: 1 })
      yield* etcd.clear
      yield* becomes(manager, 2)
    }).pipe(scenario))

  it.effect("with a value that is refused has the default, and waits no longer than for the update", () =>
    Effect.gen(function*() {
      const version = yield* put(json(2))
      const refusing = yield* ConfigManager.make({ ...limits, onUpdate: () => Effect.fail("no") })
      assert.strictEqual((yield* isRejected(refusing, version)).reason, "no")
      const starting = yield* Effect.fork(
        ConfigManager.make({
          ...limits,
          updateTimeout: "2 seconds",
          onUpdate: () => Effect.uninterruptible(Effect.sleep("10 seconds"))
        })
      )
      yield* pass("1900 millis")
      assert.isTrue(Option.isNone(yield* Fiber.poll(starting)))
      yield* pass("200 millis")
      const hanging = yield* Fiber.join(starting)
      assert.deepStrictEqual(yield* hanging.current, { requests: 1 })
      yield* isRejected(hanging, version)
      yield* longPass
    }).pipe(Effect.scoped, scenario))

  it.effect("can be interrupted, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.down
      const starting = yield* Effect.fork(Effect.scoped(ConfigManager.make(limits)))
      yield* pass("1 second")
      yield* Fiber.interrupt(starting)
      yield* etcd.up
      yield* longPass
      assert.strictEqual((yield* etcd.usage).watchers, 0)
    }).pipe(scenario))
})

describe("a live setting that has started", () => {
  it.effect("stays as it is through an outage, says so, and catches up", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put(json(2))
      const seen: Array<number> = []
      const manager = yield* ConfigManager.make({
        ...limits,
        onUpdate: ({ requests }) => Effect.sync(() => seen.push(requests))
      })
      yield* etcd.down
      yield* pass("1 minute", "5 seconds")
      assert.deepStrictEqual(yield* manager.current, { requests: 2 })
      const { connection } = yield* manager.status
      assert.isTrue(connection._tag === "Stale" && connection.sinceMillis <= 1_000)
      yield* etcd.up
      yield* longPass
      assert.strictEqual((yield* manager.status).connection._tag, "Following")
      assert.deepStrictEqual(seen, [2])
      yield* etcd.down
      yield* put("x")
      yield* put(json(3))
      yield* etcd.compact()
      yield* etcd.up
      yield* becomes(manager, 3)
      assert.deepStrictEqual(seen, [2, 3])
      yield* etcd.down
      yield* remove()
      yield* etcd.up
      yield* becomes(manager, 1)
      assert.deepStrictEqual(seen, [2, 3, 1])
    }).pipe(scenario))

  it.effect("begins anew with an etcd that has lost its data, at whatever revision", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      for (let i = 0; i < 10; i++) yield* put("x", "other")
      const version = yield* put(json(2))
      const manager = yield* ConfigManager.make(limits)
      yield* manager.reload
      assert.deepStrictEqual(yield* manager.current, { requests: 2 })
      yield* etcd.restartWithoutData
      yield* becomes(manager, 1)
      const lower = yield* put(json(3))
      assert.isTrue(lower < version)
      yield* isNow(manager, 3)
      // At the very revision that another value had.
      yield* etcd.restartWithoutData
      assert.strictEqual(yield* put(json(4)), lower)
      yield* becomes(manager, 4)
    }).pipe(scenario))

  it.effect("does not hold on to what it has read for itself when that is of another history", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const writeOthers = (count: number) => Effect.repeatN(put("x", "other"), count - 1)
      for (const key of [etcdKey, goEtcdKey]) {
        yield* put(json(2), key)
        const manager = yield* ConfigManager.make(limits)
        yield* writeOthers(100)
        assert.strictEqual((yield* manager.reload)._tag, "Unchanged")
        // Further than the mirrors have seen of the last history, and not as far as the reading.
        yield* etcd.restartWithoutData
        yield* writeOthers(50)
        yield* becomes(manager, 1)
      }
    }).pipe(scenario))

  it.effect("moves to the other key when the first one is lost with the data", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      for (let i = 0; i < 10; i++) yield* put("x", "other")
      yield* put(json(2))
      const manager = yield* ConfigManager.make(limits)
      yield* manager.reload
      yield* etcd.restartWithoutData
      yield* put(json(3), goEtcdKey)
      yield* becomes(manager, 3)
      yield* put(json(4), goEtcdKey)
      yield* isNow(manager, 4)
    }).pipe(scenario))

  it.effect("does not go back for the late copy of a mirror that was not read when reload was", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put(json(2))
      yield* etcd.refuse(refusals.noLeader, { match: ({ operation }) => operation === "watch", times: Infinity })
      const seen: Array<number> = []
      const manager = yield* whileTimePasses(ConfigManager.make({
        ...limits,
        onUpdate: ({ requests }) => Effect.sync(() => seen.push(requests))
      }))
      assert.strictEqual((yield* manager.reload)._tag, "Applied")
      yield* put(json(3))
      assert.strictEqual((yield* manager.reload)._tag, "Applied")
      yield* etcd.clear
      yield* longPass
      assert.strictEqual((yield* manager.status).connection._tag, "Following")
      yield* put(json(4))
      yield* isNow(manager, 4)
      assert.deepStrictEqual(seen, [2, 3, 4])
    }).pipe(scenario))
})

describe("the end of a live setting", () => {
  it.effect("ends a reload that waits for onUpdate", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const reload = yield* Effect.scoped(Effect.gen(function*() {
        const manager = yield* ConfigManager.make({ ...limits, onUpdate: () => Effect.never })
        yield* etcd.stall({ calls: false })
        yield* put(json(2))
        const reload = yield* Effect.forkDaemon(Effect.exit(manager.reload))
        yield* eventually("it hangs", Effect.map(manager.status, ({ applying }) => Option.isSome(applying)))
        return reload
      }))
      assert.isTrue(Exit.isInterrupted(yield* Fiber.join(reload)))
    }).pipe(scenario))

  it.effect("is bounded with etcd gone and onUpdate hanging, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const interrupted: Array<string> = []
      const hang = (name: string) => Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted.push(name)))
      const latch = yield* Effect.makeLatch()
      for (const name of ["interruptible", "uninterruptible"]) {
        const closing = yield* Effect.fork(Effect.scoped(Effect.gen(function*() {
          const manager = yield* ConfigManager.make({
            ...limits,
            updateTimeout: "1 hour",
            onUpdate: () => name === "interruptible" ? hang(name) : Effect.uninterruptible(latch.await)
          })
          yield* put(json(2))
          yield* eventually("it hangs", Effect.map(manager.status, ({ applying }) => Option.isSome(applying)))
          const reload = yield* Effect.forkDaemon(Effect.exit(manager.reload))
          yield* settle
          yield* etcd.down
          return reload
        })))
        yield* pass("3 seconds")
        const reload = yield* Fiber.join(closing)
        assert.isTrue((yield* Fiber.join(reload))._tag === "Failure")
        yield* etcd.up
        yield* etcd.deleteKey(etcdKey)
      }
      assert.deepStrictEqual(interrupted, ["interruptible"])
      yield* latch.open
      yield* longPass
      const { callsInFlight, watchers } = yield* etcd.usage
      assert.deepStrictEqual([callsInFlight, watchers], [0, 0])
    }).pipe(scenario))
})
