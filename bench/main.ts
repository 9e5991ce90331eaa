/**
 * How fast the library is, compared with others on the same etcd in the same minutes. See docs/benchmark.md.
 *
 *     npm run bench
 *     npm run bench -- --help
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect } from "effect"
import type { Scope } from "effect"
import { mkdir, writeFile } from "node:fs/promises"
import * as Path from "node:path"
import { temporary } from "../scripts/lib/project.js"
import * as Build from "./build.js"
import type { BenchError } from "./errors.js"
import type { Options } from "./options.js"
import { fromArguments, usage, UsageError } from "./options.js"
import type { Peer } from "./processes.js"
import * as Processes from "./processes.js"
import * as Promises from "./promises.js"
import * as Report from "./report.js"
import * as Rounds from "./rounds.js"
import * as Server from "./server.js"
import * as Summary from "./summary.js"
import * as Targets from "./targets.js"
import type { GoPeer, NodePeer } from "./workloads.js"
import { peers as kinds, workloads } from "./workloads.js"

const progress = (text: string): void => {
  process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`)
}

const nodePeer = (
  name: string,
  kind: NodePeer,
  endpoint: string,
  build: Build.Build,
  options: Options
): Effect.Effect<Peer, BenchError, Scope.Scope> =>
  Processes.node({
    name,
    folder: build.peers,
    settings: {
      peer: kind.module,
      endpoint,
      library: kind.before === undefined ? build.library : options.before ?? build.library,
      options: kind.options ?? {}
    },
    profiles: options.profile && kind.module !== "bare" && kind.module !== "etcd3"
      ? Path.join(temporary, "profiles")
      : undefined
  })

/** Two applications: the one that is measured, and the one beside it. */
const promises = (
  options: Options,
  endpoint: string,
  build: Build.Build
): Effect.Effect<Promises.Results, BenchError> => {
  if (options.promises === "none") return Effect.succeed({ promised: [], measured: [] })
  const users: NodePeer = { _tag: "Node", what: "applications", module: "users" }
  return Effect.scoped(Effect.gen(function*() {
    return yield* Promises.run({
      user: yield* nodePeer("user", users, endpoint, build, options),
      neighbour: yield* nodePeer("neighbour", users, endpoint, build, options),
      seconds: options.seconds,
      rounds: Math.min(3, options.rounds),
      open: options.promises === "all" ? options.open : 0,
      progress
    })
  }))
}

const goPeers = (
  names: ReadonlyArray<string>,
  endpoint: string,
  options: Options
): Effect.Effect<ReadonlyArray<Peer>> =>
  Effect.gen(function*() {
    if (names.length === 0) return []
    progress("building the Go peer")
    const program = yield* Build.goProgram(options.go)
    if ("missing" in program) {
      console.log(`Without ${names.join(" and ")}: ${program.missing}\n`)
      return []
    }
    return names.map((name) => Processes.go(name, program.file, endpoint, kinds[name] as GoPeer))
  })

/** The peer, with the processes that it needs for workloads that are done by several. */
const withOthers = (
  peer: Peer,
  another: Effect.Effect<Peer, BenchError, Scope.Scope>,
  options: Options
): Effect.Effect<Peer, BenchError, Scope.Scope> =>
  Effect.gen(function*() {
    const processesFor = (workload: string): number => workloads[workload].processes ?? 1
    const most = Math.max(...options.workloads.filter((name) => peer.workloads.includes(name)).map(processesFor), 1)
    if (most === 1) return peer
    const parts = [peer, ...yield* Effect.replicateEffect(another, most - 1)]
    const together = Processes.together(parts)
    // Processes that hand over to each other are slow to warm up: each does so by itself.
    yield* Effect.forEach(parts, (part, index) =>
      part.run({ workload: "contended", inFlight: 64, warmUpSeconds: 0, seconds: 4, name: `warm-up-${index}` }), {
      discard: true
    })
    return {
      ...peer,
      run: (slice) =>
        (processesFor(slice.workload) > 1 ? together : peer).run(slice)
    }
  })

const start = (
  options: Options,
  endpoint: string,
  build: Build.Build
): Effect.Effect<ReadonlyArray<Peer>, BenchError, Scope.Scope> =>
  Effect.gen(function*() {
    const nodes = yield* Effect.forEach(
      options.peers.flatMap((name) => {
        const kind = kinds[name]
        return kind._tag === "Node" ? [{ name, kind }] : []
      }),
      ({ kind, name }) => {
        const peer = nodePeer(name, kind, endpoint, build, options)
        return Effect.flatMap(peer, (first) => withOthers(first, peer, options))
      }
    )
    const others = yield* goPeers(options.peers.filter((name) => kinds[name]._tag === "Go"), endpoint, options)
    return [...nodes, ...others]
  })

const rounds = (options: Options, server: Server.Server, build: Build.Build) =>
  options.workloads.length === 0
    ? Effect.succeed({ measured: [], problems: [] })
    : Effect.scoped(Effect.flatMap(
      start(options, server.endpoint, build),
      (peers) => Rounds.run(options, Rounds.cells(options, peers), { progress, afterRound: server.compact })
    ))

const bench = (options: Options): Effect.Effect<void, Error, Scope.Scope> =>
  Effect.gen(function*() {
    progress("compiling")
    const build = yield* Build.make
    const server = yield* Server.make(options.etcd)
    console.log(`${Report.machine(server.machine)}\n`)
    const { measured, problems } = yield* rounds(options, server, build)
    const promised = yield* promises(options, server.endpoint, build)
    const rows = Summary.rows(measured)
    const verdicts = Targets.judge(rows)
    const walFsyncMillis = yield* server.walFsyncMillis
    console.log(Report.all({ options, rows, verdicts, problems, promised: promised.promised }))
    if (problems.length > 0) process.exitCode = 1
    const everything = {
      machine: server.machine,
      walFsyncMillis,
      options,
      rows,
      verdicts,
      promises: promised,
      problems,
      measured
    }
    yield* Effect.promise(async () => {
      await mkdir(Path.dirname(options.json), { recursive: true })
      await writeFile(options.json, `${JSON.stringify(everything, undefined, 2)}\n`)
    })
  })

const main = (): void => {
  try {
    const options = fromArguments(process.argv.slice(2))
    if (options === "help") return console.log(usage)
    NodeRuntime.runMain(
      Effect.scoped(bench(options)).pipe(
        Effect.catchAll((error) =>
          Effect.sync(() => {
            console.error(error.message)
            process.exitCode = 1
          })
        )
      ),
      { disablePrettyLogger: true }
    )
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    console.error(`${error.message}\n\n${usage}`)
    process.exitCode = 2
  }
}

main()
