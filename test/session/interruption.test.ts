/** What all users of a session share goes on, wherever one of them is interrupted. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { EtcdClient } from "../../src/EtcdClient.js"
import { EtcdError } from "../../src/EtcdError.js"
import * as Session from "../../src/Session.js"
import { interruptedAtEveryStep } from "../support/interruptedAtEveryStep.js"
import { pass, scenario, settle, whileTimePasses } from "../support/memory.js"

const make = Session.make({ ttl: "9 seconds" })

const unavailable = new EtcdError({
  operation: "leaseKeepAlive",
  reason: "Unavailable",
  code: 14,
  mayBeApplied: false,
  detail: "away"
})

describe("a session, one of whose users is interrupted at any step,", () => {
  it.effect("is granted its lease for the next one", () =>
    Effect.gen(function*() {
      const sessionOfOwn = Effect.gen(function*() {
        const scope = yield* Scope.make()
        return { lease: (yield* Scope.extend(make, scope)).lease, close: Scope.close(scope, Exit.void) }
      })
      let own = yield* sessionOfOwn
      const next = Effect.gen(function*() {
        const asking = yield* Effect.fork(own.lease)
        yield* settle
        assert.isTrue(Option.isSome(yield* Fiber.poll(asking)))
        yield* own.close
        own = yield* sessionOfOwn
      })
      yield* interruptedAtEveryStep(Effect.suspend(() => own.lease), next)
    }).pipe(scenario))

  it.effect("tells the others its states, and ends", () =>
    Effect.gen(function*() {
      const client = yield* EtcdClient
      let isAway = false
      const own = yield* Effect.provideService(make, EtcdClient, {
        ...client,
        leaseKeepAliveOnce: (id, options) =>
          Effect.suspend(() => isAway ? Effect.fail(unavailable) : client.leaseKeepAliveOnce(id, options))
      })
      yield* own.lease
      const disconnected = Effect.gen(function*() {
        yield* pass("1 second", "1 second")
        assert.strictEqual((yield* own.state)._tag, "Active")
        isAway = true
        yield* pass("3 seconds", "1 second")
        assert.strictEqual((yield* own.state)._tag, "Disconnected")
        isAway = false
      })
      yield* disconnected
      // The one that comes back is the one that tells.
      yield* interruptedAtEveryStep(own.renew, disconnected)
      yield* interruptedAtEveryStep(Stream.runHead(own.states), Effect.void)
      isAway = true
      yield* whileTimePasses(Stream.runDrain(Stream.takeUntil(own.states, ({ _tag }) => _tag === "Expired")))
    }).pipe(scenario))
})
