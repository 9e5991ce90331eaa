/** `Effect.uninterruptibleMask` as plain data, for paths where its closures cost too much. */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as RuntimeFlags from "effect/RuntimeFlags"

/** Who runs what must not be interrupted. */
export interface Masked {
  readonly fiber: Fiber.RuntimeFiber<unknown, unknown>
  /** Those outside. */
  readonly flags: RuntimeFlags.RuntimeFlags
}

class Mask implements Masked {
  readonly fiber: Masked["fiber"]
  readonly flags: Masked["flags"]

  constructor(fiber: Masked["fiber"], flags: Masked["flags"]) {
    this.fiber = fiber
    this.flags = flags
  }
}

/** Runs uninterruptibly what `body` returns; `body` itself may be the last that is run, and should begin nothing. */
export const masked = <A, E, R>(body: (mask: Masked) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withFiberRuntime((fiber, { runtimeFlags: flags }) => {
    const effect = body(new Mask(fiber, flags))
    return RuntimeFlags.interruption(flags) ? Effect.uninterruptible(effect) : effect
  })

/** Interruptible if that was so outside. */
export const restored = <A, E, R>({ flags }: Masked, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  RuntimeFlags.interruption(flags) ? Effect.interruptible(effect) : effect
