/**
 * A job that runs on one node of many, and moves when that node goes.
 *
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/singleton.ts     three processes, of which two are ended
 *     npx tsx examples/singleton.ts                                   three layers of this process, no server needed
 */
import { Command } from "@effect/platform"
import { NodeContext } from "@effect/platform-node"
import { Effect, Exit, Layer, Option, Schedule, Scope, Stream } from "effect"
import { Election, Singleton } from "effect-coord"
import { fileURLToPath } from "node:url"
import { isReal, run, runName } from "./support.js"

/** What only one node may do: any layer. This one works in the background for as long as it is up. */
const ticker = (node: string) =>
  Layer.scopedDiscard(Effect.gen(function*() {
    yield* Effect.acquireRelease(
      Effect.log(`${node}: the ticker starts`),
      () => Effect.log(`${node}: the ticker stops`)
    )
    yield* Effect.log(`${node}: tick`).pipe(Effect.repeat(Schedule.spaced("500 millis")), Effect.forkScoped)
  }))

/** Every node has the same layer among its layers. It is up at once; the one that leads builds the ticker. */
const node = (name: string, job: string) =>
  Singleton.layer(job, ticker(name), {
    ttl: "5 seconds",
    value: name
  })

/** Waits until another node than `before` leads, and tells which. */
const nextLeader = (job: string, before: string) =>
  Election.observe(job).pipe(
    Stream.filterMap(Option.map(({ value }) => value)),
    Stream.filter((name) => name !== before),
    Stream.runHead,
    Effect.map(Option.getOrThrow)
  )

const names = ["node-1", "node-2", "node-3"]

/** Ends two nodes: one that has no time to say so, and one that is shut down in order. */
const endTwo = <E, R>(
  job: string,
  nodes: Record<string, { readonly die: Effect.Effect<void, E, R>; readonly shutDown: Effect.Effect<void, E, R> }>
) =>
  Effect.gen(function*() {
    const first = yield* nextLeader(job, "")
    yield* Effect.sleep("1200 millis")
    yield* nodes[first].die
    const second = yield* nextLeader(job, first)
    yield* Effect.sleep("1200 millis")
    yield* nodes[second].shutDown
    yield* nextLeader(job, second)
    yield* Effect.sleep("1200 millis")
  })

const processes = (job: string) =>
  Effect.gen(function*() {
    const script = fileURLToPath(import.meta.url)
    const start = (name: string) =>
      Effect.map(
        Command.make(process.execPath, ...process.execArgv, script, name, job).pipe(
          Command.stdout("inherit"),
          Command.stderr("inherit"),
          Command.start
        ),
        (child) => ({
          die: Effect.zipRight(Effect.log(`${name} is killed`), child.kill("SIGKILL")),
          shutDown: Effect.zipRight(Effect.log(`${name} is shut down`), child.kill("SIGTERM"))
        })
      )
    yield* Effect.log("three nodes start")
    const started = yield* Effect.forEach(names, (name) => Effect.map(start(name), (child) => [name, child] as const))
    yield* endTwo(job, Object.fromEntries(started))
  }).pipe(Effect.provide(NodeContext.layer))

const layers = (job: string) =>
  Effect.gen(function*() {
    const start = (name: string) =>
      Effect.gen(function*() {
        const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
        yield* Layer.buildWithScope(node(name, job), scope)
        const shutDown = Effect.zipRight(Effect.log(`${name} is shut down`), Scope.close(scope, Exit.void))
        return [name, { die: shutDown, shutDown }] as const
      })
    yield* endTwo(job, Object.fromEntries(yield* Effect.forEach(names, start)))
  })

const [name, job] = process.argv.slice(2)

if (name !== undefined && job !== undefined) {
  run(Effect.zipRight(Layer.build(node(name, job)), Effect.never))
} else {
  run(Effect.if(isReal, {
    onTrue: () => processes(`${runName}/ticker`),
    onFalse: () => layers(`${runName}/ticker`)
  }))
}
