/** What is known of a service's instances, for callers that cannot wait: grpc-js resolves names in call-backs. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { inBackground } from "../background.js"
import type { Followed, ServiceInfo } from "../registry/model.js"

export type Known =
  | { readonly _tag: "Instances"; readonly services: ReadonlyArray<ServiceInfo> }
  /** Nothing could be read so far. */
  | { readonly _tag: "Unknown"; readonly problem: string }

export interface View {
  /** `undefined` while it is too early to say. What was once known stays known while etcd is away. */
  readonly current: () => Known | undefined
  /** Calls the listener after every change, until the function it gives is called. */
  readonly onChange: (listener: () => void) => () => void
}

const retryDelays = Schedule.exponential("100 millis").pipe(Schedule.either(Schedule.spaced("2 seconds")))

/** @param patience how long callers wait for the first list before they hear that there is none */
export const make = (
  name: string,
  followed: Followed,
  patience: Duration.Duration
): Effect.Effect<View, never, Scope.Scope> =>
  Effect.gen(function*() {
    const listeners = new Set<() => void>()
    let problem: string | undefined
    const report = (text: string): Effect.Effect<void> =>
      Effect.sync(() => {
        problem = text
        for (const listener of Array.from(listeners)) listener()
      })

    const impatience = Effect.suspend(() =>
      problem === undefined && followed.current() === undefined
        ? report(`the instances of ${name} are not known yet: etcd has not answered`)
        : Effect.void
    )
    yield* Effect.sleep(patience).pipe(Effect.zipRight(impatience), Effect.interruptible, Effect.forkScoped)
    yield* followed.ready.pipe(
      Effect.tapError((error) => report(`the instances of ${name} cannot be read: ${error.message}`)),
      Effect.retry(retryDelays),
      Effect.interruptible,
      inBackground("resolver", { service: name }),
      Effect.forkScoped
    )
    return {
      current: () => {
        const instances = followed.current()
        if (instances !== undefined) return { _tag: "Instances", services: instances.services }
        return problem === undefined ? undefined : { _tag: "Unknown", problem }
      },
      onChange: (listener) => {
        const own = (): void => listener()
        const stop = followed.onChange(own)
        listeners.add(own)
        return () => {
          stop()
          listeners.delete(own)
        }
      }
    }
  })
