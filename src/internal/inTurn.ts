/** What is done by one at a time. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"

export type InTurn = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/**
 * Each waits for all that came before.
 *
 * A semaphore of Effect's does not do: it takes its permit where it can still be interrupted, and one who is interrupted
 * just then keeps it for ever. Nor does it keep the order, as it lets in who comes before those who wait have woken up.
 */
export const make = (): InTurn => {
  /** The first one has its turn. */
  const queue: Array<Deferred.Deferred<void>> = []

  const leave = (own: Deferred.Deferred<void>): void => {
    const index = queue.indexOf(own)
    queue.splice(index, 1)
    if (index === 0 && queue.length > 0) Deferred.unsafeDone(queue[0], Effect.void)
  }

  return (effect) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        const own = Deferred.unsafeMake<void>(FiberId.none)
        queue.push(own)
        const turn = queue.length === 1 ? Effect.void : Deferred.await(own)
        return Effect.ensuring(restore(Effect.zipRight(turn, effect)), Effect.sync(() => leave(own)))
      })
    )
}
