import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as Session from "../../src/Session.js"
import { TestEtcd } from "../../src/testing.js"
import { keys, pass, process, scenario, whileTimePasses } from "../support/memory.js"

const revokes = Effect.flatMap(TestEtcd, (etcd) => Effect.map(etcd.usage, ({ calls }) => calls.leaseRevoke))

describe("closing sessions", () => {
  it.effect("revokes the lease of each once, whoever closes it first", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const scope = yield* Scope.make()
      const services = yield* Layer.buildWithScope(process({ connection: "closing" }), scope)
      const sessions = Context.get(services, Session.Sessions)
      // Its user's scope outlives the services; both end it.
      const user = yield* Scope.make()
      const own = yield* Scope.extend(sessions.get("9 seconds"), user)
      yield* own.lease
      const idle = yield* Effect.scoped(sessions.get("20 seconds"))
      yield* idle.lease
      assert.lengthOf(yield* etcd.leases, 2)
      yield* whileTimePasses(Scope.close(scope, Exit.void))
      yield* Scope.close(user, Exit.void)
      yield* pass("1 minute", "1 second")
      assert.strictEqual(yield* revokes, 2)
      assert.lengthOf(yield* etcd.leases, 0)
    }).pipe(scenario))

  it.effect("ends what they began, although that was where nobody can be interrupted", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const own = yield* Effect.uninterruptible(Scope.extend(Session.make({ ttl: "9 seconds" }), scope))
      yield* own.lease
      const services = yield* Effect.uninterruptible(Layer.buildWithScope(Session.layer, scope))
      const shared = yield* Effect.uninterruptible(
        Scope.extend(Context.get(services, Session.Sessions).get("9 seconds"), scope)
      )
      yield* shared.lease
      yield* whileTimePasses(Scope.close(scope, Exit.void))
      assert.lengthOf(yield* (yield* TestEtcd).leases, 0)
    }).pipe(scenario))

  it.effect("revokes nothing that etcd has ended, and nothing that was never granted", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Session.make({ ttl: "9 seconds" })
        const own = yield* Session.make({ ttl: "9 seconds" })
        yield* etcd.expireLease(yield* own.lease)
        assert.strictEqual((yield* whileTimePasses(Effect.flip(own.expired))).reason, "revoked")
      }))
      assert.strictEqual(yield* revokes, 0)
    }).pipe(scenario))
})

describe("a delete that etcd does not confirm", () => {
  /** The warnings and worse that are logged while a test runs. */
  const logged: Array<string> = []
  const listening = Logger.replace(
    Logger.defaultLogger,
    Logger.make(({ logLevel, message }) => {
      if (logLevel.ordinal >= 30_000) logged.push(String(message))
    })
  )

  it.effect("is done with when its lease is gone: the key went with it", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* Session.make({ ttl: "1 hour" })
      const lease = yield* own.lease
      yield* etcd.loseResponse({ match: ({ operation }) => operation === "txn", times: Infinity })
      const error = yield* whileTimePasses(Effect.flip(Effect.scoped(own.enter({ folder: "/q/", value: "" }))))
      assert.strictEqual(error._tag, "EtcdError")
      // The delete, which creates a key with the lease as well, is tried again in the background.
      yield* etcd.expireLease(lease)
      yield* etcd.clear
      yield* pass("10 seconds")
      assert.deepStrictEqual(yield* keys, [])
      yield* etcd.resetUsage
      yield* pass("1 minute", "1 second")
      assert.strictEqual((yield* etcd.usage).calls.txn, 0)
      assert.deepStrictEqual(logged, [])
    }).pipe(scenario, Effect.provide(listening)))
})
