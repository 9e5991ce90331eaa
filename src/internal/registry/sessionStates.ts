/** The states of sessions for many listeners: one subscription a session, however many registrations share its lease. */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Session, SessionState } from "../../Session.js"

export type Listener = (state: SessionState) => void

export interface SessionStates {
  /** Calls the listener with the present state and every change, until the function is called. */
  readonly listen: (session: Session, listener: Listener) => Effect.Effect<() => void>
}

interface Group {
  readonly listeners: Set<Listener>
  readonly fiber: Fiber.RuntimeFiber<void>
}

export const make: Effect.Effect<SessionStates, never, Scope.Scope> = Effect.map(Effect.scope, (scope) => {
  const groups = new Map<Session, Group>()

  const begin = (session: Session): Effect.Effect<Group> =>
    Effect.suspend(() => {
      const listeners = new Set<Listener>()
      return Stream.runForEach(session.states, (state) =>
        Effect.sync(() => listeners.forEach((listener) => listener(state)))).pipe(
          Effect.interruptible,
          Effect.forkIn(scope),
          Effect.map((fiber) => {
            const group: Group = { listeners, fiber }
            groups.set(session, group)
            return group
          })
        )
    })

  const leave = (session: Session, listener: Listener): void => {
    const group = groups.get(session)
    if (group === undefined) return
    group.listeners.delete(listener)
    if (group.listeners.size > 0) return
    groups.delete(session)
    group.fiber.unsafeInterruptAsFork(group.fiber.id())
  }

  return {
    listen: (session, listener) =>
      Effect.suspend(() => {
        const group = groups.get(session)
        return group === undefined ? begin(session) : Effect.succeed(group)
      }).pipe(
        Effect.tap(({ listeners }) => Effect.sync(() => listeners.add(listener))),
        Effect.zipRight(session.state),
        Effect.map((state) => {
          listener(state)
          return () => leave(session, listener)
        }),
        Effect.uninterruptible
      )
  }
})
