/** The figures for people. */
import type { Options } from "./options.js"
import type { Promised } from "./promises.js"
import type { Problem } from "./rounds.js"
import type { Machine } from "./server.js"
import type { Spread } from "./stats.js"
import type { Row } from "./summary.js"
import type { Verdict } from "./targets.js"

const digits = (value: number, places: number): string =>
  value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places })

const millis = (value: number | undefined): string => value === undefined ? "-" : digits(value, value < 10 ? 2 : 1)

const ratio = (value: number): string => digits(value, 2)

const range = (value: Spread | undefined): string =>
  value === undefined ? "" : `${ratio(value.median)} (${ratio(value.min)}-${ratio(value.max)})`

/** Columns under each other; the first ones to the left, numbers to the right. */
const table = (lines: ReadonlyArray<ReadonlyArray<string>>, left: ReadonlyArray<number>): string => {
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)))
  return lines
    .map((line) =>
      line.map((cell, column) => left.includes(column) ? cell.padEnd(widths[column]) : cell.padStart(widths[column]))
        .join("  ").trimEnd()
    )
    .join("\n")
}

export const machine = (facts: Machine): string =>
  [
    `${facts.cpu}, ${facts.cores} cores, ${facts.memoryGiB} GiB; ${facts.system}; Node ${facts.node.slice(1)}`,
    `etcd ${facts.etcd} on this machine, with fsync (fdatasync of 2 KiB: ${millis(facts.fsyncMillis)} ms)`,
    ...facts.load > facts.cores / 4
      ? [
        `The load was ${digits(facts.load, 1)} before the run: the machine is not quiet, and figures are worth little.`
      ]
      : []
  ].join("\n")

const order = (rows: ReadonlyArray<Row>, peers: ReadonlyArray<string>): ReadonlyArray<Row> =>
  [...rows].sort((a, b) =>
    a.workload === b.workload
      ? a.inFlight - b.inFlight || peers.indexOf(a.peer) - peers.indexOf(b.peer)
      : rows.findIndex(({ workload }) => workload === a.workload) -
        rows.findIndex(({ workload }) => workload === b.workload)
  )

const figures = (rows: ReadonlyArray<Row>, peers: ReadonlyArray<string>): string =>
  table([
    ["workload", "in flight", "peer", "ops/s", "p50 ms", "p99 ms", "CPU us/op", "ops/s us/peer", "p50 us/peer"],
    ...order(rows, peers).map((row) => [
      row.workload,
      String(row.inFlight),
      row.peer,
      digits(row.opsPerSecond, 0),
      millis(row.p50Millis),
      millis(row.p99Millis),
      row.cpuMicrosPerOperation === undefined ? "-" : digits(row.cpuMicrosPerOperation, 0),
      range(row.opsRatio),
      range(row.p50Ratio)
    ])
  ], [0, 2])

const verdicts = (all: ReadonlyArray<Verdict>): string =>
  table(
    all.map(({ measured, reached, text }) => [
      text,
      range(measured),
      reached ? "OK" : "MISSED"
    ]),
    [0, 1, 2]
  )

const problems = (all: ReadonlyArray<Problem>): string =>
  all.map(({ inFlight, message, peer, workload }) => `${peer} failed at ${workload}, ${inFlight} in flight: ${message}`)
    .join("\n")

const promised = (all: ReadonlyArray<Promised>): string =>
  all.map(({ kept, measured, text }) => `${text}: ${measured} ${kept ? "OK" : "MISSED"}`).join("\n")

const part = (title: string, text: string, entries: ReadonlyArray<unknown>): ReadonlyArray<string> =>
  entries.length === 0 ? [] : [`${title}\n\n${text}\n`]

/** The whole report; parts without content are left out. */
export const all = (results: {
  readonly options: Options
  readonly rows: ReadonlyArray<Row>
  readonly verdicts: ReadonlyArray<Verdict>
  readonly problems: ReadonlyArray<Problem>
  readonly promised: ReadonlyArray<Promised>
}): string => {
  const { options, rows } = results
  const { rounds, seconds } = options
  const judged = results.verdicts.filter(({ measured }) => measured !== undefined)
  const missing = results.verdicts.length - judged.length
  return [
    ...part(
      `Medians of ${rounds} rounds of ${seconds} s. The last two columns are ratios within the rounds: median (least-most).`,
      rows.length === 0 ? "" : figures(rows, options.peers),
      rows
    ),
    ...part(
      `Targets${missing === 0 ? "" : ` (${missing} more were not measured)`}`,
      judged.length === 0 ? "" : verdicts(judged),
      judged
    ),
    ...part("Promises", promised(results.promised), results.promised),
    ...part("Problems", problems(results.problems), results.problems)
  ].join("\n")
}
