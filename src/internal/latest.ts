/** A state whose readers want the newest: what is overtaken before they look is skipped. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"

export interface Latest<S> {
  readonly get: () => S
  readonly set: (state: S) => void
  /** Nothing follows. */
  readonly end: () => void
  /** Waits for the first state, from the present one on, of which this is something; `None` at the end. */
  readonly await: <A>(select: (state: S) => A | undefined) => Effect.Effect<Option.Option<A>>
  /** What there is of the present state, then of each that is another; `isSame` compares with what was told last. */
  readonly stream: <A>(select: (state: S) => A | undefined, isSame: (a: A, b: A) => boolean) => Stream.Stream<A>
}

export const make = <S>(initial: S): Latest<S> => {
  let present = initial
  let ended = false
  let signal: Deferred.Deferred<void> | undefined

  const wake = (): void => {
    const waiting = signal
    signal = undefined
    if (waiting !== undefined) Deferred.unsafeDone(waiting, Effect.void)
  }

  const awaiting = <A>(select: (state: S) => A | undefined): Effect.Effect<Option.Option<A>> =>
    Effect.suspend(() => {
      const selected = select(present)
      if (selected !== undefined) return Effect.succeed(Option.some(selected))
      if (ended) return Effect.succeed(Option.none())
      return Effect.zipRight(
        Deferred.await(signal ??= Deferred.unsafeMake(FiberId.none)),
        Effect.suspend(() => awaiting(select))
      )
    })

  return {
    get: () => present,
    set: (state) => {
      present = state
      wake()
    },
    end: () => {
      ended = true
      wake()
    },
    await: awaiting,
    stream: <A>(select: (state: S) => A | undefined, isSame: (a: A, b: A) => boolean) =>
      Stream.unfoldEffect<A | undefined, A, never, never>(undefined, (told) =>
        Effect.map(
          awaiting((state) => {
            const selected = select(state)
            return selected === undefined || (told !== undefined && isSame(told, selected)) ? undefined : selected
          }),
          Option.map((selected) => [selected, selected] as const)
        ))
  }
}
