/**
 * One queue as seen by all of this process who wait in it: one watch, and a copy that is consistent, so that the copy alone
 * tells whose turn it is, without asking etcd.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import * as Key from "../../Key.js"
import type { Change } from "../../Mirror.js"
import type { Entry } from "../../Session.js"
import { inBackground } from "../background.js"
import { Bag } from "../bag.js"
import { toBinary } from "../bytes.js"
import * as MirrorCopy from "../mirror/copy.js"
import { Line } from "./line.js"
import * as Queue from "./queue.js"
import type { Recipe } from "./recipe.js"

/** Who waits until an entry holds. Exactly one of the two is called, once. */
export interface Waiter {
  readonly onTurn: () => void
  /** The entry never will. */
  readonly onLoss: (why: Effect.Effect<never, EtcdError | Queue.Evicted>) => void
}

export interface Follower {
  /** Whether it has ended, and another one has to be made. */
  readonly isOver: () => boolean
  /** What is returned has to be called in any case, in the end. */
  readonly wait: (entry: Entry, waiter: Waiter) => () => void
  /** The entry was deleted, as etcd has confirmed: what the watch will tell later. */
  readonly gone: (key: string, createRevision: bigint) => void
  /** Follows the queue until nobody has waited for a while, or etcd refuses. */
  readonly run: Effect.Effect<void>
}

/** Whoever waits soon after the last one finds the copy in step. */
const keepNanos = 10_000_000_000n
/** An entry whose put does not arrive for this long is looked for. */
const tick = "1 second"

const isRefusal = (error: EtcdError): boolean => error.reason !== "Unavailable" && error.reason !== "DeadlineExceeded"

/** @param mayIdle whether it may go on for a while when nobody waits */
export const make = <Info, State>(
  client: EtcdClient["Type"],
  clock: Clock.Clock,
  recipe: Recipe<Info, State>,
  folder: string,
  mayIdle: () => boolean
): Follower => {
  const line = new Line(recipe)
  const waiting = new Bag<Waiter>()
  let idleSince = clock.unsafeCurrentTimeNanos()
  let over = false

  const apply = (changes: ReadonlyArray<Change>): void => {
    for (const change of changes) {
      const key = change._tag === "Put" ? change.kv.key : change.key
      if (!Key.isDirectChild(folder, key)) continue
      if (change._tag === "Put") line.put(toBinary(key), change.kv.createRevision, change.kv.value)
      else line.delete(toBinary(key))
    }
    line.advance()
  }

  const follow: Effect.Effect<never, EtcdError> = Effect.scoped(
    Effect.flatMap(
      // Nobody reads on later, and nobody has time to lose.
      MirrorCopy.make(client, Key.prefix(folder), { maxEvents: 0, onChanges: apply }),
      ({ ready }) => Effect.zipRight(ready, Effect.never)
    )
  )

  /**
   * Looks for entries that should have come: those that came and went while the copy was read again. Usually there are
   * none, and nothing is read.
   */
  const look = (suspects: ReadonlyArray<readonly [key: string, createRevision: bigint]>) =>
    Effect.map(Queue.entries(client, folder, { keysOnly: true }), (present) => {
      const there = new Map(present.map(({ createRevision, key }) => [toBinary(key), createRevision]))
      for (const [key, createRevision] of suspects) {
        if (there.get(key) !== createRevision) line.giveUp(key, createRevision)
      }
    }).pipe(Effect.catchIf((error) => !isRefusal(error), () => Effect.void))

  const check: Effect.Effect<void, EtcdError> = Effect.suspend(() => {
    const before = line.expected()
    return Effect.flatMap(Effect.sleep(tick), () => {
      if (waiting.size === 0 && (!mayIdle() || clock.unsafeCurrentTimeNanos() - idleSince >= keepNanos)) {
        over = true
        return Effect.void
      }
      const suspects = before.filter(([key, createRevision]) => line.isExpecting(key, createRevision))
      return suspects.length === 0 ? check : Effect.zipRight(look(suspects), check)
    })
  })

  // Where its locks are being closed it is interrupted before it begins, and those who wait have to hear of that as well.
  const run = Effect.interruptible(Effect.raceFirst(follow, check)).pipe(
    Effect.onExit((exit) =>
      Effect.sync(() => {
        over = true
        if (Exit.isFailure(exit)) { for (const { onLoss } of waiting.values()) onLoss(Effect.failCause(exit.cause)) }
      })
    ),
    Effect.ignore,
    inBackground("queue", { folder })
  )

  return {
    isOver: () => over,
    wait: ({ createRevision, key }, waiter) => {
      const place = waiting.add(waiter)
      const leaveLine = line.wait(toBinary(key), createRevision, {
        onTurn: waiter.onTurn,
        onGone: () => waiter.onLoss(Effect.fail(new Queue.Evicted()))
      })
      return () => {
        place.leave()
        leaveLine()
        if (waiting.size === 0) idleSince = clock.unsafeCurrentTimeNanos()
      }
    },
    gone: (key, createRevision) => line.foresee(toBinary(key), createRevision),
    run
  }
}
