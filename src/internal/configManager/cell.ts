/** A state that changes, and whose readers want the newest: what is overtaken before they look is skipped. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"

export interface Cell<S> {
  readonly get: () => S
  readonly set: (state: S) => void
  /** The present state, then the newest whenever it is not the same as the one told before; until the cell is closed. */
  readonly states: (isSame: (a: S, b: S) => boolean) => Stream.Stream<S>
  readonly close: () => void
}

export const make = <S extends object>(initial: S): Cell<S> => {
  let present = initial
  let signal: Deferred.Deferred<void> | undefined
  let isClosed = false

  const wake = (): void => {
    const waiting = signal
    signal = undefined
    if (waiting !== undefined) Deferred.unsafeDone(waiting, Effect.void)
  }

  return {
    get: () => present,
    set: (state) => {
      present = state
      wake()
    },
    states: (isSame) => {
      const next = (seen: S | undefined): Effect.Effect<Option.Option<readonly [S, S]>> =>
        Effect.suspend(() => {
          if (seen === undefined || !isSame(seen, present)) return Effect.succeed(Option.some([present, present]))
          if (isClosed) return Effect.succeed(Option.none())
          return Effect.flatMap(Deferred.await(signal ??= Deferred.unsafeMake(FiberId.none)), () => next(seen))
        })
      return Stream.unfoldEffect<S | undefined, S, never, never>(undefined, next)
    },
    close: () => {
      isClosed = true
      wake()
    }
  }
}
