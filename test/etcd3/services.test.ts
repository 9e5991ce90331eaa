import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Etcd3 } from "etcd3"
import * as Config from "../../src/Config.js"
import * as Coord from "../../src/Coord.js"
import { instanceOptions, layerEtcd3 } from "../../src/etcd3.js"
import * as Lock from "../../src/Lock.js"
import * as Registry from "../../src/Registry.js"
import { bounded, failure, until } from "../grpc/support.js"
import * as EtcdServer from "../support/EtcdServer.js"
import * as TcpProxy from "../support/TcpProxy.js"
import { applicationReads, instance } from "./support.js"

const etcd = layer(EtcdServer.layer({ version: "3.5" }), { excludeTestServices: true })

/** All services over an instance, as in one process. */
const services = (application: Etcd3) => Layer.build(Layer.provideMerge(Coord.layerServices(), layerEtcd3(application)))

etcd("the services over etcd3", (it) => {
  it.scoped("locks: one holder at a time, in order, and the loss is known in time", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* EtcdServer.EtcdServer
      const proxy = yield* TcpProxy.make(endpoint)
      const one = yield* services(yield* instance(proxy.endpoint))
      const two = yield* services(yield* instance(endpoint))

      let inside = 0
      let most = 0
      const work = Effect.gen(function*() {
        most = Math.max(most, ++inside)
        // Long enough for somebody else to come in, if that were possible: a call to etcd.
        yield* Lock.inspect("counted")
        inside--
      })
      yield* Effect.forEach(
        Array.from({ length: 40 }, (_, index) => index % 2 === 0 ? one : two),
        (process) => Effect.provide(Lock.withLock("counted")(work), process),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(most, 1)

      const held = yield* Deferred.make<void>()
      const holder = yield* Effect.fork(Effect.provide(
        Effect.either(
          Lock.withLock("lost", { ttl: "3 seconds" })(Effect.zipRight(Deferred.succeed(held, undefined), Effect.never))
        ),
        one
      ))
      yield* Deferred.await(held)
      const waiter = yield* Effect.fork(Effect.provide(
        Lock.withLock("lost", { ttl: "3 seconds" })(Fiber.poll(holder)),
        two
      ))
      yield* proxy.blackHole
      const end = yield* Fiber.join(waiter)
      // The first one had stopped by the time the second one began.
      assert.isTrue(Option.isSome(end) && Exit.isSuccess(end.value))
      const lost = yield* Fiber.join(holder)
      assert.isTrue(lost._tag === "Left" && lost.left._tag === "LockExpired")
    }))

  it.scoped("the registry and configuration", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* EtcdServer.EtcdServer
      const application = yield* instance(endpoint)
      const process = yield* services(application)
      yield* Effect.gen(function*() {
        const scope = yield* Scope.make()
        yield* Scope.extend(Registry.register({ id: "1", name: "user", address: "10.0.0.7", port: 8080 }), scope)
        assert.deepStrictEqual((yield* Registry.discover("user")).map(({ address }) => address), ["10.0.0.7"])
        const gone = yield* Effect.fork(
          Stream.runHead(Stream.filter(Registry.instances("user"), (instances) => instances.length === 0))
        )
        yield* Scope.close(scope, Exit.void)
        yield* bounded(Fiber.join(gone))

        yield* Config.set("limit", Schema.Int, 1)
        const { version } = yield* Config.getWithVersion("limit", Schema.Int)
        yield* Config.compareAndSet("limit", Schema.Int, 2, version)
        const conflict = yield* failure(Config.compareAndSet("limit", Schema.Int, 3, version))
        assert.strictEqual(conflict._tag, "VersionConflict")
        assert.strictEqual(yield* applicationReads(application, "/config/limit"), "2")

        const health = yield* Coord.health()
        assert.isTrue(health.healthy)
        assert.deepStrictEqual(health.endpoints.map(({ _tag, endpoint }) => [_tag, endpoint]), [["Up", "etcd3"]])
      }).pipe(Effect.provide(process))
    }))

  it.scoped("over an instance that belongs to the layer: it is closed last", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* EtcdServer.EtcdServer
      const proxy = yield* TcpProxy.make(endpoint)
      const made: Array<Etcd3> = []
      const live = Layer.provideMerge(
        Coord.layerServices(),
        layerEtcd3(Effect.acquireRelease(
          Effect.sync(() => {
            made.push(new Etcd3({ hosts: `http://${proxy.endpoint}`, ...instanceOptions }))
            return made[0]
          }),
          (application) => Effect.sync(() => application.close())
        ))
      )
      yield* Effect.provide(Effect.scoped(Lock.acquire("closed")), live)
      assert.lengthOf(made, 1)
      // With nothing left behind: the lock was released over it.
      yield* until("the end of the connection", Effect.map(proxy.open, (count) => count === 0))
      const other = yield* services(yield* instance(endpoint))
      yield* bounded(Effect.provide(Effect.scoped(Lock.tryAcquire("closed")), other))
      const error = yield* failure(Effect.scoped(Layer.build(layerEtcd3(Effect.fail("no instance" as const)))))
      assert.strictEqual(error, "no instance")
      assert.isFalse(Context.isContext(error))
    }))
})
