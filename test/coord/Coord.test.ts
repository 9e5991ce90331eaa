import { assert, describe, it } from "@effect/vitest"
import * as EffectConfig from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Config from "../../src/Config.js"
import * as Coord from "../../src/Coord.js"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as Lock from "../../src/Lock.js"
import * as Registry from "../../src/Registry.js"
import { Sessions } from "../../src/Session.js"

describe("Coord", () => {
  it.scoped("layerMemory gives every service over one etcd of its own", () =>
    Effect.gen(function*() {
      yield* Lock.acquire("a")
      yield* Registry.register({ id: "1", name: "s", address: "host", port: 1 })
      yield* Config.set("c", Schema.Number, 1)
      const client = yield* EtcdClient
      const { count } = yield* client.range({ key: "\0", rangeEnd: "\0", countOnly: true })
      assert.strictEqual(count, 3n)
      assert.isAtLeast((yield* (yield* Sessions).all).length, 1)
    }).pipe(Effect.provide(Coord.layerMemory)))

  it.scoped("health tells of members and sessions", () =>
    Effect.gen(function*() {
      yield* Lock.acquire("a", { ttl: "20 seconds" })
      const health = yield* Coord.health()
      assert.isTrue(health.healthy)
      const [member] = health.endpoints
      assert.isTrue(member._tag === "Up" && member.hasLeader && member.isLeader && member.revision === 2n)
      assert.deepStrictEqual(health.sessions.map(({ state }) => state._tag), ["Active"])
    }).pipe(Effect.provide(Coord.layerMemory)))

  it.scopedLive("health of an etcd that is away is an answer, not a failure", () =>
    Effect.gen(function*() {
      const health = yield* Coord.health({ timeout: "300 millis" })
      assert.isFalse(health.healthy)
      const [member] = health.endpoints
      assert.isTrue(
        member._tag === "Down" && member.endpoint === "127.0.0.1:1" && member.error.reason === "Unavailable"
      )
    }).pipe(Effect.provide(Coord.layer({ endpoints: "127.0.0.1:1" }))))

  it.effect("layer names the option that cannot work", () =>
    Effect.gen(function*() {
      const bad = [
        [{ endpoints: "host:0" }, "endpoints"],
        [{ requestTimeout: 0 }, "requestTimeout"],
        [{ lockPrefix: "locks" }, "lockPrefix"],
        [{ servicePrefix: "/services/" }, "servicePrefix"],
        [{ configPrefix: "" }, "configPrefix"]
      ] as const
      for (const [options, argument] of bad) {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(Coord.layer(options))))
        assert.strictEqual(error.argument, argument)
      }
    }))

  it.effect("layerConfig reads the environment", () => {
    const layer = Coord.layerConfig({ endpoints: EffectConfig.string("ETCD_ENDPOINTS") })
    const endpoints = Effect.map(EtcdClient, (client) => client.endpoints)
    const from = (entries: ReadonlyArray<readonly [string, string]>) =>
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map(entries)))
    return Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* endpoints.pipe(Effect.provide(layer), from([["ETCD_ENDPOINTS", "a:1,b"]])),
        ["a:1", "b:2379"]
      )
      const missing = yield* endpoints.pipe(Effect.provide(layer), from([]), Effect.flip)
      assert.isTrue(!("argument" in missing))
      const bad = yield* endpoints.pipe(Effect.provide(layer), from([["ETCD_ENDPOINTS", "ftp://a"]]), Effect.flip)
      assert.isTrue("argument" in bad && bad.argument === "endpoints")
    })
  })
})
