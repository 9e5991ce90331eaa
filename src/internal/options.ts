/** The client's options, checked and with their defaults. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Options, Retry } from "../EtcdClient.js"
import type { EtcdError } from "../EtcdError.js"
import { InvalidArgument } from "../EtcdError.js"
import { isOptions, noOptions, positiveDuration, render } from "./validate.js"

export interface ClientOptions {
  readonly namespace: string
  readonly requestTimeoutMillis: number
  readonly connectTimeoutMillis: number
  readonly keepAliveTimeMillis: number
  readonly keepAliveTimeoutMillis: number
  readonly retry: Schedule.Schedule<unknown, EtcdError>
  readonly batch: boolean
  /** -1 for no limit. */
  readonly maxReceiveBytes: number
  /** -1 for no limit. */
  readonly maxSendBytes: number
}

type RetryNumbers = Exclude<Retry, Schedule.Schedule<unknown, EtcdError>>

/** The longest time a timer of Node takes: a longer one would fire at once. */
const maxMillis = 2_147_483_647

/** etcd answers faster pings with GOAWAY and ends the connection. */
const minKeepAliveMillis = 5_000

const positiveInteger = (argument: string, value: number, least: number): Effect.Effect<number, InvalidArgument> =>
  Number.isInteger(value) && value >= least
    ? Effect.succeed(value)
    : new InvalidArgument({ argument, value: render(value), problem: `must be a whole number of at least ${least}` })

const exponential = (
  maxAttempts: number,
  initialDelay: Duration.DurationInput,
  maxDelay: Duration.DurationInput,
  multiplier: number
): Schedule.Schedule<unknown, EtcdError> =>
  Schedule.exponential(initialDelay, multiplier).pipe(
    Schedule.either(Schedule.spaced(maxDelay)),
    Schedule.jittered,
    Schedule.intersect(Schedule.recurs(maxAttempts - 1))
  )

const defaultRetry = { maxAttempts: 5, initialDelay: "200 millis", maxDelay: "5 seconds", multiplier: 2 } as const

const parseRetry = (options: RetryNumbers): Effect.Effect<Schedule.Schedule<unknown, EtcdError>, InvalidArgument> =>
  Effect.gen(function*() {
    const maxAttempts = yield* positiveInteger("retry.maxAttempts", options.maxAttempts ?? defaultRetry.maxAttempts, 1)
    const initial = yield* positiveDuration("retry.initialDelay", options.initialDelay ?? defaultRetry.initialDelay)
    const max = yield* positiveDuration("retry.maxDelay", options.maxDelay ?? defaultRetry.maxDelay)
    const multiplier = options.multiplier ?? defaultRetry.multiplier
    if (!(multiplier >= 1 && multiplier < Infinity)) {
      return yield* new InvalidArgument({
        argument: "retry.multiplier",
        value: render(multiplier),
        problem: "must be a number of at least 1"
      })
    }
    return exponential(maxAttempts, initial, max, multiplier)
  })

export const defaults: ClientOptions = {
  namespace: "",
  requestTimeoutMillis: 10_000,
  connectTimeoutMillis: 5_000,
  keepAliveTimeMillis: 10_000,
  keepAliveTimeoutMillis: 3_000,
  retry: exponential(
    defaultRetry.maxAttempts,
    defaultRetry.initialDelay,
    defaultRetry.maxDelay,
    defaultRetry.multiplier
  ),
  batch: true,
  maxReceiveBytes: -1,
  maxSendBytes: -1
}

const millis = (
  argument: string,
  value: Duration.DurationInput | undefined,
  fallback: number
): Effect.Effect<number, InvalidArgument> =>
  value === undefined
    ? Effect.succeed(fallback)
    : Effect.map(positiveDuration(argument, value), (duration) =>
      Math.min(maxMillis, Math.max(1, Duration.toMillis(duration))))

const limit = (argument: string, value: number | undefined): Effect.Effect<number, InvalidArgument> =>
  value === undefined
    ? Effect.succeed(-1)
    : Number.isInteger(value) && value > 0
    ? Effect.succeed(value)
    : new InvalidArgument({ argument, value: render(value), problem: "must be a whole number of bytes above zero" })

/** Options within the options. */
const group = <A>(argument: string, value: A): Effect.Effect<A, InvalidArgument> =>
  value === undefined || isOptions(value)
    ? Effect.succeed(value)
    : new InvalidArgument({ argument, value: render(value), problem: "must be an object" })

export const parse = (options: Options): Effect.Effect<ClientOptions, InvalidArgument> =>
  Effect.gen(function*() {
    if (!isOptions(options)) return yield* noOptions(options)
    const keepAlive = yield* group("keepAlive", options.keepAlive)
    const retry = yield* group("retry", options.retry)
    const namespace = options.namespace ?? ""
    if (typeof namespace !== "string") {
      return yield* new InvalidArgument({ argument: "namespace", value: render(namespace), problem: "must be a text" })
    }

    if (/[\u0000-\u001f\u007f]/.test(namespace)) {
      return yield* new InvalidArgument({
        argument: "namespace",
        value: namespace,
        problem: "must not contain control characters"
      })
    }
    const keepAliveTimeMillis = yield* millis("keepAlive.time", keepAlive?.time, defaults.keepAliveTimeMillis)
    if (keepAliveTimeMillis < minKeepAliveMillis) {
      return yield* new InvalidArgument({
        argument: "keepAlive.time",
        value: `${keepAliveTimeMillis} ms`,
        problem: "must be at least 5 seconds: etcd ends connections that ping faster"
      })
    }
    return {
      namespace,
      keepAliveTimeMillis,
      keepAliveTimeoutMillis: yield* millis(
        "keepAlive.timeout",
        keepAlive?.timeout,
        defaults.keepAliveTimeoutMillis
      ),
      requestTimeoutMillis: yield* millis("requestTimeout", options.requestTimeout, defaults.requestTimeoutMillis),
      connectTimeoutMillis: yield* millis("connectTimeout", options.connectTimeout, defaults.connectTimeoutMillis),
      retry: retry === undefined ? defaults.retry : Schedule.isSchedule(retry) ? retry : yield* parseRetry(retry),
      batch: options.batch ?? defaults.batch,
      maxReceiveBytes: yield* limit("maxReceiveBytes", options.maxReceiveBytes),
      maxSendBytes: yield* limit("maxSendBytes", options.maxSendBytes)
    }
  })
