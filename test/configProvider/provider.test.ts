import { assert, describe, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as HashMap from "effect/HashMap"
import * as HashSet from "effect/HashSet"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Settings from "../../src/Config.js"
import { EtcdClient } from "../../src/EtcdClient.js"
import { refusals, TestEtcd } from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { eventually, pass, scenario, settle, whileTimePasses } from "../support/memory.js"

const put = (key: string, value: string) => Effect.flatMap(TestEtcd, (etcd) => etcd.putKey(`/config/app/${key}`, value))

const putAll = (values: Record<string, string>) =>
  Effect.forEach(Object.entries(values), ([key, value]) => put(key, value), { discard: true })

/** Reads an Effect `Config` from what stands there now. */
const read = <A>(config: Config.Config<A>) =>
  Effect.scoped(Effect.flatMap(Settings.provider("app"), (provider) => provider.load(config)))

const failure = <A>(config: Config.Config<A>) => Effect.map(Effect.flip(read(config)), String)

describe("Effect's Config", () => {
  const Database = Config.all({ host: Config.string("host"), port: Config.port("port") }).pipe(
    Config.nested("database")
  )

  it.effect("finds nested paths as keys and as fields", () =>
    Effect.gen(function*() {
      yield* putAll({ "database/host": "a", "database/port": "5432" })
      assert.deepStrictEqual(yield* read(Database), { host: "a", port: 5432 })
      yield* put("database", "{\"host\":\"b\",\"port\":1,\"deep\":{\"er\":[{\"x\":\"y\"}]}}")
      assert.deepStrictEqual(yield* read(Database), { host: "a", port: 5432 }, "the longer key counts")
      const etcd = yield* TestEtcd
      yield* etcd.deleteKey("/config/app/database/host")
      assert.deepStrictEqual(yield* read(Database), { host: "b", port: 5432 })
      assert.strictEqual(yield* read(Config.string("database/host")), "b")
      const x = Config.string("x").pipe(
        Config.array,
        Config.nested("er"),
        Config.nested("deep"),
        Config.nested("database")
      )
      assert.deepStrictEqual(yield* read(x), ["y"])
    }).pipe(scenario))

  it.effect("reads primitives of every kind, as raw texts and as JSON", () =>
    Effect.gen(function*() {
      yield* putAll({
        text: "plain text, with a comma",
        quoted: "\"123\"",
        digits: "123",
        precise: "12345678901234567890",
        decimal: " 1.50\n",
        yes: "yes",
        duration: "5 seconds",
        level: "WARN",
        when: "2020-01-01T00:00:00Z",
        url: "http://example.org/",
        empty: "",
        json: "{\"number\":1.5,\"true\":true,\"text\":\"t, u\",\"null\":null,\"empty\":\"\"}"
      })
      const all = Config.all({
        text: Config.string("text"),
        quoted: Config.string("quoted"),
        digits: Config.string("digits"),
        precise: Config.string("precise"),
        decimal: Config.string("decimal"),
        number: Config.number("digits"),
        integer: Config.integer("quoted"),
        yes: Config.boolean("yes"),
        duration: Config.duration("duration"),
        level: Config.logLevel("level"),
        when: Config.date("when"),
        url: Config.url("url"),
        empty: Config.string("empty"),
        secret: Config.redacted("text"),
        branded: Schema.Config("digits", Schema.NumberFromString),
        json: Config.all({
          number: Config.number("number"),
          true: Config.boolean("true"),
          text: Config.string("text"),
          null: Config.option(Config.string("null")),
          empty: Config.string("empty")
        }).pipe(Config.nested("json"))
      })
      const { duration, level, secret, url, when, ...rest } = yield* read(all)
      assert.deepStrictEqual(rest, {
        text: "plain text, with a comma",
        quoted: "123",
        digits: "123",
        precise: "12345678901234567890",
        decimal: "1.50",
        number: 123,
        integer: 123,
        yes: true,
        empty: "",
        branded: 123,
        json: { number: 1.5, true: true, text: "t, u", null: Option.none(), empty: "" }
      })
      assert.strictEqual(Duration.toMillis(duration), 5_000)
      assert.deepStrictEqual([level._tag, when.getTime(), url.host], ["Warning", 1577836800000, "example.org"])
      assert.strictEqual(Redacted.value(secret), "plain text, with a comma")
    }).pipe(scenario))

  it.effect("reads lists: JSON, numbered keys, commas", () =>
    Effect.gen(function*() {
      yield* putAll({
        json: "[\"a, b\",\"c\"]",
        "keys[0]": "a, b",
        "keys[1]": "c",
        "apart/[1]": "c",
        "apart/[0]": "a, b",
        commas: "a, b,c",
        field: "{\"commas\":\"1,2\"}",
        one: "1",
        nested: "[[1,2],[3]]",
        servers: "[{\"host\":\"a,b\",\"port\":1},{\"host\":\"c\",\"port\":2}]",
        "servers[1]/port": "3",
        empty: "[]",
        holes: "[1,null]"
      })
      const texts = Config.array(Config.string())
      const numbers = Config.array(Config.number())
      for (const name of ["json", "keys", "apart"]) {
        assert.deepStrictEqual(yield* read(Config.nested(texts, name)), ["a, b", "c"], name)
      }
      assert.deepStrictEqual(yield* read(Config.nested(texts, "commas")), ["a", "b", "c"])
      assert.deepStrictEqual(yield* read(Config.array(Config.number("commas"), "field")), [1, 2])
      assert.deepStrictEqual(yield* read(Config.nested(numbers, "one")), [1])
      assert.deepStrictEqual(yield* read(Config.array(Config.array(Config.number()), "nested")), [[1, 2], [3]])
      assert.deepStrictEqual(
        yield* read(Config.array(Config.all({ host: Config.string("host"), port: Config.number("port") }), "servers")),
        [{ host: "a,b", port: 1 }, { host: "c", port: 3 }]
      )
      assert.deepStrictEqual(yield* read(Config.withDefault(Config.nested(numbers, "empty"), [])), [])
      assert.deepStrictEqual(yield* read(Config.withDefault(Config.nested(numbers, "none"), [7])), [7])
      assert.strictEqual(
        yield* failure(Config.nested(numbers, "holes")),
        "(Missing data at holes.[1]: \"Expected /config/app/holes/[1] to exist in etcd\")"
      )
      assert.strictEqual(HashSet.size(yield* read(Config.hashSet(Config.string(), "commas"))), 3)
    }).pipe(scenario))

  it.effect("reads tables", () =>
    Effect.gen(function*() {
      yield* putAll({
        "limits/api": "1",
        "limits/web": "2",
        routes: "{\"/a/b\":1,\"c\":2}",
        "people/ann": "{\"age\":1}",
        "people/bob/age": "2"
      })
      const table = (name: string) =>
        Effect.map(read(Config.hashMap(Config.number(), name)), (map) => Object.fromEntries(HashMap.toEntries(map)))
      assert.deepStrictEqual(yield* table("limits"), { api: 1, web: 2 })
      assert.deepStrictEqual(yield* table("routes"), { "/a/b": 1, c: 2 })
      assert.deepStrictEqual(yield* table("none"), {})
      const ages = yield* read(Config.hashMap(Config.number("age"), "people"))
      assert.deepStrictEqual(Object.fromEntries(HashMap.toEntries(ages)), { ann: 1, bob: 2 })
    }).pipe(scenario))

  it.effect("says what is missing, and what is wrong", () =>
    Effect.gen(function*() {
      yield* putAll({
        "database/port": "many",
        object: "{\"a\":1}",
        list: "[\"a\"]",
        empty: "{}",
        nothing: "null"
      })
      const etcd = yield* TestEtcd
      yield* etcd.putKey("/config/app/bytes", Uint8Array.of(0xff))
      assert.strictEqual(
        yield* failure(Database),
        "(Missing data at database.host: \"Expected /config/app/database/host to exist in etcd\") and " +
          "(Invalid data at database.port: \"Expected a network port value but received \"many\"\")"
      )
      assert.strictEqual(
        yield* failure(Config.withDefault(Config.number("port"), 1).pipe(Config.nested("database"))),
        "(Invalid data at database.port: \"Expected a number value but received \"many\"\")",
        "a default is for what is missing"
      )
      for (
        const [name, other] of Object.entries({
          object: "an object",
          list: "a list",
          bytes: "bytes that are not UTF-8"
        })
      ) {
        assert.strictEqual(
          yield* failure(Config.withDefault(Config.string(name), "default")),
          `(Invalid data at ${name}: "Expected a single value, and /config/app/${name} has ${other}")`
        )
      }
      for (const name of ["none", "nothing", "empty", "database"]) {
        const error = yield* Effect.flip(read(Config.string(name)))
        assert.isTrue(ConfigError.isConfigError(error) && ConfigError.isMissingDataOnly(error), name)
        assert.strictEqual(yield* read(Config.withDefault(Config.string(name), "default")), "default")
        assert.isTrue(Option.isNone(yield* read(Config.option(Config.string(name)))))
      }
    }).pipe(scenario))

  it.effect("gives no object another prototype, and survives any depth", () =>
    Effect.gen(function*() {
      yield* put("a", "{\"__proto__\":{\"x\":\"1\"},\"constructor\":\"2\"}")
      yield* put("deep", `${"[".repeat(50_000)}1${"]".repeat(50_000)}`)
      assert.strictEqual(yield* read(Config.string("x").pipe(Config.nested("__proto__"), Config.nested("a"))), "1")
      assert.strictEqual(yield* read(Config.string("constructor").pipe(Config.nested("a"))), "2")
      assert.isUndefined(Reflect.get({}, "x"))
    }).pipe(scenario))

  it.effect("works with what Effect does to providers", () =>
    Effect.gen(function*() {
      yield* putAll({ "data-base/host-name": "h" })
      const kebab = ConfigProvider.kebabCase(yield* Settings.provider("app"))
      assert.strictEqual(yield* kebab.load(Config.string("hostName").pipe(Config.nested("dataBase"))), "h")
      const nested = ConfigProvider.nested(yield* Settings.provider("app"), "data-base")
      assert.strictEqual(yield* nested.load(Config.string("host-name")), "h")
      const other = ConfigProvider.fromMap(new Map([["a", "b"]]))
      const either = ConfigProvider.orElse(yield* Settings.provider("app"), () => other)
      assert.strictEqual(yield* either.load(Config.string("a")), "b")
    }).pipe(scenario))
})

describe("a provider", () => {
  it.effect("reads the newest copy every time", () =>
    Effect.gen(function*() {
      yield* put("greeting", "hello")
      const greeting = Config.string("greeting")
      yield* Effect.gen(function*() {
        assert.strictEqual(yield* greeting, "hello")
        yield* put("greeting", "good day")
        yield* settle
        assert.strictEqual(yield* greeting, "good day")
        const etcd = yield* TestEtcd
        yield* etcd.deleteKey("/config/app/greeting")
        yield* settle
        assert.strictEqual(yield* Config.withDefault(greeting, "hi"), "hi")
      }).pipe(Effect.provide(Settings.layerProvider("app")))
    }).pipe(scenario))

  it.effect("reads all of one Config at one revision", () =>
    Effect.gen(function*() {
      const client = yield* EtcdClient
      const write = (n: number) =>
        client.txn({
          success: ["first", "last"].map((name) => Txn.put({ key: `/config/app/${name}`, value: String(n) }))
        })
      yield* write(0)
      const provider = yield* Settings.provider("app")
      let arrived = 0
      yield* Effect.forkScoped(
        Stream.runForEach(Settings.changes("app", Config.number("last")), (last) =>
          Effect.sync(() => {
            arrived = Either.getOrThrow(last)
          }))
      )
      yield* settle
      /** So long that a change can arrive in the middle of it. */
      const nothing = (size: number): Config.Config<number> =>
        size === 1 ? Config.succeed(0) : Config.map(Config.zip(nothing(size / 2), nothing(size / 2)), () => 0)
      const long = Config.all({
        first: Config.number("first"),
        nothing: nothing(16_384),
        arrived: Config.sync(() => arrived),
        last: Config.number("last")
      })
      const [during] = yield* Effect.all([provider.load(long), write(1)], { concurrency: "unbounded" })
      assert.deepStrictEqual(during, { first: 0, nothing: 0, arrived: 1, last: 0 })
      assert.deepStrictEqual(yield* provider.load(long), { first: 1, nothing: 0, arrived: 1, last: 1 })
    }).pipe(scenario))

  it.effect("ends a prefix at a segment, and can stand anywhere", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.putKey("/config/application/a", "not mine")
      yield* etcd.putKey("/other/x/a", "mine")
      const a = Config.withDefault(Config.string("a"), "none")
      assert.strictEqual(yield* read(a), "none")
      const other = yield* Settings.provider("x/", { configPrefix: "/other" })
      assert.strictEqual(yield* other.load(a), "mine")
      // What Config says counts as well.
      const service = Settings.layer({ prefix: "/other" })
      const same = yield* Effect.provide(Settings.provider("x"), service)
      assert.strictEqual(yield* same.load(a), "mine")
      const first = yield* Effect.provide(Stream.runHead(Settings.changes("x", a)), service)
      assert.deepStrictEqual(Option.getOrThrow(first), Either.right("mine"))
      const all = yield* Settings.provider("")
      assert.strictEqual(yield* all.load(Config.string("application/a")), "not mine")
    }).pipe(scenario))

  it.effect("fails within its time when etcd is away, with the reason", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.down
      const error = yield* whileTimePasses(
        Effect.flip(Effect.uninterruptible(Settings.provider("app", { timeout: "2 seconds" }))),
        "2 seconds"
      )
      assert.isTrue(error._tag === "EtcdError" && error.reason === "DeadlineExceeded", error.message)
      const layer = Effect.void.pipe(Effect.provide(Settings.layerProvider("app")))
      assert.strictEqual((yield* whileTimePasses(Effect.flip(layer), "5 seconds"))._tag, "EtcdError")
      yield* etcd.up
      yield* etcd.refuse(refusals.permissionDenied, { times: Infinity })
      const refused = yield* whileTimePasses(Effect.flip(Settings.provider("app")), "4 seconds")
      assert.isTrue(refused._tag === "EtcdError" && refused.reason === "PermissionDenied", refused.message)
    }).pipe(scenario))

  it.effect("keeps its copy while etcd is away", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put("a", "1")
      const provider = yield* Settings.provider("app")
      yield* etcd.down
      yield* put("a", "2")
      yield* pass("1 minute")
      assert.strictEqual(yield* provider.load(Config.string("a")), "1")
      yield* etcd.compact()
      yield* etcd.up
      yield* pass("10 seconds")
      assert.strictEqual(yield* provider.load(Config.string("a")), "2")
    }).pipe(scenario))

  it.effect("refuses bad arguments before anything is sent, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const errors = yield* Effect.all([
        Effect.flip(Settings.provider("a//b")),
        Effect.flip(Settings.provider("a", { timeout: "soon" as Duration.DurationInput })),
        Effect.flip(Settings.provider("a", { configPrefix: "x" })),
        Effect.flip(Stream.runDrain(Settings.changes("/", Config.string("a"))))
      ])
      assert.deepStrictEqual(
        errors.map((error) => error._tag === "InvalidArgument" ? error.argument : error._tag),
        ["prefix", "timeout", "configPrefix", "prefix"]
      )
      assert.deepStrictEqual([(yield* etcd.usage).calls.range ?? 0, (yield* etcd.usage).watchers], [0, 0])
      yield* read(Config.succeed(1))
      yield* eventually("no watcher", Effect.map(etcd.usage, ({ watchers }) => watchers === 0))
    }).pipe(scenario))
})

describe("another provider", () => {
  const env = ConfigProvider.fromMap(
    new Map([["PORT", "1"], ["HOST", "env"], ["HOSTS", "x, y"], ["LIMITS.WEB", "7"], ["LIMITS.API", "8"]])
  ).pipe(ConfigProvider.constantCase)
  const all = Config.all({
    host: Config.string("host"),
    port: Config.number("port"),
    hosts: Config.array(Config.string(), "hosts"),
    other: Config.withDefault(Config.string("other"), "default")
  })

  it.effect("counts where etcd has nothing", () =>
    Effect.gen(function*() {
      yield* putAll({ host: "etcd", hosts: "[\"a\"]", "limits/API": "9" })
      const provider = yield* Settings.provider("app", { orElse: env })
      assert.deepStrictEqual(yield* provider.load(all), { host: "etcd", port: 1, hosts: ["a"], other: "default" })
      const limits = yield* provider.load(Config.hashMap(Config.number(), "limits"))
      assert.deepStrictEqual(Object.fromEntries(HashMap.toEntries(limits)), { API: 9, WEB: 7 })
      const numbered = ConfigProvider.fromMap(new Map([["hosts[0]", "x"], ["hosts[1]", "y"]]))
      const lists = yield* Settings.provider("app", { orElse: numbered })
      assert.deepStrictEqual(yield* lists.load(Config.array(Config.string(), "hosts")), ["a"], "lists are not mixed")
      const limited = ConfigProvider.fromMap(new Map([["limits[0]", "1"]]))
      const table = yield* Settings.provider("app", { orElse: limited })
      const own = yield* table.load(Config.hashMap(Config.number(), "limits"))
      assert.deepStrictEqual(Object.fromEntries(HashMap.toEntries(own)), { API: 9 }, "nor tables with lists")
      yield* putAll({ port: "many", hosts: "b,c" })
      yield* settle
      assert.deepStrictEqual(yield* lists.load(Config.array(Config.string(), "hosts")), ["b", "c"])
      const error = yield* Effect.flip(provider.load(Config.number("port")))
      assert.isTrue(ConfigError.isInvalidData(error), "what is wrong is not hidden by another value")
      const missing = yield* Effect.flip(provider.load(Config.string("other")))
      assert.isTrue(ConfigError.isMissingDataOnly(missing))
      assert.strictEqual(
        String(missing),
        "(Missing data at other: \"Expected /config/app/other to exist in etcd\") or " +
          "(Missing data at OTHER: \"Expected OTHER to exist in the provided map\")"
      )
    }).pipe(scenario))

  it.effect("lets an application start without etcd, which counts as soon as it can be read", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put("host", "etcd")
      yield* etcd.down
      const provider = yield* whileTimePasses(Settings.provider("app", { orElse: env }), "5 seconds")
      const seen = yield* Queue.unbounded<string>()
      yield* Effect.forkScoped(
        Stream.runForEach(
          Settings.changes("app", Config.string("host"), { orElse: env }),
          (host) => Queue.offer(seen, Either.getOrThrow(host))
        )
      )
      assert.deepStrictEqual(yield* provider.load(all), { host: "env", port: 1, hosts: ["x", "y"], other: "default" })
      assert.strictEqual(yield* whileTimePasses(Queue.take(seen)), "env")
      yield* etcd.up
      assert.strictEqual(yield* whileTimePasses(Queue.take(seen)), "etcd")
      // It has a copy of its own, which has to come back as well.
      yield* whileTimePasses(
        Effect.repeat(Effect.delay(provider.load(all), "100 millis"), { until: ({ host }) => host === "etcd" })
      )
    }).pipe(scenario))

  it.effect("counts too while etcd refuses to be read", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put("host", "etcd")
      yield* etcd.refuse(refusals.permissionDenied, { times: Infinity })
      const provider = yield* whileTimePasses(Settings.provider("app", { orElse: env }), "5 seconds")
      assert.strictEqual((yield* provider.load(all)).host, "env")
      yield* etcd.clear
      yield* pass("10 seconds")
      assert.strictEqual((yield* provider.load(all)).host, "etcd")
    }).pipe(scenario))
})

describe("changes of a Config", () => {
  it.effect("are told when something that it reads has changed", () =>
    Effect.gen(function*() {
      yield* putAll({ "database/host": "a", "database/port": "1", other: "x" })
      const Database = Config.all({ host: Config.string("host"), port: Config.number("port") })
      const seen = yield* Queue.unbounded<string>()
      yield* Effect.forkScoped(
        Stream.runForEach(Settings.changes("app", Config.nested(Database, "database")), (result) =>
          Queue.offer(
            seen,
            Either.match(result, { onLeft: String, onRight: (value) => JSON.stringify(value) })
          ))
      )
      const next = whileTimePasses(Queue.take(seen))
      assert.strictEqual(yield* next, "{\"host\":\"a\",\"port\":1}")
      yield* putAll({ other: "y" })
      yield* settle
      yield* putAll({ "database/host": "a" })
      yield* settle
      assert.strictEqual(yield* Queue.size(seen), 0)
      yield* putAll({ "database/port": "many" })
      assert.include(yield* next, "(Invalid data at database.port")
      yield* putAll({ "database/port": "2" })
      assert.strictEqual(yield* next, "{\"host\":\"a\",\"port\":2}")
    }).pipe(scenario))

  it.effect("go on after a value at which a function of the Config throws", () =>
    Effect.gen(function*() {
      yield* put("home", "https://a")
      const home = Config.map(Config.string("home"), (text) => new URL(text).host)
      const seen: Array<string> = []
      yield* Effect.forkScoped(Stream.runForEach(Settings.changes("app", home), (result) =>
        Effect.sync(() =>
          seen.push(Either.getOrElse(result, String))
        )))
      const told = (count: number) =>
        eventually(`${count} are told`, Effect.sync(() => seen.length === count))
      yield* told(1)
      yield* put("home", "hunter2")
      yield* told(2)
      yield* put("home", "https://b")
      yield* told(3)
      assert.match(seen[1], /threw/)
      assert.notInclude(seen[1], "hunter2")
      assert.deepStrictEqual([seen[0], seen[2]], ["a", "b"])
    }).pipe(scenario))

  it.effect("are told when there is something that is no value of its kind, or that it is empty", () =>
    Effect.gen(function*() {
      const orElse = ConfigProvider.fromMap(new Map([["hosts", "x"]]))
      const hosts = Config.withDefault(Config.array(Config.string(), "hosts"), [])
      const seen = yield* Queue.unbounded<string>()
      yield* Effect.forkScoped(
        Stream.runForEach(
          Settings.changes("app", hosts, { orElse }),
          (result) => Queue.offer(seen, Either.match(result, { onLeft: String, onRight: (names) => names.join() }))
        )
      )
      const next = whileTimePasses(Queue.take(seen))
      const texts = yield* Queue.unbounded<string>()
      yield* Effect.forkScoped(
        Stream.runForEach(
          Settings.changes("app", Config.withDefault(Config.string("hosts"), "none"), { orElse }),
          (result) => Queue.offer(texts, Either.merge(Either.mapLeft(result, String)))
        )
      )
      const nextText = whileTimePasses(Queue.take(texts))
      assert.strictEqual(yield* next, "x")
      assert.strictEqual(yield* nextText, "x")
      yield* put("hosts", "{}")
      assert.strictEqual(yield* nextText, "none")
      yield* put("hosts", "{\"b\":1}")
      assert.match(yield* nextText, / has an object/)
      yield* Queue.take(seen)
      yield* Queue.take(seen)
      yield* put("hosts", "[]")
      assert.strictEqual(yield* nextText, "none")
      assert.strictEqual(yield* next, "")
      yield* put("hosts", "{\"a\":1}")
      assert.match(yield* next, /Invalid data at hosts.* has an object/)
      yield* put("hosts", "null")
      assert.strictEqual(yield* next, "x")
    }).pipe(scenario))

  it.effect("are of one revision each", () =>
    Effect.gen(function*() {
      const client = yield* EtcdClient
      const pair = Config.all([Config.number("first"), Config.number("last")])
      const write = (n: number) =>
        client.txn({
          success: ["first", "last"].map((name) => Txn.put({ key: `/config/app/${name}`, value: String(n) }))
        })
      yield* write(0)
      const seen: Array<readonly [number, number]> = []
      yield* Effect.forkScoped(
        Stream.runForEach(Settings.changes("app", pair), (result) =>
          Effect.sync(() => {
            const [first, last] = Either.getOrThrow(result)
            seen.push([first, last])
          }))
      )
      for (let n = 1; n <= 50; n++) {
        yield* write(n)
        if (n % 3 === 0) yield* settle
      }
      yield* eventually("the last", Effect.sync(() => seen[seen.length - 1]?.[0] === 50))
      assert.isTrue(seen.every(([first, last]) => first === last))
    }).pipe(scenario))
})

describe("a layer with a provider", () => {
  it.effect("is what other layers are made with", () =>
    Effect.gen(function*() {
      yield* putAll({ size: "3" })
      class Size extends Effect.Service<Size>()("test/Size", {
        effect: Effect.map(Config.number("size"), (size) => ({ size }))
      }) {}
      const { size } = yield* Effect.provide(Size, Layer.provide(Size.Default, Settings.layerProvider("app")))
      assert.strictEqual(size, 3)
    }).pipe(scenario))
})
