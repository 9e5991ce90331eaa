/** What a candidate may say of itself. */
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { CampaignOptions } from "../../Election.js"
import { InvalidArgument } from "../../EtcdError.js"
import * as Input from "../lock/input.js"
import * as validate from "../validate.js"

/** What is held, in errors and logs. */
export const kind = "leadership"

/** What observers would read as something else is refused. */
export const validateValue = (value: string): Either.Either<string, InvalidArgument> => {
  if (typeof value !== "string") {
    return Either.left(
      new InvalidArgument({ argument: "value", value: validate.render(value), problem: "must be a text" })
    )
  }
  return /\p{Surrogate}/u.test(value)
    ? Either.left(
      new InvalidArgument({ argument: "value", problem: "must be well-formed Unicode: it contains a lone surrogate" })
    )
    : Either.right(value)
}

export const badInput = (name: string, options: CampaignOptions): InvalidArgument | undefined =>
  Input.badInput("name", name, options) ??
    (options.value === undefined ? undefined : Option.getOrUndefined(Either.getLeft(validateValue(options.value))))

/** When to campaign again: of a caller without types it may be anything, and would be looked at after a loss only. */
export const badRetry = (retry: unknown): InvalidArgument | undefined =>
  retry === undefined || Schedule.isSchedule(retry)
    ? undefined
    : new InvalidArgument({ argument: "retry", value: validate.render(retry), problem: "must be a Schedule" })
