/** What the library has to reach, always compared with a peer in the same run. */
import type { Spread } from "./stats.js"
import type { Row } from "./summary.js"

export interface Target {
  readonly workload: string
  readonly inFlight: number
  readonly peer: string
  readonly measure: "p50" | "ops/s"
  readonly bound: { readonly atMost: number } | { readonly atLeast: number } | { readonly above: number }
}

const many = (
  workload: string,
  inFlight: number,
  go: Target["bound"] = { above: 1 }
): ReadonlyArray<Target> => [
  { workload, inFlight, peer: "etcd3", measure: "ops/s", bound: { atLeast: 5 } },
  { workload, inFlight, peer: "go", measure: "ops/s", bound: go }
]

export const targets: ReadonlyArray<Target> = [
  { workload: "get", inFlight: 1, peer: "bare", measure: "p50", bound: { atMost: 1.15 } },
  { workload: "lock", inFlight: 1, peer: "bare", measure: "p50", bound: { atMost: 1.15 } },
  ...many("get", 64),
  ...many("get", 512, { atLeast: 1.5 }),
  ...many("config-get", 512, { atLeast: 1.5 }),
  { workload: "watch", inFlight: 1, peer: "bare", measure: "p50", bound: { atMost: 1.3 } },
  ...many("lock", 64),
  ...many("lock", 512),
  ...[64, 512].map((inFlight): Target => (
    { workload: "lock", inFlight, peer: "etcd3-lock", measure: "ops/s", bound: { atLeast: 5 } }
  )),
  { workload: "lock", inFlight: 512, peer: "go", measure: "ops/s", bound: { atLeast: 2.5 } },
  ...[2, 16, 64].flatMap((inFlight): ReadonlyArray<Target> => [
    { workload: "contended-apart", inFlight, peer: "go", measure: "ops/s", bound: { atLeast: 1 } },
    { workload: "contended-apart", inFlight, peer: "go-queue", measure: "p50", bound: { atMost: 1.2 } }
  ])
]

export interface Verdict {
  readonly target: Target
  readonly text: string
  readonly measured: Spread | undefined
  /** Unknown when the peer or the workload was not part of the run. */
  readonly reached: boolean | undefined
}

const reaches = (bound: Target["bound"], value: number): boolean =>
  "atMost" in bound ? value <= bound.atMost : "atLeast" in bound ? value >= bound.atLeast : value > bound.above

const describe = ({ bound, inFlight, measure, peer, workload }: Target): string => {
  const limit = "atMost" in bound
    ? `at most ${bound.atMost}`
    : "atLeast" in bound
    ? `at least ${bound.atLeast}`
    : `more than ${bound.above}`
  return `${workload}, ${inFlight} in flight: ${measure} ${limit} times that of ${peer}`
}

export const judge = (rows: ReadonlyArray<Row>): ReadonlyArray<Verdict> =>
  targets.map((target): Verdict => {
    const row = rows.find(({ inFlight, peer, workload }) =>
      inFlight === target.inFlight && peer === target.peer && workload === target.workload
    )
    const measured = target.measure === "p50" ? row?.p50Ratio : row?.opsRatio
    return {
      target,
      text: describe(target),
      measured,
      reached: measured === undefined ? undefined : reaches(target.bound, measured.median)
    }
  })
