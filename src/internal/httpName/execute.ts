/** Sends a request to an instance, and to the next one when that does no harm. */
import type { HttpClient } from "@effect/platform/HttpClient"
import { type HttpClientError, RequestError } from "@effect/platform/HttpClientError"
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
  /** Brings the instances up to date; fails when there are none. */
  readonly refresh: (request: HttpClientRequest) => Effect.Effect<void, RequestError>
  readonly protocol: "http" | "https"
  readonly basePath: (service: ServiceInfo) => string
  readonly repeatMethods: ReadonlySet<HttpMethod>
}

type Execute = (request: HttpClientRequest) => Effect.Effect<HttpClientResponse, HttpClientError>

/** After a broken connection it is sent to one other instance and no more: it may be the request that kills them. */
const maxBroken = 1

const failureOf = (error: HttpClientError): Failure.Failure =>
  error._tag === "RequestError" ? Failure.of(error) : "Other"

const outcomeOf = (exit: Exit.Exit<HttpClientResponse, HttpClientError>): Outcome => {
  if (Exit.isSuccess(exit)) return "Reached"
  return exit.cause._tag === "Fail" && failureOf(exit.cause.error) !== "Other" ? "Failed" : "Unknown"
}

const accounted = (response: HttpClientResponse, attempt: Attempt, clock: Clock.Clock): HttpClientResponse =>
  Response.accounted(response, {
    begin: Effect.sync(attempt.beginReading),
    end: Effect.sync(attempt.endReading),
    failed: (error) =>
      Effect.sync(() => {
        if (Failure.ofCause(error.cause) !== "Other") attempt.failed(clock.unsafeCurrentTimeNanos())
      })
  })

export const make = ({
  basePath,
  client,
  instances,
  protocol,
  refresh,
  repeatMethods,
  service
}: Options): Execute => {
  /** One attempt; with nobody left to ask it fails with what `otherwise` says. */
  const attempt = (
    choose: (now: bigint) => Attempt | undefined,
    resolve: (service: ServiceInfo) => HttpClientRequest,
    otherwise: () => HttpClientError
  ): Effect.Effect<HttpClientResponse, HttpClientError> =>
    Effect.clockWith((clock) =>
      Effect.uninterruptibleMask((restore) => {
        const chosen = choose(clock.unsafeCurrentTimeNanos())
        if (chosen === undefined) return Effect.fail(otherwise())
        return restore(Effect.suspend(() => client.execute(resolve(chosen.instance.service)))).pipe(
          Effect.onExit((exit) => Effect.sync(() => chosen.end(outcomeOf(exit), clock.unsafeCurrentTimeNanos()))),
          Effect.map((response) => accounted(response, chosen, clock))
        )
      })
    )

  /** To an instance of the client's choice, and to others of its choice. */
  const relative: Execute = (request) =>
    Effect.suspend(() => {
      const tried = new Set<Instance>()
      let broken = 0
      const whole = Failure.isWhole(request.body)

      const choose = (now: bigint): Attempt | undefined => {
        const chosen = instances.begin(now, tried)
        if (chosen !== undefined) tried.add(chosen.instance)
        return chosen
      }

      const mayRepeat = (error: HttpClientError): boolean => {
        switch (failureOf(error)) {
          case "Unreachable":
            return whole
          case "Broken":
            return whole && repeatMethods.has(request.method) && broken++ < maxBroken
          case "Other":
            return false
        }
      }

      const next: Effect.Effect<HttpClientResponse, HttpClientError> = attempt(
        choose,
        (service) => Address.resolve(request, Address.origin(protocol, service), basePath(service)),
        // Not reached: who calls has made sure that there is somebody.
        () => new RequestError({ request, reason: "Transport", description: "nobody to ask" })
      ).pipe(
        Effect.catchAll((error) =>
          mayRepeat(error)
            ? Effect.zipRight(
              Effect.ignore(refresh(request)),
              Effect.suspend(() => instances.all().every((instance) => tried.has(instance)) ? Effect.fail(error) : next)
            )
            : Effect.fail(error)
        )
      )
      return next
    })

  /** Where a redirect leads to: only to an instance that is there, never away from the service. */
  const absolute: Execute = (request) => {
    const origin = Address.originOf(request.url)
    return attempt(
      (now) =>
        instances.beginWith(now, (instance) => Address.originOf(Address.origin(protocol, instance.service)) === origin),
      () => request,
      () =>
        new RequestError({
          request,
          reason: "InvalidUrl",
          description: `not a path, and not the address of an instance of ${JSON.stringify(service)}`
        })
    )
  }

  return (request) =>
    Effect.zipRight(refresh(request), Address.isAbsolute(request.url) ? absolute(request) : relative(request))
}
