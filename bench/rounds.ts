/**
 * Who is measured when. Machines are not equally fast at all times, so what is compared is measured close together: every
 * round visits each workload, and there each peer, one right after the other, every time in another order.
 */
import { Effect } from "effect"
import type { Options } from "./options.js"
import type { Slice, SliceResult } from "./peers/protocol.js"
import type { Peer } from "./processes.js"
import { workloads } from "./workloads.js"

/** A workload with a number of operations in flight, and who runs it. */
export interface Cell {
  readonly workload: string
  readonly inFlight: number
  readonly peers: ReadonlyArray<Peer>
}

/** What one peer did in one round. */
export interface Measured {
  readonly workload: string
  readonly inFlight: number
  readonly peer: string
  readonly round: number
  readonly result: SliceResult
}

export interface Problem {
  readonly workload: string
  readonly inFlight: number
  readonly peer: string
  readonly message: string
}

export const cells = (options: Options, peers: ReadonlyArray<Peer>): ReadonlyArray<Cell> =>
  options.workloads.flatMap((workload) =>
    options.inFlight
      .filter((inFlight) =>
        inFlight >= (workloads[workload].least ?? 1) && inFlight <= (workloads[workload].most ?? Infinity)
      )
      .map((inFlight) => ({ workload, inFlight, peers: peers.filter((peer) => peer.workloads.includes(workload)) }))
  )

const rotated = <A>(list: ReadonlyArray<A>, by: number): ReadonlyArray<A> =>
  list.map((_, index) => list[(index + by) % list.length])

export const run = <E>(
  options: Options,
  all: ReadonlyArray<Cell>,
  hooks: { readonly progress: (text: string) => void; readonly afterRound: Effect.Effect<void, E> }
): Effect.Effect<{ readonly measured: ReadonlyArray<Measured>; readonly problems: ReadonlyArray<Problem> }, E> =>
  Effect.gen(function*() {
    const measured: Array<Measured> = []
    const problems: Array<Problem> = []
    let slices = 0
    const measure = (
      { inFlight, workload }: Cell,
      peer: Peer,
      { seconds, warmUpSeconds }: Pick<Slice, "seconds" | "warmUpSeconds">
    ) =>
      peer.run({ workload, inFlight, seconds, warmUpSeconds, name: `${peer.name}-${++slices}` }).pipe(
        Effect.catchAll(({ message }) =>
          Effect.sync(() => {
            problems.push({ workload, inFlight, peer: peer.name, message })
            return undefined
          })
        )
      )

    hooks.progress("warming up")
    for (const cell of all) {
      for (const peer of cell.peers.filter(({ warmsUp }) => warmsUp)) {
        // Long enough for what is called to be compiled.
        yield* measure(cell, peer, { seconds: options.seconds * 2, warmUpSeconds: 0 })
      }
    }
    yield* hooks.afterRound
    for (let round = 1; round <= options.rounds; round++) {
      hooks.progress(`round ${round} of ${options.rounds}`)
      for (const [index, cell] of all.entries()) {
        for (const peer of rotated(cell.peers, round + index)) {
          const result = yield* measure(cell, peer, options)
          if (result !== undefined) {
            measured.push({ workload: cell.workload, inFlight: cell.inFlight, peer: peer.name, round, result })
          }
        }
      }
      yield* hooks.afterRound
    }
    return { measured, problems }
  })
