/** Checks of what is given to the registry, besides services themselves. */
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { InvalidArgument } from "../../EtcdError.js"
import { render } from "../validate.js"

/** A duration that may be zero, but is neither negative nor infinite. */
export const pause = (
  argument: string,
  input: Duration.DurationInput
): Either.Either<Duration.Duration, InvalidArgument> => {
  const duration = Duration.decodeUnknown(input)
  // Negative ones, and what is no number, become zero in `Duration`.
  const isSensible = typeof input === "number" || typeof input === "bigint"
    ? input >= 0
    : typeof input !== "string" || !input.trim().startsWith("-")
  return Option.isSome(duration) && Duration.isFinite(duration.value) && isSensible
    ? Either.right(duration.value)
    : Either.left(new InvalidArgument({ argument, value: render(input), problem: "must be a duration, zero or more" }))
}
