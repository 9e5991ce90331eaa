/**
 * An `HttpClient` of `@effect/platform` that picks a live instance of a registered service for every request. For those
 * who have the package `@effect/platform`.
 *
 * @since 0.1.0
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import type { HttpClientRequest } from "@effect/platform/HttpClientRequest"
import * as HttpMethod from "@effect/platform/HttpMethod"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Utils from "effect/Utils"
import { EtcdError, InvalidArgument } from "./EtcdError.js"
import { inBackground } from "./internal/background.js"
import { firstOf } from "./internal/firstOf.js"
import * as Address from "./internal/httpName/address.js"
import * as Execute from "./internal/httpName/execute.js"
import * as Instances from "./internal/httpName/instances.js"
import * as validate from "./internal/validate.js"
import type { ServiceInfo } from "./Registry.js"
import { Registry } from "./Registry.js"

/**
 * Who gets the next request, of the instances that are equally near.
 *
 * - `weighted`: each as many as its weight says (smooth weighted round robin, from nginx), in turn where the weights are
 *   equal
 * - `round_robin`: each in turn, whatever its weight
 * - `least_in_flight`: the one that has the fewest requests of this client for its weight; in turn where there are several
 *
 * @since 0.1.0
 * @category options
 */
export type Policy = "round_robin" | "weighted" | "least_in_flight"

/**
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** Default `weighted`. */
  readonly policy?: Policy | undefined
  /**
   * The caller's own zone: its instances get all requests, as long as at least half of them are fit to. Default: instances
   * of all zones are equally near.
   */
  readonly zone?: string | undefined
  /** Default `http`. */
  readonly protocol?: "http" | "https" | undefined
  /** What every path begins with (`/api`), or where it stands in the entry (from its metadata, say). Default: nothing. */
  readonly basePath?: string | ((service: ServiceInfo) => string) | undefined
  /**
   * Methods whose requests may be sent to one more instance after a connection broke, when nobody knows whether the first
   * one has carried them out. Default `GET`, `HEAD`, `OPTIONS`; add `PUT` and `DELETE` if yours are idempotent.
   */
  readonly repeatMethods?: ReadonlyArray<HttpMethod.HttpMethod> | undefined
  /** How long an instance that failed is avoided; twice as long after every further failure. Default 1 second. */
  readonly pause?: Duration.DurationInput | undefined
  /** The longest pause. Default 30 seconds. */
  readonly maxPause?: Duration.DurationInput | undefined
  /** How long a request waits while the instances were never read, as etcd does not answer. Default 5 seconds. */
  readonly listTimeout?: Duration.DurationInput | undefined
}

/**
 * There is no instance to send a request to. It arrives as the `cause` of a `RequestError` with the reason `Transport`, so
 * that the client is an ordinary one; {@link noInstance} finds it.
 *
 * @since 0.1.0
 * @category errors
 */
export class NoInstance extends Schema.TaggedError<NoInstance>("effect-coord/HttpClient/NoInstance")("NoInstance", {
  /** The name of the service. */
  service: Schema.String,
  /**
   * How old the empty list may be, in milliseconds: 0 when etcd is being followed, else since when nothing was heard of
   * it. Left out when the list was never read.
   */
  ageMillis: Schema.optional(Schema.Number),
  /** Why it was never read, when etcd has said so. */
  cause: Schema.optional(Schema.Defect)
}) {
  override get message(): string {
    const service = JSON.stringify(this.service)
    if (this.ageMillis === undefined) {
      const reason = this.cause instanceof EtcdError ? this.cause.message : "etcd has not answered yet"
      return `the instances of ${service} are not known: ${reason}`
    }
    return this.ageMillis === 0
      ? `no instance of ${service} is registered`
      : `no instance of ${service} was registered when etcd was last heard of, ${
        Duration.format(Duration.millis(this.ageMillis))
      } ago`
  }
}

/**
 * The {@link NoInstance} behind the failure of a request, if there is one.
 *
 * @since 0.1.0
 * @category errors
 */
export const noInstance = (error: HttpClientError.HttpClientError): Option.Option<NoInstance> =>
  error._tag === "RequestError" && error.cause instanceof NoInstance ? Option.some(error.cause) : Option.none()

const oneOf = <A extends string>(
  argument: string,
  value: A,
  allowed: Iterable<string>
): Effect.Effect<A, InvalidArgument> => {
  const all = Array.from(allowed)
  return all.includes(value)
    ? Effect.succeed(value)
    : new InvalidArgument({ argument, value: validate.render(value), problem: `must be one of ${all.join(", ")}` })
}

const nanosOf = (argument: string, input: Duration.DurationInput): Effect.Effect<bigint, InvalidArgument> =>
  Effect.map(
    validate.positiveDuration(argument, input),
    (duration) => Option.getOrElse(Duration.toNanos(duration), () => 0n)
  )

const safeMethods: ReadonlyArray<HttpMethod.HttpMethod> = ["GET", "HEAD", "OPTIONS"]

const parseMethods = (
  methods: ReadonlyArray<HttpMethod.HttpMethod>
): Effect.Effect<ReadonlySet<HttpMethod.HttpMethod>, InvalidArgument> =>
  Array.isArray(methods)
    ? Effect.map(
      Effect.forEach(methods, (method) => oneOf<HttpMethod.HttpMethod>("repeatMethods", method, HttpMethod.all)),
      (methods) => new Set(methods)
    )
    : new InvalidArgument({
      argument: "repeatMethods",
      value: validate.render(methods),
      problem: "must be an array of methods"
    })

const parse = (options: Options) =>
  Effect.all({
    policy: oneOf("policy", options.policy ?? "weighted", Instances.policies),
    protocol: oneOf("protocol", options.protocol ?? "http", ["http", "https"]),
    repeatMethods: parseMethods(options.repeatMethods ?? safeMethods),
    pause: nanosOf("pause", options.pause ?? "1 second"),
    maxPause: nanosOf("maxPause", options.maxPause ?? "30 seconds"),
    listTimeout: validate.positiveDuration("listTimeout", options.listTimeout ?? "5 seconds"),
    zone: options.zone === undefined || typeof options.zone === "string" && options.zone !== ""
      ? Effect.succeed(options.zone)
      : new InvalidArgument({
        argument: "zone",
        value: validate.render(options.zone),
        problem: "must be a text that is not empty; leave it out for no zone"
      }),
    basePath: Address.parseBasePath(options.basePath ?? "")
  })

const again = Schedule.jittered(Schedule.spaced("5 seconds"))

/**
 * A client of a service: for each request it picks one of the instances that are registered now, and sends it there by
 * means of the context's `HttpClient`. It can be used wherever an `HttpClient` can; spans and headers are those of the
 * client below, one span for each attempt. The service is followed until the scope closes.
 *
 * The URLs of requests are paths (`/users/1`), which lead to the instance and nowhere else: `//host/path` is a path, too.
 * An absolute URL is accepted if it is the address of an instance, as redirects are; any other is an `InvalidUrl`.
 *
 * Who is chosen: of the instances that did not just fail those that do not drain and have a weight; of these those in the
 * own `zone`, as long as at least half of the zone is fit; of these one by the `policy`. The others are the reserve: they get
 * requests while nobody better is there.
 *
 * When an instance cannot be connected to, the request was not sent, and goes to the next one, until all were tried. When
 * the connection breaks before the response, the request may have been carried out: those with `repeatMethods` are sent to
 * one more instance, and the others fail. All other failures are passed on, and so are responses, whatever their status.
 * A request with a streaming body is never sent twice, as its stream may be half read.
 *
 * After either failure the instance is avoided for `pause`, then one request tries it again; it is as good as new after a
 * response, and when its entry is written anew. Draining, new and removed instances are known as soon as etcd tells of
 * them; while etcd is away the last list stands.
 *
 * A request counts as in flight until the head of its response is there, and again while its body is being read. A body
 * that is never read does not count.
 *
 * Fails with `InvalidArgument` for a name that is none and for options that cannot work; it does not wait for etcd. Its
 * requests fail with a `RequestError` whose cause is {@link NoInstance} when there is nobody to ask.
 *
 * @example
 * ```ts
 * import { NodeHttpClient } from "@effect/platform-node"
 * import { Effect } from "effect"
 * import { Coord } from "effect-coord"
 * import { httpClient } from "effect-coord/HttpClient"
 *
 * const program = Effect.gen(function*() {
 *   const users = yield* httpClient("user", { policy: "least_in_flight" })
 *   const response = yield* users.get("/users/1")
 *   return yield* response.json
 * }).pipe(
 *   Effect.scoped,
 *   Effect.provide([NodeHttpClient.layer, Coord.layer({ endpoints: "localhost:2379" })])
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const httpClient = (
  name: string,
  options: Options = {}
): Effect.Effect<HttpClient.HttpClient, InvalidArgument, Registry | HttpClient.HttpClient | Scope.Scope> =>
  Effect.gen(function*() {
    if (!validate.isOptions(options)) return yield* validate.noOptions(options)
    const { basePath, listTimeout, maxPause, pause, policy, protocol, repeatMethods, zone } = yield* parse(options)
    const client = yield* HttpClient.HttpClient
    const registry = yield* Registry
    const random = new Utils.PCGRandom(yield* Random.nextInt)
    const followed = yield* registry.follow(name)
    const instances = Instances.make({ policy, zone, pause, maxPause, random: () => random.number() })

    // The list alone does not tell of an instance that comes back under its old address.
    yield* followed.events.pipe(
      Stream.runForEach((event) =>
        Effect.sync(() => {
          if (event._tag === "Put") instances.registered(event.service.id)
        })
      ),
      Effect.retry(again),
      inBackground("httpClient", { service: name }),
      Effect.interruptible,
      Effect.forkScoped
    )

    const failed = (request: HttpClientRequest, noInstance: NoInstance): HttpClientError.RequestError =>
      new HttpClientError.RequestError({
        request,
        reason: "Transport",
        cause: noInstance,
        description: noInstance.message
      })

    // The time is also that of requests that cannot be interrupted.
    const ready = (request: HttpClientRequest): Effect.Effect<void, HttpClientError.RequestError> =>
      firstOf(
        Effect.mapError(followed.ready, (cause) => failed(request, new NoInstance({ service: name, cause }))),
        Effect.flatMap(Effect.sleep(listTimeout), () => failed(request, new NoInstance({ service: name })))
      )

    const update = (request: HttpClientRequest): Effect.Effect<void, HttpClientError.RequestError> =>
      Effect.clockWith((clock) => {
        const { services, staleSinceMillis: since } = followed.current() ?? { services: [], staleSinceMillis: 0 }
        instances.update(services)
        if (services.length > 0) return Effect.void
        const ageMillis = since === undefined ? 0 : Math.max(1, clock.unsafeCurrentTimeMillis() - since)
        return Effect.fail(failed(request, new NoInstance({ service: name, ageMillis })))
      })

    const execute = Execute.make({
      service: name,
      client,
      instances,
      protocol,
      basePath,
      repeatMethods,
      refresh: (request) =>
        Effect.suspend(() =>
          followed.current() === undefined ? Effect.zipRight(ready(request), update(request)) : update(request)
        )
    })

    return HttpClient.makeWith<HttpClientError.HttpClientError, never, HttpClientError.HttpClientError, never>(
      (request) => Effect.flatMap(request, execute),
      Effect.succeed
    )
  })
