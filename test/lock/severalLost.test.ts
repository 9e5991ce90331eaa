/** What the handle of several locks says when one of them is lost and the lease lives on. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Lock from "../../src/Lock.js"
import { TestEtcd } from "../../src/testing.js"
import { pass, scenario, whileTimePasses } from "../support/memory.js"

describe("several locks, one of which is lost", () => {
  it.effect("have no time to live and cannot be renewed, whichever it is", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      for (const lost of [0, 1]) {
        yield* Effect.scoped(Effect.gen(function*() {
          const lock = yield* Lock.acquireAll(["a", "b"])
          yield* pass("1 second")
          yield* lock.ttl
          const loss = yield* Effect.fork(Effect.flip(lock.lost))
          yield* etcd.deleteKey(lock.etcdKeys[lost])
          yield* whileTimePasses(Fiber.join(loss))
          for (const asked of [lock.ttl, lock.renew]) {
            const error = yield* Effect.flip(asked)
            assert.isTrue(
              error._tag === "LockExpired" && error.key === lock.keys[lost] && error.reason === "deleted"
            )
          }
        }))
      }
    }).pipe(scenario))
})
