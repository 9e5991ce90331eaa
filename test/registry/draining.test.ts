/** What a registration tells callers about itself: weight, zone, and that it is about to leave. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Registry from "../../src/Registry.js"
import * as TestEtcd from "../../src/testing.js"
import type { Backend } from "./backend.js"
import { engine, passing, process, running, settle, text, until } from "./backend.js"

const user = { id: "u1", name: "user", address: "127.0.0.1", port: 8080 }
const key = "/services/user/u1"

const test = (name: string, body: Effect.Effect<void, unknown, Backend | TestEtcd.TestEtcd | Scope.Scope>) =>
  it.effect(name, () =>
    body.pipe(
      Effect.ensuring(Effect.flatMap(TestEtcd.TestEtcd, ({ up }) => up)),
      Effect.scoped,
      Effect.provide(engine())
    ))

const registry = Effect.map(process, (process) => Context.get(process, Registry.Registry))

const valueOf = (key: string) =>
  Effect.flatMap(TestEtcd.TestEtcd, ({ snapshot }) =>
    Effect.map(snapshot, (kvs) => {
      const kv = kvs.find((kv) => text(kv.key) === key)
      return kv === undefined ? undefined : text(kv.value)
    }))

const traits = (service: Registry.ServiceInfo) => [
  Registry.weight(service),
  Option.getOrUndefined(Registry.zone(service)),
  Registry.isDraining(service)
]

describe("weight, zone and draining", () => {
  test(
    "travel in the metadata, and stay when these are replaced",
    Effect.gen(function*() {
      const { discover, register } = yield* registry
      const registration = yield* register({ ...user, metadata: { v: "1" }, weight: 2.5, zone: "eu-1" })
      assert.strictEqual(
        yield* valueOf(key),
        "{\"id\":\"u1\",\"name\":\"user\",\"address\":\"127.0.0.1\",\"port\":8080," +
          "\"metadata\":{\"coord.weight\":\"2.5\",\"coord.zone\":\"eu-1\",\"v\":\"1\"}}"
      )
      const found = Effect.map(discover("user"), ([service]) => service)
      assert.deepStrictEqual(traits(yield* found), [2.5, "eu-1", false])
      yield* passing(registration.update({ v: "2" }))
      yield* passing(registration.setWeight(0))
      yield* passing(registration.drain)
      assert.deepStrictEqual(traits(yield* found), [0, "eu-1", true])
      assert.strictEqual((yield* found).metadata.v, "2")
      yield* passing(registration.update({ "coord.zone": "eu-2" }))
      yield* passing(registration.resume)
      assert.deepStrictEqual(traits(yield* found), [0, "eu-2", false])
      assert.isUndefined((yield* found).metadata.v)
    })
  )

  it("are 1, none and not where nothing sensible is written", () => {
    for (const weight of ["", " ", "x", "-1", "NaN", "1e9", "Infinity"]) {
      assert.deepStrictEqual(
        traits({ ...user, metadata: { "coord.weight": weight, "coord.zone": "", "coord.draining": "no" } }),
        [1, undefined, false]
      )
    }
    assert.deepStrictEqual(traits({ ...user, metadata: {} }), [1, undefined, false])
  })

  test(
    "are refused where they make no sense",
    Effect.gen(function*() {
      const { register } = yield* registry
      const argument = <A>(effect: Effect.Effect<A, { readonly _tag: string }, Scope.Scope>) =>
        Effect.map(Effect.flip(effect), (error) => "argument" in error ? error.argument : error._tag)
      for (const weight of [-1, Number.NaN, 1_000_001, Infinity]) {
        assert.strictEqual(yield* argument(register({ ...user, weight })), "service.weight")
      }
      for (const zone of ["", "a b", "\n"]) {
        assert.strictEqual(yield* argument(register({ ...user, zone })), "service.zone")
      }
      assert.strictEqual(yield* argument(register(user, { drain: -1 })), "drain")
      const registration = yield* register(user)
      assert.strictEqual(yield* argument(registration.setWeight(-1)), "weight")
    })
  )
})

describe("a registration that drains", () => {
  test(
    "stays draining when it is put back",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { register } = yield* registry
      const registration = yield* register(user)
      yield* passing(registration.drain)
      yield* etcd.deleteKey(key)
      yield* until("back", Effect.map(valueOf(key), (value) => value?.includes("draining") === true))
      assert.isTrue(Registry.isDraining(registration.service))
    })
  )

  test(
    "is marked, waits, and goes, before what it depends on goes down",
    Effect.gen(function*() {
      const events: Array<string> = []
      const Server = Layer.scopedDiscard(
        Effect.acquireRelease(
          Effect.sync(() => events.push("server up")),
          () => Effect.map(valueOf(key), (value) => events.push(`server down, ${value === undefined ? "left" : value}`))
        )
      )
      const context = yield* process
      const { close } = yield* running(
        Layer.build(
          Registry.layerService(user, { drain: "3 seconds" }).pipe(
            Layer.provide(Server),
            Layer.provide(Layer.succeedContext(context))
          )
        )
      )
      assert.include(yield* valueOf(key), "8080")
      const closing = yield* Effect.fork(close)
      yield* until(
        "draining",
        Effect.map(valueOf(key), (value) => value?.includes("\"coord.draining\":\"true\"") === true)
      )
      yield* settle
      assert.deepStrictEqual(events, ["server up"])
      yield* passing(Fiber.join(closing), "4 seconds")
      assert.deepStrictEqual(events, ["server up", "server down, left"])
    })
  )

  test(
    "takes no longer while etcd is away, and an interrupted scope drains as well",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { register } = yield* registry
      const first = yield* Effect.fork(
        Effect.scoped(Effect.zipRight(register(user, { drain: "3 seconds" }), Effect.never))
      )
      yield* settle
      const interrupting = yield* Effect.fork(Fiber.interrupt(first))
      yield* until("draining", Effect.map(valueOf(key), (value) => value?.includes("draining") === true), "1 seconds")
      yield* passing(Fiber.join(interrupting), "4 seconds")
      assert.isUndefined(yield* valueOf(key))
      const second = yield* running(register(user, { drain: "3 seconds" }))
      yield* etcd.down
      yield* passing(second.close, "6 seconds")
      assert.deepStrictEqual(yield* second.value.status, { _tag: "Unregistered" })
    })
  )

  test(
    "is not drained by `unregister`, which ends it at once",
    Effect.gen(function*() {
      const { register } = yield* registry
      const { value } = yield* running(register(user, { drain: "1 hours" }))
      yield* passing(value.unregister, "1 seconds")
      assert.isUndefined(yield* valueOf(key))
    })
  )

  test(
    "is ended at once by `unregister` also when it is draining",
    Effect.gen(function*() {
      const { register, unregister } = yield* registry
      for (const byId of [false, true]) {
        const { close, value } = yield* running(register(user, { drain: "1 hours" }))
        const closing = yield* Effect.fork(close)
        yield* until("draining", Effect.map(valueOf(key), (value) => value?.includes("draining") === true))
        yield* passing(byId ? unregister("u1") : value.unregister, "1 seconds")
        assert.isUndefined(yield* valueOf(key))
        assert.deepStrictEqual(yield* value.status, { _tag: "Unregistered" })
        yield* passing(Fiber.join(closing), "1 seconds")
      }
    })
  )

  test(
    "is marked in the end, although etcd cannot take other metadata that were given together with the mark",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { register } = yield* registry
      const registration = yield* register({ ...user, weight: 5, metadata: { v: "1" } })
      const exits = yield* passing(Effect.all(
        [registration.update({ v: "x".repeat(2 * 1024 * 1024) }), registration.setWeight(3), registration.drain].map(
          Effect.exit
        ),
        { concurrency: "unbounded" }
      ))
      assert.deepStrictEqual(exits.map(({ _tag }) => _tag), ["Failure", "Failure", "Failure"])
      yield* until("marked", Effect.map(valueOf(key), (value) => value?.includes("draining") === true))
      assert.deepStrictEqual(registration.service.metadata, {
        "coord.draining": "true",
        "coord.weight": "3",
        v: "1"
      })
      // Where it is the mark that etcd does not take, it is given up as well.
      yield* etcd.refuse({ code: 3, details: "etcdserver: no" }, { match: ({ operation }) => operation === "txn" })
      const error = yield* Effect.flip(passing(registration.resume))
      assert.isTrue(error._tag === "EtcdError" && error.reason === "InvalidRequest")
      assert.isTrue(Registry.isDraining(registration.service))
    })
  )
})
