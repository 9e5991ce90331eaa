/** The local copy that balancers read, and what it makes of accidents. */
import { assert, describe } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Copy from "../../src/internal/registry/copy.js"
import * as Entry from "../../src/internal/registry/entry.js"
import * as Key from "../../src/Key.js"
import * as Mirror from "../../src/Mirror.js"
import * as Registry from "../../src/Registry.js"
import * as Session from "../../src/Session.js"
import * as TestEtcd from "../../src/testing.js"
import { Backend, onEngine, passing, process, running, settle, until } from "./backend.js"

const registry = Effect.map(process, (process) => Context.get(process, Registry.Registry))

const withGrace = (grace: number) =>
  Effect.flatMap(Backend, ({ client }) =>
    Effect.map(
      Layer.build(Registry.layer({ grace }).pipe(Layer.provideMerge(Session.layer), Layer.provideMerge(client))),
      (process) => Context.get(process, Registry.Registry)
    ))

const instance = (id: string, metadata = {}) => ({ id, name: "user", address: "h", port: 1, metadata })
const put = (id: string, metadata = {}) =>
  Effect.flatMap(
    TestEtcd.TestEtcd,
    ({ putKey }) => putKey(`/services/user/${id}`, JSON.stringify(instance(id, metadata)))
  )
const remove = (id: string) => Effect.flatMap(TestEtcd.TestEtcd, ({ deleteKey }) => deleteKey(`/services/user/${id}`))

const ids = ({ current }: Registry.Followed) => current()?.services.map(({ id }) => id).join()

/** Everything a copy has shown, in order. */
const history = (followed: Registry.Followed): ReadonlyArray<string | undefined> => {
  const all: Array<string | undefined> = []
  followed.onChange(() => {
    if (all.at(-1) !== ids(followed)) all.push(ids(followed))
  })
  return all
}

describe("a followed service", () => {
  onEngine(
    "never goes back: who looked before a change and had to wait does not bring the old list back",
    Effect.gen(function*() {
      const { client } = yield* Backend
      yield* Effect.gen(function*() {
        yield* put("a")
        const mirror = yield* Mirror.make(Key.prefix("/services/user/"))
        const { folder } = yield* Entry.layout("/services")
        // A fibre may have to let others go first between any two steps.
        let waiting: Effect.Latch | undefined
        const snapshot = Effect.flatMap(mirror.snapshot, (snapshot) => {
          const latch = waiting
          waiting = undefined
          return latch === undefined ? Effect.succeed(snapshot) : Effect.as(latch.await, snapshot)
        })
        const copy = yield* Copy.make(folder("user"), { ...mirror, snapshot }, Duration.zero)
        yield* copy.ready
        yield* settle
        const shown = history(copy)
        const latch = waiting = yield* Effect.makeLatch(false)
        const looking = yield* Effect.fork(copy.instances)
        yield* settle
        yield* put("b")
        yield* settle
        yield* latch.open
        const seen = yield* Fiber.join(looking)
        assert.deepStrictEqual(seen.map(({ id }) => id), ["a", "b"])
        assert.deepStrictEqual(shown, ["a,b"])
        assert.strictEqual(ids(copy), "a,b")
      }).pipe(Effect.provide(client))
    })
  )

  onEngine(
    "is at hand without an effect, from the first read on",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* put("a")
      yield* etcd.stall()
      const followed = yield* (yield* registry).follow("user")
      yield* settle
      assert.isUndefined(followed.current())
      yield* etcd.resume
      yield* passing(followed.ready)
      assert.deepStrictEqual(followed.current(), { services: [instance("a")], staleSinceMillis: undefined })
      let calls = 0
      const stop = followed.onChange(() => calls++)
      const before = followed.current()
      yield* put("b")
      yield* settle
      assert.strictEqual(calls, 1)
      assert.strictEqual(ids(followed), "a,b")
      assert.strictEqual(before?.services.length, 1)
      // Nothing new in what is not read.
      yield* put("b")
      yield* settle
      assert.strictEqual(calls, 1)
      stop()
      yield* remove("a")
      yield* settle
      assert.strictEqual(calls, 1)
      assert.strictEqual(ids(followed), "b")
    })
  )

  onEngine(
    "says since when it is old, and serves the last list meanwhile",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { pass } = yield* Backend
      yield* put("a")
      const followed = yield* (yield* registry).follow("user")
      yield* passing(followed.ready)
      yield* pass("10 seconds")
      yield* etcd.down
      yield* pass("2 seconds")
      const since = followed.current()?.staleSinceMillis
      assert.isTrue(since !== undefined && since >= 10_000 && since <= 12_000)
      yield* pass("2 minutes")
      assert.deepStrictEqual(followed.current(), { services: [instance("a")], staleSinceMillis: since })
      yield* etcd.up
      yield* until("fresh", Effect.sync(() => followed.current()?.staleSinceMillis === undefined))
      assert.strictEqual(ids(followed), "a")
    })
  )

  onEngine(
    "notices that etcd does not let it read any more",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { pass } = yield* Backend
      yield* put("a")
      const followed = yield* (yield* registry).follow("user")
      yield* passing(followed.ready)
      yield* etcd.refuse(TestEtcd.refusals.permissionDenied, {
        match: ({ operation }) => operation === "range" || operation === "watch",
        times: Infinity
      })
      yield* etcd.disconnect
      yield* pass("20 seconds")
      assert.isNumber(followed.current()?.staleSinceMillis)
      assert.strictEqual(ids(followed), "a")
    })
  )

  onEngine(
    "tells of entries that are no service",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* put("a")
      yield* etcd.putKey("/services/user/b", "{}")
      yield* etcd.putKey("/services/user/c", `${"[".repeat(20_000)}${"]".repeat(20_000)}`)
      const { follow, instancesState } = yield* registry
      yield* passing((yield* follow("user")).ready)
      const { instances, skipped } = yield* instancesState("user")
      assert.strictEqual(instances.length, 1)
      assert.deepStrictEqual(skipped, [
        { key: "/services/user/b", modRevision: 3n, problem: "id: is missing" },
        { key: "/services/user/c", modRevision: 4n, problem: "cannot be read: Maximum call stack size exceeded" }
      ])
    })
  )

  onEngine(
    "goes on when a listener throws, and others hear of the change",
    Effect.gen(function*() {
      yield* put("a")
      const followed = yield* (yield* registry).follow("user")
      yield* passing(followed.ready)
      const stop = followed.onChange(() => {
        throw new Error("of the listener")
      })
      const seen = history(followed)
      yield* put("b")
      yield* settle
      stop()
      yield* put("c")
      yield* settle
      assert.deepStrictEqual(seen, ["a,b", "a,b,c"])
    })
  )

  onEngine(
    "costs no more than an array, with a hundred instances",
    Effect.gen(function*() {
      yield* Effect.forEach(Array.from({ length: 100 }), (_, index) => put(`i${index}`), { discard: true })
      const followed = yield* (yield* registry).follow("user")
      yield* passing(followed.ready)
      const first = followed.current()
      const times = Array.from({ length: 10_000 }, () => {
        const begun = performance.now()
        assert.strictEqual(followed.current(), first)
        return performance.now() - begun
      }).sort((a, b) => a - b)
      assert.lengthOf(first?.services ?? [], 100)
      assert.isBelow(times[9_900], 0.1)
    })
  )
})

describe("callers of a service", () => {
  onEngine(
    "keep those that an etcd without its data does not know yet, until they are back",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { pass } = yield* Backend
      for (const id of ["a", "b", "c"]) yield* put(id)
      const { discover, follow } = yield* registry
      const followed = yield* follow("user")
      yield* passing(followed.ready)
      const seen = history(followed)
      yield* etcd.down
      yield* pass("5 seconds")
      yield* etcd.restartWithoutData
      yield* etcd.up
      yield* put("b")
      yield* until("fresh", Effect.sync(() => followed.current()?.staleSinceMillis === undefined))
      yield* pass("5 seconds")
      assert.strictEqual((yield* discover("user")).length, 1)
      assert.strictEqual(ids(followed), "a,b,c")
      yield* put("a")
      yield* pass("20 seconds")
      assert.deepStrictEqual(seen, ["a,b,c", "a,b"])
      // What leaves afterwards leaves at once.
      yield* remove("a")
      yield* settle
      assert.strictEqual(ids(followed), "b")
    })
  )

  onEngine(
    "keep the last ones for a while, unless these drained, and for as long as etcd is away",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { pass } = yield* Backend
      yield* put("a")
      yield* put("b", { "coord.draining": "true" })
      const followed = yield* (yield* registry).follow("user")
      yield* passing(followed.ready)
      const seen = history(followed)
      yield* remove("b")
      yield* settle
      yield* remove("a")
      yield* pass("9 seconds")
      assert.strictEqual(ids(followed), "a")
      yield* etcd.down
      yield* pass("1 minutes")
      assert.strictEqual(ids(followed), "a")
      yield* etcd.up
      yield* pass("30 seconds")
      assert.deepStrictEqual(seen, ["a,b", "a", ""].slice(1))
      yield* put("c", { "coord.draining": "true" })
      yield* settle
      yield* remove("c")
      yield* settle
      assert.deepStrictEqual(seen.slice(2), ["c", ""])
    })
  )

  onEngine(
    "hear the truth at once where no grace is wanted",
    Effect.gen(function*() {
      yield* put("a")
      const followed = yield* (yield* withGrace(0)).follow("user")
      yield* passing(followed.ready)
      yield* remove("a")
      yield* settle
      assert.strictEqual(ids(followed), "")
      assert.strictEqual((yield* Effect.flip(withGrace(-1))).argument, "grace")
    })
  )

  onEngine(
    "do not notice that the only instance lost its lease or its key",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { register } = yield* registry
      const { value: registration } = yield* running(register(instance("a")))
      const followed = yield* (yield* registry).follow("user")
      yield* passing(followed.ready)
      const seen = history(followed)
      for (const accident of [Effect.flatMap(etcd.leases, ([{ id }]) => etcd.expireLease(id)), remove("a")]) {
        const [before] = yield* etcd.snapshot
        yield* accident
        yield* until(
          "back",
          Effect.map(etcd.snapshot, ([kv]) => kv !== undefined && kv.createRevision > before.createRevision)
        )
        yield* until("told", Effect.map(registration.status, ({ _tag }) => _tag === "Registered"))
      }
      assert.deepStrictEqual(seen.filter((ids) => ids !== "a"), [])
    })
  )
})
