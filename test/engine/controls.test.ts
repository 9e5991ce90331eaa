import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Config from "../../src/Config.js"
import * as Coord from "../../src/Coord.js"
import * as Lock from "../../src/Lock.js"
import * as Registry from "../../src/Registry.js"
import * as TestEtcd from "../../src/testing.js"
import { call, connect, create, failure, keysOf, openLease, openWatch, outcome, settle, show } from "./support.js"

describe("etcd itself", () => {
  it.scoped("tells its status", () =>
    Effect.gen(function*() {
      const { client } = yield* connect({ version: "3.4.23" })
      const status = yield* client.status(client.endpoints[0] ?? "", call)
      assert.strictEqual(status.version, "3.4.23")
      assert.strictEqual(status.leader, status.header.memberId)
    }))

  it.scoped("restarts with its data", () =>
    Effect.gen(function*() {
      const { client, etcd, get, put } = yield* connect()
      const watch = yield* openWatch(client)
      const before = yield* put("a")
      yield* etcd.restart
      yield* watch.ended
      const after = yield* get("a")
      assert.deepStrictEqual([after.count, after.header.revision], [1n, 2n])
      assert.isTrue(after.header.raftTerm > before.header.raftTerm)
    }))

  it.scoped("restarts without its data", () =>
    Effect.gen(function*() {
      const { client, etcd, get, put } = yield* connect()
      const watch = yield* openWatch(client)
      yield* client.leaseGrant({ id: 1n, ttl: 10n }, call)
      yield* put("a")
      yield* put("a")
      yield* etcd.compact()
      yield* etcd.restart
      const before = yield* get("a")
      yield* etcd.restartWithoutData
      yield* watch.ended
      const after = yield* get("a")
      assert.deepStrictEqual([after.count, after.header.revision, yield* etcd.compactRevision], [0n, 1n, -1n])
      assert.deepStrictEqual(yield* etcd.leases, [])
      assert.deepStrictEqual(
        [after.header.clusterId, after.header.memberId],
        [before.header.clusterId, before.header.memberId]
      )
      assert.isTrue(after.header.raftTerm < before.header.raftTerm)
      // a watch at a revision of the old history is accepted, and waits
      const again = yield* openWatch(client)
      yield* again.send(create("a", { startRevision: 4n }))
      assert.strictEqual((yield* again.next).header.revision, 1n)
      yield* put("a")
      assert.deepStrictEqual(yield* again.rest, [])
    }))

  it.scoped("elects another leader", () =>
    Effect.gen(function*() {
      const { client, etcd, get, put } = yield* connect()
      const watch = yield* openWatch(client)
      yield* put("a")
      const writing = yield* Effect.fork(failure(put("b")))
      yield* Effect.yieldNow()
      yield* etcd.failOver
      assert.deepStrictEqual(outcome(yield* Fiber.join(writing)), ["Unavailable", true])
      assert.strictEqual((yield* watch.ended).detail, "etcdserver: no leader")
      assert.strictEqual((yield* get("a")).header.raftTerm, 3n)
    }))

  it.scoped("is changed by hand", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* connect()
      const watch = yield* openWatch(client)
      yield* watch.send(create("a"))
      yield* watch.next
      assert.strictEqual(yield* etcd.putKey("a", "1"), 2n)
      assert.isTrue(yield* etcd.deleteKey("a"))
      assert.isFalse(yield* etcd.deleteKey("a"))
      yield* etcd.compact()
      yield* etcd.compact()
      assert.deepStrictEqual((yield* watch.rest).flatMap(show), ["+a=1@2", "-a@3"])
      assert.deepStrictEqual([yield* etcd.revision, yield* etcd.compactRevision], [3n, 3n])
    }))

  it.scoped("counts what it is asked", () =>
    Effect.gen(function*() {
      const { client, etcd, get, put } = yield* connect()
      const other = yield* etcd.transport()
      yield* put("a")
      yield* get("a")
      yield* other.range({ key: "a" }, call)
      const watch = yield* openWatch(client)
      const lease = yield* openLease(client)
      yield* watch.send(create("a"))
      yield* lease.send(1n)
      yield* settle
      assert.deepInclude((yield* etcd.usage).calls, { put: 1, range: 2, watch: 1, leaseKeepAlive: 1, txn: 0 })
      assert.deepInclude((yield* etcd.connection("a").usage).calls, { put: 1, range: 1 })
      assert.deepInclude(yield* etcd.usage, { watchStreams: 1, leaseStreams: 1, watchers: 1 })
      yield* etcd.resetUsage
      assert.deepInclude((yield* etcd.usage).calls, { put: 0, range: 0 })
      assert.deepInclude((yield* etcd.connection("a").usage).calls, { put: 1 })
    }))
})

describe("callers", () => {
  it.scoped("leave, and their request arrives all the same", () =>
    Effect.gen(function*() {
      const { etcd, put } = yield* connect()
      const writing = yield* Effect.fork(put("a"))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(writing)
      yield* settle
      assert.deepStrictEqual(keysOf(yield* etcd.snapshot), ["a"])
      assert.strictEqual((yield* etcd.usage).callsInFlight, 0)
    }))

  it.scoped("find a closed connection closed", () =>
    Effect.gen(function*() {
      const { etcd } = yield* connect()
      const scope = yield* Scope.make()
      const client = yield* Scope.extend(etcd.transport(), scope)
      yield* etcd.stall()
      const writing = yield* Effect.fork(failure(client.put({ key: "a", value: "" }, call)))
      yield* settle
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(outcome(yield* Fiber.join(writing)), ["Unavailable", true])
      assert.deepStrictEqual(outcome(yield* failure(client.put({ key: "a", value: "" }, call))), ["Unavailable", false])
      const stream = yield* openWatch(client)
      yield* stream.ended
    }))

  it.effect("do not wait for an engine that is gone", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const etcd = yield* Scope.extend(TestEtcd.make(), scope)
      const outer = yield* Scope.make()
      const client = yield* Scope.extend(etcd.transport(), outer)
      yield* etcd.stall()
      const started = yield* Deferred.make<void>()
      const writing = yield* Effect.fork(
        Effect.zipRight(Deferred.succeed(started, undefined), failure(client.put({ key: "a", value: "" }, call)))
      )
      yield* Deferred.await(started)
      yield* settle
      const watch = yield* Scope.extend(openWatch(client), outer)
      const lease = yield* Scope.extend(openLease(client), outer)
      yield* watch.send(create("a"))
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(outcome(yield* Fiber.join(writing)), ["Unavailable", true])
      // what comes later is refused for good: a client that tried again would wait for a time that does not pass
      const errors = [
        yield* failure(client.range({ key: "a" }, call)),
        yield* watch.ended,
        yield* lease.ended,
        yield* Effect.flatMap(Scope.extend(openWatch(client), outer), ({ ended }) => ended),
        yield* Effect.flatMap(Scope.extend(etcd.transport(), outer), (late) =>
          failure(late.put({ key: "a", value: "" }, call)))
      ]
      for (const error of errors) {
        assert.deepStrictEqual(outcome(error), ["InvalidRequest", false])
        assert.match(error.message, /the etcd of this test is closed/)
      }
      yield* Scope.close(outer, Exit.void)
    }))

  const troubles: Record<string, (etcd: TestEtcd.Engine) => Effect.Effect<void>> = {
    "is well": () => Effect.void,
    "is down": ({ down }) => down,
    "does not answer": ({ stall }) => stall()
  }
  for (const [how, hurt] of Object.entries(troubles)) {
    it.effect(`that are closed after an engine that ${how} do not wait, though time stands still`, () =>
      Effect.gen(function*() {
        const engine = yield* Scope.make()
        const outer = yield* Scope.make()
        const etcd = yield* Scope.extend(TestEtcd.make(), engine)
        const process = yield* Layer.buildWithScope(
          Layer.provide(
            Layer.provide(Coord.layerServices(), TestEtcd.client()),
            Layer.succeed(TestEtcd.TestEtcd, etcd)
          ),
          outer
        )
        yield* Effect.gen(function*() {
          yield* Lock.acquire("a")
          yield* Effect.forkScoped(Lock.acquire("a"))
          yield* Registry.register({ id: "u1", name: "user", address: "127.0.0.1", port: 8080 })
          yield* Config.compareAndSet("a", Schema.Int, 1, 0n)
          yield* Effect.forkScoped(Stream.runDrain(Config.watch("a", Schema.Int)))
        }).pipe(Effect.provide(process), Scope.extend(outer))
        yield* settle
        assert.isAbove((yield* etcd.usage).watchers, 2)
        yield* hurt(etcd)
        yield* Scope.close(engine, Exit.void)
        yield* Scope.close(outer, Exit.void)
      }))
  }

  it.effect("get the etcd of a layer", () =>
    Effect.scoped(Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const client = yield* etcd.transport({ name: "mine" })
      yield* client.put({ key: "a", value: "1" }, call)
      assert.strictEqual(yield* etcd.revision, 2n)
      assert.strictEqual((yield* etcd.connection("mine").usage).calls.put, 1)
    })).pipe(Effect.provide(TestEtcd.layer())))
})
