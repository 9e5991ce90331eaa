/** The queues in which somebody of this process waits: each is followed once, whoever waits in it. */
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import type * as Scope from "effect/Scope"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import type { Entry, Session, SessionExpired } from "../../Session.js"
import type { Follower } from "./follower.js"
import * as FollowerOf from "./follower.js"
import type { Evicted } from "./queue.js"
import type { Recipe } from "./recipe.js"

/** Somebody who waits. */
export interface InQueue {
  readonly folder: string
  readonly entry: Entry
}

type Outcome = Effect.Effect<void, EtcdError | Evicted | SessionExpired>

export interface Queues {
  /**
   * Waits until the entry holds. Outages of etcd are waited out, for as long as the session lasts. A fibre that waits is
   * woken once: when it holds, or when it never will.
   *
   * Fails with {@link Evicted} when the entry is gone, and with what etcd says when it refuses to show the queue.
   */
  readonly awaitTurn: (place: InQueue, session: Session) => Outcome
  /** The same for several at once, each of which is told when it holds. */
  readonly awaitTurns: <Place extends InQueue>(
    places: ReadonlyArray<Place>,
    session: Session,
    onTurn: (place: Place) => void
  ) => Outcome
  /**
   * An entry was deleted, and etcd has confirmed it: the next one in this process need not wait for the watch to say so.
   */
  readonly gone: (folder: string, key: string, createRevision: bigint) => void
}

/** When more than this are followed, those in which nobody waits are left. */
const maxFollowed = 128

export const make = <Info, State>(
  client: EtcdClient["Type"],
  recipe: Recipe<Info, State>
): Effect.Effect<Queues, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const clock = yield* Effect.clock
    const followers = new Map<string, Follower>()
    let closed = false
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
      })
    )

    const mayIdle = (): boolean => followers.size <= maxFollowed

    const follow = (folder: string): Effect.Effect<Follower> =>
      Effect.uninterruptible(Effect.suspend(() => {
        const present = followers.get(folder)
        if (present !== undefined && !present.isOver()) return Effect.succeed(present)
        const follower = FollowerOf.make(client, clock, recipe, folder, mayIdle)
        followers.set(folder, follower)
        const forget = Effect.sync(() => {
          if (followers.get(folder) === follower) followers.delete(folder)
        })
        return follower.run.pipe(
          Effect.ensuring(forget),
          Effect.forkIn(scope),
          Effect.as(follower)
        )
      }))

    /** No fibre for each: Effect leaves some behind, and waits for them, where an interruption comes at the wrong step. */
    const wait = <Place extends InQueue>(
      followers: ReadonlyArray<Follower>,
      places: ReadonlyArray<Place>,
      session: Session,
      onTurn: (place: Place) => void
    ): Outcome =>
      Effect.async((resume) => {
        // Nobody is there to follow the queue any more.
        if (closed) return resume(Effect.interrupt)
        // It was idle for long enough just now.
        if (followers.some((follower) => follower.isOver())) return resume(awaitTurns(places, session, onTurn))
        const leaves: Array<() => void> = []
        let waiting = places.length
        let settled = false
        const leave = (): void => {
          settled = true
          for (const one of leaves.splice(0)) one()
        }
        const settle = (outcome: Outcome): void => {
          if (settled) return
          leave()
          resume(outcome)
        }
        leaves.push(session.onEnd((error) => settle(Effect.fail(error))))
        for (let index = 0; index < places.length && !settled; index++) {
          const place = places[index]
          leaves.push(followers[index].wait(place.entry, {
            onTurn: () => {
              onTurn(place)
              if (--waiting === 0) settle(Effect.void)
            },
            onLoss: settle
          }))
        }
        if (waiting === 0) settle(Effect.void)
        if (settled) leave()
        return Effect.sync(leave)
      })

    const awaitTurn: Queues["awaitTurn"] = (place, session) =>
      Effect.flatMap(follow(place.folder), (follower) => wait([follower], [place], session, constVoid))

    const awaitTurns: Queues["awaitTurns"] = (places, session, onTurn) =>
      Effect.flatMap(
        Effect.forEach(places, ({ folder }) => follow(folder)),
        (followers) => wait(followers, places, session, onTurn)
      )

    return {
      awaitTurn,
      awaitTurns,
      gone: (folder, key, createRevision) => followers.get(folder)?.gone(key, createRevision)
    }
  })
