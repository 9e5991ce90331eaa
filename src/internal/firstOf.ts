/** A race for those who cannot be interrupted. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

/**
 * What ends first; the other one is interrupted. For regions that cannot be interrupted: the race itself ends with its
 * caller's interruption where that is possible, and nowhere else.
 *
 * `Effect.raceFirst` of two that can be interrupted does not do there. A fibre hands its interruption on to its children at
 * once, wherever it is itself, so a second interruption would end the race with neither of them, and its caller would leave
 * without having waited or tidied up.
 */
export const firstOf = <A, E, R, A2, E2, R2>(
  one: Effect.Effect<A, E, R>,
  other: Effect.Effect<A2, E2, R2>
): Effect.Effect<A | A2, E | E2, R | R2> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      // No child of the caller. A fibre that failed would have its error logged.
      Effect.forkDaemon(Effect.exit(Effect.interruptible(Effect.raceFirst(one, other)))),
      (race) => Effect.flatten(Effect.onInterrupt(restore(Fiber.join(race)), () => Fiber.interrupt(race)))
    )
  )
