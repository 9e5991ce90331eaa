/** Those who still use the services when they are closed are told, and leave nothing behind: nobody waits for ever. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Config from "../../src/Config.js"
import * as Election from "../../src/Election.js"
import type { EtcdClient } from "../../src/EtcdClient.js"
import * as Lock from "../../src/Lock.js"
import * as Registry from "../../src/Registry.js"
import * as Session from "../../src/Session.js"
import * as TestEtcd from "../../src/testing.js"
import { settle } from "../support/memory.js"
import { inVirtualTime, until } from "../support/virtualTime.js"

const services = Layer.mergeAll(Lock.layer(), Election.layer(), Registry.layer(), Config.layer()).pipe(
  Layer.provideMerge(Session.layer)
)

type Services = Layer.Layer.Success<typeof services> | EtcdClient

const uses: Readonly<Record<string, Effect.Effect<unknown, unknown, Services>>> = {
  "waits for a lock": Effect.scoped(Lock.acquire("taken")),
  "waits for several locks": Effect.scoped(Lock.acquireAll(["taken", "free"])),
  "holds a lock": Lock.withLock("own")(Effect.never),
  "leads": Election.withLeadership("own")(Effect.never),
  "wants to lead": Election.withLeadership("taken")(Effect.never),
  "watches a setting": Stream.runDrain(Config.watch("setting", Schema.Number)),
  "follows a service": Stream.runDrain(Registry.instances("billing")),
  "observes an election": Stream.runDrain(Election.observe("taken"))
}

/** @param stalled whether etcd answers nothing from the beginning */
const isTold = (use: Effect.Effect<unknown, unknown, Services>, stalled: boolean) =>
  Effect.gen(function*() {
    const etcd = yield* TestEtcd.TestEtcd
    const others = yield* Layer.build(Layer.provide(services, TestEtcd.client()))
    yield* Lock.acquire("taken").pipe(Effect.zipRight(Election.campaign("taken")), Effect.provide(others))
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(Layer.provideMerge(services, TestEtcd.client()), scope)
    if (stalled) yield* etcd.stall()
    const using = yield* Effect.forkDaemon(Effect.provide(use, context))
    yield* settle
    assert.strictEqual(using.unsafePoll(), null)
    yield* Scope.close(scope, Exit.void)
    const exit = yield* Effect.timeout(Fiber.await(using), "10 seconds")
    assert.isTrue(Exit.isFailure(exit))
    yield* etcd.resume
    // The lease of the others is left.
    yield* until(Effect.map(etcd.leases, ({ length }) => length === 1))
  }).pipe(Effect.scoped, Effect.provide(TestEtcd.layer()), inVirtualTime)

describe("who still uses services that are closed", () => {
  for (const [name, use] of Object.entries(uses)) {
    it.live(`is told: ${name}`, () => isTold(use, false))
    it.live(`is told while etcd does not answer: ${name}`, () => isTold(use, true))
  }

  it.live("gets no session that nobody would end", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const client = yield* Layer.build(TestEtcd.client())
      const scope = yield* Scope.make()
      const closed = yield* Effect.provide(Layer.buildWithScope(services, scope), client)
      yield* Scope.close(scope, Exit.void)
      const exit = yield* Effect.exit(Effect.scoped(Effect.provide(Lock.acquire("a"), closed)))
      assert.isTrue(Exit.isInterrupted(exit))
      assert.lengthOf(yield* etcd.leases, 0)
    }).pipe(Effect.scoped, Effect.provide(TestEtcd.layer()), inVirtualTime))
})

describe("services that were built where nobody can be interrupted", () => {
  it.live("close all the same", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const scope = yield* Scope.make()
      const all = Layer.provideMerge(services, TestEtcd.client())
      const context = yield* Effect.uninterruptible(Layer.buildWithScope(all, scope))
      yield* Lock.acquire("a").pipe(
        Effect.zipRight(Stream.runHead(Config.watch("setting", Schema.Number))),
        Effect.provide(context),
        Effect.timeoutOption("1 second"),
        Effect.scoped
      )
      const closing = yield* Effect.forkDaemon(Scope.close(scope, Exit.void))
      yield* Effect.timeout(Fiber.await(closing), "10 seconds")
      assert.lengthOf(yield* etcd.leases, 0)
    }).pipe(Effect.scoped, Effect.provide(TestEtcd.layer()), inVirtualTime))
})
