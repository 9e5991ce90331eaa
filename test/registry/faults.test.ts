/** What only an etcd that can be hurt at will shows. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { EtcdClient } from "../../src/EtcdClient.js"
import { EtcdError } from "../../src/EtcdError.js"
import * as Registry from "../../src/Registry.js"
import * as Session from "../../src/Session.js"
import * as TestEtcd from "../../src/testing.js"
import { Backend, engine, passing, process, running, settle, text, until } from "./backend.js"

const user = { id: "u1", name: "user", address: "127.0.0.1", port: 8080 }
const key = "/services/user/u1"
const other = { ...user, id: "u2" }

const test = (
  name: string,
  body: Effect.Effect<void, unknown, Backend | TestEtcd.TestEtcd | Scope.Scope>,
  options?: TestEtcd.ClientOptions
) =>
  it.effect(name, () =>
    body.pipe(
      Effect.ensuring(
        Effect.flatMap(TestEtcd.TestEtcd, (etcd) => Effect.all([etcd.up, etcd.resume, etcd.clear], { discard: true }))
      ),
      Effect.scoped,
      Effect.provide(engine(options))
    ))

const registry = Effect.map(process, (process) => Context.get(process, Registry.Registry))

const keys = Effect.flatMap(
  TestEtcd.TestEtcd,
  ({ snapshot }) =>
    Effect.map(snapshot, (kvs) => kvs.map(({ key }) => text(key)).filter((key) => key.startsWith("/services/")))
)

const valueOf = (key: string) =>
  Effect.flatMap(TestEtcd.TestEtcd, ({ snapshot }) =>
    Effect.map(snapshot, (kvs) => {
      const kv = kvs.find((kv) => text(kv.key) === key)
      return kv === undefined ? undefined : text(kv.value)
    }))

const isPut = (request: TestEtcd.Request) => request.operation === "txn" && request.keys.includes(key)

const totalCalls = (usage: TestEtcd.Usage) => Object.values(usage.calls).reduce((sum, count) => sum + count, 0)

describe("a registration, when it begins", () => {
  test(
    "sends nothing for what is refused",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { discover, instances, register, unregister, watch } = yield* registry
      const argument = <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E, Scope.Scope>) =>
        Effect.map(Effect.flip(effect), (error) => "argument" in error ? error.argument : error._tag)
      assert.strictEqual(yield* argument(register({ ...user, port: 0 })), "service.port")
      assert.strictEqual(yield* argument(register({ ...user, name: ".." })), "service.name")
      assert.strictEqual(yield* argument(register(user, { ttl: 0 })), "ttl")
      assert.strictEqual(yield* argument(register(user, { ttl: -1 })), "ttl")
      assert.strictEqual(yield* argument(discover("")), "name")
      assert.strictEqual(yield* argument(Stream.runDrain(watch("/a"))), "name")
      assert.strictEqual(yield* argument(Stream.runDrain(instances("a/"))), "name")
      assert.strictEqual(yield* argument(unregister("u1", "")), "name")
      assert.strictEqual(totalCalls(yield* etcd.usage), 0)
    })
  )

  test(
    "takes a lost answer for what it was",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { register } = yield* registry
      yield* etcd.loseResponse({ match: isPut })
      const { close, value } = yield* running(passing(register(user)))
      assert.strictEqual((yield* value.status)._tag, "Registered")
      assert.deepStrictEqual(yield* keys, [key])
      assert.strictEqual((yield* etcd.snapshot)[0].version, 1n)
      yield* passing(close)
      assert.deepStrictEqual(yield* keys, [])
    })
  )

  test(
    "leaves nothing behind when it is refused",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { register } = yield* registry
      yield* etcd.refuse(TestEtcd.refusals.permissionDenied, { match: isPut })
      const error = yield* Effect.flip(passing(register(user)))
      assert.isTrue(error._tag === "EtcdError" && error.reason === "PermissionDenied")
      assert.deepStrictEqual(yield* keys, [])
      const { pass } = yield* Backend
      yield* pass("1 minutes")
      assert.deepStrictEqual(yield* keys, [])
    })
  )

  test(
    "ends by the deadline when etcd does not answer, and leaves nothing behind although etcd did it",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { register } = yield* registry
      yield* passing(register(other))
      yield* etcd.stall({ applied: true })
      const failing = yield* Effect.fork(Effect.flip(register(user)))
      yield* until("an end", Effect.map(failing.poll, Option.isSome), "12 seconds")
      const error = yield* Fiber.join(failing)
      assert.isTrue(error._tag === "EtcdError" && error.reason === "DeadlineExceeded")
      yield* etcd.resume
      const { pass } = yield* Backend
      yield* pass("1 seconds")
      assert.deepStrictEqual(yield* keys, ["/services/user/u2"])
    })
  )

  test(
    "leaves nothing behind when it is interrupted",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { register } = yield* registry
      yield* passing(register(other))
      yield* etcd.stall({ streams: false, applied: true })
      const registering = yield* Effect.fork(register(user))
      yield* settle
      assert.deepStrictEqual(yield* keys, [key, "/services/user/u2"])
      const interrupting = yield* Effect.fork(Fiber.interrupt(registering))
      yield* until("an end", Effect.map(interrupting.poll, Option.isSome), "3 seconds")
      assert.isTrue(Exit.isInterrupted(yield* registering.await))
      yield* etcd.resume
      yield* until("no ghost", Effect.map(keys, (keys) => !keys.includes(key)))
    })
  )

  test(
    "leaves no ghost when its put comes after its delete",
    Effect.gen(function*() {
      const { client, pass } = yield* Backend
      // The first put is told to be lost, and arrives five seconds later.
      let held = false
      const late = Layer.scoped(
        EtcdClient,
        Effect.gen(function*() {
          const real = yield* EtcdClient
          const scope = yield* Effect.scope
          return EtcdClient.of({
            ...real,
            txn: (request, options) => {
              if (held || !(request.success ?? []).some((op) => op._tag === "Put" && op.request.key === key)) {
                return real.txn(request, options)
              }
              held = true
              return real.txn(request).pipe(
                Effect.delay("5 seconds"),
                Effect.forkIn(scope),
                Effect.zipRight(
                  new EtcdError({
                    operation: "txn",
                    reason: "Unavailable",
                    code: 14,
                    mayBeApplied: true,
                    detail: "lost"
                  })
                )
              )
            }
          })
        })
      ).pipe(Layer.provide(client))
      const context = yield* Layer.build(
        Registry.layer().pipe(Layer.provideMerge(Session.layer), Layer.provideMerge(late))
      )
      const { register } = Context.get(context, Registry.Registry)
      yield* register(other)
      assert.strictEqual((yield* Effect.flip(register(user)))._tag, "EtcdError")
      yield* pass("6 seconds")
      assert.deepStrictEqual(yield* keys, [key, "/services/user/u2"])
      yield* pass("6 seconds")
      assert.deepStrictEqual(yield* keys, ["/services/user/u2"])
      // One that was registered meanwhile is left alone.
      held = false
      assert.strictEqual((yield* Effect.flip(register(user)))._tag, "EtcdError")
      const again = yield* register(user)
      const entry = Effect.flatMap(
        TestEtcd.TestEtcd,
        ({ snapshot }) => Effect.map(snapshot, (kvs) => kvs.find((kv) => text(kv.key) === key))
      )
      const before = yield* entry
      yield* pass("20 seconds")
      assert.strictEqual((yield* again.status)._tag, "Registered")
      assert.deepStrictEqual(yield* entry, before)
    })
  )

  test(
    "replaces what a process that died has left",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { register } = yield* registry
      yield* etcd.putKey(key, "{\"left\":\"behind\"}")
      yield* passing(register(user))
      assert.include(yield* valueOf(key), "8080")
    })
  )
})

describe("a registration, while it is kept", () => {
  test(
    "survives an outage of many times its time to live, and says since when",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { pass } = yield* Backend
      const { register } = yield* registry
      const registration = yield* register(user)
      yield* pass("1 seconds")
      yield* etcd.down
      for (let minute = 0; minute < 2; minute++) yield* pass("1 minutes")
      const status = yield* registration.status
      assert.isTrue(status._tag === "Reconnecting" && status.sinceMillis < 60_000 && status.reason.length > 0)
      yield* etcd.up
      yield* until("registered", Effect.map(registration.status, ({ _tag }) => _tag === "Registered"))
      assert.deepStrictEqual(yield* keys, [key])
    })
  )

  test(
    "goes on when etcd refuses for a while",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { pass } = yield* Backend
      const { register } = yield* registry
      const registration = yield* register(user)
      yield* pass("1 seconds")
      yield* etcd.refuse(TestEtcd.refusals.noSpace, { match: isPut, times: Infinity })
      yield* etcd.deleteKey(key)
      yield* pass("1 minutes")
      const status = yield* registration.status
      assert.isTrue(status._tag === "Reconnecting" && /space/.test(status.reason))
      yield* etcd.clear
      yield* until("registered", Effect.map(registration.status, ({ _tag }) => _tag === "Registered"))
    })
  )

  test(
    "does not race with somebody who deletes it again and again",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { pass } = yield* Backend
      const { register } = yield* registry
      yield* register(user)
      yield* pass("2 seconds")
      yield* etcd.resetUsage
      for (let index = 0; index < 1_000; index++) {
        yield* etcd.deleteKey(key)
        yield* pass("10 millis")
      }
      const { calls } = yield* etcd.usage
      assert.isAbove(calls.txn, 3)
      assert.isBelow(calls.txn, 30)
      yield* pass("10 seconds")
      assert.deepStrictEqual(yield* keys, [key])
    })
  )

  test(
    "writes later what an update could not write now",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { register } = yield* registry
      const registration = yield* register(user)
      yield* etcd.down
      const error = yield* Effect.flip(passing(registration.update({ v: "2" })))
      assert.strictEqual(error._tag, "EtcdError")
      yield* etcd.up
      yield* until("written", Effect.map(valueOf(key), (value) => value?.includes("\"v\":\"2\"") === true))
    })
  )

  test(
    "takes the last of many updates",
    Effect.gen(function*() {
      const { register } = yield* registry
      const registration = yield* register(user)
      yield* passing(
        Effect.forEach(Array.from({ length: 50 }, (_, n) => String(n)), (n) => registration.update({ n }), {
          concurrency: "unbounded",
          discard: true
        })
      )
      assert.include(yield* valueOf(key), "\"n\":\"49\"")
    })
  )

  test(
    "is put back under its own lease while a mirror cannot be had",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { pass } = yield* Backend
      yield* etcd.refuse(TestEtcd.refusals.permissionDenied, {
        match: ({ operation }) => operation === "range",
        times: Infinity
      })
      const { register } = yield* registry
      const registration = yield* register(user, { ttl: "3 seconds" })
      yield* pass("1 seconds")
      const [{ id }] = yield* etcd.leases
      yield* etcd.expireLease(id)
      yield* until("registered", Effect.map(keys, (keys) => keys.includes(key)))
      assert.strictEqual((yield* registration.status)._tag, "Registered")
    })
  )

  test(
    "leaves nothing in etcd, no watch and no stream when all is closed",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { close } = yield* running(Effect.gen(function*() {
        const { instances, register } = yield* registry
        yield* register(user)
        yield* register(user)
        yield* register(other, { ttl: "5 seconds" })
        yield* Effect.forkScoped(Stream.runDrain(instances("user")))
        yield* settle
      }))
      assert.isAbove((yield* etcd.usage).watchers, 0)
      yield* passing(close)
      assert.deepStrictEqual(yield* keys, [])
      assert.deepStrictEqual(yield* etcd.leases, [])
      assert.deepInclude(yield* etcd.usage, { watchers: 0, watchStreams: 0, leaseStreams: 0, callsInFlight: 0 })
    })
  )
})

describe("a registry", () => {
  test(
    "follows a service once, however many look",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { pass } = yield* Backend
      const { follow, instances, instancesState, watch } = yield* registry
      yield* etcd.resetUsage
      const readers = yield* Effect.forEach(Array.from({ length: 50 }), () =>
        Effect.fork(Effect.zip(
          Stream.runDrain(Stream.take(watch("user"), 1)),
          Stream.runDrain(Stream.takeUntil(instances("user"), ({ length }) => length === 1)),
          { concurrent: true }
        )))
      yield* settle
      assert.strictEqual((yield* etcd.usage).watchers, 1)
      yield* etcd.putKey(key, JSON.stringify(user))
      yield* settle
      yield* Fiber.joinAll(readers)
      assert.strictEqual((yield* etcd.usage).calls.watch, 1)
      assert.isBelow((yield* etcd.usage).calls.range, 5)
      // Without any reader it is kept for a while.
      yield* pass("29 seconds")
      assert.strictEqual((yield* instancesState("user")).instances.length, 1)
      yield* pass("31 seconds")
      assert.strictEqual((yield* etcd.usage).watchers, 0)
      assert.deepStrictEqual((yield* instancesState("user")).state, { _tag: "Loading", error: Option.none() })
      const copy = yield* follow("user")
      assert.strictEqual((yield* copy.instances)[0], (yield* copy.latest).instances[0])
    })
  )

  test(
    "waits for the first list, and does not take silence for none",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { pass } = yield* Backend
      const { discover, instances, instancesState } = yield* registry
      yield* etcd.putKey(key, JSON.stringify(user))
      yield* etcd.down
      const first = yield* Effect.fork(Stream.runHead(instances("user")))
      yield* pass("1 minutes")
      assert.isTrue(Option.isNone(yield* first.poll))
      const { instances: none, state } = yield* instancesState("user")
      assert.deepStrictEqual(none, [])
      assert.isTrue(state._tag === "Loading" && Option.isSome(state.error))
      assert.strictEqual((yield* Effect.flip(passing(discover("user"))))._tag, "EtcdError")
      yield* etcd.up
      assert.strictEqual(Option.getOrThrow(yield* passing(Fiber.join(first))).length, 1)
    })
  )

  test(
    "logs an entry that is no service, once",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const lines: Array<string> = []
      const logger = Logger.make(({ annotations, logLevel, message }) => {
        lines.push(`${logLevel._tag} ${String(message)} ${HashMap.size(annotations)}`)
      })
      yield* etcd.putKey(key, "{}")
      yield* Effect.gen(function*() {
        const { instances, watch } = yield* registry
        for (let reader = 0; reader < 3; reader++) {
          yield* Effect.forkScoped(Stream.runDrain(watch("user")))
          yield* Effect.forkScoped(Stream.runDrain(instances("user")))
        }
        yield* settle
      }).pipe(Effect.provide(Logger.add(logger)))
      const told = lines.filter((line) => line.includes(key))
      assert.strictEqual(told.length, 1)
      assert.match(told[0], /^Warning skipped \/services\/user\/u1 at revision 2: it is no service: id: is missing/)
    })
  )

  test(
    "fails a watch that etcd refuses, and no other",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { instances } = yield* registry
      yield* etcd.refuse(TestEtcd.refusals.permissionDenied, { match: ({ operation }) => operation === "range" })
      const refused = yield* Effect.exit(Stream.runHead(instances("user")))
      assert.isTrue(
        Exit.isFailure(refused) && Option.exists(Cause.failureOption(refused.cause), ({ _tag }) => _tag === "EtcdError")
      )
      assert.deepStrictEqual(yield* passing(Stream.runHead(instances("other"))), Option.some([]))
    })
  )

  test(
    "deletes a foreign entry once, though the answer is lost and its owner puts it back",
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { unregister } = yield* registry
      yield* etcd.putKey(key, JSON.stringify(user))
      yield* etcd.loseResponse({ match: isPut })
      const unregistering = yield* Effect.fork(unregister("u1"))
      yield* settle
      assert.deepStrictEqual(yield* keys, [])
      yield* etcd.putKey(key, JSON.stringify(user))
      yield* passing(Fiber.join(unregistering))
      assert.deepStrictEqual(yield* keys, [key])
    })
  )

  test(
    "stands where it is told to, inside a namespace too",
    Effect.gen(function*() {
      const { client } = yield* Backend
      const build = Layer.build(
        Registry.layerService(user).pipe(
          Layer.provideMerge(Registry.layer({ prefix: "/my/services" })),
          Layer.provideMerge(Session.layer),
          Layer.provideMerge(client)
        )
      )
      const { close, value } = yield* running(build)
      const etcd = yield* TestEtcd.TestEtcd
      const names = Effect.map(etcd.snapshot, (kvs) => kvs.map(({ key }) => text(key)))
      assert.deepStrictEqual(yield* names, ["ns/my/services/user/u1"])
      assert.deepStrictEqual(yield* Effect.provide(Registry.services, value), ["user"])
      const [found] = yield* Effect.provide(Registry.discover("user"), value)
      assert.strictEqual(found.id, "u1")
      yield* settle
      yield* etcd.deleteKey("ns/my/services/user/u1")
      yield* until("back", Effect.map(names, ({ length }) => length === 1))
      yield* passing(close)
      assert.deepStrictEqual(yield* names, [])
    }),
    { namespace: "ns" }
  )
})
