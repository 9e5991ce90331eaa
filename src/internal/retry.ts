/**
 * The one place where calls are repeated: only after failures that may pass, and only where a repetition does no harm.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { EtcdError } from "../EtcdError.js"

/**
 * Whether a second sending is harmless after an unknown outcome.
 *
 * - `read`: nothing is written
 * - `idempotent`: writing twice is writing once
 * - `write`: repeated only when the first sending was definitely not applied
 */
export type Repeatable = "read" | "idempotent" | "write"

export interface RetryOptions {
  readonly clock: Clock.Clock
  readonly schedule: Schedule.Schedule<unknown, EtcdError>
  /** With several endpoints an attempt that gets no answer leaves time for another member. */
  readonly endpoints: number
}

const passes = (error: EtcdError): boolean => error.reason === "Unavailable" || error.reason === "DeadlineExceeded"

const withOutcome = (error: EtcdError, mayBeApplied: boolean): EtcdError =>
  error.mayBeApplied || !mayBeApplied ? error : new EtcdError({ ...error, mayBeApplied: true })

/**
 * Runs `attempt` with the time that is left, again as the schedule says, until the whole call's `timeoutMillis` is used up.
 * The error says `mayBeApplied` if any of the attempts may have been.
 */
export const retrying = <A>(
  options: RetryOptions,
  repeatable: Repeatable,
  timeoutMillis: number,
  attempt: (timeoutMillis: number, earlierMayBeApplied: boolean) => Effect.Effect<A, EtcdError>
): Effect.Effect<A, EtcdError> => {
  const patient = options.endpoints === 1 || repeatable === "write"
  const { clock } = options
  return Effect.suspend(() => {
    const start = clock.unsafeCurrentTimeNanos()
    const left = (): number => timeoutMillis - Number((clock.unsafeCurrentTimeNanos() - start) / 1_000_000n)
    const once = (mayBeApplied: boolean): Effect.Effect<A, EtcdError> => {
      const time = left()
      return attempt(Math.max(1, patient ? time : time / 2), mayBeApplied)
    }
    const repeats = (error: EtcdError): boolean =>
      passes(error) && left() > 1 && (repeatable !== "write" || !error.mayBeApplied)
    // By the cause: a handler of errors alone would cost calls that succeed a step more.
    return Effect.catchAllCause(once(false), (cause) => {
      const failure = Cause.failureOption(cause)
      if (Option.isNone(failure) || !repeats(failure.value)) return Effect.failCause(cause)
      const first = failure.value
      let last = first
      // The first attempt was made above, so that a call that succeeds pays nothing for the retry around it.
      let begun = false
      return Effect.suspend(() => {
        if (!begun) {
          begun = true
          return Effect.fail(first)
        }
        return left() < 1 ? Effect.fail(last) : Effect.mapError(once(last.mayBeApplied), (error) => {
          last = withOutcome(error, last.mayBeApplied)
          return last
        })
      }).pipe(Effect.retry({
        while: repeats,
        schedule: Schedule.modifyDelay(
          options.schedule,
          (_, delay) => Duration.millis(Math.max(0, Math.min(Duration.toMillis(delay), left())))
        )
      }))
    })
  })
}
