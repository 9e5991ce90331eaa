/** From what was measured to figures: medians over the rounds, and ratios within them. */
import type { Latency } from "./peers/protocol.js"
import type { Measured } from "./rounds.js"
import type { Spread } from "./stats.js"
import { median, spread } from "./stats.js"
import { us, workloads } from "./workloads.js"

export interface Row {
  readonly workload: string
  readonly inFlight: number
  readonly peer: string
  readonly rounds: number
  readonly opsPerSecond: number
  /** Of the latency that the workload is about; none where not a single operation came to its end. */
  readonly p50Millis: number | undefined
  readonly p99Millis: number | undefined
  readonly cpuMicrosPerOperation: number | undefined
  /** Our figure divided by the peer's, in the same round. Not for ourselves. */
  readonly opsRatio: Spread | undefined
  readonly p50Ratio: Spread | undefined
}

const rate = ({ result }: Measured): number => result.operations / result.seconds

const latency = ({ result, workload }: Measured): Latency | undefined => result.latencies[workloads[workload].latency]

const present = <A>(values: ReadonlyArray<A | undefined>): ReadonlyArray<A> =>
  values.filter((value): value is A => value !== undefined)

const medianOf = (values: ReadonlyArray<number | undefined>): number | undefined => {
  const known = present(values)
  return known.length === 0 ? undefined : median(known)
}

const ratios = (
  own: ReadonlyArray<Measured>,
  theirs: ReadonlyArray<Measured>,
  of: (measured: Measured) => number | undefined
): Spread | undefined => {
  const values = present(theirs.map((their) => {
    const ours = own.find(({ round }) => round === their.round)
    const [a, b] = [ours === undefined ? undefined : of(ours), of(their)]
    return a === undefined || b === undefined ? undefined : a / b
  }))
  return values.length === 0 ? undefined : spread(values)
}

export const rows = (measured: ReadonlyArray<Measured>): ReadonlyArray<Row> => {
  const groups = new Map<string, Array<Measured>>()
  for (const one of measured) {
    const key = `${one.workload} ${one.inFlight} ${one.peer}`
    groups.set(key, [...groups.get(key) ?? [], one])
  }
  return Array.from(groups.values(), (group): Row => {
    const [{ inFlight, peer, workload }] = group
    const own = peer === us ? [] : groups.get(`${workload} ${inFlight} ${us}`) ?? []
    return {
      workload,
      inFlight,
      peer,
      rounds: group.length,
      opsPerSecond: median(group.map(rate)),
      p50Millis: medianOf(group.map((one) => latency(one)?.p50)),
      p99Millis: medianOf(group.map((one) => latency(one)?.p99)),
      cpuMicrosPerOperation: medianOf(
        group.map(({ result }) => result.operations === 0 ? undefined : result.cpuMicros / result.operations)
      ),
      opsRatio: ratios(own, group, rate),
      p50Ratio: ratios(own, group, (one) => latency(one)?.p50)
    }
  })
}
