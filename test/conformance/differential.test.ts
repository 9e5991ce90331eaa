/**
 * The engine against etcd 3.5 and 3.4: random operations, and every answer compared.
 *
 * `CONFORMANCE_OPERATIONS=50000 npx vitest run test/conformance/differential` compares more of them than usual. A failure
 * prints the shortest sequence that was found, and the seed: `CONFORMANCE_SEED=…` runs the same again.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as EtcdClient from "../../src/EtcdClient.js"
import { Backend, etcd } from "./Backend.js"
import { type Operation, operations } from "./differential/operations.js"
import * as Subject from "./differential/Subject.js"
import { unique } from "./support.js"

const perRun = 100
const wanted = Number(process.env.CONFORMANCE_OPERATIONS ?? "10000")
const seed = Number(process.env.CONFORMANCE_SEED ?? Date.now() % 2 ** 31)

const compared = { "3.5": wanted, "3.4": Math.ceil(wanted / 5) }

const same = (actual: unknown, expected: unknown, where: string): void =>
  assert.deepStrictEqual(
    actual,
    expected,
    `the engine differs in ${where}: ${JSON.stringify(actual)}, but etcd: ${JSON.stringify(expected)} (seed ${seed})`
  )

/** Carries out a sequence on an engine of its own and on the server, both of them empty, and compares the answers. */
const agree = (sequence: ReadonlyArray<Operation>) =>
  Effect.gen(function*() {
    const number = unique()
    const engine = yield* Effect.flatMap(Layer.build(EtcdClient.layerMemory), (context) =>
      Effect.provide(EtcdClient.EtcdClient, context))
    const { client, deviations } = yield* Backend
    const firstLease = (BigInt(Date.now()) << 20n) + BigInt(number) * 16n
    const shared = { prefix: `/${number}/`, firstLease, deviations }
    const [left, right] = yield* Effect.all([Subject.make(engine, shared), Subject.make(client, shared)], {
      concurrency: 2
    })
    for (const [index, operation] of sequence.entries()) {
      const [actual, expected] = yield* Effect.all([left.run(operation), right.run(operation)], { concurrency: 2 })
      same(actual, expected, `the answer to operation ${index}`)
    }
    const [actual, expected] = yield* Effect.all([left.told, right.told], { concurrency: 2 })
    same(actual, expected, "what a watch told")
  })

for (const version of ["3.5", "3.4"] as const) {
  const total = compared[version]
  /** Time for the runs; what is left of it serves to shorten a sequence that failed. */
  const limit = 60_000 + total * 20
  let left = total
  let failed = false
  layer(etcd(version), { excludeTestServices: true, timeout: "60 seconds" })(`engine and etcd ${version}`, (it) => {
    it.scoped.prop(
      `give ${total} answers alike`,
      [operations(perRun)],
      ([sequence]) =>
        Effect.gen(function*() {
          // sequences are of any length: there are more of them than are needed
          if (left <= 0 && !failed) return
          yield* Effect.onError(agree(sequence), () => Effect.sync(() => failed = true))
          left -= sequence.length
        }),
      {
        timeout: limit + 10_000,
        fastCheck: {
          seed,
          numRuns: Math.ceil(total / perRun) * 4,
          interruptAfterTimeLimit: limit,
          markInterruptAsFailure: true
        }
      }
    )
    it.effect("that many were compared", () => Effect.sync(() => assert.isAtMost(left, 0)))
  })
}
