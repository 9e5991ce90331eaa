/** What this process has registered, from the call that registers it until its entry is deleted. */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { EtcdClient } from "../../EtcdClient.js"
import type { Registry } from "../../Registry.js"
import { Sessions } from "../../Session.js"
import { inBackground } from "../background.js"
import { firstOf } from "../firstOf.js"
import * as validate from "../validate.js"
import type { Layout } from "./entry.js"
import * as Entry from "./entry.js"
import * as Input from "./input.js"
import type { Keeper } from "./keeper.js"
import * as Keepers from "./keeper.js"
import * as OwnEntries from "./ownEntries.js"
import * as SessionStates from "./sessionStates.js"
import * as Workers from "./workers.js"

export interface Registrations {
  readonly register: Registry["Type"]["register"]
  /** Ends those with this id, of one service or of all, and tells whether there were any. */
  readonly unregister: (id: string, name: string | undefined) => Effect.Effect<boolean>
}

const defaultTtl = Duration.seconds(30)

/** What is still registered when the scope closes is unregistered. */
export const make = (
  layout: Layout
): Effect.Effect<Registrations, never, EtcdClient | Sessions | Scope.Scope> =>
  Effect.gen(function*() {
    const background = yield* Effect.scope
    const states = yield* SessionStates.make
    const entries = yield* OwnEntries.make
    const workers = yield* Workers.make
    const own = Context.make(EtcdClient, yield* EtcdClient).pipe(Context.add(Sessions, yield* Sessions))
    /** By key: usually one each. */
    const keepers = new Map<string, ReadonlyArray<Keeper>>()
    const keepersOf = (key: string): ReadonlyArray<Keeper> => keepers.get(key) ?? []

    const add = (key: string, keeper: Keeper): void => {
      keepers.set(key, [...keepersOf(key), keeper])
    }

    const forget = (key: string, keeper: Keeper): void => {
      const others = keepersOf(key).filter((other) => other !== keeper)
      if (others.length === 0) keepers.delete(key)
      else keepers.set(key, others)
    }

    /**
     * Waits for its time whatever becomes of the mark, unless there is no time left. The closing fibre may have been
     * interrupted: the mark has its own.
     */
    const drained = (
      { registration }: Keeper,
      time: Duration.Duration,
      hurry: Effect.Latch
    ): Effect.Effect<void> =>
      Effect.flatMap(registration.status, ({ _tag }) =>
        _tag === "Replaced" ? Effect.void : Effect.acquireUseRelease(
          Effect.forkDaemon(Effect.interruptible(Effect.ignore(registration.drain))),
          () => firstOf(Effect.sleep(time), hurry.await),
          Fiber.interrupt
        ))

    const register: Registry["Type"]["register"] = (input, registerOptions) =>
      Effect.gen(function*() {
        const service = yield* Entry.validateService(input, ["service"])
        if (registerOptions !== undefined && !validate.isOptions(registerOptions)) {
          return yield* validate.noOptions(registerOptions)
        }
        const ttl = yield* validate.ttl(registerOptions?.ttl ?? defaultTtl)
        const drain = yield* Input.pause("drain", registerOptions?.drain ?? 0)
        const { id, name } = service
        const key = layout.key(name, id)
        const parent = yield* Effect.scope
        let drains = false
        const hurry = Effect.unsafeMakeLatch()
        const over = Effect.unsafeMakeLatch()
        return yield* Effect.uninterruptibleMask((restore) =>
          Effect.gen(function*() {
            // In one step: of two that come at the same time, one is the second.
            const separate = keepers.has(key)
            keepers.set(key, keepersOf(key))
            const scope = yield* Scope.fork(parent, ExecutionStrategy.sequential)
            const keeper = yield* Keepers.make({
              ttl,
              service,
              layout,
              separate,
              states,
              entries,
              workers,
              background,
              isHeld: (lease) => keepersOf(key).some(({ holds }) => holds(lease)),
              unregister: Effect.uninterruptible(Effect.suspend(() => {
                drains = false
                hurry.unsafeOpen()
                // The scope may be closing already.
                return Effect.zipRight(Scope.close(scope, Exit.void), over.await)
              }))
            })
            add(key, keeper)
            // One, and not several: between them the close of a scope can be interrupted.
            yield* Scope.addFinalizer(
              scope,
              Effect.suspend(() => drains ? drained(keeper, drain, hurry) : Effect.void).pipe(
                Effect.zipRight(keeper.close),
                Effect.zipRight(Effect.sync(() => {
                  // Last: who registers the same key before it is deleted must not use the same lease.
                  forget(key, keeper)
                  over.unsafeOpen()
                })),
                Effect.uninterruptible
              )
            )
            yield* restore(keeper.first).pipe(
              Effect.withSpan("Registry.register", { attributes: { name, id }, captureStackTrace: false }),
              Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
            )
            yield* keeper.keep
            drains = Duration.toMillis(drain) > 0
            return keeper.registration
          })
        ).pipe(
          inBackground("registration", { service: name, id }),
          Effect.provide(own)
        )
      })

    const end = (some: ReadonlyArray<Keeper>): Effect.Effect<void> =>
      Effect.forEach(some, ({ registration }) => registration.unregister, { concurrency: "unbounded", discard: true })

    const unregister: Registrations["unregister"] = (id, name) =>
      Effect.suspend(() => {
        const some = Array.from(keepers.values()).flat().filter(({ registration: { service } }) =>
          service.id === id && (name === undefined || service.name === name)
        )
        return Effect.as(end(some), some.length > 0)
      })

    // What outlives this would be kept by nobody.
    yield* Effect.addFinalizer(() => end(Array.from(keepers.values()).flat()))

    return { register, unregister }
  })
