/** The processes of the peers: started once and kept, or, in Go, one for each slice. */
import { Effect } from "effect"
import type { Scope } from "effect"
import type { ChildProcess } from "node:child_process"
import { fork, spawn } from "node:child_process"
import * as Path from "node:path"
import type { BenchError } from "./errors.js"
import { because, fail } from "./errors.js"
import { summary } from "./peers/meter.js"
import type { Latency, Reply, Request, Settings, Slice, SliceResult } from "./peers/protocol.js"
import type { GoPeer } from "./workloads.js"

/** A peer that is ready to be measured. */
export interface Peer {
  readonly name: string
  readonly workloads: ReadonlyArray<string>
  /** Whether it gets faster while it runs. */
  readonly warmsUp: boolean
  readonly run: (slice: Slice) => Effect.Effect<SliceResult, BenchError>
}

/** How long a slice may take to be prepared and to end. */
const patienceMillis = 120_000

const exited = (child: ChildProcess): Promise<void> =>
  child.exitCode !== null || child.signalCode !== null
    ? Promise.resolve()
    : new Promise((resolve) => child.once("exit", () => resolve()))

/** The next answer of a process, or its end. */
const nextReply = (child: ChildProcess): Effect.Effect<Reply, BenchError> =>
  Effect.async((resume) => {
    const onMessage = (reply: Reply) => {
      child.off("exit", onExit)
      resume(reply._tag === "Failed" ? Effect.fail(fail(reply.message)) : Effect.succeed(reply))
    }
    const onExit = (code: number | null) => {
      child.off("message", onMessage)
      resume(Effect.fail(fail(`its process ended with ${code}`)))
    }
    child.once("message", onMessage)
    child.once("exit", onExit)
    return Effect.sync(() => {
      child.off("message", onMessage)
      child.off("exit", onExit)
    })
  })

const ask = (child: ChildProcess, request: Request): Effect.Effect<Reply, BenchError> =>
  child.connected
    ? Effect.zipLeft(nextReply(child), Effect.sync(() => child.send(request)), { concurrent: true })
    : Effect.fail(fail("its process has ended"))

/** A process of plain Node with what was compiled. */
export const node = (options: {
  readonly name: string
  readonly folder: string
  readonly settings: Settings
  /** Where to put a CPU profile. */
  readonly profiles: string | undefined
}): Effect.Effect<Peer, BenchError, Scope.Scope> =>
  Effect.gen(function*() {
    const { folder, name, profiles, settings } = options
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        fork(Path.join(folder, "worker.js"), [JSON.stringify(settings)], {
          execArgv: profiles === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profiles}`],
          stdio: ["ignore", "inherit", "inherit", "ipc"]
        })
      ),
      (child) =>
        ask(child, { _tag: "End" }).pipe(
          Effect.zipRight(Effect.promise(() => exited(child))),
          Effect.timeout("10 seconds"),
          Effect.ignore,
          Effect.zipRight(Effect.sync(() => child.kill("SIGKILL")))
        )
    )
    const ready = yield* nextReply(child)
    return {
      name,
      warmsUp: true,
      workloads: ready._tag === "Ready" ? ready.workloads : [],
      run: (slice) =>
        ask(child, { _tag: "Run", slice }).pipe(
          Effect.flatMap((reply) =>
            reply._tag === "Done" ? Effect.succeed(reply.result) : Effect.fail(fail(`it answered ${reply._tag}`))
          ),
          Effect.timeoutFail({
            duration: (slice.warmUpSeconds + slice.seconds) * 1_000 + patienceMillis,
            onTimeout: () => {
              child.kill("SIGKILL")
              return fail("it did not come to an end, and its process was killed")
            }
          })
        )
    }
  })

/** From the end of each turn to the begin of the next one, whoever had them. */
const handOvers = (turns: SliceResult["turns"]): Float64Array => {
  const inOrder = [...turns].sort((a, b) => a.token - b.token)
  return Float64Array.from(inOrder.slice(1), ({ begin }, index) => begin - inOrder[index].end)
}

const total = (numbers: ReadonlyArray<number>): number => numbers.reduce((sum, one) => sum + one, 0)

/** What several did at the same time, as if one had done it. Of the latencies, only those between them are known. */
const combined = (results: ReadonlyArray<SliceResult>): Effect.Effect<SliceResult, BenchError> => {
  const latencies = handOvers(results.flatMap(({ turns }) => turns))
  if (latencies.some((millis) => millis < 0)) return Effect.fail(fail("two held the lock"))
  return Effect.succeed({
    operations: total(results.map(({ operations }) => operations)),
    seconds: Math.max(...results.map(({ seconds }) => seconds)),
    cpuMicros: total(results.map(({ cpuMicros }) => cpuMicros)),
    latencies: latencies.length === 0 ? {} : { "hand-over": summary(latencies) },
    figures: {},
    turns: []
  })
}

/** Several processes as one peer, which share what is in flight. */
export const together = (parts: ReadonlyArray<Peer>): Peer => ({
  ...parts[0],
  run: (slice) =>
    Effect.flatMap(
      Effect.forEach(
        parts.slice(0, slice.inFlight),
        (part, index) => part.run({ ...slice, inFlight: Math.ceil((slice.inFlight - index) / parts.length) }),
        { concurrency: "unbounded" }
      ),
      combined
    )
})

interface GoResult {
  readonly ops: number
  readonly seconds: number
  readonly latency_us: Readonly<
    Record<string, {
      readonly n: number
      readonly mean: number
      readonly p50: number
      readonly p90: number
      readonly p99: number
      readonly max: number
    }>
  >
  readonly per_op: Readonly<Record<string, number>>
}

const goNames: Readonly<Record<string, string>> = { op: "call", handoff: "hand-over" }

const fromGo = (result: GoResult): SliceResult => {
  const latencies = Object.fromEntries(
    Object.entries(result.latency_us).map(([name, { n, ...micros }]) => [
      goNames[name] ?? name,
      {
        count: n,
        mean: micros.mean / 1_000,
        p50: micros.p50 / 1_000,
        p90: micros.p90 / 1_000,
        p99: micros.p99 / 1_000,
        max: micros.max / 1_000
      }
    ])
  )
  const { acquire, release } = latencies
  const sum = (of: (latency: Latency) => number): number => of(acquire) + of(release)
  return {
    operations: result.ops,
    seconds: result.seconds,
    cpuMicros: result.per_op.client_cpu_us * result.ops,
    latencies: acquire === undefined || release === undefined ? latencies : {
      ...latencies,
      // It times the halves only: their sums come near to what a cycle takes.
      cycle: {
        count: acquire.count,
        mean: sum(({ mean }) => mean),
        p50: sum(({ p50 }) => p50),
        p90: sum(({ p90 }) => p90),
        p99: sum(({ p99 }) => p99),
        max: sum(({ max }) => max)
      }
    },
    figures: {},
    turns: []
  }
}

const runGo = (file: string, args: ReadonlyArray<string>): Effect.Effect<SliceResult, BenchError> =>
  Effect.async((resume) => {
    const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] })
    let stdout = ""
    let stderr = ""
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      stdout += chunk
    })
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      stderr += chunk
    })
    child.once("error", (error) => resume(Effect.fail(because(error))))
    child.once("close", (code) =>
      resume(
        code === 0
          ? Effect.try({ try: () => fromGo(JSON.parse(stdout) as GoResult), catch: because })
          : Effect.fail(fail(stderr.trim() || `it ended with ${code}`))
      ))
    return Effect.promise(async () => {
      child.kill("SIGKILL")
      await exited(child)
    })
  })

/** A program in Go. */
export const go = (name: string, file: string, endpoint: string, kind: GoPeer): Peer => ({
  name,
  warmsUp: false,
  workloads: Object.keys(kind.modes),
  run: (slice) =>
    runGo(file, [
      `-endpoints=http://${endpoint}`,
      `-mode=${kind.modes[slice.workload]}`,
      `-c=${slice.inFlight}`,
      `-seconds=${slice.seconds}`,
      `-warmup=${slice.warmUpSeconds}`,
      "-json"
    ])
})
