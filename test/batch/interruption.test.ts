import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { EtcdError } from "../../src/EtcdError.js"
import * as Txn from "../../src/Txn.js"
import { interruptedAtEveryStep } from "../support/interruptedAtEveryStep.js"
import { inVirtualTime } from "../support/virtualTime.js"
import { watched } from "./support.js"

it.live("a request that is interrupted at any step holds nobody up for longer than its own deadline", () =>
  Effect.gen(function*() {
    const { client, etcd } = yield* watched()
    const keys = ["a", "b", "c"]
    const others = Effect.all([
      Effect.forEach(keys, (key) => client.get(key), { concurrency: "unbounded" }),
      Effect.forEach(keys, (key) => client.put({ key, value: "" }), { concurrency: "unbounded" })
    ], { concurrency: "unbounded" })
    const requests: ReadonlyArray<Effect.Effect<unknown, EtcdError>> = [
      client.get("x"),
      client.put({ key: "x", value: "" }),
      client.txn({ compare: [Txn.exists("x")], success: [Txn.del({ key: "x" })] })
    ]
    for (const request of requests) {
      assert.isAbove(yield* interruptedAtEveryStep(request, others), 10)
    }
    assert.strictEqual((yield* etcd.usage).callsInFlight, 0)
  }).pipe(Effect.scoped, inVirtualTime))
