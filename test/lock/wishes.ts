/** Those who want something at random. */
import * as Effect from "effect/Effect"

/** What all of them say. Times are in milliseconds. */
export interface Wish {
  readonly process: number
  readonly after: number
  readonly holds: number
  /** How long it waits, or when it is interrupted. */
  readonly timeout: number | undefined
  readonly patience: number | undefined
}

/** Comes at its time, and is interrupted when its patience is over. */
export const inItsTime = <A, E, R>(
  { after, patience }: Wish,
  attempt: Effect.Effect<A, E, R>
): Effect.Effect<void, E, R> =>
  Effect.delay(
    Effect.asVoid(patience === undefined ? Effect.asSome(attempt) : Effect.timeoutOption(attempt, patience)),
    after
  )
