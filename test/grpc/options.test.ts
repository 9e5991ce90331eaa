import { assert, describe, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { inspect } from "node:util"
import * as Coord from "../../src/Coord.js"
import * as EtcdClient from "../../src/EtcdClient.js"
import { InvalidArgument } from "../../src/EtcdError.js"
import * as clientOptions from "../../src/internal/options.js"
import * as Certificates from "../support/certificates.js"
import { failure } from "./support.js"

const folder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(Path.join(Os.tmpdir(), "effect-coord-tls-"))),
  (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
)

const refusal = (options: EtcdClient.Options) =>
  Effect.map(failure(EtcdClient.make(options)), (error) => {
    assert.instanceOf(error, InvalidArgument)
    assert.include(error.message, error.argument)
    return error
  })

/** Each of these is refused, with its name and its value. */
const refused: ReadonlyArray<readonly [argument: string, value: string | undefined, options: EtcdClient.Options]> = [
  ["endpoints", "a:0", { endpoints: "a:0" }],
  ["requestTimeout", "0", { requestTimeout: 0 }],
  ["requestTimeout", "-5", { requestTimeout: -5 }],
  ["requestTimeout", "0 seconds", { requestTimeout: "0 seconds" }],
  ["requestTimeout", "NaN", { requestTimeout: NaN }],
  ["requestTimeout", "Infinity", { requestTimeout: Infinity }],
  ["connectTimeout", "0", { connectTimeout: 0 }],
  ["connectTimeout", "-1 seconds", { connectTimeout: "-1 seconds" }],
  ["keepAlive.time", "0", { keepAlive: { time: 0 } }],
  ["keepAlive.time", "4999 ms", { keepAlive: { time: 4_999 } }],
  ["keepAlive.timeout", "0", { keepAlive: { timeout: 0 } }],
  ["retry.maxAttempts", "0", { retry: { maxAttempts: 0 } }],
  ["retry.maxAttempts", "1.5", { retry: { maxAttempts: 1.5 } }],
  ["retry.maxAttempts", "NaN", { retry: { maxAttempts: NaN } }],
  ["retry.initialDelay", "0", { retry: { initialDelay: 0 } }],
  ["retry.maxDelay", "-1", { retry: { maxDelay: -1 } }],
  ["retry.multiplier", "0.5", { retry: { multiplier: 0.5 } }],
  ["retry.multiplier", "NaN", { retry: { multiplier: NaN } }],
  ["retry.multiplier", "Infinity", { retry: { multiplier: Infinity } }],
  ["namespace", "/a\nb", { namespace: "/a\nb" }],
  ["namespace", "/\u0000", { namespace: "/\u0000" }],
  ["maxReceiveBytes", "0", { maxReceiveBytes: 0 }],
  ["maxReceiveBytes", "-1", { maxReceiveBytes: -1 }],
  ["maxSendBytes", "1.5", { maxSendBytes: 1.5 }],
  ["maxSendBytes", "NaN", { maxSendBytes: NaN }],
  ["auth.username", "", { auth: { username: "", password: Redacted.make("hidden") } }],
  ["tls.serverName", "", { tls: { serverName: "" } }],
  ["tls.key", undefined, { tls: { cert: "-----" } }],
  ["tls.cert", undefined, { tls: { key: "hidden" } }],
  ["tls.key", undefined, { tls: { cert: { file: "/cert.pem" }, key: "hidden" } }],
  ["tls.ca", "/nowhere/ca.pem", { tls: { ca: { file: "/nowhere/ca.pem" } } }],
  ["tls.ca", undefined, { tls: { ca: "hidden" } }],
  ["tls.ca", undefined, { tls: { ca: "" } }],
  ["tls.cert", undefined, { tls: { cert: "hidden", key: "hidden" } }]
]

describe("an option that cannot work is refused", () => {
  it.scoped.each(refused.map((one) => [...one, JSON.stringify(one[1])] as const))(
    "$0 $3",
    ([argument, value, options]) =>
      Effect.gen(function*() {
        const error = yield* refusal(options)
        assert.deepStrictEqual([error.argument, error.value], [argument, value])
        assert.notInclude(inspect(error), "hidden")
      })
  )

  it.scoped("also by the layers", () =>
    Effect.gen(function*() {
      const options = { endpoints: "a:0" }
      for (const layer of [EtcdClient.layer(options), Coord.layer(options)]) {
        assert.strictEqual((yield* failure(Layer.build(layer))).argument, "endpoints")
      }
      const wrapped = { endpoints: Config.succeed("a:0") }
      for (const layer of [EtcdClient.layerConfig(wrapped), Coord.layerConfig(wrapped)]) {
        assert.instanceOf(yield* failure(Layer.build(layer)), InvalidArgument)
      }
    }))
})

describe("certificates that cannot work are refused", () => {
  const authority = Certificates.authority("ca")
  const mine = authority.issue("mine")
  const other = authority.issue("other")

  it.scoped("as PEM", () =>
    Effect.gen(function*() {
      const mismatch = yield* refusal({ tls: { cert: mine.cert, key: other.key } })
      assert.deepStrictEqual([mismatch.argument, mismatch.value], ["tls.key", undefined])
      assert.match(mismatch.problem, /belongs to tls.cert/)
      const bad = yield* refusal({ tls: { cert: mine.cert, key: Redacted.make("hidden") } })
      assert.strictEqual(bad.argument, "tls.key")
      assert.notInclude(inspect(bad), "hidden")
      yield* EtcdClient.make({ tls: { ca: authority.cert, cert: mine.cert, key: Redacted.make(mine.key) } })
      yield* EtcdClient.make({ tls: { cert: Buffer.from(mine.cert), key: Redacted.make(Buffer.from(mine.key)) } })
      yield* EtcdClient.make({ tls: {} })
    }))

  it.scoped("as files, naming the file", () =>
    Effect.gen(function*() {
      const path = yield* folder
      const file = (name: string, content: string) =>
        Effect.as(Effect.promise(() => writeFile(Path.join(path, name), content)), { file: Path.join(path, name) })
      const garbage = yield* file("garbage.pem", "hidden")
      const empty = yield* file("empty.pem", "")
      const ca = yield* file("ca.pem", authority.cert)
      const cert = yield* file("cert.pem", mine.cert)
      const key = yield* file("key.pem", mine.key)
      const otherKey = yield* file("other.pem", other.key)
      const cases: ReadonlyArray<readonly [string, string, EtcdClient.Options["tls"]]> = [
        ["tls.ca", garbage.file, { ca: garbage }],
        ["tls.ca", empty.file, { ca: empty }],
        ["tls.ca", path, { ca: { file: path } }],
        ["tls.cert", garbage.file, { cert: garbage, key }],
        ["tls.key", garbage.file, { cert, key: garbage }],
        ["tls.key", otherKey.file, { cert, key: otherKey }],
        ["tls.key", "/nowhere", { cert, key: { file: "/nowhere" } }]
      ]
      for (const [argument, value, tls] of cases) {
        const error = yield* refusal({ tls })
        assert.deepStrictEqual([error.argument, error.value], [argument, value])
        assert.notInclude(inspect(error), "hidden")
      }
      yield* EtcdClient.make({ tls: { ca, cert, key } })
    }))
})

describe("options that are accepted", () => {
  it.scoped("at their limits", () =>
    Effect.gen(function*() {
      const client = yield* EtcdClient.make({
        endpoints: ["a", "b:1"],
        keepAlive: { time: "5 seconds", timeout: 1 },
        requestTimeout: 1,
        connectTimeout: "30 days",
        retry: { maxAttempts: 1, multiplier: 1, initialDelay: 1, maxDelay: 1 },
        namespace: "/ünï/",
        maxReceiveBytes: 1,
        maxSendBytes: 1
      })
      assert.deepStrictEqual(client.endpoints, ["a:2379", "b:1"])
      assert.strictEqual(client.namespace, "/ünï/")
      assert.deepStrictEqual((yield* EtcdClient.make()).endpoints, ["localhost:2379"])
    }))
})

describe("times beyond what a timer of Node takes", () => {
  it.scoped("are shortened to that: a timer would fire at once, and ping without end", () =>
    Effect.gen(function*() {
      const long = "1000 days"
      const parsed = yield* clientOptions.parse({
        requestTimeout: long,
        connectTimeout: long,
        keepAlive: { time: long, timeout: long }
      })
      for (const [name, value] of Object.entries(parsed)) {
        if (name.endsWith("Millis")) assert.strictEqual(value, 2 ** 31 - 1, name)
      }
    }))
})

describe("layerConfig", () => {
  const load = (layer: Layer.Layer<EtcdClient.EtcdClient, unknown>, environment: Record<string, string> = {}) =>
    EtcdClient.EtcdClient.pipe(
      Effect.provide(layer),
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(environment))))
    )

  it.scoped("reads what is wrapped, and what is not is the default", () =>
    Effect.gen(function*() {
      const options = {
        endpoints: Config.string("ENDPOINTS"),
        auth: { username: Config.string("USER"), password: Config.redacted("PASSWORD") },
        keepAlive: { time: Config.duration("PING") }
      }
      const environment = { ENDPOINTS: "a,b", USER: "u", PASSWORD: "p", PING: "7 seconds" }
      const missing = yield* failure(load(EtcdClient.layerConfig(options), { ENDPOINTS: "a" }))
      assert.include(String(missing), "USER")
      for (const layer of [EtcdClient.layerConfig(options), Coord.layerConfig(options)]) {
        assert.deepStrictEqual((yield* load(layer, environment)).endpoints, ["a:2379", "b:2379"])
      }
    }))

  it.scoped("takes an option that is undefined as one that is left out", () =>
    Effect.gen(function*() {
      // What the types refuse only under `exactOptionalPropertyTypes`.
      const none: any = undefined
      const options = { endpoints: none, auth: none, keepAlive: { time: none }, tls: { ca: none }, retry: none }
      for (const layer of [EtcdClient.layerConfig(options), Coord.layerConfig({ ...options, lockPrefix: none })]) {
        assert.deepStrictEqual((yield* load(layer)).endpoints, ["localhost:2379"])
      }
    }))

  it.scoped("takes records without fields, which mean something", () =>
    Effect.gen(function*() {
      yield* load(EtcdClient.layerConfig({}))
      const error = yield* failure(
        load(EtcdClient.layerConfig({ endpoints: Config.succeed("http://a"), tls: {} }))
      )
      assert.match(String(error), /contradicts the tls option/)
    }))
})
