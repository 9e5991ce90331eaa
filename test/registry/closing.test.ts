/** Registrations that are ended while they begin, or that outlive their registry. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { isDeepStrictEqual } from "node:util"
import * as Registry from "../../src/Registry.js"
import * as TestEtcd from "../../src/testing.js"
import { inVirtualTime, until } from "../support/virtualTime.js"
import { Backend, engine, onEngine, passing, process, running, settle, text } from "./backend.js"

const user = { id: "u1", name: "user", address: "127.0.0.1", port: 8080 }
const other = { ...user, id: "u2" }

const keys = Effect.flatMap(
  TestEtcd.TestEtcd,
  ({ snapshot }) => Effect.map(snapshot, (kvs) => kvs.map(({ key }) => text(key)))
)

describe("a registration that is ended while it begins", () => {
  for (const by of ["unregister", "its scope"] as const) {
    for (const during of ["the grant of its lease", "its put"] as const) {
      onEngine(
        `by ${by}, during ${during}, leaves nothing behind`,
        Effect.gen(function*() {
          const etcd = yield* TestEtcd.TestEtcd
          const { pass } = yield* Backend
          const { register, unregister } = Context.get(yield* process, Registry.Registry)
          // Another one keeps the lease that they share alive.
          const others = during === "its put" ? (yield* passing(register(other))).key : undefined
          yield* etcd.stall({ streams: false })
          const scope = yield* Scope.make()
          const registering = yield* Effect.fork(Scope.extend(register(user, { drain: "5 seconds" }), scope))
          yield* settle
          const ending = yield* Effect.fork(by === "unregister" ? unregister("u1") : Scope.close(scope, Exit.void))
          yield* settle
          yield* etcd.resume
          yield* passing(Fiber.join(ending), "3 seconds")
          const registration = yield* passing(Fiber.join(registering), "3 seconds")
          assert.strictEqual((yield* registration.status)._tag, "Unregistered")
          assert.strictEqual((yield* Effect.flip(registration.update({ v: "2" })))._tag, "NotFound")
          yield* pass("30 seconds")
          assert.deepStrictEqual(yield* keys, others === undefined ? [] : [others])
          yield* passing(Scope.close(scope, Exit.void), "1 seconds")
        })
      )
    }
  }

  onEngine(
    "by nobody, as its caller cannot be interrupted, stands",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { register } = Context.get(yield* process, Registry.Registry)
      yield* etcd.stall({ streams: false })
      const outcome: Array<Exit.Exit<unknown, unknown>> = []
      const registering = yield* Effect.fork(
        Effect.uninterruptible(Effect.map(Effect.exit(register(user)), (exit) => outcome.push(exit)))
      )
      yield* settle
      const interrupting = yield* Effect.fork(Fiber.interrupt(registering))
      yield* settle
      yield* etcd.resume
      yield* passing(Fiber.join(interrupting), "3 seconds")
      assert.deepStrictEqual(outcome.map(Exit.isSuccess), [true])
      assert.deepStrictEqual(yield* keys, ["/services/user/u1"])
    })
  )

  onEngine(
    "does not begin in a scope that is closed",
    Effect.gen(function*() {
      const { pass } = yield* Backend
      const { register } = Context.get(yield* process, Registry.Registry)
      yield* register(other)
      const scope = yield* Scope.make()
      yield* Scope.close(scope, Exit.void)
      const registration = yield* passing(Scope.extend(register(user), scope), "1 seconds")
      assert.strictEqual((yield* registration.status)._tag, "Unregistered")
      yield* pass("5 seconds")
      assert.deepStrictEqual(yield* keys, ["/services/user/u2"])
    })
  )
})

describe("a registration whose end is disturbed", () => {
  for (const drain of ["0 seconds", "2 seconds"] as const) {
    onEngine(
      `is over, although who closes its scope is interrupted (drain: ${drain})`,
      Effect.gen(function*() {
        const etcd = yield* TestEtcd.TestEtcd
        const { pass } = yield* Backend
        const { register } = Context.get(yield* process, Registry.Registry)
        yield* register(other)
        const scope = yield* Scope.make()
        const registration = yield* Scope.extend(register(user, { drain }), scope)
        yield* settle
        yield* etcd.stall({ streams: false })
        const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
        yield* pass("500 millis")
        const interrupting = yield* Effect.fork(Fiber.interrupt(closing))
        yield* settle
        yield* etcd.resume
        yield* passing(Fiber.join(interrupting), "3 seconds")
        assert.strictEqual((yield* registration.status)._tag, "Unregistered")
        assert.deepStrictEqual(yield* keys, ["/services/user/u2"])
      })
    )
  }

  onEngine(
    "does not take the entry of the next one, whose put is not answered yet, for its own that came late",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { pass } = yield* Backend
      const { register } = Context.get(yield* process, Registry.Registry)
      yield* register(other)
      const first = yield* running(register(user))
      yield* pass("1 seconds")
      yield* passing(first.close)
      yield* pass("9500 millis")
      yield* etcd.stall({ streams: false, applied: true })
      const next = yield* Effect.fork(register(user))
      yield* settle
      const revision = yield* etcd.revision
      // The first one looks once more whether something has come late.
      yield* pass("1 seconds")
      yield* etcd.resume
      yield* passing(Fiber.join(next))
      yield* settle
      assert.strictEqual(yield* etcd.revision, revision)
      assert.deepStrictEqual(yield* keys, ["/services/user/u1", "/services/user/u2"])
    })
  )

  it.live("leaves nothing behind, wherever those who begin and end it take turns", () =>
    Effect.gen(function*() {
      for (let ops = 20; ops < 80; ops++) {
        yield* Effect.gen(function*() {
          const etcd = yield* TestEtcd.TestEtcd
          const { register } = Context.get(yield* process, Registry.Registry)
          yield* register(other)
          yield* settle
          const { watchers } = yield* etcd.usage
          const scope = yield* Scope.make()
          const registering = yield* Effect.fork(
            Effect.withMaxOpsBeforeYield(Scope.extend(register(user), scope), ops)
          )
          for (let turn = 0; turn < ops % 7; turn++) yield* Effect.yieldNow()
          yield* Scope.close(scope, Exit.void)
          yield* Fiber.await(registering)
          yield* until(Effect.map(etcd.usage, (now) => now.watchers === watchers))
          yield* until(Effect.map(keys, (now) => isDeepStrictEqual(now, ["/services/user/u2"])))
        }).pipe(Effect.scoped, Effect.provide(engine()), inVirtualTime)
      }
    }))
})

/** Two with one lease would take each other's entry for their own, and write it in turn for ever. */
describe("two registrations of one id that begin at the same time", () => {
  it.live("have a lease each, wherever they take turns", () =>
    Effect.gen(function*() {
      for (let ops = 20; ops < 120; ops++) {
        yield* Effect.gen(function*() {
          const etcd = yield* TestEtcd.TestEtcd
          const { register } = Context.get(yield* process, Registry.Registry)
          const begin = Effect.fork(Effect.withMaxOpsBeforeYield(register(user), ops))
          const [one, other] = yield* Effect.all([begin, begin])
          yield* Fiber.join(one)
          yield* Fiber.join(other)
          assert.lengthOf(yield* etcd.leases, 2, `a turn every ${ops} operations`)
        }).pipe(Effect.scoped, Effect.provide(engine()), inVirtualTime)
      }
    }))
})

describe("a registration that outlives its registry", () => {
  onEngine(
    "is over: it says so, its key is gone, and updates do not wait for ever",
    Effect.gen(function*() {
      const { close, value } = yield* running(process)
      const registration = yield* Context.get(value, Registry.Registry).register(user)
      const statuses = yield* Effect.fork(Stream.runCollect(registration.statuses))
      yield* settle
      yield* passing(close, "1 seconds")
      assert.deepStrictEqual(yield* keys, [])
      const told = yield* passing(Fiber.join(statuses), "1 seconds")
      assert.deepStrictEqual(Array.from(told, ({ _tag }) => _tag), ["Registered", "Unregistered"])
      assert.strictEqual((yield* Effect.flip(registration.update({ v: "2" })))._tag, "NotFound")
      assert.strictEqual((yield* Effect.flip(registration.drain))._tag, "NotFound")
    })
  )

  onEngine(
    "does not hold up the close of the registry while etcd does not answer",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { close, value } = yield* running(process)
      const { register } = Context.get(value, Registry.Registry)
      yield* Effect.forEach(Array.from({ length: 30 }, (_, n) => n), (n) => register({ ...user, id: `u${n}` }))
      yield* etcd.stall()
      yield* passing(close, "5 seconds")
    })
  )
})
