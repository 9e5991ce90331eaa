import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Config from "../../src/Config.js"
import * as TestEtcd from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { settle, text } from "../support/memory.js"
import { embedded } from "./support.js"

const onTxn = ({ operation }: TestEtcd.Request) => operation === "txn"

const settings = Effect.flatMap(
  TestEtcd.TestEtcd,
  (etcd) =>
    Effect.map(
      etcd.snapshot,
      (kvs) =>
        kvs.filter(({ key }) => text(key).startsWith("/config/")).map(({ key, value }) => `${text(key)}=${text(value)}`)
    )
)

describe("a transaction", () => {
  it.effect("that is refused changes nothing, and names every key that differs", () =>
    Effect.gen(function*() {
      const a = yield* Config.set("a", Schema.Int, 1)
      const b = yield* Config.set("b", Schema.Int, 1)
      const before = yield* settings
      const error = yield* Effect.flip(Config.transaction([
        Config.put("new", Schema.Int, 1),
        Config.put("a", Schema.Int, 2, { version: b }),
        Config.remove("b", { version: 0n }),
        Config.check("c", 0n),
        Config.check("d", 7n)
      ]))
      assert.isTrue(error._tag === "TransactionConflict")
      assert.deepStrictEqual(
        error._tag === "TransactionConflict"
          ? error.conflicts.map(({ actual, expected, key }) => ({ key, expected, actual }))
          : [],
        [
          { key: "a", expected: b, actual: a },
          { key: "b", expected: 0n, actual: b },
          { key: "d", expected: 7n, actual: 0n }
        ]
      )
      assert.strictEqual(
        error.message,
        `nothing was changed: config "a" has version ${a}, expected was version ${b}; ` +
          `config "b" has version ${b}, expected was no value; config "d" has no value, expected was version 7`
      )
      assert.deepStrictEqual(yield* settings, before)
    }).pipe(Effect.provide(embedded())))

  it.effect("is done once when the answer is lost", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const a = yield* Config.set("a", Schema.Int, 1)
      yield* etcd.loseResponse({ match: onTxn })
      const version = yield* Config.transaction([
        Config.put("a", Schema.Int, 2, { version: a }),
        Config.put("b", Schema.Int, 2, { version: 0n })
      ])
      const kvs = (yield* etcd.snapshot).filter(({ key }) => text(key).startsWith("/config/"))
      assert.deepStrictEqual(kvs.map((kv) => [kv.version, kv.modRevision]), [[2n, version], [1n, version]])
      yield* etcd.loseResponse({ match: onTxn })
      const error = yield* Effect.flip(Config.transaction([Config.check("a", a), Config.remove("b")]))
      assert.strictEqual(error._tag, "TransactionConflict")
      assert.lengthOf(yield* settings, 2)
    }).pipe(Effect.provide(embedded())))

  it.effect("depends on its guard", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const guard = [Txn.exists("/one"), Txn.exists("/two")]
      yield* etcd.putKey("/one", "")
      const steps = [Config.put("a", Schema.Int, 1), Config.check("b", 0n)]
      const error = yield* Effect.flip(Config.transaction(steps, { guard }))
      assert.isTrue(error._tag === "GuardFailed" && error.key === "a, b")
      assert.deepStrictEqual(yield* settings, [])
      yield* etcd.putKey("/two", "")
      yield* Config.transaction(steps, { guard })
      assert.deepStrictEqual(yield* settings, ["/config/a=1"])
    }).pipe(Effect.provide(embedded())))

  it.effect("with bad steps sends nothing", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const many = (count: number) => Array.from({ length: count }, (_, i) => Config.put(`a/${i}`, Schema.Int, i))
      const bad: ReadonlyArray<readonly [steps: ReadonlyArray<Config.Step>, argument: string, value: string]> = [
        [[], "steps", "0"],
        [many(128), "steps", "128"],
        [[Config.put("a", Schema.Int, 1), Config.check("a", 0n)], "steps", "a"],
        [[Config.remove("a//b")], "key", "a//b"],
        [[Config.check("a", -1n)], "version", "-1"],
        [[Config.check("a", undefined as any)], "version", "undefined"],
        [[Config.remove(1 as any)], "key", "1"]
      ]
      for (const [steps, argument, value] of bad) {
        const error = yield* Effect.flip(Config.transaction(steps))
        assert.isTrue(error._tag === "InvalidArgument" && error.argument === argument && error.value === value, value)
      }
      const errors = yield* Effect.all([
        Effect.flip(Config.transaction(many(127), { guard: Txn.exists("/lock") })),
        Effect.flip(Config.transaction([Config.put("a", Schema.Int, 0.5)])),
        Effect.flip(Config.transaction([Config.put("a", Schema.BigIntFromSelf, 1n)]))
      ])
      assert.deepStrictEqual(errors.map(({ _tag }) => _tag), ["InvalidArgument", "EncodeError", "UnsupportedSchema"])
      yield* settle
      assert.strictEqual((yield* etcd.usage).calls.txn, 0)
      yield* Config.transaction(many(127))
      assert.lengthOf((yield* Config.list("a", Schema.Int)).entries, 127)
    }).pipe(Effect.provide(embedded())))
})
