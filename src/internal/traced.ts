/** Spans and debug logs where somebody looks at them. */
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as LogLevel from "effect/LogLevel"
import * as Tracer from "effect/Tracer"

/** The tracer of programs that have none: its spans go nowhere, and a span costs as much as half of an operation. */
const native = Context.get(DefaultServices.liveServices, Tracer.Tracer)

/** A span around an operation that leaves the process, if there is a tracer to see it. */
export const traced = <A, E, R>(
  name: string,
  attributes: Record<string, unknown>,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.tracerWith((tracer): Effect.Effect<A, E, R> =>
    tracer === native ? effect : Effect.withSpan(effect, name, { attributes, captureStackTrace: false })
  )

/** Logs at debug level, and makes the annotations only if that level is logged. */
export const debug = (message: string, annotations: () => Record<string, string>): Effect.Effect<void> =>
  Effect.withFiberRuntime((fiber) =>
    LogLevel.lessThanEqual(fiber.getFiberRef(FiberRef.currentMinimumLogLevel), LogLevel.Debug)
      ? Effect.annotateLogs(Effect.logDebug(message), annotations())
      : Effect.void
  )
