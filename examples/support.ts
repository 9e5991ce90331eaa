/**
 * What the examples share: the services over the embedded engine, or over the cluster that `ETCD_ENDPOINTS` names, and how
 * a program is run and printed.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import type { ConfigError, Scope } from "effect"
import { Cause, Config as EffectConfig, Effect, HashMap, Layer, Logger, LogLevel, Option } from "effect"
import type { EtcdError } from "effect-coord"
import { Coord, EtcdClient, Key } from "effect-coord"

const endpoints = EffectConfig.option(EffectConfig.nonEmptyString("ETCD_ENDPOINTS"))

/** Whether a real cluster is used. */
export const isReal = Effect.map(endpoints, Option.isSome)

/** All services: over `ETCD_ENDPOINTS` if it is set, else over an etcd inside this process. */
const coord: Layer.Layer<Coord.Coord, ConfigError.ConfigError | EtcdError.InvalidArgument> = Layer.unwrapEffect(
  Effect.map(
    endpoints,
    Option.match({
      onNone: () => Coord.layerMemory,
      onSome: (endpoints): Layer.Layer<Coord.Coord, EtcdError.InvalidArgument> => Coord.layer({ endpoints })
    })
  )
)

/** A name of this run's own, so that runs do not meet on one cluster. */
export const runName = `example-${process.pid}`

/** One line with the time; warnings of the library say what they are, and of whom. */
const plainLines = Logger.replace(
  Logger.defaultLogger,
  Logger.make(({ annotations, date, logLevel, message }) => {
    const text = [message].flat().map(String).join(" ")
    const time = date.toISOString().slice(11, 23)
    if (LogLevel.lessThan(logLevel, LogLevel.Warning)) return globalThis.console.log(`${time}  ${text}`)
    const about = HashMap.toEntries(HashMap.remove(annotations, "fiber"))
      .filter(([, value]) => !text.includes(String(value)))
      .map(([name, value]) => ` ${name}=${value}`)
    globalThis.console.log(`${time}  ${logLevel.label}: ${text}${about.join("")}`)
  })
)

/** Runs all at once, but each a little later than the one before, so that they come in this order. */
export const oneAfterAnother = <A, E, R>(arrivals: ReadonlyArray<Effect.Effect<A, E, R>>): Effect.Effect<void, E, R> =>
  Effect.forEach(arrivals, (arrival, index) => Effect.delay(arrival, `${100 * index} millis`), {
    concurrency: "unbounded",
    discard: true
  })

/** Settings outlive the process that has made them: those of this run are deleted. */
const forgetSettings = Effect.flatMap(
  EtcdClient.EtcdClient,
  (etcd) => Effect.ignore(etcd.delete(Key.prefix(`/config/${runName}/`), { timeout: "2 seconds" }))
)

/** What went wrong, in a line. */
const tell = (cause: Cause.Cause<unknown>) =>
  Effect.forEach(Cause.prettyErrors(cause), ({ message }) => Effect.logError(message), { discard: true })

/** Runs a program to its end; Ctrl-C interrupts it, and nothing is left in etcd all the same. */
export const run = <A, E>(program: Effect.Effect<A, E, Coord.Coord | Scope.Scope>): void =>
  program.pipe(
    Effect.scoped,
    Effect.ensuring(forgetSettings),
    Effect.provide(coord),
    Effect.tapErrorCause(tell),
    Effect.provide(plainLines),
    NodeRuntime.runMain({ disableErrorReporting: true, disablePrettyLogger: true })
  )
