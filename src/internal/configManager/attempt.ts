/** An update on its way to the application: decoded, validated, and handed over. */
import type * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { Phase } from "./model.js"
import { no } from "./reason.js"

export interface Steps<A, R> {
  readonly validate: ((value: A) => boolean | Effect.Effect<unknown, unknown, R>) | undefined
  readonly onUpdate: ((value: A, previous: A) => Effect.Effect<unknown, unknown, R>) | undefined
}

/** What was said of the value: it may quote it. */
export type Refusal = Redacted.Redacted<Cause.Cause<unknown>>

export type Verdict<A> =
  | { readonly _tag: "Accepted"; readonly value: A }
  /** Without a cause: it took too long, and is being interrupted. */
  | { readonly _tag: "Refused"; readonly phase: Phase; readonly cause: Refusal | undefined }

export interface Attempt<A> {
  readonly verdict: Verdict<A>
  /** Waits until nothing of it goes on any more. */
  readonly ended: Effect.Effect<void>
}

/** How long the end of the manager waits for an update that is being interrupted. */
const closeTimeout = "2 seconds"

/** Succeeds with the value if it is accepted. Thrown errors are defects of the effect. */
export const validated = <A, R>(validate: Steps<A, R>["validate"], value: A): Effect.Effect<A, unknown, R> =>
  validate === undefined ? Effect.succeed(value) : Effect.suspend(() => {
    const answer = validate(value)
    return Effect.flatMap(
      typeof answer === "boolean" ? Effect.succeed(answer) : answer,
      (accepted) => accepted === false ? Effect.fail(no) : Effect.succeed(value)
    )
  })

/** Waits for a fibre for so long. Most are over before there is a reason to set a timer. */
const within = <A, E>(
  fiber: Fiber.RuntimeFiber<A, E>,
  time: Duration.DurationInput
): Effect.Effect<Option.Option<Exit.Exit<A, E>>> =>
  Effect.flatMap(Effect.yieldNow(), () => {
    const exit = fiber.unsafePoll()
    return exit !== null ? Effect.succeedSome(exit) : Effect.raceFirst(
      Effect.interruptible(Effect.asSome(Fiber.await(fiber))),
      Effect.interruptible(Effect.as(Effect.sleep(time), Option.none()))
    )
  })

/** Interrupts, and waits for the end; not for ever, as it may be in a region that cannot be interrupted. */
const leave = (fiber: Fiber.RuntimeFiber<unknown, unknown>): Effect.Effect<void> =>
  Effect.zipRight(Fiber.interruptFork(fiber), Effect.asVoid(within(fiber, closeTimeout)))

/**
 * Runs an update through all phases in a fibre of its own, so that one that hangs holds nobody up. Interruption ends it.
 *
 * @param timeout for all phases together
 */
export const run = <A, R>(
  decoded: Effect.Effect<A, unknown, R>,
  { onUpdate, validate }: Steps<A, R>,
  previous: A,
  timeout: Duration.Duration
): Effect.Effect<Attempt<A>, never, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      let phase: Phase = "decode"
      const updated = Effect.gen(function*() {
        const value = yield* decoded
        phase = "validate"
        yield* validated(validate, value)
        phase = "onUpdate"
        if (onUpdate !== undefined) yield* onUpdate(value, previous)
        return value
      })
      // A fibre that failed would have its error logged.
      const fiber = yield* Effect.forkDaemon(Effect.exit(Effect.interruptible(updated)))
      const waiting = <X>(effect: Effect.Effect<X>) => Effect.onInterrupt(restore(effect), () => leave(fiber))
      const over = yield* waiting(within(fiber, timeout))
      if (Option.isNone(over)) {
        yield* Fiber.interruptFork(fiber)
        return {
          verdict: { _tag: "Refused", phase, cause: undefined },
          ended: waiting(Effect.asVoid(Fiber.await(fiber)))
        }
      }
      const exit = Exit.flatten(over.value)
      return {
        verdict: Exit.isSuccess(exit)
          ? { _tag: "Accepted", value: exit.value }
          : { _tag: "Refused", phase, cause: Redacted.make(exit.cause) },
        ended: Effect.void
      }
    })
  )
