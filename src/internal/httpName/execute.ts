/** Sends a request to an instance, and to the next one when that does no harm. */
import type { HttpClient } from "@effect/platform/HttpClient"
import type { HttpClientError } from "@effect/platform/HttpClientError"
import { RequestError } from "@effect/platform/HttpClientError"
import type { HttpClientRequest } from "@effect/platform/HttpClientRequest"
import type { HttpClientResponse } from "@effect/platform/HttpClientResponse"
import type { HttpMethod } from "@effect/platform/HttpMethod"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ServiceInfo } from "../../Registry.js"
import * as Address from "./address.js"
import * as Failure from "./failure.js"
import type { Attempt, Instance, Instances, Outcome } from "./instances.js"
import * as Response from "./response.js"

export interface Options {
  readonly service: string
  readonly client: HttpClient
  readonly instances: Instances
  /** Brings the instances up to date. Fails when there are none. */
  readonly refresh: (request: HttpClientRequest) => Effect.Effect<void, RequestError>
  readonly protocol: "http" | "https"
  readonly basePath: (service: ServiceInfo) => string
  readonly repeatMethods: ReadonlySet<HttpMethod>
}

type Execute = (request: HttpClientRequest) => Effect.Effect<HttpClientResponse, HttpClientError>

const outcomeOf = (exit: Exit.Exit<HttpClientResponse, HttpClientError>): Outcome => {
  if (Exit.isSuccess(exit)) return "Reached"
  const { cause } = exit
  return cause._tag === "Fail" && cause.error._tag === "RequestError" && Failure.of(cause.error) !== "Other"
    ? "Failed"
    : "Unknown"
}

/** After a broken connection it is sent to one other instance, not to all: a request may be what kills them. */
const maxBroken = 1

export const make = (options: Options): Execute => {
  const { basePath, client, instances, protocol, refresh, repeatMethods, service } = options

  const accounted = (response: HttpClientResponse, attempt: Attempt, clock: Clock.Clock): HttpClientResponse =>
    Response.accounted(response, {
      begin: Effect.sync(attempt.beginReading),
      end: Effect.sync(attempt.endReading),
      failed: (error) =>
        Effect.sync(() => {
          if (Failure.ofCause(error.cause) !== "Other") attempt.failed(clock.unsafeCurrentTimeNanos())
        })
    })

  const send = (
    attempt: Attempt,
    request: HttpClientRequest,
    clock: Clock.Clock
  ): Effect.Effect<HttpClientResponse, HttpClientError> =>
    client.execute(request).pipe(
      Effect.map((response) => accounted(response, attempt, clock)),
      Effect.onExit((exit) => Effect.sync(() => attempt.end(outcomeOf(exit), clock.unsafeCurrentTimeNanos())))
    )

  /** With the last instance that was tried, unless there was none to try. */
  const once = (
    request: HttpClientRequest,
    resolve: (instance: Instance) => HttpClientRequest,
    may: (instance: Instance) => boolean
  ) =>
    Effect.clockWith((clock) =>
      Effect.uninterruptibleMask((restore) => {
        const attempt = instances.begin(clock.unsafeCurrentTimeNanos(), may)
        return attempt === undefined
          ? Effect.succeed(undefined)
          : Effect.map(
            Effect.either(send(attempt, resolve(attempt.instance), clock)),
            (result) => ({ instance: attempt.instance, result })
          )
      })
    )

  return () => Effect.die("unused")
}
