/** Semaphores of one or several processes over an embedded etcd. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Semaphore from "../../src/Semaphore.js"
import { eventually, keys, process, whileTimePasses } from "../support/memory.js"

export const semaphoreKeys = Effect.map(keys, (all) => all.filter((key) => key.startsWith("/semaphores/")))

/** Gives the effect semaphores of the scenario's process. */
export const withSemaphores = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Layer.build(Semaphore.layer()), (context) => Effect.provide(effect, context))

/** The semaphores of another process on the same etcd, which has held a permit before. */
export const another = (connection: string) =>
  Effect.tap(
    Effect.map(
      Layer.build(Layer.provideMerge(Semaphore.layer(), process({ connection }))),
      Context.get(Semaphore.Semaphore)
    ),
    (semaphore) => Effect.scoped(semaphore.acquire("warm", { limit: 1 }))
  )

export const waiting = (name: string, count: number) =>
  eventually(
    `${count} wait for ${name}`,
    Effect.map(Semaphore.inspect(name), ({ waiters }) => waiters.length === count)
  )

/** The same while time passes. */
export const waitingInTime = (name: string, count: number) =>
  whileTimePasses(
    Effect.repeat(Effect.delay(Semaphore.inspect(name), "100 millis"), {
      until: ({ waiters }) => waiters.length === count
    })
  )

/** Acquires in a scope of its own, which is handed out: closing it releases. */
export const hold = (name: string, options: Semaphore.AcquireOptions) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const handle = yield* Scope.extend(Semaphore.acquire(name, options), scope)
    return { handle, release: Scope.close(scope, Exit.void) }
  })
