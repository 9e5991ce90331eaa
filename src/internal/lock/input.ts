/** What is said of anything that is held under a name: checked at once, before anything is sent. */
import type * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { InvalidArgument } from "../../EtcdError.js"
import * as Key from "../../Key.js"
import * as validate from "../validate.js"

const badOnLost = (onLost: unknown): InvalidArgument | undefined =>
  onLost === undefined || onLost === "wait" || onLost === "abandon" ? undefined : new InvalidArgument({
    argument: "onLost",
    value: validate.render(onLost),
    problem: "must be wait or abandon"
  })

/** Where there is no compiler the options may be missing: they are refused when they are used. */
export const onLostOf = <A>(options: { readonly onLost?: A } | null | undefined): A | undefined => options?.onLost

/** @param argument what the error calls the name */
export const badInput = (
  argument: string,
  name: string,
  options: {
    readonly ttl?: Duration.DurationInput | undefined
    readonly timeout?: Duration.DurationInput | undefined
    readonly onLost?: "wait" | "abandon" | undefined
  }
): InvalidArgument | undefined => {
  const problem = Either.getLeft(Key.validate(argument, name))
  if (Option.isSome(problem)) return problem.value
  // A time to live in place of the options would be passed over.
  if (!validate.isOptions(options)) return validate.noOptions(options)
  const { onLost, timeout, ttl } = options
  return [
    ttl === undefined ? Option.none() : Either.getLeft(validate.ttl(ttl)),
    timeout === undefined ? Option.none() : Either.getLeft(validate.positiveDuration("timeout", timeout))
  ].find(Option.isSome)?.value ?? badOnLost(onLost)
}
