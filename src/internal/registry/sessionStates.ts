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
  fiber: Fiber.RuntimeFiber<void> | undefined
}

export const make: Effect.Effect<SessionStates, never, Scope.Scope> = Effect.map(Effect.scope, (scope) => {
  const groups = new Map<Session, Group>()

  const begin = (session: Session, { listeners }: Group): Effect.Effect<Fiber.RuntimeFiber<void>> =>
    Stream.runForEach(session.states, (state) => Effect.sync(() => listeners.forEach((listener) => listener(state))))
      .pipe(
        Effect.interruptible,
        Effect.forkIn(scope)
      )

  const leave = (session: Session, group: Group, listener: Listener): void => {
    group.listeners.delete(listener)
    if (group.listeners.size > 0) return
    if (groups.get(session) === group) groups.delete(session)
    group.fiber?.unsafeInterruptAsFork(group.fiber.id())
  }

  return {
    listen: (session, listener) =>
      Effect.suspend(() => {
        const known = groups.get(session)
        const group: Group = known ?? { listeners: new Set(), fiber: undefined }
        // In one step: fibres that come at the same time share it.
        group.listeners.add(listener)
        groups.set(session, group)
        return (known !== undefined ? Effect.void : Effect.map(begin(session, group), (fiber) => {
          group.fiber = fiber
          if (group.listeners.size === 0) fiber.unsafeInterruptAsFork(fiber.id())
        })).pipe(
          Effect.zipRight(session.state),
          Effect.map((state) => {
            listener(state)
            return () => leave(session, group, listener)
          })
        )
      }).pipe(Effect.uninterruptible)
  }
})
