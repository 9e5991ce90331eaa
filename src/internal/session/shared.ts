/**
 * The sessions of an application: one for each time to live, counted by hand, as an `RcMap` and a scope per use cost more
 * than an uncontended lock.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { EtcdClient } from "../../EtcdClient.js"
import type { Session, Sessions } from "../../Session.js"
import { inBackground } from "../background.js"
import { Obligations } from "../obligations.js"
import * as validate from "../validate.js"
import * as Remover from "./remover.js"
import * as Single from "./session.js"

const idleNanos = 30_000_000_000n

/** A session with those who use it. */
interface Shared {
  readonly session: Session
  readonly millis: number
  readonly scope: Scope.CloseableScope
  users: number
  /** Opened when nobody uses it any more, and nobody will. */
  readonly done: Effect.Latch
  /** When the last one gave it back, on the monotonic clock. */
  idleSince: bigint
}

export const make = (client: EtcdClient["Type"]): Effect.Effect<Sessions["Type"], never, Scope.Scope> =>
  Effect.gen(function*() {
    // One for all sessions: when etcd does not answer, closing waits once to see it.
    const remover = yield* Remover.make(client)
    const scope = yield* Effect.scope
    const clock = yield* Effect.clock
    const all = new Set<Shared>()
    /** The session to share for each time to live; one that is over or worn is replaced while its users still hold it. */
    const current = new Map<number, Shared>()

    const retire = (shared: Shared): Effect.Effect<void> =>
      Effect.suspend(() => {
        all.delete(shared)
        if (current.get(shared.millis) === shared) current.delete(shared.millis)
        return Scope.close(shared.scope, Exit.void)
      })

    let closed = false

    const isUsable = ({ session }: Shared): boolean => !session.isOver() && !session.isWorn()

    const isDone = (shared: Shared): boolean => shared.users === 0 && !isUsable(shared)

    /** Ends when the session was idle for long enough, and is closed. */
    const awaitIdleness = (shared: Shared): Effect.Effect<void> =>
      Effect.suspend(() => {
        const idle = shared.users === 0 ? clock.unsafeCurrentTimeNanos() - shared.idleSince : 0n
        const left = isDone(shared) ? 0n : idleNanos - idle
        return left <= 0n
          ? Effect.uninterruptible(retire(shared))
          : Effect.zipRight(
            Effect.raceFirst(Effect.sleep(Duration.nanos(left)), shared.done.await),
            awaitIdleness(shared)
          )
      })

    const share = (ttl: Duration.Duration): Effect.Effect<Shared> =>
      Effect.gen(function*() {
        const millis = Duration.toMillis(ttl)
        const own = yield* Scope.make()
        const done = yield* Effect.makeLatch(false)
        const session = yield* Scope.extend(
          Single.make(client, ttl, remover, () => {
            if (isDone(shared)) done.unsafeOpen()
          }),
          own
        )
        const shared: Shared = {
          session,
          millis,
          scope: own,
          done,
          users: 0,
          idleSince: clock.unsafeCurrentTimeNanos()
        }
        all.add(shared)
        current.set(millis, shared)
        yield* awaitIdleness(shared).pipe(inBackground("sessions"), Effect.interruptible, Effect.forkIn(scope))
        return shared
      })

    // All at once: closing takes as long as the slowest session, not as all of them together.
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        closed = true
        return Effect.forEach(Array.from(all), retire, { concurrency: "unbounded", discard: true })
      })
    )

    const use = (shared: Shared, owe: (giveBack: () => void) => void): Session => {
      shared.users++
      owe(() => {
        if (--shared.users > 0) return
        shared.idleSince = clock.unsafeCurrentTimeNanos()
        if (isDone(shared)) shared.done.unsafeOpen()
      })
      return shared.session
    }

    const open = (ttl: Duration.DurationInput, owe: (giveBack: () => void) => void) =>
      Effect.flatMap(validate.ttl(ttl), (ttl) =>
        Effect.uninterruptible(Effect.suspend(() => {
          // Nobody would end what is made now.
          if (closed) return Effect.interrupt
          const shared = current.get(Duration.toMillis(ttl))
          return shared !== undefined && isUsable(shared) ? Effect.succeed(shared) : share(ttl)
        })).pipe(Effect.map((shared) => use(shared, owe))))

    const lend: Sessions["Type"]["lend"] = (ttl, owe) => {
      const shared = current.get(Duration.toMillis(ttl))
      return shared !== undefined && isUsable(shared) ? use(shared, owe) : undefined
    }

    const borrow: Sessions["Type"]["borrow"] = (ttl, owe) =>
      Effect.suspend(() => {
        const lent = Duration.isDuration(ttl) ? lend(ttl, owe) : undefined
        return lent === undefined ? open(ttl, owe) : Effect.succeed(lent)
      })

    return {
      get: (ttl) =>
        Effect.suspend(() => {
          const obligations = new Obligations()
          return Effect.zipRight(Effect.addFinalizer(() => obligations.settle()), borrow(ttl, obligations.owe))
        }),
      borrow,
      lend,
      all: Effect.sync(() => Array.from(all, ({ session }) => session))
    }
  })
