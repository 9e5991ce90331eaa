import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Config from "../../src/Config.js"
import * as Coord from "../../src/Coord.js"
import * as Lock from "../../src/Lock.js"
import * as Registry from "../../src/Registry.js"
import { EtcdServer } from "../support/EtcdServer.js"
import * as EtcdServers from "../support/EtcdServer.js"

const coord = Layer.unwrapEffect(Effect.map(EtcdServer, ({ endpoint }) => Coord.layer({ endpoints: endpoint })))

/** `etcdctl lock` on one of our locks, once it has it; it gives it back on SIGINT. */
const etcdctlLock = (key: string, ...flags: ReadonlyArray<string>) =>
  Effect.flatMap(EtcdServer, (etcd) => etcd.startEtcdctl(["lock", ...flags, `/locks/${key}`]))

const waiting = (key: string, count = 1) =>
  Effect.repeat(Lock.inspect(key), { until: ({ waiters }) => waiters.length === count })

describe("with etcdctl, in Go's layout", () => {
  layer(Layer.provideMerge(coord, EtcdServers.layer()), { excludeTestServices: true })((it) => {
    it.effect("a lock that etcdctl holds excludes us", () =>
      Effect.scoped(Effect.gen(function*() {
        const other = yield* etcdctlLock("theirs")
        const theirKey = yield* other.nextLine
        const conflict = yield* Effect.flip(Lock.tryAcquire("theirs"))
        assert.isTrue(conflict._tag === "LockConflict" && conflict.holder === theirKey)
        assert.strictEqual(
          (yield* Effect.flip(Effect.scoped(Lock.acquire("theirs", { timeout: "300 millis" }))))._tag,
          "LockTimeout"
        )
        const mine = yield* Effect.fork(Effect.scoped(Lock.acquire("theirs")))
        const { holder } = yield* waiting("theirs")
        assert.strictEqual(Option.getOrThrow(holder).etcdKey, theirKey)
        assert.isTrue(Option.isNone(yield* Fiber.poll(mine)))
        yield* other.signal("SIGINT")
        const lock = yield* Fiber.join(mine)
        assert.isTrue(lock.fencingToken > Option.getOrThrow(holder).fencingToken)
      })))

    it.effect("a lock that we hold excludes etcdctl", () =>
      Effect.scoped(Effect.gen(function*() {
        const scope = yield* Scope.make()
        const lock = yield* Scope.extend(Lock.acquire("ours"), scope)
        const other = yield* etcdctlLock("ours")
        const { holder, waiters } = yield* waiting("ours")
        assert.strictEqual(Option.getOrThrow(holder).etcdKey, lock.etcdKey)
        assert.isTrue(Option.isSome(Option.getOrThrow(holder).owner))
        assert.isTrue(Option.isNone(waiters[0].owner), "etcdctl's entries say nothing of their owner")
        const printed = yield* Effect.fork(other.nextLine)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(yield* Fiber.join(printed), waiters[0].etcdKey)
        assert.strictEqual((yield* Effect.flip(Lock.tryAcquire("ours")))._tag, "LockConflict")
      })))

    it.effect("waits between two of us, in the order of arrival", () =>
      Effect.scoped(Effect.gen(function*() {
        const scope = yield* Scope.make()
        yield* Scope.extend(Lock.acquire("between"), scope)
        const other = yield* etcdctlLock("between")
        const { waiters } = yield* waiting("between")
        const second = yield* Effect.fork(Effect.scoped(Lock.acquire("between")))
        yield* waiting("between", 2)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(yield* other.nextLine, waiters[0].etcdKey)
        assert.isTrue(Option.isNone(yield* Fiber.poll(second)))
        yield* other.signal("SIGINT")
        assert.isTrue((yield* Fiber.join(second)).fencingToken > waiters[0].fencingToken)
      })))

    it.effect("a lock of an etcdctl that is killed is ours when its lease ends", () =>
      Effect.scoped(Effect.gen(function*() {
        const other = yield* etcdctlLock("killed", "--ttl=5")
        yield* other.nextLine
        const mine = yield* Effect.fork(Effect.scoped(Lock.acquire("killed")))
        yield* waiting("killed")
        yield* other.signal("SIGKILL")
        yield* Fiber.join(mine)
      })))

    it.effect("a name below another is another lock, on our side", () =>
      Effect.scoped(Effect.gen(function*() {
        const other = yield* etcdctlLock("a/b")
        yield* other.nextLine
        yield* Lock.tryAcquire("a")
        assert.strictEqual((yield* Effect.flip(Lock.tryAcquire("a/b")))._tag, "LockConflict")
        assert.strictEqual(
          (yield* Effect.flip(Effect.scoped(Lock.acquire("a", { timeout: "300 millis" }))))._tag,
          "LockTimeout",
          "it is held by us"
        )
      })))

    it.effect("entries and settings are what Go writes and reads", () =>
      Effect.scoped(Effect.gen(function*() {
        const etcd = yield* EtcdServer
        const read = (key: string) =>
          Effect.map(etcd.etcdctl(["get", key, "--print-value-only"]), (text) => text.replace(/\n$/, ""))
        yield* Registry.register({
          id: "u1",
          name: "user",
          address: "127.0.0.1",
          port: 8080,
          metadata: { version: "1.0.0" }
        })
        assert.strictEqual(
          yield* read("/services/user/u1"),
          `{"id":"u1","name":"user","address":"127.0.0.1","port":8080,"metadata":{"version":"1.0.0"}}`
        )
        yield* etcd.etcdctl([
          "put",
          "/services/user/u2",
          `{"id":"u2","name":"user","address":"10.0.0.1","port":80}`
        ])
        assert.deepStrictEqual((yield* Registry.discover("user")).map(({ id }) => id), ["u1", "u2"])
        yield* Config.set("app/name", Schema.String, "plain")
        assert.strictEqual(yield* read("/config/app/name"), "plain")
        yield* Config.set("app/limits", Schema.Struct({ max: Schema.Number }), { max: 3 })
        assert.strictEqual(yield* read("/config/app/limits"), `{"max":3}`)
        yield* etcd.etcdctl(["put", "/config/app/digits", "123"])
        assert.strictEqual(yield* Config.get("app/digits", Schema.String), "123")
        assert.strictEqual(yield* Config.get("app/digits", Schema.Number), 123)
      })))
  })
})
