/** Why an update was refused, in words for people, and without what must stay secret. */
import * as Cause from "effect/Cause"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Redacted from "effect/Redacted"
import type { Phase } from "./model.js"

/** A check that only says no. */
export const no = "it is not valid"

const named = ({ message, name }: Cause.PrettyError): string => name === "Error" ? message : `${name}: ${message}`

/** None where an error is nothing that can be told: `Cause` throws at an object with a bigint in it. */
const errorsOf = (cause: Cause.Cause<unknown>): ReadonlyArray<Cause.PrettyError> => {
  try {
    return Cause.prettyErrors(cause)
  } catch {
    return []
  }
}

const said = (cause: Cause.Cause<unknown>): string =>
  errorsOf(cause).map(named).join("; ") || "it failed, and what with cannot be shown"

const hidden = (cause: Cause.Cause<unknown>): string =>
  `it failed with ${errorsOf(cause).map(({ name }) => name).join(", ") || "something"} ` +
  "(what that says is hidden, as the schema holds secrets)"

/** @param isSecret whether nothing may be passed on that somebody said of the value */
export const reasonOf = (phase: Phase, refusal: Redacted.Redacted<Cause.Cause<unknown>>, isSecret: boolean): string => {
  const cause = Redacted.value(refusal)
  if (Cause.isInterruptedOnly(cause)) return "it was interrupted"
  const error = Option.getOrUndefined(Cause.failureOption(cause))
  if (error === no) return no
  // Errors of decoding hide what is secret themselves.
  if (phase === "decode" && ParseResult.isParseError(error)) return error.message
  return isSecret ? hidden(cause) : said(cause)
}
