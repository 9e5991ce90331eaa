/** Spans and debug logs where somebody looks at them: a span that nobody sees costs as much as half of an operation. */
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as LogLevel from "effect/LogLevel"
import * as Tracer from "effect/Tracer"

type AnyFiber = Fiber.RuntimeFiber<unknown, unknown>

/** The tracer of programs that have none: its spans go nowhere. */
const native = Context.get(DefaultServices.liveServices, Tracer.Tracer)

/** Whether there is a tracer to see spans. */
export const isTraced = (fiber: AnyFiber): boolean =>
  fiber.currentTracer !== undefined && fiber.currentTracer !== native

/** A span around an operation that leaves the process, if there is a tracer to see it. */
export const traced = <A, E, R>(
  fiber: AnyFiber,
  name: string,
  attributes: Record<string, unknown>,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  isTraced(fiber) ? Effect.withSpan(effect, name, { attributes, captureStackTrace: false }) : effect

/** Whether what is logged at debug level is seen. */
export const isDebugging = (fiber: AnyFiber): boolean =>
  LogLevel.lessThanEqual(fiber.getFiberRef(FiberRef.currentMinimumLogLevel), LogLevel.Debug)
