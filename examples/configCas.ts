/**
 * Two programs change one setting at the same time. `compareAndSet` tells the second one that it came too late;
 * `modify` looks again and changes what is there now.
 *
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/configCas.ts     two processes
 *     npx tsx examples/configCas.ts                                   two services of this process, no server needed
 */
import { Command } from "@effect/platform"
import { NodeContext } from "@effect/platform-node"
import { Effect, Option, Schema } from "effect"
import { Config } from "effect-coord"
import { fileURLToPath } from "node:url"
import { isReal, run, runName } from "./support.js"

const Replicas = Schema.Struct({ count: Schema.Int, changedBy: Schema.String })

const show = ({ changedBy, count }: typeof Replicas.Type) => `${count}, changed by ${changedBy}`

const wanted: Record<string, number> = { operator: 50, autoscaler: 30 }

/** What each program does. Both have looked at the same version. */
const program = (name: string, key: string, seen: bigint) =>
  Effect.gen(function*() {
    yield* Config.compareAndSet(key, Replicas, { count: wanted[name], changedBy: name }, seen).pipe(
      Effect.map((version) => `${name}: has set ${wanted[name]}, version ${version}`),
      Effect.catchTag("VersionConflict", ({ message }) => Effect.succeed(`${name}: comes too late, ${message}`)),
      Effect.flatMap((outcome) => Effect.log(outcome))
    )
    // What depends on the present value is written as a function of it: no change is lost, whoever makes it.
    const oneMore = Config.modify(key, Replicas, (current) => ({
      count: Option.match(current, { onNone: () => 1, onSome: ({ count }) => count + 1 }),
      changedBy: name
    }))
    for (let i = 0; i < 10; i++) yield* oneMore
    yield* Effect.log(`${name}: has added ten, and sees ${show(yield* Config.get(key, Replicas))}`)
  })

const asProcess = (name: string, key: string, seen: bigint) => {
  const script = fileURLToPath(import.meta.url)
  return Command.make(process.execPath, ...process.execArgv, script, name, key, String(seen)).pipe(
    Command.stdout("inherit"),
    Command.stderr("inherit"),
    Command.exitCode,
    Effect.filterOrFail((code) => code === 0, (code) => `${name} has ended with ${code}`),
    Effect.provide(NodeContext.layer)
  )
}

const asService = (name: string, key: string, seen: bigint) => Effect.provide(program(name, key, seen), Config.layer())

const both = Effect.gen(function*() {
  const key = `${runName}/replicas`
  const seen = yield* Config.compareAndSet(key, Replicas, { count: 2, changedBy: "nobody" }, 0n)
  yield* Effect.log(`there are 2 replicas, version ${seen}; two programs start`)
  yield* Effect.forEach(Object.keys(wanted), (name) =>
    Effect.if(isReal, {
      onTrue: () => asProcess(name, key, seen),
      onFalse: () => asService(name, key, seen)
    }), { concurrency: "unbounded" })
  yield* Effect.log(`after ten changes by each there are ${show(yield* Config.get(key, Replicas))}`)
})

const [name, key, seen] = process.argv.slice(2)

run(seen === undefined ? both : program(name, key, BigInt(seen)))
