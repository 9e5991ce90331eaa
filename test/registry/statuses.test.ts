/** What a registration tells of itself: each change of its state once, in words for a person. */
import { assert, describe } from "@effect/vitest"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Stream from "effect/Stream"
import * as Registry from "../../src/Registry.js"
import * as TestEtcd from "../../src/testing.js"
import { Backend, onEngine, passing, process, until } from "./backend.js"

const user = { id: "u1", name: "user", address: "127.0.0.1", port: 8080 }
const key = "/services/user/u1"

/** A registration, with all that it tells of itself. */
const told = (ttl: Duration.DurationInput = "10 seconds") =>
  Effect.gen(function*() {
    const { register } = Context.get(yield* process, Registry.Registry)
    const registration = yield* register(user, { ttl })
    const statuses: Array<Registry.RegistrationStatus> = []
    yield* Effect.forkScoped(
      Stream.runForEach(registration.statuses, (status) => Effect.sync(() => statuses.push(status)))
    )
    yield* pass(2)
    return { registration, statuses }
  })

/** In steps of a second. */
const pass = (seconds: number) => Effect.flatMap(Backend, ({ pass }) => Effect.repeatN(pass("1 seconds"), seconds - 1))

const isRegistered = (registration: Registry.Registration) =>
  until("registered", Effect.map(registration.status, ({ _tag }) => _tag === "Registered"), "20 seconds")

const summary = (status: Registry.RegistrationStatus): string =>
  status._tag === "Reconnecting" ? status.reason.replace(/:.*/, "") : status._tag

const sinceOf = (status: Registry.RegistrationStatus) => status._tag === "Reconnecting" ? status.sinceMillis : undefined

describe("the statuses of a registration", () => {
  for (const how of ["refuses connections", "does not answer"] as const) {
    onEngine(
      `tell an outage once, and the end of the lease once, however long etcd ${how}`,
      Effect.gen(function*() {
        const etcd = yield* TestEtcd.TestEtcd
        const { registration, statuses } = yield* told()
        yield* how === "does not answer" ? etcd.stall() : etcd.down
        yield* pass(180)
        assert.deepStrictEqual(statuses.map(({ _tag }) => _tag), ["Registered", "Reconnecting", "Reconnecting"])
        const [, away, over] = statuses
        assert.strictEqual(sinceOf(away), sinceOf(over))
        assert.isTrue(away._tag === "Reconnecting" && over._tag === "Reconnecting")
        if (away._tag !== "Reconnecting" || over._tag !== "Reconnecting") return
        assert.match(away.reason, /^etcd leaseKeepAlive at memory:etcd failed with/)
        assert.strictEqual(over.reason, `the lease is over: ${away.reason}`)
        assert.notMatch(away.reason, /\d\.\d/, "no fractions of milliseconds")
        yield* Effect.all([etcd.up, etcd.resume])
        yield* isRegistered(registration)
        assert.deepStrictEqual(statuses.slice(3).map(({ _tag }) => _tag), ["Registered"])
      })
    )
  }

  onEngine(
    "tell a short outage once, and count it from its beginning, although an update fails meanwhile",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { registration, statuses } = yield* told("1 minute")
      yield* etcd.down
      yield* pass(20)
      const since = sinceOf(yield* registration.status)
      assert.isDefined(since)
      yield* Effect.flip(passing(registration.update({ v: "2" })))
      assert.strictEqual(sinceOf(yield* registration.status), since)
      yield* etcd.up
      yield* isRegistered(registration)
      assert.deepStrictEqual(statuses.map(({ _tag }) => _tag), ["Registered", "Reconnecting", "Registered"])
    })
  )

  onEngine(
    "tell each reason once where etcd is away and refuses by turns",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { registration, statuses } = yield* told()
      yield* etcd.deleteKey(key)
      for (let turn = 0; turn < 10; turn++) {
        yield* etcd.refuse(TestEtcd.refusals.noSpace, {
          match: ({ operation }) => operation === "txn",
          times: Infinity
        })
        yield* pass(6)
        yield* etcd.clear
        yield* etcd.loseRequest({ match: ({ operation }) => operation === "txn", times: Infinity })
        yield* pass(6)
        yield* etcd.clear
        yield* etcd.deleteKey(key)
      }
      const reasons = statuses.filter(({ _tag }) => _tag === "Reconnecting").map(summary)
      assert.isAtMost(reasons.length, 3 * statuses.filter(({ _tag }) => _tag === "Registered").length)
      yield* isRegistered(registration)
    })
  )

  onEngine(
    "and the log tell of one loss when etcd comes back without its data, and not that somebody wrote over the entry",
    Effect.gen(function*() {
      const { startWithoutData, stop } = yield* Backend
      const etcd = yield* TestEtcd.TestEtcd
      const warnings: Array<string> = []
      const listening = Logger.replace(
        Logger.defaultLogger,
        Logger.make(({ logLevel, message }) => {
          if (logLevel._tag === "Warning") warnings.push(String(message))
        })
      )
      yield* Effect.gen(function*() {
        for (let index = 0; index < 50; index++) yield* etcd.putKey("/other", String(index))
        const { registration, statuses } = yield* told()
        yield* stop
        yield* pass(20)
        yield* startWithoutData
        yield* isRegistered(registration)
        yield* pass(20)
        assert.deepStrictEqual(statuses.map(summary), [
          "Registered",
          "etcd leaseKeepAlive at memory",
          "the lease is over",
          "Registered"
        ])
        assert.deepStrictEqual(warnings.filter((text) => text.startsWith("registration")), [
          "registration of user/u1 lost, registering again: the lease is over"
        ])
        // What is really written over is still noticed.
        yield* etcd.putKey(key, "{}")
        yield* pass(5)
        assert.include(warnings.at(-1), "the entry was overwritten")
        assert.strictEqual((yield* registration.status)._tag, "Registered")
      }).pipe(Effect.provide(listening))
    })
  )
})
