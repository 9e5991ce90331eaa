/** Callers that cannot be interrupted: what takes its time ends all the same. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { httpClient, noInstance } from "../../src/HttpClient.js"
import * as TestEtcd from "../../src/testing.js"
import { eventually, known, name, Network, register, services } from "./support.js"

const client = Effect.provide(httpClient(name), new Network().layer)

describe("where nothing can be interrupted", () => {
  it.effect("a client that was made closes", () =>
    Effect.gen(function*() {
      yield* register("a")
      const scope = yield* Scope.make()
      const users = yield* Effect.uninterruptible(Scope.extend(client, scope))
      yield* known("a")
      yield* users.get("/")
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* eventually("closed", Effect.map(Fiber.poll(closing), Option.isSome))
    }).pipe(Effect.scoped, Effect.provide(services)))

  it.effect("a request waits no longer for a list that was never read", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* etcd.stall()
      const users = yield* client
      const failing = yield* Effect.fork(Effect.flip(Effect.uninterruptible(users.get("/"))))
      yield* TestClock.adjust("4900 millis")
      assert.isTrue(Option.isNone(yield* Fiber.poll(failing)))
      yield* TestClock.adjust("200 millis")
      yield* eventually("an end", Effect.map(Fiber.poll(failing), Option.isSome))
      assert.isTrue(Option.isSome(noInstance(yield* Fiber.join(failing))))
      yield* etcd.resume
    }).pipe(Effect.scoped, Effect.provide(services)))
})
