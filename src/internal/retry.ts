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

/** What follows after an attempt that was not the last one. */
export interface Rest<A> {
  readonly goOn: (cause: Cause.Cause<EtcdError>) => Effect.Effect<A, EtcdError>
}

/** By the cause: a handler of errors alone would cost calls that succeed a step more. */
export const goingOn = <A>(
  attempt: Effect.Effect<A, EtcdError>,
  rest: Rest<A> | undefined
): Effect.Effect<A, EtcdError> =>
  rest === undefined ? attempt : Effect.catchAllCause(attempt, (cause) => rest.goOn(cause))

/** One attempt, given the time that it has, and whether an earlier one may have been applied. */
type Attempt<A> = (timeoutMillis: number, earlierMayBeApplied: boolean) => Effect.Effect<A, EtcdError>

/** A call from its beginning to its end, however many attempts that takes. */
export abstract class Course<A> implements Rest<A> {
  readonly #options: RetryOptions
  readonly #repeatable: Repeatable
  readonly #timeoutMillis: number
  readonly #start: bigint

  constructor(options: RetryOptions, repeatable: Repeatable, timeoutMillis: number) {
    this.#options = options
    this.#repeatable = repeatable
    this.#timeoutMillis = timeoutMillis
    this.#start = options.clock.unsafeCurrentTimeNanos()
  }

  protected abstract attempt(...args: Parameters<Attempt<A>>): ReturnType<Attempt<A>>

  /** The time of the next attempt. */
  time(): number {
    const patient = this.#options.endpoints === 1 || this.#repeatable === "write"
    const left = this.#left()
    return Math.max(1, patient ? left : left / 2)
  }

  once(earlierMayBeApplied: boolean): Effect.Effect<A, EtcdError> {
    return this.attempt(this.time(), earlierMayBeApplied)
  }

  /** What follows after the first attempt has failed. */
  goOn(cause: Cause.Cause<EtcdError>): Effect.Effect<A, EtcdError> {
    const failure = Cause.failureOption(cause)
    if (Option.isNone(failure) || !this.#repeats(failure.value)) return Effect.failCause(cause)
    const first = failure.value
    let last = first
    // The first attempt is over, so that a call that succeeds pays nothing for the retry around it.
    let begun = false
    return Effect.suspend(() => {
      if (!begun) {
        begun = true
        return Effect.fail(first)
      }
      return this.#left() < 1 ? Effect.fail(last) : Effect.mapError(this.once(last.mayBeApplied), (error) => {
        last = withOutcome(error, last.mayBeApplied)
        return last
      })
    }).pipe(Effect.retry({
      while: (error) => this.#repeats(error),
      schedule: Schedule.modifyDelay(
        this.#options.schedule,
        (_, delay) => Duration.millis(Math.max(0, Math.min(Duration.toMillis(delay), this.#left())))
      )
    }))
  }

  #left(): number {
    return this.#timeoutMillis - Number((this.#options.clock.unsafeCurrentTimeNanos() - this.#start) / 1_000_000n)
  }

  #repeats(error: EtcdError): boolean {
    return passes(error) && this.#left() > 1 && (this.#repeatable !== "write" || !error.mayBeApplied)
  }
}

/** A call by its attempts. */
export class Calling<A> extends Course<A> {
  readonly attempt: Attempt<A>

  constructor(options: RetryOptions, repeatable: Repeatable, timeoutMillis: number, attempt: Attempt<A>) {
    super(options, repeatable, timeoutMillis)
    this.attempt = attempt
  }
}

/**
 * Runs `attempt` with the time that is left, again as the schedule says, until the whole call's `timeoutMillis` is used up.
 * The error says `mayBeApplied` if any of the attempts may have been.
 */
export const retrying = <A>(
  options: RetryOptions,
  repeatable: Repeatable,
  timeoutMillis: number,
  attempt: Attempt<A>
): Effect.Effect<A, EtcdError> =>
  Effect.suspend(() => {
    const course = new Calling(options, repeatable, timeoutMillis, attempt)
    return goingOn(course.once(false), course)
  })
