/** Whatever is asked for, and whenever its caller is interrupted: nothing stays behind, and nobody after it is in trouble. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { isDeepStrictEqual } from "node:util"
import * as Config from "../../src/Config.js"
import * as Election from "../../src/Election.js"
import * as InstanceId from "../../src/InstanceId.js"
import * as Lock from "../../src/Lock.js"
import * as ReadWriteLock from "../../src/ReadWriteLock.js"
import * as Registry from "../../src/Registry.js"
import * as Semaphore from "../../src/Semaphore.js"
import * as Session from "../../src/Session.js"
import * as TestEtcd from "../../src/testing.js"
import { interruptedAtEveryStep } from "../support/interruptedAtEveryStep.js"
import { keys } from "../support/memory.js"
import { inVirtualTime, until } from "../support/virtualTime.js"

const services = Layer.mergeAll(
  Lock.layer(),
  Semaphore.layer(),
  ReadWriteLock.layer(),
  Election.layer(),
  InstanceId.layer(),
  Registry.layer(),
  Config.layer()
).pipe(Layer.provideMerge(Session.layer), Layer.provideMerge(TestEtcd.client()), Layer.provideMerge(TestEtcd.layer()))

type Services = Layer.Layer.Success<typeof services>
type Operation = Effect.Effect<unknown, unknown, Services>

const briefly = (held: Effect.Effect<unknown, unknown, Services | Scope.Scope>): Operation =>
  Effect.scoped(Effect.zipRight(held, Effect.yieldNow()))

const body = Effect.yieldNow()
const permits = { permits: 2, limit: 3 }
const leader = { value: "me" }
const service = { id: "1", name: "billing", address: "10.0.0.1", port: 8_000 }
const increment = Config.modify("count", Schema.Number, (count) => Option.getOrElse(count, () => 0) + 1)

/** Those that wait where somebody else holds. */
const waiting: Readonly<Record<string, Operation>> = {
  "Lock.acquire": briefly(Lock.acquire("a")),
  "Lock.acquire with a timeout": briefly(Lock.acquire("a", { timeout: "1 minute" })),
  "Lock.withLock": Lock.withLock("a")(body),
  "Lock.acquireAll": briefly(Lock.acquireAll(["b", "a"])),
  "Lock.withLocks": Lock.withLocks(["a", "b"])(body),
  "Semaphore.acquire": briefly(Semaphore.acquire("a", permits)),
  "Semaphore.withPermits": Semaphore.withPermits("a", permits)(body),
  "ReadWriteLock.read": briefly(ReadWriteLock.read("a")),
  "ReadWriteLock.withWrite": ReadWriteLock.withWrite("a")(body),
  "Election.campaign": briefly(Election.campaign("a", leader)),
  "Election.withLeadership": Election.withLeadership("a", leader)(body)
}

const others: Readonly<Record<string, Operation>> = {
  "Lock.tryAcquire": briefly(Lock.tryAcquire("a")),
  "Lock.withLockIfAvailable": Lock.withLockIfAvailable("a")(body),
  "a release": Effect.scoped(Effect.flatMap(Lock.acquire("a"), ({ release }) => release)),
  "Semaphore.tryAcquire": briefly(Semaphore.tryAcquire("a", permits)),
  "ReadWriteLock.tryRead": briefly(ReadWriteLock.tryRead("a")),
  "InstanceId.allocate": briefly(InstanceId.allocate("billing", { maxId: 4 })),
  "Registry.register": briefly(Registry.register(service)),
  "Config.get": Config.get("setting", Schema.Number),
  "Config.set": Config.set("setting", Schema.Number, 1),
  "Config.compareAndSet": Effect.flatMap(
    Config.getWithVersion("setting", Schema.Number),
    ({ version }) => Config.compareAndSet("setting", Schema.Number, 1, version)
  ),
  "Config.modify": increment,
  "Config.transaction": Config.transaction([Config.put("setting", Schema.Number, 1)])
}

/** Somebody else who holds everything for a moment: that is how long the sleep is. */
const holder = Effect.gen(function*() {
  const ready = yield* Effect.makeLatch()
  yield* Lock.acquire("a").pipe(
    Effect.zipRight(Semaphore.acquire("a", permits)),
    Effect.zipRight(ReadWriteLock.write("a")),
    Effect.zipRight(Election.campaign("a", leader)),
    Effect.zipRight(ready.open),
    Effect.zipRight(Effect.sleep("100 millis")),
    Effect.scoped,
    Effect.forkDaemon
  )
  yield* ready.await
})

/** What stands in etcd beside settings and markers, once all is done. */
const left = Effect.map(keys, (all) => all.filter((key) => !key.startsWith("/config/") && !key.startsWith("/coord/")))

const leavesNothing = (operation: Operation, before: Effect.Effect<void, unknown, Services>) =>
  Effect.gen(function*() {
    // Others use the session: what is left on it would stay.
    yield* Lock.acquire("held")
    yield* Config.set("setting", Schema.Number, 1)
    const there = yield* left
    const { usage } = yield* TestEtcd.TestEtcd
    const afterwards = Effect.gen(function*() {
      yield* until(Effect.map(left, (now) => isDeepStrictEqual(now, there)))
      yield* until(Effect.map(usage, ({ callsInFlight }) => callsInFlight === 0))
      yield* before
    })
    yield* before
    assert.isAbove(yield* interruptedAtEveryStep(operation, afterwards), 10)
    yield* operation
    const sessions = yield* Session.Sessions
    // One that has left many markers is replaced.
    assert.isAtMost((yield* sessions.all).length, 2)
  }).pipe(Effect.scoped, Effect.provide(services), (all) => inVirtualTime(all, "1 hour"))

describe("a caller that is interrupted at any step", () => {
  for (const [name, operation] of Object.entries({ ...waiting, ...others })) {
    it.live(`leaves nothing behind: ${name}`, () => leavesNothing(operation, Effect.void))
  }

  for (const [name, operation] of Object.entries(waiting)) {
    it.live(`leaves nothing behind where somebody else holds: ${name}`, () => leavesNothing(operation, holder))
  }
})
