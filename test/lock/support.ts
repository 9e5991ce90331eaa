/** What the suites of locks over an embedded etcd share. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Lock from "../../src/Lock.js"
import { eventually, keys } from "../support/memory.js"

export const lockKeys = Effect.map(keys, (all) => all.filter((key) => key.startsWith("/locks/")))

export const waiting = (key: string, count: number) =>
  eventually(`${count} wait for ${key}`, Effect.map(Lock.inspect(key), ({ waiters }) => waiters.length === count))

/** Runs something scoped in a scope of its own, which is handed out: closing it releases. */
export const holding = <A, E, R>(acquire: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const lock = yield* Scope.extend(acquire, scope)
    return { lock, release: Scope.close(scope, Exit.void) }
  })

/** The same for one lock. */
export const hold = (key: string, options?: Lock.AcquireOptions) => holding(Lock.acquire(key, options))
