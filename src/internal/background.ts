/** Fibres that outlive the call that happened to start them. */
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as HashMap from "effect/HashMap"
import * as List from "effect/List"

/**
 * Runs `effect` under the name `effect-coord/<name>` in logs, without the annotations of whoever was first to need it: it
 * works for all who come later as well.
 */
export const inBackground =
  (name: string, annotations: Record<string, string> = {}) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    effect.pipe(
      Effect.annotateLogs({ fiber: `effect-coord/${name}`, ...annotations }),
      Effect.locally(FiberRef.currentLogAnnotations, HashMap.empty<string, unknown>()),
      Effect.locally(FiberRef.currentLogSpan, List.empty())
    )
