/**
 * Notices when somebody else deletes a key that a session holds: by hand (`etcdctl del`), or as Go's recipes do, by name.
 *
 * A key is watched once it has been held for longer than most are, so that short critical sections pay nothing for it.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { EtcdClient } from "../../EtcdClient.js"
import { inBackground } from "../background.js"
import { Bag } from "../bag.js"
import * as KeyWatch from "../keyWatch.js"

export interface HeldKey {
  readonly key: string
  readonly createRevision: bigint
  /** Called at most once, when the key is gone. */
  readonly onDeleted: () => void
}

export interface KeyGuard {
  /** Costs next to nothing; the result ends it. */
  readonly add: (held: HeldKey) => () => void
}

interface Guarded {
  readonly held: HeldKey
  readonly since: bigint
  fiber: Fiber.RuntimeFiber<void> | undefined
}

const watchAfterMillis = 200

export const make = (client: EtcdClient["Type"]): Effect.Effect<KeyGuard, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const clock = yield* Effect.clock
    const guarded = new Bag<Guarded>()
    const some = yield* Effect.makeLatch(false)

    const watch = ({ createRevision, key, onDeleted }: HeldKey): Effect.Effect<void> =>
      KeyWatch.awaitDeleted(client, key, createRevision).pipe(
        Effect.matchEffect({
          onFailure: (error) => Effect.logWarning(`cannot watch the own key ${key}: ${error.message}`),
          onSuccess: () => Effect.sync(onDeleted)
        })
      )

    const look = Effect.suspend(() => {
      if (guarded.size === 0) return some.close
      const before = clock.unsafeCurrentTimeNanos() - BigInt(watchAfterMillis) * 1_000_000n
      const due = guarded.values().filter(({ fiber, since }) => fiber === undefined && since <= before)
      return Effect.forEach(due, (entry) =>
        Effect.map(Effect.forkIn(watch(entry.held), scope), (fiber) => {
          entry.fiber = fiber
        }), { discard: true })
    })

    yield* some.await.pipe(
      Effect.zipRight(Effect.sleep(watchAfterMillis)),
      Effect.zipRight(look),
      Effect.forever,
      inBackground("session/keys"),
      Effect.interruptible,
      Effect.forkIn(scope)
    )

    return {
      add: (held) => {
        const entry: Guarded = { held, since: clock.unsafeCurrentTimeNanos(), fiber: undefined }
        const remove = guarded.add(entry)
        some.unsafeOpen()
        return () => {
          remove()
          entry.fiber?.unsafeInterruptAsFork(entry.fiber.id())
        }
      }
    }
  })
