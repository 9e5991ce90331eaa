import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { inspect } from "node:util"
import * as Config from "../../src/Config.js"
import * as TestEtcd from "../../src/testing.js"
import { eventually, settle, whileTimePasses } from "../support/memory.js"
import { recordingTracer } from "../support/recordingTracer.js"
import { embedded, process } from "./support.js"

const pretty = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isFailure(exit) ? Cause.pretty(exit.cause, { renderErrorCause: true }) : "ok"

const values = (events: ReadonlyArray<Config.ConfigEvent<number>>) =>
  events.map((event) => event._tag === "Put" ? event.value : event._tag)

describe("a watch", () => {
  it.effect("goes on through breaks, compactions and restarts", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* etcd.putKey("/config/a", "1")
      const events = yield* Queue.unbounded<Config.ConfigEvent<number>>()
      yield* Effect.forkScoped(
        Stream.runForEach(Config.watchPrefix("", Schema.Int), (event) => Queue.offer(events, event))
      )
      const next = (count: number) => Effect.map(whileTimePasses(Queue.takeN(events, count)), (chunk) => [...chunk])
      assert.deepStrictEqual(values(yield* next(1)), [1])
      yield* etcd.disconnect
      yield* etcd.putKey("/config/a", "2")
      assert.deepStrictEqual(values(yield* next(1)), [2])
      yield* etcd.down
      yield* etcd.putKey("/config/b", "3")
      yield* etcd.putKey("/config/a", "x")
      yield* etcd.compact()
      yield* etcd.deleteKey("/config/a")
      yield* etcd.compact()
      yield* etcd.up
      const [gone, put] = yield* next(2)
      assert.deepStrictEqual(values([gone, put]), ["Delete", 3])
      assert.deepStrictEqual([gone.key, gone.previous], ["a", Option.some(2)])
      yield* etcd.restart
      yield* etcd.putKey("/config/a", "4")
      assert.deepStrictEqual(values(yield* next(1)), [4])
    }).pipe(Effect.scoped, Effect.provide(embedded())))

  it.effect("fails when etcd refuses it, and takes no other down", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* etcd.refuse(TestEtcd.refusals.permissionDenied, {
        match: ({ keys }) => keys.some((key) => key.startsWith("/config/secret/")),
        times: Infinity
      })
      const refused = yield* Effect.fork(Effect.flip(Stream.runDrain(Config.watchPrefix("secret", Schema.Int))))
      const open = yield* Effect.fork(Stream.runHead(Config.watchPrefix("open", Schema.Int)))
      const error = yield* whileTimePasses(Fiber.join(refused))
      assert.isTrue(error._tag === "EtcdError" && error.reason === "PermissionDenied")
      yield* etcd.putKey("/config/open/a", "1")
      assert.isTrue(Option.isSome(yield* whileTimePasses(Fiber.join(open))))
    }).pipe(Effect.provide(embedded())))

  it.effect("leaves nothing behind when it ends", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* etcd.putKey("/config/a", "1")
      yield* Stream.runDrain(Stream.take(Config.watch("a", Schema.Int), 1))
      yield* eventually("no watcher", Effect.map(etcd.usage, ({ watchers }) => watchers === 0))
    }).pipe(Effect.provide(embedded())))
})

describe("bad input", () => {
  it.effect("sends nothing", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* Effect.forEach([
        Config.get("a//b", Schema.Int),
        Config.get("a", Schema.BigIntFromSelf),
        Config.set("..", Schema.Int, 1),
        Config.set("a", Schema.Int, 1.5),
        Config.set("a", Schema.Number, NaN),
        Config.compareAndSet("a", Schema.Number, NaN, 0n),
        Config.compareAndSet("a", Schema.Int, 1, -1n),
        Config.delete(""),
        Config.list("a//", Schema.Int),
        Stream.runDrain(Config.watch("/", Schema.Int)),
        Stream.runDrain(Config.watchPrefix("a", Schema.SymbolFromSelf))
      ], (effect) => Effect.flip(Effect.asVoid<unknown, unknown, Config.Config>(effect)))
      yield* settle
      assert.deepStrictEqual(Object.values((yield* etcd.usage).calls).reduce((sum, count) => sum + count, 0), 0)
    }).pipe(Effect.provide(embedded())))

  it.effect("in the options fails the layer", () =>
    Effect.gen(function*() {
      for (const prefix of ["", "/", "//config", "a//b", "../x", "/a\n"]) {
        const error = yield* Effect.flip(Layer.build(Layer.provide(Config.layer({ prefix }), TestEtcd.client())))
        assert.isTrue(error._tag === "InvalidArgument" && error.argument === "prefix", prefix)
      }
    }).pipe(Effect.scoped, Effect.provide(TestEtcd.layer())))

  it.effect("that is too large is refused by etcd", () =>
    Effect.gen(function*() {
      const large = "x".repeat(1024 * 1024)
      yield* Config.set("large", Schema.String, large)
      assert.strictEqual(yield* Config.get("large", Schema.String), large)
      const error = yield* Effect.flip(Config.set("large", Schema.String, large + large))
      assert.isTrue(error._tag === "EtcdError" && error.reason === "TooLarge" && !error.mayBeApplied)
      assert.isBelow(error.message.length, 300)
    }).pipe(Effect.provide(embedded())))
})

describe("the prefix of all keys", () => {
  it.effect("is an option", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      for (const prefix of ["/settings", "/a/b"]) {
        const layer = Layer.provide(Config.layer({ prefix }), TestEtcd.client())
        const entries = yield* Effect.zipRight(
          Config.set("x/y", Schema.Int, 1),
          Effect.map(Config.list("x", Schema.Int), ({ entries }) => entries)
        ).pipe(Effect.provide(layer))
        assert.deepStrictEqual(entries.map(({ key }) => key), ["x/y"])
      }
      assert.deepStrictEqual(
        (yield* etcd.snapshot).map(({ key }) => Buffer.from(key).toString()),
        ["/a/b/x/y", "/settings/x/y"]
      )
    }).pipe(Effect.provide(TestEtcd.layer())))
})

describe("a secret", () => {
  const secret = "hunter2"
  const Account = Schema.Struct({ password: Schema.Redacted(Schema.String), port: Schema.Int })

  it.effect("is in no error, event or span", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { spans, tracer } = recordingTracer()
      const document = JSON.stringify({ password: secret, port: "none" })
      yield* etcd.putKey("/config/a/account", document)
      yield* etcd.putKey("/config/a/broken", `{"password": "${secret}"`)
      const outcomes = yield* Effect.all([
        Effect.exit(Config.get("a/account", Account)),
        Effect.exit(Config.get("a/broken", Account)),
        Effect.exit(
          Config.set("a/new", Account, { password: Schema.decodeSync(Account.fields.password)(secret), port: 0.5 })
        ),
        Effect.exit(Config.list("a", Account)),
        Effect.exit(Stream.runCollect(Stream.take(Config.watchPrefix("a", Account), 2)))
      ]).pipe(Effect.withTracer(tracer))
      const shown = [
        ...outcomes.map(pretty),
        inspect(outcomes, { depth: Infinity }),
        JSON.stringify(outcomes, (_, value: unknown) => typeof value === "bigint" ? String(value) : value),
        inspect(spans.map(({ attributes, name }) => [name, attributes]), { depth: Infinity })
      ]
      for (const text of shown) assert.isFalse(text.includes(secret), text)
      assert.deepStrictEqual(outcomes.map((exit) => exit._tag === "Failure"), [true, true, true, false, false])
      assert.deepStrictEqual(spans.map(({ name }) => name), ["Config.get", "Config.get", "Config.set", "Config.list"])
      assert.isTrue(spans.every(({ attributes }) => attributes.has("config.key")))
    }).pipe(Effect.provide(process()), Effect.provide(TestEtcd.layer())))
})
