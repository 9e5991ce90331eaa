/** The promises in numbers that the library makes, measured as an application would see them. */
import { Effect } from "effect"
import type { BenchError } from "./errors.js"
import { readsAtOnce } from "./peers/copies.js"
import type { Slice, SliceResult } from "./peers/protocol.js"
import type { Peer } from "./processes.js"
import { median } from "./stats.js"

export interface Promised {
  readonly text: string
  readonly measured: string
  readonly kept: boolean
}

export interface Results {
  readonly promised: ReadonlyArray<Promised>
  readonly measured: ReadonlyArray<{ readonly slice: Slice; readonly result: SliceResult }>
}

interface Quick {
  readonly text: string
  readonly workload: string
  readonly latency: string
  readonly p99Millis: number
}

const quick: ReadonlyArray<Quick> = [
  { text: "lock", workload: "lock", latency: "acquire", p99Millis: 10 },
  { text: "discovery of 10 instances", workload: "discover", latency: "call", p99Millis: 5 },
  { text: "config read", workload: "read", latency: "call", p99Millis: 3 }
]

const operationsPerSecond = 5_000

const digits = (value: number, places: number): string =>
  value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places })

/** What a workload has to come to when it runs alone. */
interface Alone {
  readonly text: string
  readonly workload: string
  readonly figure: (result: SliceResult) => number
  readonly show: (figure: number) => string
  readonly keeps: (figure: number) => boolean
}

const readsPerSecond = ({ operations, seconds }: SliceResult): number => operations * readsAtOnce / seconds

const typedRead = (what: string, workload: string): Alone => ({
  text: `${what}: at least 500,000/s`,
  workload,
  figure: readsPerSecond,
  show: (figure) => `${digits(figure, 0)}/s`,
  keeps: (figure) => figure >= 500_000
})

const localDiscovery = (what: string, latency: string): Alone => ({
  text: `${what}: P99 below 0.1 ms`,
  workload: "local",
  figure: ({ latencies }) => latencies[latency]?.p99 ?? Infinity,
  show: (figure) => `${digits(figure, 4)} ms`,
  keeps: (figure) => figure < 0.1
})

const alone: ReadonlyArray<Alone> = [
  typedRead("typed reads of the local copy, Config.cached", "cached"),
  typedRead("typed reads of ConfigManager.current", "manager"),
  localDiscovery("100 instances of the local copy, followed", "followed"),
  localDiscovery("100 instances of the local copy, Registry.instancesState", "asked"),
  {
    text: "discovery of 100 instances from the quorum: at most 1.2 times range, JSON and Schema by hand",
    workload: "quorum",
    figure: ({ latencies }) => (latencies.discover?.p50 ?? Infinity) / (latencies.parts?.p50 ?? 0),
    show: (figure) => digits(figure, 2),
    keeps: (figure) => figure <= 1.2
  }
]

/** How soon a change should be known to all watchers, and to half of them. */
const reachMillis = { last: 1_000, median: 100 }

/** Of both processes, the larger figure. */
const opened = (both: ReadonlyArray<SliceResult>): string => {
  const most = (name: string, places: number): string =>
    digits(Math.max(...both.map(({ figures }) => figures[name])), places)
  return [
    `locks in ${most("lockSeconds", 1)} s with ${most("lockMiB", 0)} MiB`,
    `registrations in ${most("registerSeconds", 1)} s with ${most("registerMiB", 0)} MiB`,
    `watchers in ${most("watchSeconds", 1)} s with ${most("watchMiB", 0)} MiB`,
    `all changed and heard of in ${most("changeSeconds", 1)} s`,
    `closed in ${most("closeSeconds", 1)} s`
  ].join(", ")
}

export const run = (options: {
  readonly user: Peer
  /** A second application, for what goes on beside it. */
  readonly neighbour: Peer
  readonly seconds: number
  readonly rounds: number
  /** How many of everything to have open at once; none for not at all. */
  readonly open: number
  readonly progress: (text: string) => void
}): Effect.Effect<Results> =>
  Effect.gen(function*() {
    const { neighbour, progress, rounds, user } = options
    const measured: Array<{ readonly slice: Slice; readonly result: SliceResult }> = []
    const promised: Array<Promised> = []
    let slices = 0

    const measure = (peer: Peer, workload: string, inFlight: number, seconds: number) => {
      const name = `${peer.name}-promise-${++slices}`
      const slice: Slice = { workload, inFlight, seconds, warmUpSeconds: Math.min(1, seconds), name }
      return Effect.tap(peer.run(slice), (result) => Effect.sync(() => measured.push({ slice, result })))
    }

    /** What fails is a promise that was not kept. */
    const judge = (text: string, judged: Effect.Effect<Omit<Promised, "text">, BenchError>) => {
      progress(`promise: ${text}`)
      return Effect.map(
        Effect.catchAll(judged, ({ message }) => Effect.succeed({ measured: `failed: ${message}`, kept: false })),
        (outcome) => promised.push({ text, ...outcome })
      )
    }

    const repeated = <A>(effect: Effect.Effect<A, BenchError>): Effect.Effect<ReadonlyArray<A>, BenchError> =>
      Effect.all(Array.from({ length: rounds }, () => effect))

    for (const { latency, p99Millis, text, workload } of quick) {
      const besideOthers = Effect.suspend(() =>
        Effect.all([
          measure(user, workload, 1, options.seconds * 3),
          measure(neighbour, "background", 1, options.seconds * 3)
        ], { concurrency: 2 })
      )
      yield* judge(
        `${text}: P99 below ${p99Millis} ms, with 100 operations/s beside it`,
        Effect.map(repeated(besideOthers), (all) => {
          const values = all.map(([{ latencies }]) => latencies[latency]?.p99 ?? Infinity)
          const beside = median(all.map(([, { operations, seconds }]) => operations / seconds))
          return {
            measured: `${digits(median(values), 2)} ms (at most ${
              digits(Math.max(...values), 2)
            } in one of ${rounds}; ${digits(beside, 0)}/s beside it)`,
            kept: median(values) < p99Millis
          }
        })
      )
    }

    yield* judge(
      `locks, discoveries, config reads and writes: ${digits(operationsPerSecond, 0)} operations/s, 64 in flight`,
      Effect.map(repeated(Effect.suspend(() => measure(user, "mixed", 64, options.seconds))), (all) => {
        const rate = median(all.map(({ operations, seconds }) => operations / seconds))
        return { measured: `${digits(rate, 0)}/s`, kept: rate >= operationsPerSecond }
      })
    )

    for (const { figure, keeps, show, text, workload } of alone) {
      yield* judge(
        text,
        Effect.map(repeated(Effect.suspend(() => measure(user, workload, 1, options.seconds))), (all) => {
          const values = all.map(figure)
          const shown = [Math.min(...values), Math.max(...values)].map(show)
          return { measured: `${show(median(values))} (${shown[0]} to ${shown[1]})`, kept: keeps(median(values)) }
        })
      )
    }

    if (options.open > 0) {
      yield* judge(
        `a change reaches ${digits(options.open, 0)} watchers of a service: ` +
          `all within ${digits(reachMillis.last, 0)} ms, half of them within ${reachMillis.median} ms`,
        Effect.map(measure(user, "reach", options.open, 0), ({ figures: { lastMillis, medianMillis } }) => ({
          measured: `${digits(lastMillis, 0)} ms, ${digits(medianMillis, 0)} ms`,
          kept: lastMillis <= reachMillis.last && medianMillis <= reachMillis.median
        }))
      )
      yield* judge(
        `${digits(options.open, 0)} locks, registrations and watchers each, open at once from two processes`,
        Effect.map(
          Effect.all([user, neighbour].map((peer) => measure(peer, "open", Math.ceil(options.open / 2), 0)), {
            concurrency: 2
          }),
          (both) => ({ measured: opened(both), kept: true })
        )
      )
    }
    return { promised, measured }
  })
