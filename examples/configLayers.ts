/**
 * Settings in layers: a base, what production has to say otherwise, and one instance. Where each value comes from, what
 * happens when a layer is broken, and a change of several layers at one moment.
 *
 *     npx tsx examples/configLayers.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/configLayers.ts
 */
import { Effect, Option, Schema, Stream } from "effect"
import { Config, ConfigLayers } from "effect-coord"
import { run, runName } from "./support.js"

const base = `${runName}/base`
const production = `${runName}/production`
const instance = `${runName}/production/eu-1`

const Billing = Schema.Struct({
  currency: Schema.String,
  database: Schema.Struct({ host: Schema.String, password: Schema.Redacted(Schema.String) }),
  limits: Schema.Struct({ requests: Schema.Int, burst: Schema.optionalWith(Schema.Int, { default: () => 10 }) }),
  regions: Schema.Array(Schema.String)
})

/** What stands in a single layer is a part of the whole, and may say `null`. */
const Part = Schema.Record({ key: Schema.String, value: Schema.Unknown })

const table = (title: string, explanations: ReadonlyArray<ConfigLayers.Explanation>) =>
  Effect.log(`${title}\n${ConfigLayers.format(explanations)}`)

run(Effect.gen(function*() {
  yield* Config.set(base, Part, {
    currency: "EUR",
    database: { host: "localhost", password: "hunter2" },
    limits: { requests: 10, burst: 2 },
    regions: ["eu"]
  })
  yield* Config.set(production, Part, {
    database: { host: "db.internal", password: "correct horse" },
    limits: { requests: 1_000, burst: null },
    regions: ["eu", "us"]
  })
  yield* Config.set(instance, Part, { limits: { requests: 2_000 } })

  const billing = yield* ConfigLayers.make({ keys: [base, production, instance], schema: Billing })
  yield* Effect.log(`limits: ${JSON.stringify((yield* billing.get).limits)}`)
  yield* table("where each value comes from:", yield* billing.explain)

  yield* Effect.forkScoped(Stream.runForEach(
    billing.changes,
    ({ currency, limits }) => Effect.log(`the application has ${limits.requests} requests, ${currency}`)
  ))
  yield* Effect.sleep("100 millis")

  // A typing error in one layer reaches nobody.
  yield* Config.set(instance, Part, { limits: { requests: "a lot" } })
  yield* Effect.sleep("100 millis")
  const { rejected } = yield* billing.status
  yield* Effect.log(`rejected: ${Option.isSome(rejected)}; still ${(yield* billing.get).limits.requests} requests`)

  // Two layers at one moment: nobody sees only one of the changes.
  yield* Config.transaction([
    Config.put(production, Part, { currency: "USD", limits: { requests: 500 } }),
    Config.remove(instance)
  ])
  yield* Effect.sleep("100 millis")
  yield* table("and now:", yield* billing.explain)
}))
