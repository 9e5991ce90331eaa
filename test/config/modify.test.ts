import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Config from "../../src/Config.js"
import * as TestEtcd from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { eventually, pass, settle, text, whileTimePasses } from "../support/memory.js"
import { embedded, everyTxn, process } from "./support.js"

const increment = Option.match({ onNone: () => 1, onSome: (count: number) => count + 1 })

const stored = (key: string) =>
  Effect.flatMap(
    TestEtcd.TestEtcd,
    (etcd) => Effect.map(etcd.snapshot, (kvs) => kvs.find((kv) => text(kv.key) === `/config/${key}`))
  )

const onTxn = ({ operation }: TestEtcd.Request) => operation === "txn"

/** Somebody else writes while the first of the values is being made. */
const overtaken = (value: string) =>
  Effect.map(TestEtcd.TestEtcd, (etcd) => {
    const seen: Array<Option.Option<number>> = []
    const f = (current: Option.Option<number>) =>
      Effect.gen(function*() {
        seen.push(current)
        if (seen.length === 1) yield* etcd.putKey("/config/a", value)
        return increment(current)
      })
    return { seen, f }
  })

describe("modify", () => {
  it.effect("goes on with the value that was written in between, and reads nothing for that", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* Config.set("a", Schema.Int, 1)
      const { f, seen } = yield* overtaken("10")
      yield* etcd.resetUsage
      const { value, version } = yield* Config.modifyEffect("a", Schema.Int, f)
      assert.deepStrictEqual(seen.map(Option.getOrNull), [1, 10])
      assert.strictEqual(value, 11)
      assert.strictEqual((yield* stored("a"))?.modRevision, version)
      assert.strictEqual((yield* etcd.usage).calls.range, 1)
    }).pipe(Effect.provide(embedded())))

  it.effect("reads again after a pause", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* Config.set("a", Schema.Int, 1)
      const { f, seen } = yield* overtaken("10")
      const changing = yield* Effect.fork(
        Config.modifyEffect("a", Schema.Int, f, { schedule: Schedule.spaced("1 second") })
      )
      yield* eventually("the conflict", Effect.map(etcd.usage, ({ calls }) => calls.txn > 0))
      yield* settle
      yield* etcd.putKey("/config/a", "20")
      yield* whileTimePasses(Fiber.join(changing))
      assert.deepStrictEqual(seen.map(Option.getOrNull), [1, 20])
    }).pipe(Effect.provide(embedded())))

  it.effect("fails with the conflict when the schedule ends", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const first = yield* Config.set("a", Schema.Int, 1)
      const { f, seen } = yield* overtaken("10")
      const error = yield* Effect.flip(Config.modifyEffect("a", Schema.Int, f, { schedule: Schedule.stop }))
      assert.isTrue(error._tag === "VersionConflict" && error.expected === first && error.actual > first)
      assert.lengthOf(seen, 1)
      assert.strictEqual(text((yield* etcd.snapshot)[0].value), "10")
    }).pipe(Effect.provide(embedded())))

  it.effect("writes nothing when the change fails, or makes no value of the schema", () =>
    Effect.gen(function*() {
      const version = yield* Config.set("a", Schema.Int, 1)
      assert.strictEqual(
        yield* Effect.flip(Config.modifyEffect("a", Schema.Int, () => Effect.fail("no" as const))),
        "no"
      )
      const error = yield* Effect.flip(Config.modify("a", Schema.Int, () => 0.5))
      assert.strictEqual(error._tag, "EncodeError")
      assert.strictEqual((yield* Effect.flip(Config.modify("a", Schema.Boolean, () => true)))._tag, "DecodeError")
      assert.strictEqual((yield* stored("a"))?.modRevision, version)
      const defect = yield* Effect.exit(Config.modify("a", Schema.Int, () => {
        throw new Error("thrown")
      }))
      assert.strictEqual(defect._tag, "Failure")
      assert.strictEqual((yield* Config.modify("a", Schema.Int, increment)).value, 2)
    }).pipe(Effect.provide(embedded())))

  it.effect("tells a guard that does not hold from a conflict", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* Config.set("a", Schema.Int, 1)
      const guard = Txn.exists("/lock")
      const error = yield* Effect.flip(Config.modify("a", Schema.Int, increment, { guard }))
      assert.isTrue(error._tag === "GuardFailed" && error.guard === "/lock")
      yield* etcd.putKey("/lock", "")
      const { f, seen } = yield* overtaken("10")
      yield* Config.modifyEffect("a", Schema.Int, f, { guard })
      assert.lengthOf(seen, 2)
      assert.strictEqual(yield* Config.get("a", Schema.Int), 11)
    }).pipe(Effect.provide(embedded())))

  it.effect("changes once when the answer is lost, and takes its own write for nobody else's", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      let calls = 0
      for (let round = 1; round <= 3; round++) {
        yield* etcd.loseResponse({ match: onTxn })
        const { value, version } = yield* Config.modify("a", Schema.Int, (current) => {
          calls++
          return increment(current)
        })
        const kv = yield* stored("a")
        assert.deepStrictEqual([value, version, kv?.version], [round, kv?.modRevision, BigInt(round)])
      }
      assert.strictEqual(calls, 3)
    }).pipe(Effect.provide(embedded())))
})

describe("many who modify one key", () => {
  it.effect("do not meet, if they are of one process", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      let calls = 0
      yield* Effect.replicateEffect(
        Config.modify("a", Schema.Int, (current) => {
          calls++
          return increment(current)
        }),
        64,
        { concurrency: "unbounded", discard: true }
      )
      assert.strictEqual(calls, 64)
      assert.strictEqual((yield* stored("a"))?.version, 64n)
      // All came before the first one wrote, so each knows what the one before has written.
      assert.strictEqual((yield* etcd.usage).calls.range, 1)
    }).pipe(Effect.provide(embedded())))

  it.effect("lose nothing when requests and answers are lost", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* etcd.loseResponse({ match: everyTxn(5), times: Infinity })
      yield* etcd.loseRequest({ match: everyTxn(7), times: Infinity })
      const work = Effect.replicateEffect(Config.modify("a", Schema.Int, increment), 20, {
        concurrency: 4,
        discard: true
      })
      yield* whileTimePasses(
        Effect.all(Array.from({ length: 8 }, () => Effect.provide(work, Layer.fresh(process()))), {
          concurrency: "unbounded",
          discard: true
        }),
        "10 minutes"
      )
      yield* etcd.clear
      const kv = yield* stored("a")
      assert.deepStrictEqual([kv?.version, kv && text(kv.value)], [160n, "160"])
    }).pipe(Effect.provide(embedded())))

  it.effect("are not held up by one that hangs", () =>
    Effect.gen(function*() {
      const hanging = yield* Effect.fork(Config.modifyEffect("a", Schema.Int, () => Effect.never))
      yield* settle
      const others = yield* Effect.fork(
        Effect.replicateEffect(Config.modify("a", Schema.Int, increment), 10, { concurrency: "unbounded" })
      )
      yield* pass("1 second")
      assert.lengthOf(yield* Fiber.join(others), 10)
      assert.strictEqual(yield* Config.get("a", Schema.Int), 10)
      yield* Fiber.interrupt(hanging)
    }).pipe(Effect.provide(embedded())))

  it.effect("do not find out one after another that etcd is away", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* Config.modify("a", Schema.Int, increment)
      yield* etcd.stall({ streams: false })
      const all = yield* Effect.fork(
        Effect.replicateEffect(Effect.flip(Config.modify("a", Schema.Int, increment)), 20, { concurrency: "unbounded" })
      )
      yield* pass("4 seconds")
      const errors = yield* Fiber.join(all)
      assert.isTrue(errors.every((error) => error._tag === "EtcdError" && error.reason === "DeadlineExceeded"))
      yield* etcd.resume
    }).pipe(Effect.provide(embedded({ requestTimeout: "2 seconds" }))))

  it.effect("may be interrupted while they wait", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* etcd.stall({ streams: false })
      const fibers = yield* Effect.replicateEffect(Effect.fork(Config.modify("a", Schema.Int, increment)), 5)
      yield* settle
      yield* Effect.forEach(fibers.slice(0, 3), Fiber.interrupt)
      yield* etcd.resume
      yield* whileTimePasses(Effect.forEach(fibers.slice(3), Fiber.join))
      assert.strictEqual(yield* Config.get("a", Schema.Int), 2)
    }).pipe(Effect.provide(embedded())))
})
