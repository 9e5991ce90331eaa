/**
 * What the examples share: the services over the embedded engine, or over the cluster that `ETCD_ENDPOINTS` names, and how
 * a program is run and printed.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import type { ConfigError, Scope } from "effect"
import { Config as EffectConfig, Effect, Layer, Logger, LogLevel, Option } from "effect"
import type { EtcdError } from "effect-coord"
import { Coord } from "effect-coord"

/** All services: over `ETCD_ENDPOINTS` if it is set, else over an etcd inside this process. */
export const coord: Layer.Layer<Coord.Coord, ConfigError.ConfigError | EtcdError.InvalidArgument> = Layer.unwrapEffect(
  Effect.map(
    EffectConfig.option(EffectConfig.string("ETCD_ENDPOINTS")),
    Option.match({
      onNone: () => Coord.layerMemory,
      onSome: (endpoints): Layer.Layer<Coord.Coord, EtcdError.InvalidArgument> => Coord.layer({ endpoints })
    })
  )
)

/** A name of this run's own, so that runs do not meet on one cluster. */
export const runName = `example-${process.pid}`

/** One line with the time; warnings of the library say what they are. */
const plainLines = Logger.replace(
  Logger.defaultLogger,
  Logger.make(({ date, logLevel, message }) => {
    const level = LogLevel.greaterThanEqual(logLevel, LogLevel.Warning) ? `${logLevel.label}: ` : ""
    globalThis.console.log(`${date.toISOString().slice(11, 23)}  ${level}${[message].flat().map(String).join(" ")}`)
  })
)

/** Runs all at once, but each a little later than the one before, so that they come in this order. */
export const oneAfterAnother = <A, E, R>(arrivals: ReadonlyArray<Effect.Effect<A, E, R>>): Effect.Effect<void, E, R> =>
  Effect.forEach(arrivals, (arrival, index) => Effect.delay(arrival, `${100 * index} millis`), {
    concurrency: "unbounded",
    discard: true
  })

/** Runs a program to its end; Ctrl-C interrupts it, and what it holds is released all the same. */
export const run = <A, E>(program: Effect.Effect<A, E, Coord.Coord | Scope.Scope>): void =>
  program.pipe(
    Effect.scoped,
    Effect.provide(Layer.provideMerge(coord, plainLines)),
    NodeRuntime.runMain({ disablePrettyLogger: true })
  )
