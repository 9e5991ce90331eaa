/** What the failure of a request says about the instance, and about whether the request was carried out. */
import type { HttpBody } from "@effect/platform/HttpBody"
import type { RequestError } from "@effect/platform/HttpClientError"
import * as Predicate from "effect/Predicate"

/**
 * - `Unreachable`: there was no connection, so the request was certainly not sent
 * - `Broken`: the connection ended before the answer; the request may have been carried out
 * - `Other`: it says nothing about the instance
 */
export type Failure = "Unreachable" | "Broken" | "Other"

const unreachable = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT"])
const broken = new Set([
  "ECONNABORTED",
  "ECONNRESET",
  "EHOSTUNREACH",
  "ENETDOWN",
  "ENETUNREACH",
  "EPIPE",
  "ETIMEDOUT",
  "UND_ERR_SOCKET"
])

/** The system calls that come before anything can be sent. */
const beforeSending = new Set(["connect", "getaddrinfo"])

const errorsOf = (error: unknown): ReadonlyArray<unknown> =>
  Predicate.hasProperty(error, "errors") && Array.isArray(error.errors) ? error.errors : []

/** Clients wrap the error of the socket: `fetch` in a `TypeError`, Node in one for all addresses of a name. */
export const ofCause = (cause: unknown, depth = 0): Failure => {
  if (!Predicate.isRecord(cause) || depth > 5) return "Other"
  const errors = errorsOf(cause)
  if (errors.length > 0) {
    const all = new Set(errors.map((error) => ofCause(error, depth + 1)))
    return all.has("Other") ? "Other" : all.has("Broken") ? "Broken" : "Unreachable"
  }
  const { code, syscall } = cause
  if (Predicate.isString(code)) {
    if (unreachable.has(code) || (Predicate.isString(syscall) && beforeSending.has(syscall))) return "Unreachable"
    if (broken.has(code)) return "Broken"
  }
  return ofCause(cause.cause, depth + 1)
}

export const of = (error: RequestError): Failure => error.reason === "Transport" ? ofCause(error.cause) : "Other"

/** Whether a body is there as a whole: a stream may have been read in part, and not be readable a second time. */
export const isWhole = (body: HttpBody): boolean =>
  body._tag === "Raw" ? Predicate.isString(body.body) || body.body instanceof Uint8Array : body._tag !== "Stream"
