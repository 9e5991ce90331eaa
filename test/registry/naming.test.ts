/** The format of etcd's own packages for gRPC: what Go's `endpoints.Manager` writes and lists. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Registry from "../../src/Registry.js"
import * as Session from "../../src/Session.js"
import * as TestEtcd from "../../src/testing.js"
import { Backend, engine, passing, running, settle, text, until } from "./backend.js"

const registry = (options: Registry.Options = {}) =>
  Effect.flatMap(Backend, ({ client }) =>
    Effect.map(
      Layer.build(
        Registry.layer({ format: "etcd-naming", ...options }).pipe(
          Layer.provideMerge(Session.layer),
          Layer.provideMerge(client)
        )
      ),
      (process) => Context.get(process, Registry.Registry)
    ))

const entries = Effect.flatMap(
  TestEtcd.TestEtcd,
  ({ snapshot }) =>
    Effect.map(snapshot, (kvs) => Object.fromEntries(kvs.map(({ key, value }) => [text(key), text(value)])))
)

describe("a registry in etcd's naming format", () => {
  it.effect("writes what Go's resolver reads", () =>
    Effect.gen(function*() {
      const { register } = yield* registry()
      const plain = yield* running(register({ id: "e1", name: "foo/bar", address: "127.0.0.1", port: 8080 }))
      yield* register({
        id: "e2",
        name: "foo/bar",
        address: "::1",
        port: 1,
        metadata: { v: "1", "10": "x" },
        weight: 2
      })
      yield* register({ id: "e3", name: "foo/bar", address: "[::1]", port: 2 })
      assert.deepStrictEqual(yield* entries, {
        "foo/bar/e1": "{\"Op\":0,\"Addr\":\"127.0.0.1:8080\",\"Metadata\":null}",
        "foo/bar/e2": "{\"Op\":0,\"Addr\":\"[::1]:1\",\"Metadata\":{\"10\":\"x\",\"coord.weight\":\"2\",\"v\":\"1\"}}",
        "foo/bar/e3": "{\"Op\":0,\"Addr\":\"[::1]:2\",\"Metadata\":null}"
      })
      // Kept like any other.
      const etcd = yield* TestEtcd.TestEtcd
      yield* settle
      yield* etcd.deleteKey("foo/bar/e1")
      yield* until("back", Effect.map(entries, (all) => "foo/bar/e1" in all))
      yield* passing(plain.close)
      assert.deepStrictEqual(Object.keys(yield* entries), ["foo/bar/e2", "foo/bar/e3"])
    }).pipe(Effect.scoped, Effect.provide(engine())))

  it.effect("reads what Go's manager writes, anywhere below the target", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { discover, follow, services, unregister } = yield* registry()
      yield* etcd.putKey("foo/a", "{\"Op\":0,\"Addr\":\"h:1\",\"Metadata\":null}")
      yield* etcd.putKey("foo/b/c", "{\"Op\":0,\"Addr\":\"[::1]:2\",\"Metadata\":{\"n\":3,\"t\":\"x\"}}")
      yield* etcd.putKey("foo/d", "{\"Op\":0,\"Addr\":\"h:3\",\"Metadata\":\"text\"}")
      yield* etcd.putKey("foo/e", "{\"Op\":0,\"Addr\":\"no port\",\"Metadata\":null}")
      const deep = `${"[".repeat(20_000)}${"]".repeat(20_000)}`
      yield* etcd.putKey("foo/g", `{"Op":0,"Addr":"h:1","Metadata":{"n":${deep}}}`)
      yield* etcd.putKey("foobar/f", "{\"Op\":0,\"Addr\":\"h:4\"}")
      yield* etcd.putKey("/locks/a/1", "")
      const expected = [
        { id: "a", name: "foo", address: "h", port: 1, metadata: {} },
        { id: "b/c", name: "foo", address: "::1", port: 2, metadata: { n: "3", t: "x" } },
        { id: "d", name: "foo", address: "h", port: 3, metadata: { Metadata: "text" } }
      ]
      assert.deepStrictEqual(yield* discover("foo"), expected)
      const followed = yield* follow("foo")
      yield* passing(followed.ready)
      assert.deepStrictEqual(followed.current()?.services, expected)
      assert.deepStrictEqual(yield* services, ["foo", "foo/b", "foobar"])
      yield* unregister("a")
      assert.notProperty(yield* entries, "foo/a")
    }).pipe(Effect.scoped, Effect.provide(engine())))

  it.effect("stands below a prefix, if there is one, and refuses others", () =>
    Effect.gen(function*() {
      const { register, services } = yield* registry({ prefix: "/grpc" })
      yield* register({ id: "e1", name: "foo", address: "h", port: 1 })
      assert.deepStrictEqual(Object.keys(yield* entries), ["/grpc/foo/e1"])
      assert.deepStrictEqual(yield* services, ["foo"])
      assert.strictEqual((yield* Effect.flip(registry({ prefix: "a//b" }))).argument, "prefix")
      const format = yield* Effect.flip(registry({ format: "other" as "coord" }))
      assert.strictEqual(format.argument, "format")
    }).pipe(Effect.scoped, Effect.provide(engine())))
})
