import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Config from "../../src/Config.js"
import * as ConfigLayers from "../../src/ConfigLayers.js"
import { EtcdClient } from "../../src/EtcdClient.js"
import { refusals, TestEtcd } from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { eventually, pass, scenario, settle, whileTimePasses } from "../support/memory.js"

const keys = ["app/base", "app/production", "app/production/eu-1"]

const Limits = Schema.Struct({
  requests: Schema.Int,
  burst: Schema.optionalWith(Schema.Int, { default: () => 10 })
})
const App = Schema.Struct({
  name: Schema.String,
  hosts: Schema.optionalWith(Schema.Array(Schema.String), { default: () => [] }),
  limits: Schema.optionalWith(Limits, { default: () => ({ requests: 1, burst: 10 }) })
})

const options = { keys, schema: App }

const put = (key: string, value: unknown) =>
  Effect.flatMap(
    TestEtcd,
    (etcd) => etcd.putKey(`/config/${key}`, typeof value === "string" ? value : JSON.stringify(value))
  )

const remove = (key: string) => Effect.flatMap(TestEtcd, (etcd) => etcd.deleteKey(`/config/${key}`))

/** Follows a stream, an element when asked. */
const following = <A>(stream: Stream.Stream<A>) =>
  Effect.gen(function*() {
    const queue = yield* Queue.unbounded<A>()
    yield* Effect.forkScoped(Stream.runForEach(stream, (item) => Queue.offer(queue, item)))
    return { next: whileTimePasses(Queue.take(queue)), size: Queue.size(queue) }
  })

describe("layers of settings", () => {
  it.effect("override each other from the first to the last", () =>
    Effect.gen(function*() {
      yield* put("app/base", { name: "app", hosts: ["a", "b"], limits: { requests: 100, burst: 5 } })
      yield* put("app/production/eu-1", { limits: { requests: 300 } })
      yield* put("app/production", { hosts: ["c"], limits: { requests: 200, burst: 20 } })
      const layers = yield* ConfigLayers.make(options)
      const expected = { name: "app", hosts: ["c"], limits: { requests: 300, burst: 20 } }
      assert.deepStrictEqual(yield* layers.get, expected)
      const settings = yield* layers.settings
      assert.strictEqual(settings.revision, 4n)
      assert.deepStrictEqual(settings.layers, [
        { key: "app/base", version: 2n },
        { key: "app/production", version: 4n },
        { key: "app/production/eu-1", version: 3n }
      ])
      const once = yield* ConfigLayers.read(options)
      assert.deepStrictEqual(once.value, expected)
      assert.deepStrictEqual([once.revision, once.layers], [4n, settings.layers])
    }).pipe(scenario))

  it.effect("need not exist", () =>
    Effect.gen(function*() {
      yield* put("app/production", { name: "app" })
      const { layers, value } = yield* ConfigLayers.read(options)
      assert.deepStrictEqual(value, { name: "app", hosts: [], limits: { requests: 1, burst: 10 } })
      assert.deepStrictEqual(layers.map(({ version }) => version), [0n, 2n, 0n])
      const none = yield* Effect.flip(ConfigLayers.read({ ...options, keys: ["none"] }))
      assert.isTrue(none._tag === "LayersInvalid")
      assert.strictEqual(
        none.message,
        "the layers \"none\" (revision 2) cannot be used: no layer at name: is missing"
      )
      const defaults = Schema.Struct({ size: Schema.optionalWith(Schema.Int, { default: () => 3 }) })
      assert.deepStrictEqual((yield* ConfigLayers.read({ keys: ["none"], schema: defaults })).value, { size: 3 })
    }).pipe(scenario))

  it.effect("remove with null what lower ones say", () =>
    Effect.gen(function*() {
      yield* put("app/base", { name: "app", hosts: ["a"], limits: { requests: 100, burst: 5 } })
      yield* put("app/production", { hosts: null, limits: { burst: null }, other: null })
      assert.deepStrictEqual((yield* ConfigLayers.read(options)).value, {
        name: "app",
        hosts: [],
        limits: { requests: 100, burst: 10 }
      })
    }).pipe(scenario))

  it.effect("follow what changes, and tell only what makes a difference", () =>
    Effect.gen(function*() {
      yield* put("app/base", { name: "1" })
      const layers = yield* ConfigLayers.make(options)
      const changes = yield* following(Stream.map(layers.changes, ({ name }) => name))
      const events = yield* following(layers.events)
      assert.strictEqual(yield* changes.next, "1")
      yield* put("app/production/eu-1", { name: "3" })
      assert.strictEqual(yield* changes.next, "3")
      assert.strictEqual((yield* layers.get).name, "3")
      // Overridden, and not in any layer.
      yield* put("app/production", { name: "2" })
      yield* settle
      yield* put("app", { name: "x" })
      yield* settle
      assert.strictEqual((yield* layers.settings).revision, 4n)
      yield* remove("app/production/eu-1")
      assert.strictEqual(yield* changes.next, "2")
      const told = [yield* events.next, yield* events.next, yield* events.next, yield* events.next]
      assert.deepStrictEqual(
        told.map((event) => event._tag === "Applied" ? [event.settings.revision, event.settings.value.name] : []),
        [[2n, "1"], [3n, "3"], [4n, "3"], [6n, "2"]]
      )
      assert.strictEqual(yield* changes.size, 0)
    }).pipe(scenario))

  it.effect("are the same settings in whatever order a layer has them", () =>
    Effect.gen(function*() {
      yield* put("app/base", { name: "a", limits: { requests: 1, burst: 2 } })
      const layers = yield* ConfigLayers.make(options)
      const changes = yield* following(Stream.map(layers.changes, ({ limits }) => limits.burst))
      assert.strictEqual(yield* changes.next, 2)
      const version = yield* put("app/base", { limits: { burst: 2, requests: 1 }, name: "a" })
      yield* eventually("it is read", Effect.map(layers.settings, ({ revision }) => revision === version))
      yield* put("app/base", { limits: { burst: 3, requests: 1 }, name: "a" })
      assert.strictEqual(yield* changes.next, 3)
    }).pipe(scenario))

  it.effect("change together when a transaction changes several", () =>
    Effect.gen(function*() {
      const client = yield* EtcdClient
      const schema = Schema.Struct({ a: Schema.Int, b: Schema.Int, c: Schema.Int })
      const write = (n: number) =>
        client.txn({
          success: ["a", "b", "c"].map((name, index) =>
            Txn.put({ key: `/config/${keys[index]}`, value: JSON.stringify({ [name]: n }) })
          )
        })
      yield* write(0)
      const layers = yield* ConfigLayers.make({ keys, schema })
      const changes = yield* following(layers.changes)
      yield* layers.get
      yield* settle
      for (let n = 1; n <= 20; n++) {
        yield* write(n)
        yield* settle
      }
      for (let n = 0; n <= 20; n++) assert.deepStrictEqual(yield* changes.next, { a: n, b: n, c: n })
      assert.strictEqual(yield* changes.size, 0)
    }).pipe(scenario))

  it.effect("of one key are a single document", () =>
    Effect.gen(function*() {
      yield* put("app/base", { name: "1" })
      const layers = yield* ConfigLayers.make({ ...options, keys: ["app/base"] })
      const changes = yield* following(layers.changes)
      assert.strictEqual((yield* changes.next).name, "1")
      yield* put("app/base", { name: "2" })
      assert.strictEqual((yield* changes.next).name, "2")
    }).pipe(scenario))

  it.effect("stand where the prefix says, and can be a layer", () =>
    Effect.gen(function*() {
      class App extends Context.Tag("test/App")<App, ConfigLayers.ConfigLayers<{ readonly name: string }>>() {}
      const etcd = yield* TestEtcd
      yield* etcd.putKey("/other/app/base", "{\"name\":\"app\"}")
      const schema = Schema.Struct({ name: Schema.String })
      const layer = ConfigLayers.layer(App, { keys, schema, prefix: "/other" })
      const { name } = yield* Effect.provide(Effect.flatMap(App, ({ get }) => get), layer)
      assert.strictEqual(name, "app")
      const settings = Config.layer({ prefix: "/other" })
      const { value } = yield* Effect.provide(ConfigLayers.read({ keys, schema }), settings)
      assert.strictEqual(value.name, "app", "which Config says as well")
    }).pipe(scenario))

  it.effect("leave nothing behind", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put("app/base", { name: "1" })
      const ended = yield* Effect.scoped(Effect.gen(function*() {
        const layers = yield* ConfigLayers.make(options)
        yield* layers.get
        return yield* Effect.forkDaemon(Stream.runCollect(layers.changes))
      }))
      assert.strictEqual((yield* whileTimePasses(Fiber.join(ended))).length, 1)
      yield* eventually("no watcher", Effect.map(etcd.usage, ({ watchers }) => watchers === 0))
    }).pipe(scenario))
})

describe("a bad layer", () => {
  const bad = {
    "it is not JSON": "{\"name\": \"hunter2\"",
    "it is not a JSON object": "[\"hunter2\"]",
    "at limits: it has a property __proto__": "{\"limits\":{\"__proto__\":{\"hunter2\":true}}}",
    "it has more than 256 levels": `{"a":${"[".repeat(100_000)}"hunter2"${"]".repeat(100_000)}}`
  }

  it.effect("keeps what counted before, and the reason can be seen", () =>
    Effect.gen(function*() {
      yield* put("app/base", { name: "good" })
      const layers = yield* ConfigLayers.make(options)
      const changes = yield* following(Stream.map(layers.changes, ({ name }) => name))
      const events = yield* following(layers.events)
      assert.strictEqual(yield* changes.next, "good")
      yield* events.next
      for (const [problem, content] of Object.entries(bad)) {
        yield* put("app/production", content)
        const event = yield* events.next
        const error = event._tag === "Invalid" ? event.error : assert.fail("it is valid")
        const { message, problems } = error
        assert.include(message, problem)
        assert.include(message, "\"app/production\" (version ")
        assert.notInclude(message, "hunter2")
        assert.strictEqual(problems[0].key, "app/production")
        assert.strictEqual((yield* layers.get).name, "good")
        const status = yield* layers.status
        assert.strictEqual(Option.getOrThrow(status.revision), 2n)
        assert.strictEqual(Option.getOrThrow(status.rejected), error)
      }
      yield* put("app/production", { name: "better" })
      assert.strictEqual(yield* changes.next, "better")
      assert.isTrue(Option.isNone((yield* layers.status).rejected))
    }).pipe(scenario))

  it.effect("is one whose decoding hangs, ends in a defect, or is interrupted", () =>
    Effect.gen(function*() {
      const latch = yield* Effect.makeLatch()
      const ends: Record<string, Effect.Effect<string>> = {
        hang: Effect.never,
        stay: Effect.uninterruptible(Effect.as(latch.await, "late")),
        interrupt: Effect.interrupt,
        die: Effect.die("no")
      }
      const Named = Schema.transformOrFail(Schema.String, Schema.String, {
        strict: true,
        decode: (name) => ends[name] ?? Effect.succeed(name),
        encode: (name) => Effect.succeed(name)
      })
      yield* put("app/base", { name: "hang" })
      const layers = yield* ConfigLayers.make({
        keys,
        schema: Schema.Struct({ name: Named }),
        updateTimeout: "2 seconds"
      })
      const error = yield* whileTimePasses(Effect.flip(layers.get), "3 seconds")
      assert.match(error.message, /it was not decoded within 2s/)
      const counts = (name: string) =>
        eventually(
          `${name} counts`,
          Effect.map(Effect.option(layers.get), Option.exists((settings) => settings.name === name))
        )
      for (const name of ["interrupt", "die", "stay"]) {
        yield* put("app/base", { name: `before ${name}` })
        yield* counts(`before ${name}`)
        yield* put("app/base", { name })
        yield* pass("3 seconds")
        assert.isTrue(Option.isSome((yield* layers.status).rejected), name)
        assert.strictEqual((yield* layers.get).name, `before ${name}`)
      }
      // Not two at the same time.
      yield* put("app/base", { name: "last" })
      yield* pass("3 seconds")
      assert.strictEqual((yield* layers.get).name, "before stay")
      yield* latch.open
      yield* counts("last")
      assert.isTrue(Option.isNone((yield* layers.status).rejected))
    }).pipe(scenario))

  it.effect("is named with the place that does not decode", () =>
    Effect.gen(function*() {
      yield* put("app/base", { name: "app", limits: { requests: 1 } })
      yield* put("app/production", { limits: { requests: "many" } })
      yield* put("app/production/eu-1", { limits: { burst: 3 } })
      const error = yield* Effect.flip(ConfigLayers.read(options))
      assert.deepStrictEqual(error._tag === "LayersInvalid" ? error.problems : [], [{
        key: "app/production",
        version: 3n,
        path: ["limits", "requests"],
        problem: "Expected number, actual \"many\""
      }])
      assert.strictEqual(
        error.message,
        "the layers \"app/base\", \"app/production\", \"app/production/eu-1\" (revision 4) cannot be used: " +
          "\"app/production\" (version 3) at limits.requests: Expected number, actual \"many\""
      )
      yield* put("app/production", "{\"limits\":{\"requests\":1e999}}")
      const infinite = yield* Effect.flip(ConfigLayers.read(options))
      assert.include(infinite.message, "\"app/production\" (version 5) at limits.requests: it is Infinity")
    }).pipe(scenario))

  it.effect("fails those who ask while nothing good was ever read", () =>
    Effect.gen(function*() {
      yield* put("app/base", { name: 1 })
      const layers = yield* ConfigLayers.make(options)
      assert.strictEqual((yield* Effect.flip(layers.get))._tag, "LayersInvalid")
      assert.strictEqual((yield* Effect.flip(layers.explain))._tag, "LayersInvalid")
      const first = yield* Effect.fork(Stream.runHead(layers.changes))
      yield* settle
      yield* put("app/base", { name: "good" })
      assert.strictEqual(Option.getOrThrow(yield* Fiber.join(first)).name, "good")
      assert.strictEqual((yield* layers.get).name, "good")
    }).pipe(scenario))

  it.effect("gives no object another prototype", () =>
    Effect.gen(function*() {
      const schema = Schema.Record({ key: Schema.String, value: Schema.Unknown })
      yield* put("app/base", "{\"constructor\":{\"prototype\":{\"isAdmin\":true}},\"toString\":1}")
      yield* put("app/production", "{\"toString\":null,\"hasOwnProperty\":{\"a\":1}}")
      const { explain, value } = yield* ConfigLayers.read({ keys, schema })
      assert.deepStrictEqual(Object.keys(value), ["constructor", "hasOwnProperty"])
      assert.isUndefined(Reflect.get({}, "isAdmin"))
      assert.lengthOf(yield* explain, 3)
      yield* put("app/production", "{\"__proto__\":{\"isAdmin\":true}}")
      const error = yield* Effect.flip(ConfigLayers.read({ keys, schema }))
      assert.include(error.message, "__proto__")
      assert.isUndefined(Reflect.get({}, "isAdmin"))
    }).pipe(scenario))
})

describe("layers and an etcd that is away", () => {
  it.effect("wait for the first reading, for so long and no longer", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put("app/base", { name: "app" })
      yield* etcd.down
      const layers = yield* ConfigLayers.make({ ...options, timeout: "7 seconds" })
      const failing = yield* Effect.fork(Effect.flip(layers.get))
      yield* pass("6 seconds")
      assert.isTrue(Option.isNone(yield* Fiber.poll(failing)))
      yield* pass("2 seconds")
      const error = yield* Fiber.join(failing)
      assert.isTrue(error._tag === "EtcdError" && error.reason === "DeadlineExceeded")
      assert.include(error.message, "not read within 7s (")
      assert.strictEqual((yield* layers.status).connection._tag, "Loading")
      const waiting = yield* Effect.fork(layers.get)
      yield* etcd.up
      assert.strictEqual((yield* whileTimePasses(Fiber.join(waiting), "7 seconds")).name, "app")
      yield* etcd.down
      yield* pass("1 minute")
      assert.strictEqual((yield* layers.get).name, "app")
      assert.strictEqual((yield* layers.status).connection._tag, "Stale")
    }).pipe(scenario))

  it.effect("say within the time that there was no answer", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.stall()
      const layers = yield* ConfigLayers.make({ ...options, timeout: "2 seconds" })
      const error = yield* whileTimePasses(Effect.flip(Effect.uninterruptible(layers.get)), "3 seconds")
      assert.isTrue(error._tag === "EtcdError" && error.reason === "DeadlineExceeded", error.message)
    }).pipe(scenario))

  it.effect("tell at once that etcd refuses, and recover", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put("app/base", { name: "app" })
      yield* etcd.refuse(refusals.permissionDenied, { times: Infinity })
      const layers = yield* ConfigLayers.make(options)
      const error = yield* whileTimePasses(Effect.flip(layers.get), "1 second")
      assert.isTrue(error._tag === "EtcdError" && error.reason === "PermissionDenied")
      yield* etcd.clear
      yield* pass("5 seconds")
      assert.strictEqual((yield* layers.get).name, "app")
    }).pipe(scenario))
})

describe("bad options", () => {
  it.effect("are refused, and nothing is sent", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const refused = (bad: object) => Effect.flip(Effect.scoped(ConfigLayers.make({ ...options, ...bad })))
      for (
        const [argument, bad] of [
          ["keys", { keys: [] }],
          ["keys", { keys: ["a", "b", "a"] }],
          ["keys", { keys: Array.from({ length: 129 }, (_, i) => `k${i}`) }],
          ["keys", { keys: ["a", "b/"] }],
          ["timeout", { timeout: 0 }],
          ["updateTimeout", { updateTimeout: -1 }],
          ["prefix", { prefix: "config/" }]
        ] as const
      ) {
        const error = yield* refused(bad)
        assert.isTrue(error._tag === "InvalidArgument" && error.argument === argument, JSON.stringify(bad))
      }
      const unsupported = yield* Effect.flip(
        ConfigLayers.make({ keys, schema: Schema.Struct({ a: Schema.BigIntFromSelf }) })
      )
      assert.strictEqual(unsupported._tag, "UnsupportedSchema")
      const { calls, watchers } = yield* etcd.usage
      assert.deepStrictEqual([calls.range ?? 0, calls.txn ?? 0, watchers], [0, 0, 0])
    }).pipe(scenario))
})
