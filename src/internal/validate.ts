/** Checks shared by the public modules: bad input is refused at once, with an error that names it. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { InvalidArgument } from "../EtcdError.js"

/** What was passed in, which may be anything where there is no compiler. */
export const render = (value: unknown): string => {
  if (typeof value !== "object" || value === null) return String(value)
  try {
    return JSON.stringify(value) ?? "an object"
  } catch {
    return "an object"
  }
}

/** Whether it can hold options: what a text or a number has in their place would be passed over. */
export const isOptions = (options: unknown): boolean => typeof options === "object" && options !== null

export const noOptions = (options: unknown): InvalidArgument =>
  new InvalidArgument({ argument: "options", value: String(options), problem: "must be an object" })

/** A duration above zero and not infinite. Texts that are no duration are refused as well. */
export const positiveDuration = (
  argument: string,
  input: Duration.DurationInput
): Either.Either<Duration.Duration, InvalidArgument> => {
  // Negative numbers become zero in `Duration`; they are refused just as zero is.
  const duration = Duration.decodeUnknown(input)
  return Option.isSome(duration) && Duration.toMillis(duration.value) > 0 && Duration.isFinite(duration.value)
    ? Either.right(duration.value)
    : Either.left(new InvalidArgument({ argument, value: render(input), problem: "must be a duration above zero" }))
}

/** The longest lease etcd grants: 9,000,000,000 seconds. */
const maxTtlMillis = 9_000_000_000_000

/** A time to live of a lease: above zero, and what etcd can grant. */
export const ttl = (input: Duration.DurationInput): Either.Either<Duration.Duration, InvalidArgument> =>
  Either.filterOrLeft(
    positiveDuration("ttl", input),
    (duration) => Duration.toMillis(duration) <= maxTtlMillis,
    () =>
      new InvalidArgument({ argument: "ttl", value: render(input), problem: "etcd grants at most 9000000000 seconds" })
  )

/** Where a service keeps its keys: begins with a slash, does not end with one. */
export const keyPrefix = (argument: string, prefix: string): Effect.Effect<string, InvalidArgument> =>
  typeof prefix === "string" && /^(\/[^/\p{Cc}\p{Surrogate}]+)+$/u.test(prefix)
    ? Effect.succeed(prefix)
    : Effect.fail(
      new InvalidArgument({
        argument,
        value: render(prefix),
        problem: "must begin with a slash, not end with one, and contain no empty segment"
      })
    )
