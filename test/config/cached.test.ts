import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Config from "../../src/Config.js"
import { EtcdClient } from "../../src/EtcdClient.js"
import { toBytes } from "../../src/internal/bytes.js"
import * as Copies from "../../src/internal/config/copies.js"
import * as Names from "../../src/internal/config/names.js"
import * as TestEtcd from "../../src/testing.js"
import { eventually, pass, settle, whileTimePasses } from "../support/memory.js"
import { embedded, process } from "./support.js"

const etcd = TestEtcd.TestEtcd

const watchers = Effect.flatMap(etcd, (etcd) => Effect.map(etcd.usage, ({ watchers }) => watchers))
const calls = Effect.flatMap(
  etcd,
  (etcd) => Effect.map(etcd.usage, ({ calls }) => Object.values(calls).reduce((sum, count) => sum + count, 0))
)

/** Without the heart-beats of the watches. */
const reads = Effect.flatMap(etcd, (etcd) => Effect.map(etcd.usage, ({ calls }) => calls.range))

const value = Effect.map(Config.cached("a", Schema.Int), ({ value }) => value)
/** The copy is there, and is used. */
const ready = Effect.zipRight(Config.cached("a", Schema.Int), settle)

describe("a cached read", () => {
  it.effect("asks etcd the first time, and is told of every change", () =>
    Effect.gen(function*() {
      const { putKey } = yield* etcd
      const version = yield* Config.set("a", Schema.Int, 1)
      const expected: Config.Cached<number> = { value: 1, version, staleSinceMillis: undefined }
      assert.deepStrictEqual(yield* Config.cached("a", Schema.Int), expected)
      yield* settle
      const before = yield* calls
      for (let i = 0; i < 1_000; i++) assert.deepStrictEqual(yield* Config.cached("a", Schema.Int), expected)
      const next = yield* putKey("/config/a", "2")
      yield* eventually("the change", Effect.map(value, (value) => value === 2))
      assert.strictEqual((yield* Config.cached("a", Schema.Int)).version, next)
      assert.strictEqual(yield* calls, before)
    }).pipe(Effect.provide(embedded())))

  it.effect("knows at once what this process wrote, and goes back to nothing older", () =>
    Effect.gen(function*() {
      const { putKey, resume, stall } = yield* etcd
      const first = yield* Config.set("a", Schema.Int, 1)
      yield* ready
      yield* stall({ calls: false })
      const second = yield* Config.set("a", Schema.Int, 2)
      assert.strictEqual(yield* value, 2)
      yield* Config.compareAndSet("a", Schema.Int, 3, second)
      assert.strictEqual(yield* value, 3)
      const { version } = yield* Config.modify("a", Schema.Int, () => 4)
      assert.strictEqual((yield* Config.cached("a", Schema.Int)).version, version)
      yield* Config.transaction([Config.put("a", Schema.Int, 5), Config.put("b", Schema.Int, 0)])
      assert.strictEqual(yield* value, 5)
      yield* Config.delete("a")
      assert.strictEqual((yield* Effect.flip(value))._tag, "NotFound")
      yield* Config.rollback("a", first)
      assert.strictEqual(yield* value, 1)
      yield* Config.transaction([Config.remove("a")])
      assert.strictEqual((yield* Effect.flip(value))._tag, "NotFound")
      yield* Config.set("a", Schema.Int, 6)
      yield* putKey("/config/a", "7")
      assert.strictEqual(yield* value, 6)
      yield* resume
      const seen: Array<number> = []
      yield* eventually("the last value", Effect.map(value, (value) => seen.push(value) > 0 && value === 7))
      assert.deepStrictEqual(Array.from(new Set(seen)), [6, 7])
    }).pipe(Effect.provide(embedded())))

  it.effect("knows what was written before the first one", () =>
    Effect.gen(function*() {
      const { resume, stall } = yield* etcd
      yield* Config.set("a", Schema.Int, 1)
      yield* Effect.forkScoped(Stream.runDrain(Config.watchPrefix("", Schema.Int)))
      yield* settle
      yield* stall({ calls: false })
      yield* Config.set("a", Schema.Int, 2)
      // The copy of the watch has it not yet.
      assert.strictEqual(yield* value, 2)
      assert.strictEqual(yield* value, 2)
      yield* resume
    }).pipe(Effect.scoped, Effect.provide(embedded())))

  it.effect("knows what was written before the first one, although the watch is away by then", () =>
    Effect.gen(function*() {
      const { down, resume, stall, up } = yield* etcd
      yield* Config.set("a", Schema.Int, 1)
      yield* Config.set("b", Schema.Int, 1)
      yield* Config.set("c", Schema.Int, 1)
      yield* Effect.forkScoped(Stream.runDrain(Config.watchPrefix("", Schema.Int)))
      yield* settle
      yield* stall({ calls: false })
      yield* pass("30 seconds", "1 second")
      // Nothing was written since.
      const none = yield* reads
      assert.strictEqual((yield* Config.cached("c", Schema.Int)).value, 1)
      assert.strictEqual(yield* reads, none)
      yield* Config.set("a", Schema.Int, 2)
      const first = yield* Config.cached("a", Schema.Int)
      assert.deepStrictEqual([first.value, first.staleSinceMillis], [2, undefined])
      const before = yield* reads
      const { staleSinceMillis, value } = yield* Config.cached("a", Schema.Int)
      assert.deepStrictEqual([value, staleSinceMillis !== undefined, yield* reads], [2, true, before])

      // Of another key nothing newer can be known when calls fail, too: that is found out once in an outage.
      yield* down
      const { value: last } = yield* whileTimePasses(Config.cached("b", Schema.Int))
      const asked = yield* reads
      yield* Config.cached("b", Schema.Int)
      assert.deepStrictEqual([last, asked > before, yield* reads], [1, true, asked])
      yield* up
      yield* resume
    }).pipe(Effect.scoped, Effect.provide(embedded())))

  it.effect("has the last known value while etcd is away, and says so", () =>
    Effect.gen(function*() {
      const { down, putKey, up } = yield* etcd
      const version = yield* Config.set("a", Schema.Int, 1)
      yield* ready
      yield* TestClock.adjust("5 seconds")
      yield* value
      yield* settle
      yield* down
      yield* settle
      const stale = yield* Config.cached("a", Schema.Int)
      assert.deepStrictEqual(stale, { value: 1, version, staleSinceMillis: 5_000 })
      yield* pass("1 minute", "1 second")
      assert.deepStrictEqual(yield* Config.cached("a", Schema.Int), stale)
      yield* putKey("/config/a", "2")
      yield* up
      yield* pass("10 seconds")
      const fresh = yield* Config.cached("a", Schema.Int)
      assert.deepStrictEqual([fresh.value, fresh.staleSinceMillis], [2, undefined])
    }).pipe(Effect.provide(embedded())))

  it.effect("fails in time when etcd was never reached, and recovers", () =>
    Effect.gen(function*() {
      const { putKey, resume, stall } = yield* etcd
      yield* putKey("/config/a", "1")
      yield* stall()
      const reading = yield* Effect.fork(Effect.flip(value))
      yield* pass("2 seconds")
      const error = yield* Fiber.join(reading)
      assert.isTrue(error._tag === "EtcdError" && error.reason === "DeadlineExceeded")
      yield* resume
      assert.strictEqual(yield* whileTimePasses(value), 1)
    }).pipe(Effect.provide(embedded({ requestTimeout: "2 seconds" }))))

  it.effect("fails when etcd refuses, and recovers", () =>
    Effect.gen(function*() {
      const { clear, putKey, refuse } = yield* etcd
      yield* putKey("/config/a", "1")
      yield* refuse(TestEtcd.refusals.permissionDenied, {
        match: ({ keys }) => keys.some((key) => key.startsWith("/config/")),
        times: Infinity
      })
      for (let i = 0; i < 3; i++) {
        const error = yield* Effect.flip(value)
        assert.isTrue(error._tag === "EtcdError" && error.reason === "PermissionDenied")
        yield* settle
      }
      yield* clear
      assert.strictEqual(yield* value, 1)
      yield* pass("5 seconds")
      const before = yield* calls
      assert.strictEqual(yield* value, 1)
      assert.strictEqual(yield* calls, before)
    }).pipe(Effect.provide(embedded())))

  it.effect("follows an etcd that lost its data", () =>
    Effect.gen(function*() {
      const { putKey, restartWithoutData, resume, stall } = yield* etcd
      for (let i = 1; i <= 50; i++) yield* Config.set("a", Schema.Int, i)
      yield* ready
      // The copy will never be told of this one.
      yield* stall({ calls: false })
      yield* Config.set("a", Schema.Int, 51)
      assert.strictEqual(yield* value, 51)
      yield* restartWithoutData
      yield* resume
      yield* putKey("/config/a", "7")
      yield* pass("10 seconds")
      assert.strictEqual(yield* value, 7)
      yield* Config.set("a", Schema.Int, 8)
      assert.strictEqual(yield* value, 8)
    }).pipe(Effect.provide(embedded())))

  it.effect("goes back to nothing older in the new history of an etcd that lost its data", () =>
    Effect.gen(function*() {
      const { putKey, restartWithoutData, resume, stall } = yield* etcd
      const cached = (key: string) => Effect.map(Config.cached(key, Schema.Int), ({ value }) => value)
      yield* Effect.forkScoped(Stream.runDrain(Config.watchPrefix("app", Schema.Int)))
      yield* Effect.repeatN(putKey("/config/app/a", "1"), 9)
      yield* settle
      assert.strictEqual(yield* cached("app/a"), 1)
      yield* restartWithoutData
      yield* putKey("/config/app/b", "2")
      yield* pass("10 seconds")
      // The copy is not told of these.
      yield* stall({ calls: false })
      yield* Config.set("app/a", Schema.Int, 3)
      yield* putKey("/config/app/b", "4")
      for (let i = 0; i < 3; i++) {
        assert.strictEqual(yield* cached("app/a"), 3, "which this service wrote")
        assert.strictEqual(yield* cached("app/b"), 4, "which an earlier call told")
      }
      const before = yield* reads
      yield* cached("app/a")
      assert.strictEqual(yield* reads, before)
      yield* resume
    }).pipe(Effect.scoped, Effect.provide(embedded())))

  it.effect("has nothing of the old history when etcd is away again in the new one", () =>
    Effect.gen(function*() {
      const { down, putKey, restartWithoutData, resume, stall } = yield* etcd
      for (let i = 1; i <= 50; i++) yield* Config.set("a", Schema.Int, i)
      yield* ready
      yield* stall({ calls: false })
      yield* Config.set("a", Schema.Int, 51)
      yield* restartWithoutData
      yield* resume
      yield* putKey("/config/a", "7")
      yield* pass("10 seconds")
      yield* down
      yield* settle
      assert.strictEqual(yield* whileTimePasses(value), 7)
    }).pipe(Effect.provide(embedded())))

  it.effect("goes by the versions of what was written, whichever answer came last", () =>
    Effect.gen(function*() {
      const { stall } = yield* etcd
      const client = yield* EtcdClient
      const { cached, wrote } = yield* Copies.make(client, yield* Names.make("/config"))
      yield* Config.set("a", Schema.Int, 1)
      yield* cached("a", Schema.Int)
      yield* settle
      yield* stall({ calls: false })
      wrote("/config/a", 101n, toBytes("3"))
      wrote("/config/a", 100n, toBytes("2"))
      const { value, version } = yield* cached("a", Schema.Int)
      assert.deepStrictEqual([value, version], [3, 101n])
    }).pipe(Effect.scoped, Effect.provide(embedded())))

  it.effect("decodes again what was interrupted in its decoding", () =>
    Effect.gen(function*() {
      let isHanging = true
      const Slow = Schema.transformOrFail(Schema.Int, Schema.Int, {
        strict: true,
        decode: (value) => isHanging ? Effect.never : Effect.succeed(value),
        encode: (value) => Effect.succeed(value)
      })
      yield* Config.set("a", Schema.Int, 1)
      yield* ready
      const first = yield* Effect.fork(Config.cached("a", Slow))
      yield* settle
      yield* Fiber.interrupt(first)
      isHanging = false
      assert.strictEqual((yield* Config.cached("a", Slow)).value, 1)
    }).pipe(Effect.provide(embedded())))

  it.effect("decodes a version once for each schema", () =>
    Effect.gen(function*() {
      const { putKey } = yield* etcd
      let decoded = 0
      const counting = () =>
        Schema.transform(Schema.Int, Schema.Int, {
          decode: (value) => {
            decoded++
            return value
          },
          encode: (value) => value
        })
      const [one, other] = [counting(), counting()]
      yield* putKey("/config/a", "1")
      const read = (schema: Schema.Schema<number>) => Effect.map(Config.cached("a", schema), ({ value }) => value)
      yield* read(one)
      yield* settle
      yield* read(one)
      decoded = 0
      for (let i = 0; i < 10; i++) assert.deepStrictEqual([yield* read(one), yield* read(other)], [1, 1])
      assert.strictEqual(decoded, 1)
      yield* putKey("/config/a", "2")
      yield* eventually("the change", Effect.map(read(one), (value) => value === 2))
      yield* read(other)
      assert.strictEqual(decoded, 3)
    }).pipe(Effect.provide(embedded())))

  it.effect("says what is not there, or does not decode", () =>
    Effect.gen(function*() {
      const { deleteKey, putKey } = yield* etcd
      assert.strictEqual((yield* Effect.flip(value))._tag, "NotFound")
      yield* settle
      const before = yield* calls
      assert.strictEqual((yield* Effect.flip(value))._tag, "NotFound")
      const version = yield* putKey("/config/a", "x")
      yield* eventually("a value", Effect.map(Effect.flip(value), ({ _tag }) => _tag === "DecodeError"))
      const error = yield* Effect.flip(value)
      assert.isTrue(error._tag === "DecodeError" && error.key === "a" && error.version === version)
      yield* putKey("/config/a", "2")
      yield* eventually("another", Effect.map(Effect.option(value), (found) => found._tag === "Some"))
      yield* deleteKey("/config/a")
      yield* eventually("none", Effect.map(Effect.option(value), (found) => found._tag === "None"))
      assert.strictEqual(yield* calls, before)
    }).pipe(Effect.provide(embedded())))

  it.effect("with bad arguments leaves nothing behind", () =>
    Effect.gen(function*() {
      const errors = yield* Effect.all([
        Effect.flip(Config.cached("a//b", Schema.Int)),
        Effect.flip(Config.cached("a", Schema.BigIntFromSelf))
      ])
      assert.deepStrictEqual(errors.map(({ _tag }) => _tag), ["InvalidArgument", "UnsupportedSchema"])
      yield* settle
      assert.deepStrictEqual([yield* calls, yield* watchers], [0, 0])
    }).pipe(Effect.provide(embedded())))
})

describe("the copies of a process", () => {
  it.effect("are shared by those who watch and read the same key", () =>
    Effect.gen(function*() {
      const { putKey } = yield* etcd
      yield* Config.set("a", Schema.Int, 1)
      const seen = yield* Queue.unbounded<string>()
      for (const name of ["one", "two", "three"]) {
        yield* Effect.forkScoped(Stream.runForEach(Config.watch("a", Schema.Int), (event) =>
          Queue.offer(seen, `${name} ${event._tag === "Put" ? event.value : event._tag}`)))
      }
      yield* Effect.replicateEffect(value, 10, { concurrency: "unbounded" })
      assert.deepStrictEqual(Array.from(yield* Queue.takeN(seen, 3)).sort(), ["one 1", "three 1", "two 1"])
      yield* settle
      assert.strictEqual(yield* watchers, 1)
      yield* putKey("/config/a", "2")
      assert.deepStrictEqual(Array.from(yield* Queue.takeN(seen, 3)).sort(), ["one 2", "three 2", "two 2"])
      assert.strictEqual(yield* value, 2)
    }).pipe(Effect.scoped, Effect.provide(embedded())))

  it.effect("of a prefix serve every key below it", () =>
    Effect.gen(function*() {
      const { putKey } = yield* etcd
      yield* putKey("/config/app/x/a", "1")
      yield* putKey("/config/application", "1")
      yield* Effect.forkScoped(Stream.runDrain(Config.watchPrefix("app", Schema.Int)))
      yield* settle
      assert.strictEqual(yield* watchers, 1)
      yield* Config.cached("app/x/a", Schema.Int)
      yield* Effect.flip(Config.cached("app/none", Schema.Int))
      yield* settle
      assert.strictEqual(yield* watchers, 1)
      yield* Config.cached("application", Schema.Int)
      yield* settle
      assert.strictEqual(yield* watchers, 2)
      yield* putKey("/config/app/x/a", "2")
      yield* eventually(
        "the change",
        Effect.map(Config.cached("app/x/a", Schema.Int), ({ value }) => value === 2)
      )
    }).pipe(Effect.scoped, Effect.provide(embedded())))

  it.effect("are kept while they are read, and left when they are not", () =>
    Effect.gen(function*() {
      yield* Config.set("a", Schema.Int, 1)
      yield* Effect.scoped(Effect.zipRight(
        Effect.forkScoped(Stream.runDrain(Config.watch("a", Schema.Int))),
        Effect.zipRight(settle, ready)
      ))
      // Who watched is gone, who reads is not.
      const before = yield* reads
      for (let i = 0; i < 5; i++) {
        yield* pass("4 minutes", "5 seconds")
        assert.strictEqual(yield* value, 1)
      }
      assert.strictEqual(yield* watchers, 1)
      assert.strictEqual(yield* reads, before)
      yield* pass("10 minutes", "1 minute")
      yield* eventually("no watcher", Effect.map(watchers, (count) => count === 0))
      yield* ready
      assert.strictEqual(yield* watchers, 1)
    }).pipe(Effect.provide(embedded())))

  it.effect("are gone when the layer is closed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(process(), scope)
      yield* Effect.provide(Effect.zipRight(Config.set("a", Schema.Int, 1), ready), context)
      assert.strictEqual(yield* watchers, 1)
      yield* Scope.close(scope, Exit.void)
      yield* eventually("no watcher", Effect.map(watchers, (count) => count === 0))
    }).pipe(Effect.provide(TestEtcd.layer())))
})
