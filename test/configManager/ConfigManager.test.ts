import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Config from "../../src/Config.js"
import * as ConfigManager from "../../src/ConfigManager.js"
import { EtcdClient } from "../../src/EtcdClient.js"
import { InvalidArgument } from "../../src/EtcdError.js"
import { TestEtcd } from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { eventually, pass, scenario, settle, whileTimePasses } from "../support/memory.js"
import { etcdKey, goEtcdKey, id, isNow, isRejected, json, key, Limits, limits, put, remove } from "./support.js"

describe("a live setting", () => {
  it.effect("has the default while etcd has nothing", () =>
    Effect.gen(function*() {
      const manager = yield* ConfigManager.make(limits)
      assert.deepStrictEqual(yield* manager.current, { requests: 1 })
      const { appliedAtMillis, ...status } = yield* manager.status
      assert.strictEqual(appliedAtMillis, 0)
      assert.deepStrictEqual(status, {
        value: { requests: 1 },
        source: "default",
        key,
        version: 0n,
        rejected: Option.none(),
        applying: Option.none(),
        connection: { _tag: "Following" },
        snapshot: Option.none()
      })
    }).pipe(scenario))

  it.effect("has etcd's value from the start, and each that comes after", () =>
    Effect.gen(function*() {
      const first = yield* put(json(2))
      const manager = yield* ConfigManager.make(limits)
      assert.deepStrictEqual(yield* manager.current, { requests: 2 })
      const status = yield* manager.status
      assert.deepStrictEqual([status.source, status.key, status.version], ["etcd", key, first])
      const second = yield* put(json(3))
      yield* isNow(manager, 3)
      assert.strictEqual((yield* manager.status).version, second)
    }).pipe(scenario))

  it.effect("is changed with Config under its key", () =>
    Effect.gen(function*() {
      const manager = yield* ConfigManager.make(limits)
      assert.strictEqual(manager.key, yield* ConfigManager.key(id))
      yield* Config.set(manager.key, Limits, { requests: 7 })
      yield* isNow(manager, 7)
      yield* Config.delete(manager.key)
      yield* isNow(manager, 1)
    }).pipe(Effect.provide(Config.layer()), scenario))

  it.effect("goes back to the default when it is deleted, through both phases", () =>
    Effect.gen(function*() {
      yield* put(json(2))
      const updates: Array<string> = []
      let refuse = false
      const manager = yield* ConfigManager.make({
        ...limits,
        onUpdate: (value, previous) =>
          refuse ? Effect.fail("not now") : Effect.sync(() => updates.push(`${previous.requests} -> ${value.requests}`))
      })
      yield* remove()
      yield* isNow(manager, 1)
      const status = yield* manager.status
      assert.deepStrictEqual([status.source, status.version], ["default", 0n])
      yield* put(json(3))
      yield* isNow(manager, 3)
      assert.deepStrictEqual(updates, ["1 -> 2", "2 -> 1", "1 -> 3"])
      refuse = true
      yield* remove()
      const rejection = yield* isRejected(manager, 0n)
      assert.deepStrictEqual([rejection.phase, rejection.source, rejection.reason], ["onUpdate", "default", "not now"])
      assert.deepStrictEqual(yield* manager.current, { requests: 3 })
    }).pipe(scenario))

  it.effect("keeps the last good value when another is refused, and says why", () =>
    Effect.gen(function*() {
      class Busy extends Schema.TaggedError<Busy>()("Busy", { load: Schema.Number }) {
        override get message(): string {
          return `the load is ${this.load}`
        }
      }
      const good = yield* put(json(2))
      const manager = yield* ConfigManager.make({
        ...limits,
        validate: ({ requests }) =>
          requests === 10
            ? false
            : requests === 11
            ? Effect.succeed(false)
            : requests === 12
            ? Either.left("too many")
            : requests === 13
            ? Effect.dieMessage("no idea")
            : Effect.void,
        onUpdate: ({ requests }) => {
          if (requests === 23) throw new TypeError("thrown")
          return requests === 20
            ? Effect.fail(new Busy({ load: 0.9 }))
            : requests === 21
            ? Effect.die(new Error("broken"))
            : requests === 22
            ? Effect.interrupt
            : Effect.void
        }
      })
      const refused: Array<string> = []
      for (const text of ["{", "[]", json("many"), ...[10, 11, 12, 13, 20, 21, 22, 23].map(json)]) {
        const version = yield* put(text)
        const { cause, key: at, phase, reason } = yield* isRejected(manager, version)
        assert.strictEqual(at, key)
        assert.isFalse(Cause.isEmpty(Redacted.value(cause)))
        refused.push(`${phase}: ${reason.split("\n")[0]}`)
        assert.deepStrictEqual(yield* manager.current, { requests: 2 })
        assert.strictEqual((yield* manager.status).version, good)
      }
      assert.deepStrictEqual(refused, [
        "decode: Expected { readonly requests: Int }, actual \"{\"",
        "decode: Expected { readonly requests: Int }, actual []",
        "decode: { readonly requests: Int }",
        "validate: it is not valid",
        "validate: it is not valid",
        "validate: too many",
        "validate: RuntimeException: no idea",
        "onUpdate: Busy: the load is 0.9",
        "onUpdate: broken",
        "onUpdate: it was interrupted",
        "onUpdate: TypeError: thrown"
      ])
      yield* put(json(3))
      yield* isNow(manager, 3)
      assert.isTrue(Option.isNone((yield* manager.status).rejected))
    }).pipe(scenario))

  it.effect("goes on after an error that cannot be shown", () =>
    Effect.gen(function*() {
      const manager = yield* ConfigManager.make({
        ...limits,
        validate: ({ requests }) => requests !== 2 || Effect.fail({ above: 1n }),
        onUpdate: ({ requests }) => requests === 3 ? Effect.die(Object.create(null)) : Effect.void
      })
      for (const requests of [2, 3]) yield* isRejected(manager, yield* put(json(requests)))
      yield* put(json(4))
      yield* isNow(manager, 4)
    }).pipe(scenario))

  it.effect("goes back to the default also from a value that is refused", () =>
    Effect.gen(function*() {
      yield* put(json(2))
      const manager = yield* ConfigManager.make(limits)
      yield* isRejected(manager, yield* put("x"))
      yield* remove()
      yield* isNow(manager, 1)
      assert.isTrue(Option.isNone((yield* manager.status).rejected))
      yield* isRejected(manager, yield* put("x"))
      yield* remove()
      yield* eventually("nothing is refused", Effect.map(manager.status, ({ rejected }) => Option.isNone(rejected)))
    }).pipe(scenario))

  it.effect("is read without a step to etcd, however many look", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const manager = yield* ConfigManager.make(limits)
      yield* settle
      yield* etcd.resetUsage
      yield* Effect.repeatN(manager.current, 100_000)
      const { calls } = yield* etcd.usage
      assert.isTrue(Object.values(calls).every((count) => count === 0))
    }).pipe(scenario))

  it.effect("serves an application under a tag", () =>
    Effect.gen(function*() {
      class Live extends Context.Tag("Live")<Live, ConfigManager.ConfigManager<Limits>>() {}
      class Factor extends Context.Tag("Factor")<Factor, number>() {}
      const Scaled = Schema.transformOrFail(Limits, Schema.typeSchema(Limits), {
        decode: ({ requests }) => Effect.map(Factor, (factor) => ({ requests: requests * factor })),
        encode: ({ requests }) => Effect.map(Factor, (factor) => ({ requests: requests / factor }))
      })
      yield* put(json(2))
      const seen: Array<number> = []
      const live = ConfigManager.layer(Live, {
        ...limits,
        schema: Scaled,
        onUpdate: ({ requests }) => Effect.map(Factor, (factor) => seen.push(requests * factor))
      }).pipe(Layer.provide(Layer.succeed(Factor, 10)))
      const value = yield* Effect.flatMap(Live, ({ current }) => current).pipe(Effect.provide(live))
      assert.deepStrictEqual(value, { requests: 20 })
      assert.deepStrictEqual(seen, [200])
    }).pipe(scenario))
})

describe("bad input", () => {
  it.effect("is refused at once, with its name, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const refused = (options: Partial<ConfigManager.Options<Limits, Limits>>, argument: string) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(ConfigManager.make({ ...limits, ...options }))
          assert.isTrue(error._tag === "InvalidArgument" && error.argument === argument, argument)
        })
      for (const name of ["", "a/b", "..", "a\n", "/"]) {
        yield* refused({ env: name }, "env")
        yield* refused({ service: name }, "service")
        yield* refused({ component: name }, "component")
      }
      yield* refused({ env: "config" }, "env")
      yield* refused({ prefix: "config" }, "prefix")
      yield* refused({ startTimeout: 0 }, "startTimeout")
      yield* refused({ updateTimeout: "0 seconds" }, "updateTimeout")
      yield* refused({ snapshotFile: "" }, "snapshotFile")
      yield* refused({ snapshotFile: "a\0b" }, "snapshotFile")
      yield* refused({ snapshotFile: 1 as any }, "snapshotFile")
      yield* refused({ env: undefined as any }, "env")
      yield* refused({ validate: () => Effect.fail({ above: 1n }) }, "default")
      yield* refused({ validate: () => false }, "default")
      const error = yield* Effect.flip(ConfigManager.make({ ...limits, validate: () => Effect.fail("too low") }))
      assert.strictEqual(error.message, "Invalid default: is refused by validate: too low")
      const late = yield* Effect.fork(Effect.flip(ConfigManager.make({ ...limits, validate: () => Effect.never })))
      assert.match((yield* whileTimePasses(Fiber.join(late))).message, /takes too long/)
      const schema = Schema.Struct({ size: Schema.BigIntFromSelf })
      const unsupported = yield* Effect.flip(ConfigManager.make({ ...id, schema, default: { size: 1n } }))
      assert.strictEqual(unsupported._tag, "UnsupportedSchema")
      yield* settle
      const { calls, watchers } = yield* etcd.usage
      assert.deepStrictEqual([watchers, ...Object.values(calls).filter((count) => count > 0)], [0])
    }).pipe(scenario))

  it("makes no key", () => {
    assert.deepStrictEqual(ConfigManager.key(id), Either.right(key))
    const problem = ConfigManager.key({ ...id, env: "config" })
    assert.isTrue(Either.isLeft(problem) && problem.left instanceof InvalidArgument)
  })
})

describe("the keys of a live setting", () => {
  it.effect("are its own, and that of the Go module where there is nothing under it", () =>
    Effect.gen(function*() {
      const go = yield* put(json(2), goEtcdKey)
      const manager = yield* ConfigManager.make(limits)
      assert.deepStrictEqual(yield* manager.current, { requests: 2 })
      const first = yield* manager.status
      assert.deepStrictEqual([first.key, first.version], [`config/${key}`, go])
      yield* put(json(3), goEtcdKey)
      yield* isNow(manager, 3)
      yield* put(json(4))
      yield* isNow(manager, 4)
      assert.strictEqual((yield* manager.status).key, key)
      yield* put(json(5), goEtcdKey)
      yield* settle
      assert.deepStrictEqual(yield* manager.current, { requests: 4 })
      yield* remove()
      yield* isNow(manager, 5)
      yield* remove(goEtcdKey)
      yield* isNow(manager, 1)
    }).pipe(scenario))

  it.effect("never show a value that is no longer there while it moves from one to the other", () =>
    Effect.gen(function*() {
      const client = yield* EtcdClient
      yield* put(json(2), goEtcdKey)
      // The watches tell late, each at its time.
      const lags: Record<string, Duration.DurationInput> = { [etcdKey]: "0 seconds", [goEtcdKey]: "0 seconds" }
      const lagging: EtcdClient["Type"] = {
        ...client,
        openWatch: (request, options) =>
          Effect.map(client.openWatch(request, options), ({ next, revision }) => ({
            revision,
            next: Effect.tap(next, () => Effect.suspend(() => Effect.sleep(lags[String(request.key)])))
          }))
      }
      const seen: Array<number> = []
      const manager = yield* ConfigManager.make({
        ...limits,
        onUpdate: ({ requests }) => Effect.sync(() => seen.push(requests))
      }).pipe(Effect.provideService(EtcdClient, lagging))
      const move = (from: string, to: string, requests: number) =>
        Effect.gen(function*() {
          yield* client.txn({ success: [Txn.del({ key: from }), Txn.put({ key: to, value: json(requests) })] })
          yield* pass("5 seconds")
          assert.deepStrictEqual(yield* manager.current, { requests })
        })
      for (const [own, go] of [["0 seconds", "2 seconds"], ["2 seconds", "0 seconds"]]) {
        Object.assign(lags, { [etcdKey]: own, [goEtcdKey]: go })
        yield* move(goEtcdKey, etcdKey, 3)
        yield* move(etcdKey, goEtcdKey, 4)
      }
      assert.deepStrictEqual(seen, [2, 3, 4, 3, 4])
    }).pipe(scenario))

  it.effect("stand under the prefix of Config, and need not be two", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put(json(2), `/settings/${key}`)
      yield* put(json(3), `/settings/config/${key}`)
      const manager = yield* ConfigManager.make({ ...limits, prefix: "/settings", goKey: false })
      assert.deepStrictEqual(yield* manager.current, { requests: 2 })
      yield* remove(`/settings/${key}`)
      yield* isNow(manager, 1)
      assert.strictEqual((yield* etcd.usage).watchers, 1)
    }).pipe(scenario))

  it.effect("stand where Config has them, without being told", () =>
    Effect.gen(function*() {
      yield* put(json(2), `/settings/${key}`)
      yield* put(json(3), `/other/${key}`)
      const manager = yield* ConfigManager.make(limits)
      assert.deepStrictEqual(yield* manager.current, { requests: 2 })
      yield* Config.set(manager.key, Limits, { requests: 4 })
      yield* isNow(manager, 4)
      const other = yield* ConfigManager.make({ ...limits, prefix: "/other" })
      assert.deepStrictEqual(yield* other.current, { requests: 3 })
    }).pipe(Effect.scoped, Effect.provide(Config.layer({ prefix: "/settings" })), scenario))

  it.effect("are watched at the next revision, without a read for each change of the first", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put(json(2))
      const manager = yield* ConfigManager.make(limits)
      yield* settle
      yield* etcd.resetUsage
      for (let i = 3; i < 10; i++) {
        yield* put(json(i))
        yield* isNow(manager, i)
      }
      const { calls } = yield* etcd.usage
      assert.deepStrictEqual(Object.entries(calls).filter(([, count]) => count > 0), [])
    }).pipe(scenario))
})

describe("onUpdate", () => {
  it.effect("is called with the value and the one before, and not for the default at the start", () =>
    Effect.gen(function*() {
      const updates: Array<string> = []
      const manager = yield* ConfigManager.make({
        ...limits,
        onUpdate: (value, previous) => Effect.sync(() => updates.push(`${previous.requests} -> ${value.requests}`))
      })
      assert.deepStrictEqual(updates, [])
      yield* put(json(2))
      yield* isNow(manager, 2)
      yield* isRejected(manager, yield* put("x"))
      // The same once more is an update as well: somebody meant it.
      const again = yield* put(json(2))
      yield* eventually("it is in force", Effect.map(manager.status, ({ version }) => version === again))
      yield* put(json(3))
      yield* isNow(manager, 3)
      assert.deepStrictEqual(updates, ["1 -> 2", "2 -> 2", "2 -> 3"])
    }).pipe(scenario))

  it.effect("has succeeded before the value is seen", () =>
    Effect.gen(function*() {
      const latch = yield* Effect.makeLatch()
      const manager = yield* ConfigManager.make({ ...limits, onUpdate: () => latch.await })
      const version = yield* put(json(2))
      yield* settle
      assert.deepStrictEqual(yield* manager.current, { requests: 1 })
      assert.isTrue(Option.exists((yield* manager.status).applying, (applying) => applying.version === version))
      yield* latch.open
      yield* isNow(manager, 2)
      assert.isTrue(Option.isNone((yield* manager.status).applying))
    }).pipe(scenario))

  it.effect("is refused and interrupted when it hangs, and the next value is applied", () =>
    Effect.gen(function*() {
      let interrupted = 0
      const manager = yield* ConfigManager.make({
        ...limits,
        updateTimeout: "3 seconds",
        onUpdate: ({ requests }) =>
          requests === 2 ? Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++)) : Effect.void
      })
      const version = yield* put(json(2))
      yield* pass("2900 millis")
      assert.isTrue(Option.isNone((yield* manager.status).rejected))
      yield* pass("200 millis")
      const rejection = yield* isRejected(manager, version)
      assert.deepStrictEqual([rejection.phase, rejection.reason], ["onUpdate", "it was not over within 3s"])
      assert.strictEqual(interrupted, 1)
      yield* put(json(3))
      yield* isNow(manager, 3)
    }).pipe(scenario))

  it.effect("takes only the newest of what came while it hung", () =>
    Effect.gen(function*() {
      const seen: Array<number> = []
      const manager = yield* ConfigManager.make({
        ...limits,
        updateTimeout: "3 seconds",
        onUpdate: ({ requests }) =>
          Effect.suspend(() => {
            seen.push(requests)
            return requests === 2 ? Effect.never : Effect.void
          })
      })
      for (let i = 2; i < 100; i++) {
        yield* put(json(i))
        yield* settle
      }
      yield* pass("3 seconds")
      yield* isNow(manager, 99)
      assert.deepStrictEqual(seen, [2, 99])
    }).pipe(scenario))

  it.effect("never runs twice at once, even if it cannot be interrupted", () =>
    Effect.gen(function*() {
      let running = 0
      const most: Array<number> = []
      const latch = yield* Effect.makeLatch()
      const manager = yield* ConfigManager.make({
        ...limits,
        updateTimeout: "3 seconds",
        onUpdate: ({ requests }) =>
          Effect.uninterruptible(Effect.gen(function*() {
            most.push(++running)
            if (requests === 2) yield* latch.await
            running--
          }))
      })
      const version = yield* put(json(2))
      yield* pass("4 seconds")
      yield* isRejected(manager, version)
      yield* put(json(3))
      yield* pass("10 seconds")
      assert.deepStrictEqual(yield* manager.current, { requests: 1 })
      assert.isTrue(Option.exists((yield* manager.status).applying, (applying) => applying.version === version))
      yield* latch.open
      yield* isNow(manager, 3)
      assert.deepStrictEqual(most, [1, 1])
    }).pipe(scenario))
})

describe("the changes of a live setting", () => {
  it.effect("begin with the present value and end with the manager", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const manager = yield* Scope.extend(ConfigManager.make(limits), scope)
      const queue = yield* Queue.unbounded<number>()
      const reading = yield* Effect.fork(
        Stream.runForEach(manager.changes, ({ requests }) => Queue.offer(queue, requests))
      )
      assert.strictEqual(yield* Queue.take(queue), 1)
      for (const requests of [2, 2, 3]) {
        yield* put(json(requests))
        assert.strictEqual(yield* Queue.take(queue), requests)
      }
      yield* put("x")
      yield* settle
      assert.strictEqual(yield* Queue.size(queue), 0)
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(reading)
    }).pipe(scenario))

  it.effect("skip what is overtaken for a slow reader, which holds up nobody and gets the last one", () =>
    Effect.gen(function*() {
      const manager = yield* ConfigManager.make(limits)
      const gate = yield* Effect.makeLatch()
      const slow: Array<number> = []
      const done = yield* Deferred.make<void>()
      yield* Effect.forkScoped(Stream.runForEach(manager.changes, ({ requests }) =>
        Effect.gen(function*() {
          slow.push(requests)
          if (requests === 100) yield* Deferred.succeed(done, undefined)
          yield* gate.await
        })))
      const fast = yield* Effect.fork(
        Stream.runCollect(Stream.takeUntil(manager.changes, (now) => now.requests === 100))
      )
      yield* settle
      for (let i = 2; i <= 100; i++) {
        yield* put(json(i))
        yield* isNow(manager, i)
      }
      assert.isAbove(Chunk.size(yield* Fiber.join(fast)), 10)
      assert.deepStrictEqual(slow, [1])
      yield* gate.open
      yield* Deferred.await(done)
      assert.deepStrictEqual(slow, [1, 100])
    }).pipe(scenario))
})

describe("reload", () => {
  it.effect("reads now, and tells what became of it", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      let refuse = true
      const manager = yield* ConfigManager.make({
        ...limits,
        onUpdate: ({ requests }) => requests === 3 && refuse ? Effect.fail("not yet") : Effect.void
      })
      assert.deepStrictEqual(yield* manager.reload, { _tag: "Unchanged", value: { requests: 1 }, version: 0n })
      // The watches are silent.
      yield* etcd.stall({ calls: false })
      const first = yield* put(json(2))
      assert.deepStrictEqual(yield* manager.reload, {
        _tag: "Applied",
        value: { requests: 2 },
        version: first,
        previous: { requests: 1 }
      })
      assert.deepStrictEqual(yield* manager.reload, { _tag: "Unchanged", value: { requests: 2 }, version: first })
      const second = yield* put(json(3))
      const rejected = yield* manager.reload
      assert.isTrue(rejected._tag === "Rejected" && rejected.rejection.version === second)
      refuse = false
      yield* settle
      assert.deepStrictEqual(yield* manager.current, { requests: 2 })
      assert.strictEqual((yield* manager.reload)._tag, "Applied")
      assert.deepStrictEqual(yield* manager.current, { requests: 3 })
    }).pipe(scenario))

  it.effect("brings a value that no watch has told yet, and no watch takes it back", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put(json(2))
      const manager = yield* ConfigManager.make(limits)
      yield* etcd.stall({ calls: false })
      yield* put(json(3))
      const version = yield* put(json(4))
      yield* settle
      assert.deepStrictEqual(yield* manager.current, { requests: 2 })
      const outcome = yield* manager.reload
      assert.isTrue(outcome._tag === "Applied" && outcome.version === version)
      const seen: Array<number> = []
      yield* Effect.forkScoped(
        Stream.runForEach(manager.changes, ({ requests }) => Effect.sync(() => seen.push(requests)))
      )
      yield* etcd.resume
      yield* pass("10 seconds")
      assert.deepStrictEqual(seen, [4])
    }).pipe(scenario))

  it.effect("does not bring back an older value when its answer comes late", () =>
    Effect.gen(function*() {
      const client = yield* EtcdClient
      const answer = yield* Effect.makeLatch(true)
      const late: EtcdClient["Type"] = {
        ...client,
        txn: (request, options) => Effect.zipLeft(client.txn(request, options), answer.await)
      }
      const seen: Array<number> = []
      yield* put(json(2))
      const manager = yield* ConfigManager.make({
        ...limits,
        onUpdate: ({ requests }) => Effect.sync(() => seen.push(requests))
      }).pipe(Effect.provideService(EtcdClient, late))
      yield* answer.close
      const reload = yield* Effect.fork(manager.reload)
      yield* settle
      const version = yield* put(json(3))
      yield* isNow(manager, 3)
      yield* answer.open
      assert.deepStrictEqual(yield* Fiber.join(reload), { _tag: "Unchanged", value: { requests: 3 }, version })
      assert.deepStrictEqual(seen, [2, 3])
    }).pipe(scenario))

  it.effect("fails when etcd cannot be read, and can be interrupted", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const latch = yield* Effect.makeLatch()
      const manager = yield* ConfigManager.make({ ...limits, onUpdate: () => latch.await })
      yield* etcd.down
      const error = yield* whileTimePasses(Effect.flip(manager.reload))
      assert.strictEqual(error.reason, "Unavailable")
      yield* etcd.up
      yield* put(json(2))
      const reload = yield* Effect.fork(whileTimePasses(manager.reload))
      yield* pass("5 seconds")
      yield* Fiber.interrupt(reload)
      yield* latch.open
      yield* isNow(manager, 2)
    }).pipe(scenario))
})
