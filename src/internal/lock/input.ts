/** What is said of anything that is held under a name: checked at once, before anything is sent. */
import type * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type { InvalidArgument } from "../../EtcdError.js"
import * as Key from "../../Key.js"
import * as validate from "../validate.js"

/** @param argument what the error calls the name */
export const badInput = (
  argument: string,
  name: string,
  { timeout, ttl }: {
    readonly ttl?: Duration.DurationInput | undefined
    readonly timeout?: Duration.DurationInput | undefined
  }
): InvalidArgument | undefined =>
  [
    Either.getLeft(Key.validate(argument, name)),
    ttl === undefined ? Option.none() : Either.getLeft(validate.ttl(ttl)),
    timeout === undefined ? Option.none() : Either.getLeft(validate.positiveDuration("timeout", timeout))
  ].find(Option.isSome)?.value
