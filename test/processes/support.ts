/** What the tests with real processes share. */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"

/**
 * How long the tests go on, and by which chance. For longer runs by hand:
 *
 *     COORD_TEST_SECONDS=60 COORD_TEST_SEED=1234 npx vitest run test/processes
 */
export const number = (name: string, fallback: number): number => Number(process.env[name] ?? fallback)

/** In seconds. */
export const duration = BigInt(number("COORD_TEST_SECONDS", 15))

export const seed = number("COORD_TEST_SEED", Math.floor(Math.random() * 1e9))

/** Waits for a condition; dies when it does not hold in time. */
export const until = <E>(
  what: string,
  condition: Effect.Effect<boolean, E>,
  limit: Duration.DurationInput
): Effect.Effect<void, E> =>
  condition.pipe(
    Effect.repeat({ until: (holds) => holds, schedule: Schedule.spaced("20 millis") }),
    Effect.asVoid,
    Effect.timeoutFailCause({
      duration: limit,
      onTimeout: () => Cause.die(new Error(`not within ${Duration.format(limit)}: ${what}`))
    })
  )
