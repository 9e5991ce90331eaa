/**
 * Time that goes on by itself, to the next timer as soon as nobody has anything left to do. `TestClock` waits for several
 * real timers at each step; a thousand scenarios of some seconds each would take minutes with it.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

interface Timer {
  readonly time: number
  readonly run: () => void
}

class VirtualClock implements Clock.Clock {
  readonly [Clock.ClockTypeId]: typeof Clock.ClockTypeId = Clock.ClockTypeId
  readonly #timers = new Set<Timer>()
  #millis = 0

  unsafeCurrentTimeMillis(): number {
    return this.#millis
  }

  unsafeCurrentTimeNanos(): bigint {
    return BigInt(Math.round(this.#millis * 1_000_000))
  }

  readonly currentTimeMillis = Effect.sync(() => this.unsafeCurrentTimeMillis())
  readonly currentTimeNanos = Effect.sync(() => this.unsafeCurrentTimeNanos())

  sleep(duration: Duration.Duration): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      const timer: Timer = { time: this.#millis + Duration.toMillis(duration), run: () => resume(Effect.void) }
      this.#timers.add(timer)
      return Effect.sync(() => {
        this.#timers.delete(timer)
      })
    })
  }

  /** Goes to the next timer, and runs it; `false` when there is none until then. */
  advance(limit: number): boolean {
    let next: Timer | undefined
    for (const timer of this.#timers) {
      if (next === undefined || timer.time < next.time) next = timer
    }
    if (next === undefined || next.time > limit) return false
    this.#timers.delete(next)
    this.#millis = Math.max(this.#millis, next.time)
    next.run()
    return true
  }
}

/** Lets everything run that needs no time. */
const settled = Effect.async<void>((resume) => {
  const immediate = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(immediate))
})

/** Waits until a condition holds, while time passes: for as long as there is any. */
export const until = <E, R>(condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.asVoid(Effect.repeat(Effect.delay(condition, "10 millis"), { until: (holds) => holds }))

/** Runs an effect, and all that it forks, in a time of its own. Dies when that time comes to the limit. */
export const inVirtualTime = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  limit: Duration.DurationInput = "5 minutes"
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const clock = new VirtualClock()
    const passing: Effect.Effect<never> = Effect.flatMap(settled, () =>
      clock.advance(Duration.toMillis(limit))
        ? passing
        : Effect.dieMessage(`nothing more happens within ${Duration.format(limit)}`))
    return Effect.raceFirst(Effect.withClock(effect, clock), passing)
  })
