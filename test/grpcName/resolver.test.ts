import { assert, describe, it } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Grpc from "../../src/Grpc.js"
import * as TestEtcd from "../../src/testing.js"
import { Echo } from "./echo.js"
import { call, instance, memory, reaches, registry, shares, until, untilEffect } from "./support.js"

const policies: ReadonlyArray<Grpc.Policy> = ["weighted", "round_robin", "pick_first"]

const test = <A, E>(body: Effect.Effect<A, E, Layer.Layer.Success<typeof memory> | Scope.Scope>) =>
  Effect.provide(body, memory)

describe.each(policies)("%s", (policy) => {
  it.scopedLive("finds the instances, and follows their coming and going", () =>
    test(Effect.gen(function*() {
      const client = yield* Grpc.client(Echo, "echo", { policy })
      // There is nobody: calls fail at once, and not with their deadlines.
      const nobody = yield* Effect.flip(call(client))
      assert.strictEqual(nobody.code, grpc.status.UNAVAILABLE)
      assert.match(nobody.details, /no instance of echo is registered/)

      const a = yield* instance("echo", "a")
      yield* until("a is found", () => client.getChannel().getConnectivityState(true) === grpc.connectivityState.READY)
      assert.deepStrictEqual(yield* shares(client, 4), { a: 4 })
      const b = yield* instance("echo", "b")
      if (policy === "pick_first") {
        assert.deepStrictEqual(yield* shares(client, 4), { a: 4 })
      } else {
        yield* reaches(client, b)
        assert.deepStrictEqual(yield* shares(client, 20), { a: 10, b: 10 })
      }
      yield* a.close
      assert.deepStrictEqual(yield* shares(client, 4), { b: 4 })
      yield* b.close
      const gone = yield* Effect.flip(call(client))
      assert.strictEqual(gone.code, grpc.status.UNAVAILABLE)
    })))

  it.scopedLive("keeps its connections when the list changes", () =>
    test(Effect.gen(function*() {
      const a = yield* instance("echo", "a")
      const client = yield* Grpc.client(Echo, "echo", { policy })
      yield* call(client)
      for (let i = 0; i < 5; i++) {
        const other = yield* instance("echo", `other-${i}`)
        yield* a.registration.update({ n: String(i) })
        if (policy !== "pick_first") yield* reaches(client, other)
        yield* shares(client, 12)
        yield* other.close
        yield* shares(client, 4)
      }
      assert.isAbove(a.calls(), 20)
      assert.strictEqual(a.connections(), 1)
    })))

  it.scopedLive("begins again after it was idle", () =>
    test(Effect.gen(function*() {
      const a = yield* instance("echo", "a")
      const client = yield* Grpc.client(Echo, "echo", {
        policy,
        // The least that grpc-js takes.
        channelOptions: { "grpc.client_idle_timeout_ms": 1_000 }
      })
      assert.strictEqual(yield* call(client), "a")
      const channel = client.getChannel()
      yield* until("idle", () => channel.getConnectivityState(false) === grpc.connectivityState.IDLE)
      yield* a.close
      yield* instance("echo", "b")
      assert.strictEqual(yield* call(client), "b")
    })))

  it.scopedLive("leaves out who drains, unless nobody else is there", () =>
    test(Effect.gen(function*() {
      const a = yield* instance("echo", "a")
      const b = yield* instance("echo", "b")
      const client = yield* Grpc.client(Echo, "echo", { policy })
      yield* call(client)
      yield* a.registration.drain
      yield* untilEffect(
        "a is left out",
        Effect.map(shares(client, 3), ({ b }) => b === 3)
      )
      assert.deepStrictEqual(yield* shares(client, 10), { b: 10 })
      yield* b.close
      assert.deepStrictEqual(yield* shares(client, 4), { a: 4 })
    })))
})

describe("channels", () => {
  it.scopedLive("of two registries do not mix", () =>
    Effect.gen(function*() {
      const contexts = yield* Effect.all([Layer.build(Layer.fresh(memory)), Layer.build(Layer.fresh(memory))])
      const clients: Array<Echo> = []
      for (const [index, context] of contexts.entries()) {
        yield* Effect.provide(instance("echo", `of-${index}`), context)
        clients.push(yield* Effect.provide(Grpc.client(Echo, "echo"), context))
      }
      assert.deepStrictEqual(yield* shares(clients[0], 5), { "of-0": 5 })
      assert.deepStrictEqual(yield* shares(clients[1], 5), { "of-1": 5 })
    }))

  it.scopedLive("wait for the first list, but not for ever", () =>
    test(Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* instance("echo", "a")
      const other = yield* Layer.build(registry(TestEtcd.client()))
      yield* etcd.down
      const client = yield* Effect.provide(Grpc.client(Echo, "echo", { connectTimeout: "300 millis" }), other)
      const error = yield* Effect.flip(call(client))
      assert.strictEqual(error.code, grpc.status.UNAVAILABLE)
      assert.match(error.details, /the instances of echo are not known yet/)
      yield* etcd.up
      yield* until(
        "found",
        () => client.getChannel().getConnectivityState(true) === grpc.connectivityState.READY
      )
      assert.strictEqual(yield* call(client), "a")
      // From now on etcd is not needed.
      yield* etcd.down
      assert.deepStrictEqual(yield* shares(client, 5), { a: 5 })
      yield* etcd.up
    })))

  it.scopedLive("that are closed let calls end, for a while", () =>
    test(Effect.gen(function*() {
      const a = yield* instance("echo", "a")
      const scope = yield* Scope.make()
      const client = yield* Scope.extend(Grpc.client(Echo, "echo", { closeTimeout: "20 seconds" }), scope)
      const first = yield* Effect.fork(call(client, "wait"))
      yield* until("it waits", () => a.waiting() === 1)
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* until("closed", () => client.getChannel().getConnectivityState(false) === grpc.connectivityState.SHUTDOWN)
      yield* a.answer
      assert.strictEqual(yield* Fiber.join(first), "a")
      yield* Fiber.join(closing)

      const again = yield* Scope.make()
      const other = yield* Scope.extend(Grpc.client(Echo, "echo", { closeTimeout: "100 millis" }), again)
      const second = yield* Effect.fork(Effect.flip(call(other, "wait")))
      yield* until("it waits", () => a.waiting() === 1)
      yield* Scope.close(again, Exit.void)
      const error = yield* Fiber.join(second)
      assert.strictEqual(error.code, grpc.status.UNAVAILABLE)
      assert.match(error.details, /the channel was closed/)
    })))

  it.scopedLive("have deadlines and retries for each method", () =>
    test(Effect.gen(function*() {
      let attempts = 0
      yield* instance("echo", "a", {
        who: (respond) => ++attempts < 3 ? respond({ code: grpc.status.UNAVAILABLE }) : respond(null, "a")
      })
      const client = yield* Grpc.client(Echo, "echo", {
        serviceConfig: {
          methodConfig: [
            {
              name: [{ service: "test.Echo", method: "Who" }],
              retryPolicy: {
                maxAttempts: 4,
                initialBackoff: "0.01s",
                maxBackoff: "0.1s",
                backoffMultiplier: 2,
                retryableStatusCodes: ["UNAVAILABLE"]
              }
            },
            { name: [{ service: "test.Echo" }], timeout: "0.2s" }
          ]
        }
      })
      assert.strictEqual(yield* call(client), "a")
      assert.strictEqual(attempts, 3)
      const error = yield* Effect.flip(call(client, "wait"))
      assert.strictEqual(error.code, grpc.status.DEADLINE_EXCEEDED)
    })))

  it.scopedLive("refuse what they cannot do, naming the option", () =>
    test(Effect.gen(function*() {
      const refused = (options: Grpc.ConnectionOptions, name = "echo") =>
        Effect.map(Effect.flip(Effect.asVoid(Grpc.getConnection(name, options))), ({ argument }) => argument)
      assert.strictEqual(yield* refused({}, "/echo"), "name")
      assert.strictEqual(yield* refused({ policy: "random" as Grpc.Policy }), "policy")
      assert.strictEqual(yield* refused({ zone: "" }), "zone")
      assert.strictEqual(yield* refused({ zone: "a", policy: "round_robin" }), "zone")
      assert.strictEqual(yield* refused({ minReadyInZone: 1 }), "minReadyInZone")
      assert.strictEqual(yield* refused({ zone: "a", minReadyInZone: 0.5 }), "minReadyInZone")
      assert.strictEqual(yield* refused({ connectTimeout: 0 }), "connectTimeout")
      assert.strictEqual(yield* refused({ closeTimeout: -1 }), "closeTimeout")
      assert.strictEqual(yield* refused({ tls: { ca: "none" } }), "tls.ca")
      assert.strictEqual(yield* refused({ tls: {}, credentials: grpc.credentials.createInsecure() }), "credentials")
      assert.strictEqual(
        yield* refused({ serviceConfig: { methodConfig: [{ name: [], timeout: "soon" }] } }),
        "serviceConfig"
      )
      assert.throws(() => new grpc.Client("etcd:///echo", grpc.credentials.createInsecure()), /belongs to a registry/)
    })))
})
