/** Counts operations and keeps their latencies, from the end of the warm-up to the end of the measurement. */
import type { Latency, Slice, SliceResult, Turn } from "./protocol.js"

/** A growing list of numbers that costs next to nothing to add to. */
interface Samples {
  values: Float64Array
  count: number
}

export interface Meter {
  /** Whether to go on. */
  readonly running: () => boolean
  /** Resolves when it is time to end. */
  readonly ended: Promise<void>
  /** The time, for {@link Meter.operation} and {@link Meter.part}. */
  readonly now: () => number
  /** Notes an operation that began at `since` and ends now. */
  readonly operation: (name: string) => (since: number) => void
  /** Notes a part of an operation, or something beside it. */
  readonly part: (name: string) => (since: number) => void
  /** Notes something else that was found out. */
  readonly figure: (name: string, value: number) => void
  readonly turn: (turn: Turn) => void
  /** How many operations were counted so far. */
  readonly operations: () => number
}

export interface ControlledMeter extends Meter {
  /** Lets the slice go by, and then returns what was measured. */
  readonly measure: (slice: Slice) => Promise<void>
  readonly result: () => SliceResult
}

const pause = (seconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, seconds * 1_000))

export const summary = (values: Float64Array): Latency => {
  const count = values.length
  const sorted = values.sort()
  const at = (share: number): number => sorted[Math.floor(share * (count - 1))]
  const sum = sorted.reduce((total, one) => total + one, 0)
  return { count, mean: sum / count, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) }
}

export const make = (): ControlledMeter => {
  const series = new Map<string, Samples>()
  const figures: Record<string, number> = {}
  const turns: Array<Turn> = []
  const now = (): number => performance.now()
  let running = true
  let measuring = false
  let operations = 0
  let begin = 0
  let seconds = 0
  let cpuMicros = 0
  let end: () => void = () => {}
  const ended = new Promise<void>((resolve) => {
    end = resolve
  })

  const samplesOf = (name: string): Samples => {
    const samples = series.get(name) ?? { values: new Float64Array(4_096), count: 0 }
    series.set(name, samples)
    return samples
  }

  const add = (samples: Samples, value: number): void => {
    if (samples.count === samples.values.length) {
      const values = new Float64Array(samples.values.length * 2)
      values.set(samples.values)
      samples.values = values
    }
    samples.values[samples.count++] = value
  }

  return {
    running: () => running,
    ended,
    now,
    operations: () => operations,
    operation: (name) => {
      const samples = samplesOf(name)
      return (since) => {
        if (!measuring) return
        operations++
        add(samples, now() - since)
      }
    },
    part: (name) => {
      const samples = samplesOf(name)
      return (since) => {
        if (measuring) add(samples, now() - since)
      }
    },
    figure: (name, value) => {
      figures[name] = value
    },
    turn: (turn) => {
      if (measuring) turns.push(turn)
    },
    measure: async (slice) => {
      await pause(slice.warmUpSeconds)
      const before = process.cpuUsage()
      begin = now()
      measuring = true
      await pause(slice.seconds)
      measuring = false
      seconds = (now() - begin) / 1_000
      const { system, user } = process.cpuUsage(before)
      cpuMicros = system + user
      running = false
      end()
    },
    result: () => ({
      operations,
      seconds,
      cpuMicros,
      latencies: Object.fromEntries(
        Array.from(series, ([name, samples]) => [name, samples] as const)
          .filter(([, { count }]) => count > 0)
          .map(([name, { count, values }]) => [name, summary(values.subarray(0, count))])
      ),
      figures,
      turns
    })
  }
}
