/**
 * Two programs change one setting at the same time. `compareAndSet` tells the second one that it came too late;
 * `modify` looks again and changes what is there now. Each has a `Config` of its own, as two processes would.
 *
 *     npx tsx examples/configCas.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/configCas.ts
 */
import { Effect, Option, Schema } from "effect"
import { Config } from "effect-coord"
import { run, runName } from "./support.js"

const key = `${runName}/replicas`
const Replicas = Schema.Struct({ count: Schema.Int, changedBy: Schema.String })

const show = ({ changedBy, count }: typeof Replicas.Type) => `${count}, changed by ${changedBy}`

run(Effect.gen(function*() {
  const operator = yield* Config.make()
  const autoscaler = yield* Config.make()
  yield* operator.compareAndSet(key, Replicas, { count: 2, changedBy: "operator" }, 0n)

  // Both have read the same version.
  const seen = yield* operator.getWithVersion(key, Replicas)
  const seenToo = yield* autoscaler.getWithVersion(key, Replicas)

  yield* operator.compareAndSet(key, Replicas, { count: 5, changedBy: "operator" }, seen.version)
  const late = yield* Effect.flip(
    autoscaler.compareAndSet(key, Replicas, { count: 3, changedBy: "autoscaler" }, seenToo.version)
  )
  yield* Effect.log(late.message)
  yield* Effect.log(`so there are still ${show(yield* autoscaler.get(key, Replicas))}`)

  // What depends on the present value is written as a function of it: no change is lost, whoever makes it.
  const oneMore = (changedBy: string) => (current: Option.Option<typeof Replicas.Type>) => ({
    count: Option.match(current, { onNone: () => 1, onSome: ({ count }) => count + 1 }),
    changedBy
  })
  const add = (config: Config.Config["Type"], name: string) =>
    Effect.replicateEffect(config.modify(key, Replicas, oneMore(name)), 10)
  yield* Effect.all([add(operator, "operator"), add(autoscaler, "autoscaler")], { concurrency: "unbounded" })
  yield* Effect.log(`after ten changes by each there are ${show(yield* operator.get(key, Replicas))}`)

  yield* operator.delete(key)
}))
