/** A value that changes, and that few look at: nothing more than the value as long as nobody follows it. */
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"

export interface Cell<A> {
  readonly get: () => A
  /** Does nothing if the value is the same. */
  readonly set: (value: A) => void
  /** The present value, then every other. */
  readonly changes: Stream.Stream<A>
}

export const make = <A>(initial: A, isSame: (a: A, b: A) => boolean): Cell<A> => {
  let present = initial
  let hub: PubSub.PubSub<A> | undefined

  const followed = Effect.suspend(() =>
    hub !== undefined ? Effect.succeed(hub) : Effect.map(PubSub.unbounded<A>(), (made) => hub ??= made)
  )

  return {
    get: () => present,
    set: (value) => {
      if (isSame(present, value)) return
      present = value
      hub?.unsafeOffer(value)
    },
    changes: Stream.unwrapScoped(
      Effect.map(
        Effect.flatMap(followed, PubSub.subscribe),
        (subscription) =>
          Stream.concat(Stream.make(present), Stream.fromQueue(subscription)).pipe(Stream.changesWith(isSame))
      )
    )
  }
}
