/**
 * The engine's network and its clock: jobs run one after another in the order in which they were posted, never inside
 * the code that posted them; and one fibre sleeps until the earliest deadline.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"

export interface Turns {
  /** Nanoseconds of the clock. */
  readonly now: () => bigint
  readonly post: (job: () => void) => void
  /** Runs the job at a time of the clock; the result takes it back. */
  readonly at: (time: bigint, job: () => void) => () => void
  /** To be called when `Options.deadline` became earlier. */
  readonly wake: () => void
  /** The end of time: no deadline comes any more, and jobs run as soon as whoever posted them is done. */
  readonly stop: Effect.Effect<void>
}

export interface Options {
  /** When `onDeadline` is to be called next. */
  readonly deadline: () => bigint | undefined
  readonly onDeadline: () => void
}

interface Alarm {
  readonly time: bigint
  readonly job: () => void
}

export const make = (options: Options): Effect.Effect<Turns, never, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Effect.clock
    const now = () => clock.unsafeCurrentTimeNanos()

    const jobs = yield* Queue.unbounded<() => void>()
    const run = (batch: Iterable<() => void>) =>
      Effect.suspend(() => {
        const thrown: Array<unknown> = []
        for (const job of batch) {
          try {
            job()
          } catch (error) {
            thrown.push(error)
          }
        }
        return thrown.length === 0
          // lets what the jobs woke up run before the next turn
          ? Effect.yieldNow()
          : Effect.logError("a handler threw, which it must not", ...thrown)
      })
    yield* Queue.takeBetween(jobs, 1, Number.MAX_SAFE_INTEGER).pipe(
      Effect.flatMap(run),
      Effect.forever,
      Effect.annotateLogs("fiber", "effect-coord/engine/turns"),
      Effect.interruptible,
      Effect.forkScoped
    )

    let stopped = false
    const stop = Effect.suspend(() => {
      stopped = true
      return Effect.map(Queue.takeAll(jobs), Chunk.forEach((job) => queueMicrotask(job)))
    })

    const alarms = new Set<Alarm>()
    const changed = Effect.unsafeMakeLatch()
    /** The end of the present sleep; a later deadline needs no new one. */
    let sleepingUntil: bigint | undefined
    const earliest = () => {
      let time = options.deadline()
      for (const alarm of alarms) {
        time = time === undefined || alarm.time < time ? alarm.time : time
      }
      return time
    }
    const wake = () => {
      const time = earliest()
      if (time !== undefined && (sleepingUntil === undefined || time < sleepingUntil)) {
        changed.unsafeOpen()
      }
    }
    const fire = () => {
      const time = now()
      for (const alarm of [...alarms].sort((left, right) => Number(left.time - right.time))) {
        if (alarm.time <= time && alarms.delete(alarm)) {
          alarm.job()
        }
      }
      const deadline = options.deadline()
      if (deadline !== undefined && deadline <= time) {
        options.onDeadline()
      }
    }
    const sleep = Effect.suspend(() => {
      changed.unsafeClose()
      sleepingUntil = earliest()
      if (sleepingUntil === undefined) {
        return changed.await
      }
      // whole milliseconds, because that is what clocks can sleep for
      const millis = Number((sleepingUntil - now() + 999_999n) / 1_000_000n)
      return millis <= 0 ? Effect.void : Effect.raceFirst(Effect.sleep(millis), changed.await)
    })
    yield* sleep.pipe(
      Effect.zipRight(Effect.sync(fire)),
      Effect.forever,
      Effect.annotateLogs("fiber", "effect-coord/engine/clock"),
      Effect.interruptible,
      Effect.forkScoped
    )

    return {
      now,
      post: (job) => {
        if (stopped) {
          queueMicrotask(job)
        } else {
          Queue.unsafeOffer(jobs, job)
        }
      },
      at: (time, job) => {
        const alarm: Alarm = { time, job }
        alarms.add(alarm)
        wake()
        return () => {
          alarms.delete(alarm)
        }
      },
      wake,
      stop
    }
  })
