/** An update on its way to the application: decoded, validated, and handed over. */
import type * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Bounded from "../bounded.js"
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

/** Where there is no compiler, a function may give anything: a promise, or nothing at all. */
const effectOf = <R>(phase: Phase, answer: Effect.Effect<unknown, unknown, R>): Effect.Effect<unknown, unknown, R> =>
  Effect.isEffect(answer) ? answer : Effect.dieMessage(`${phase} has to give an effect`)

/** Succeeds with the value if it is accepted. Thrown errors are defects of the effect. */
const validated = <A, R>(validate: Steps<A, R>["validate"], value: A): Effect.Effect<A, unknown, R> =>
  validate === undefined ? Effect.succeed(value) : Effect.suspend(() => {
    const answer = validate(value)
    return Effect.flatMap(
      typeof answer === "boolean" ? Effect.succeed(answer) : effectOf("validate", answer),
      (accepted) => accepted === false ? Effect.fail(no) : Effect.succeed(value)
    )
  })

/**
 * Runs an update through all phases.
 *
 * @param timeout for all phases together
 */
export const run = <A, R>(
  decoded: Effect.Effect<A, unknown, R>,
  { onUpdate, validate }: Steps<A, R>,
  previous: A,
  timeout: Duration.Duration
): Effect.Effect<Attempt<A>, never, R> =>
  Effect.suspend(() => {
    let phase: Phase = "decode"
    const updated = Effect.gen(function*() {
      const value = yield* decoded
      phase = "validate"
      yield* validated(validate, value)
      phase = "onUpdate"
      if (onUpdate !== undefined) yield* effectOf("onUpdate", onUpdate(value, previous))
      return value
    })
    return Effect.map(Bounded.run(updated, timeout), ({ ended, exit }): Attempt<A> => ({
      verdict: Option.match(exit, {
        onNone: () => ({ _tag: "Refused", phase, cause: undefined }),
        onSome: Exit.match({
          onFailure: (cause) => ({ _tag: "Refused", phase, cause: Redacted.make(cause) }),
          onSuccess: (value) => ({ _tag: "Accepted", value })
        })
      }),
      ended
    }))
  })
