/** What a candidate may say of itself. */
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type { CampaignOptions } from "../../Election.js"
import { InvalidArgument } from "../../EtcdError.js"
import * as Input from "../lock/input.js"

/** What is held, in errors and logs. */
export const kind = "leadership"

/** What observers would read as something else is refused. */
export const validateValue = (value: string): Either.Either<string, InvalidArgument> => {
  if (typeof value !== "string") {
    return Either.left(new InvalidArgument({ argument: "value", value: String(value), problem: "must be a text" }))
  }
  return /\p{Surrogate}/u.test(value)
    ? Either.left(
      new InvalidArgument({ argument: "value", problem: "must be well-formed Unicode: it contains a lone surrogate" })
    )
    : Either.right(value)
}

export const badInput = (name: string, options: CampaignOptions): InvalidArgument | undefined =>
  Input.badInput("name", name, options) ?? Option.getOrUndefined(Either.getLeft(validateValue(options.value ?? "")))
