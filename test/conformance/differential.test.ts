/**
 * The engine against etcd 3.5: random operations, and every answer compared.
 *
 * `CONFORMANCE_OPERATIONS=50000 npx vitest run test/conformance/differential` runs more of them than usual. A failure
 * prints the shortest sequence that was found, and the seed: `CONFORMANCE_SEED=…` runs the same again.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as EtcdClient from "../../src/EtcdClient.js"
import { Backend, etcd } from "./Backend.js"
import { operations } from "./differential/operations.js"
import * as Subject from "./differential/Subject.js"
import { unique } from "./support.js"

const perRun = 50
const total = Number(process.env.CONFORMANCE_OPERATIONS ?? "500")
const seed = process.env.CONFORMANCE_SEED === undefined ? {} : { seed: Number(process.env.CONFORMANCE_SEED) }

/** Time for the runs, and for shortening what failed. */
const timeout = 60_000 + total * 20

layer(etcd("3.5"), { excludeTestServices: true, timeout: "60 seconds" })("engine and etcd 3.5", (it) => {
  it.scoped.prop(
    "answer the same",
    [operations(perRun)],
    ([operations]) =>
      Effect.gen(function*() {
        const number = unique()
        const shared = { prefix: `/${number}/`, firstLease: (BigInt(Date.now()) << 20n) + BigInt(number) * 16n }
        const engine = yield* Effect.map(Layer.build(EtcdClient.layerMemory), (context) =>
          Effect.provide(EtcdClient.EtcdClient, context)).pipe(Effect.flatten)
        const [left, right] = yield* Effect.all([
          Subject.make(engine, shared),
          Effect.flatMap(Backend, ({ client }) =>
            Subject.make(client, shared))
        ], { concurrency: 2 })
        for (const [index, operation] of operations.entries()) {
          const [actual, expected] = yield* Effect.all([left.run(operation), right.run(operation)], { concurrency: 2 })
          assert.deepStrictEqual(actual, expected, `the engine differs in the answer to operation ${index}`)
        }
        const [actual, expected] = yield* Effect.all([left.told, right.told], { concurrency: 2 })
        assert.deepStrictEqual(actual, expected, "the engine differs in what a watch told")
      }),
    { timeout, fastCheck: { numRuns: Math.ceil(total / perRun), ...seed } }
  )
})
