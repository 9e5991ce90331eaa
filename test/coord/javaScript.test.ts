/** What the compiler refuses, and JavaScript does not: it is refused by name as well, and nothing is passed over. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Config from "../../src/Config.js"
import * as ConfigLayers from "../../src/ConfigLayers.js"
import * as Coord from "../../src/Coord.js"
import * as Election from "../../src/Election.js"
import * as EtcdClient from "../../src/EtcdClient.js"
import type { InvalidArgument } from "../../src/EtcdError.js"
import * as Grpc from "../../src/Grpc.js"
import * as InstanceId from "../../src/InstanceId.js"
import * as Lock from "../../src/Lock.js"
import * as ReadWriteLock from "../../src/ReadWriteLock.js"
import * as Registry from "../../src/Registry.js"
import * as Semaphore from "../../src/Semaphore.js"

type Attempt = Effect.Effect<unknown, { readonly _tag: string; readonly argument?: string }, Coord.Coord | Scope.Scope>

/** As one who has no compiler calls it. */
const untyped = <A>(value: unknown): A => value as A

const service = { id: "1", name: "s", address: "127.0.0.1", port: 8080 }

const names: ReadonlyArray<readonly [what: string, attempt: (name: string) => Attempt, argument: string]> = [
  ["Lock.acquire", (name) => Lock.acquire(name), "key"],
  ["Lock.withLock", (name) => Lock.withLock(name)(Effect.void), "key"],
  ["Lock.withLocks", (name) => Lock.withLocks(["a", name])(Effect.void), "keys"],
  ["Lock.inspect", (name) => Lock.inspect(name), "key"],
  ["Semaphore.acquire", (name) => Semaphore.acquire(name, { limit: 1 }), "name"],
  ["ReadWriteLock.read", (name) => ReadWriteLock.read(name), "name"],
  ["Election.campaign", (name) => Election.campaign(name), "name"],
  ["Election.observe", (name) => Stream.runHead(Election.observe(name)), "name"],
  ["InstanceId.allocate", (name) => InstanceId.allocate(name, { maxId: 1 }), "serviceName"],
  ["Registry.discover", (name) => Registry.discover(name), "name"],
  ["Registry.unregister", (id) => Registry.unregister(id), "id"],
  ["Registry.watch", (name) => Stream.runHead(Registry.watch(name)), "name"],
  ["Registry.instances", (name) => Stream.runHead(Registry.instances(name)), "name"],
  ["Registry.instancesState", (name) => Registry.instancesState(name), "name"],
  ["Grpc.getConnection", (name) => Grpc.getConnection(name), "name"],
  ["Config.get", (key) => Config.get(key, Schema.String), "key"],
  ["Config.cached", (key) => Config.cached(key, Schema.String), "key"],
  ["Config.list", (prefix) => Config.list(prefix, Schema.String), "prefix"],
  ["Config.watch", (key) => Stream.runHead(Config.watch(key, Schema.String)), "key"],
  ["Config.watchPrefix", (prefix) => Stream.runHead(Config.watchPrefix(prefix, Schema.String)), "prefix"]
]

const others: ReadonlyArray<readonly [what: string, attempt: () => Attempt, argument: string]> = [
  ["a time in place of options", () => Lock.acquire("a", untyped("10 seconds")), "options"],
  ["a text in place of keys", () => Lock.withLocks(untyped("jobs"))(Effect.void), "keys"],
  ["null in place of a lock's options", () => Lock.withLock("a", untyped(null))(Effect.void), "options"],
  ["the same of a try", () => Lock.withLockIfAvailable("a", untyped(null))(Effect.void), "options"],
  ["the same of several", () => Lock.withLocks(["a", "b"], untyped(null))(Effect.void), "options"],
  ["the same of several in a scope", () => Lock.acquireAll(["a", "b"], untyped(null)), "options"],
  ["another onLost", () => Lock.withLock("a", { onLost: untyped("leave") })(Effect.void), "onLost"],
  ["a semaphore without options", () => Semaphore.acquire("a", untyped(undefined)), "options"],
  ["an instance ID without options", () => InstanceId.allocate("a", untyped(undefined)), "options"],
  ["a number as a candidate's value", () => Election.campaign("a", { value: untyped(5) }), "value"],
  ["a time in place of a registration's options", () => Registry.register(service, untyped(10)), "options"],
  ["a number as a version", () => Config.compareAndSet("a", Schema.String, "b", untyped(1)), "version"],
  ["a text as a version", () => Config.compareAndSet("a", Schema.String, "b", untyped("1")), "version"],
  ["a number as a revision", () => Config.getAt("a", Schema.String, untyped(1)), "revision"],
  ["a number to roll back to", () => Config.rollback("a", untyped(1)), "version"],
  ["a text in place of layers", () => ConfigLayers.make({ keys: untyped("base"), schema: Schema.Struct({}) }), "keys"]
]

describe("what JavaScript lets pass", () => {
  it.scoped("is refused where a name should be", () =>
    Effect.gen(function*() {
      for (const [what, attempt, argument] of names) {
        for (const name of [undefined, null, 5, {}, Object.create(null), [Symbol("s")]]) {
          const error = yield* Effect.flip(attempt(untyped(name)))
          assert.deepEqual([error._tag, error.argument], ["InvalidArgument", argument], `${what} of ${typeof name}`)
        }
      }
    }).pipe(Effect.provide(Coord.layerMemory)))

  it.scoped("is refused where something else should be, and leaves nothing behind", () =>
    Effect.gen(function*() {
      for (const [what, attempt, argument] of others) {
        const error = yield* Effect.flip(attempt())
        assert.deepEqual([error._tag, error.argument], ["InvalidArgument", argument], what)
      }
      const etcd = yield* EtcdClient.EtcdClient
      assert.strictEqual((yield* etcd.range({ key: "\0", rangeEnd: "\0" })).header.revision, 1n)
    }).pipe(Effect.provide(Coord.layerMemory)))

  it.scoped("is refused where a schema should be", () =>
    Effect.gen(function*() {
      for (const schema of [undefined, "string", {}]) {
        const error = yield* Effect.flip(Config.get("a", untyped<typeof Schema.String>(schema)))
        assert.strictEqual(error._tag, "UnsupportedSchema")
      }
    }).pipe(Effect.provide(Coord.layerMemory)))
})

describe("an option of the whole", () => {
  const refused = (options: Coord.Options) =>
    Effect.map(Effect.flip(Layer.build(Coord.layer(options))), ({ argument, message }) => ({ argument, message }))

  it.scoped("that is a prefix is named as it was given", () =>
    Effect.gen(function*() {
      for (
        const prefix of [
          "lockPrefix",
          "semaphorePrefix",
          "readWriteLockPrefix",
          "servicePrefix",
          "configPrefix",
          "electionPrefix",
          "instancePrefix"
        ] as const
      ) assert.strictEqual((yield* refused({ [prefix]: "no slash" })).argument, prefix)
    }))

  it.scoped("that is a password in the open is refused, and not shown", () =>
    Effect.gen(function*() {
      const { argument, message } = yield* refused({ auth: { username: "u", password: untyped("pa55word") } })
      assert.strictEqual(argument, "auth.password")
      assert.notInclude(message, "pa55word")
      yield* Layer.build(Coord.layer({ auth: { username: "u", password: Redacted.make("pa55word") } }))
    }))

  it.scoped("of another kind is refused", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* refused({ endpoints: untyped(2379) })).argument, "endpoints")
      assert.strictEqual((yield* refused({ endpoints: untyped([2379]) })).argument, "endpoints")
      assert.strictEqual((yield* refused({ namespace: untyped(5) })).argument, "namespace")
      assert.strictEqual((yield* refused({ retry: untyped(5) })).argument, "retry")
      assert.strictEqual((yield* refused({ retry: { maxAttempts: untyped({}) } })).argument, "retry.maxAttempts")
      assert.strictEqual((yield* refused({ keepAlive: untyped(5) })).argument, "keepAlive")
    }))

  it.scoped("is refused where there are none, by each service", () =>
    Effect.gen(function*() {
      const layers: ReadonlyArray<(options: never) => Layer.Layer<never, InvalidArgument, Coord.Coord>> = [
        Coord.layer,
        EtcdClient.layer,
        Lock.layer,
        Semaphore.layer,
        ReadWriteLock.layer,
        Election.layer,
        InstanceId.layer,
        Registry.layer,
        Config.layer
      ]
      for (const layer of layers) {
        const error = yield* Effect.flip(Layer.build(layer(untyped(null))))
        assert.strictEqual(error.argument, "options")
      }
    }).pipe(Effect.provide(Coord.layerMemory)))
})
