/**
 * Several locks at once, all of them or none.
 *
 * Their queues are entered by one transaction, a ticket: so all its entries have one revision, whoever enters several
 * queues has the same order in each of them, and nobody can wait for somebody who waits for him.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import { InvalidArgument } from "../../EtcdError.js"
import type { Body, LocksHandle, WithLockOptions } from "../../Lock.js"
import type { LockExpired } from "../../LockError.js"
import { LockNotHeld, LockTimeout } from "../../LockError.js"
import type { Entry, Session, SessionExpired, Sessions } from "../../Session.js"
import * as Txn from "../../Txn.js"
import type { Masked } from "../masked.js"
import { masked, restored } from "../masked.js"
import { Obligations } from "../obligations.js"
import { maxEntries } from "../session/claimAll.js"
import { isDebugging, traced } from "../traced.js"
import { render } from "../validate.js"
import type { Held } from "./handle.js"
import * as Handle from "./handle.js"
import { giveUp, protect } from "./holding.js"
import * as Queue from "./queue.js"
import type { Queues } from "./queues.js"
import { undeterred, within } from "./stay.js"

/** What is to be held, each once. */
export interface Places {
  readonly keys: ReadonlyArray<string>
  readonly ttl: Duration.Duration
  readonly timeout: Duration.Duration | undefined
}

type WinError = LockTimeout | InvalidArgument | EtcdError

export interface Several {
  /** Held until the scope closes. */
  readonly scoped: (places: Places) => Effect.Effect<LocksHandle, WinError, Scope.Scope>
  /** Held for as long as the body runs. */
  readonly around: <A, E, R>(
    places: Places,
    body: Body<A, E, R, LocksHandle>,
    onLost: WithLockOptions["onLost"]
  ) => Effect.Effect<A, E | LockExpired | WinError, R>
}

/** Queue entries whose turn it is, in the order of the keys. */
interface WonAll {
  readonly session: Session
  readonly entries: ReadonlyArray<Entry>
}

/** The keys, each once; one that is named twice is held once. */
export const distinct = (keys: ReadonlyArray<string>): Either.Either<ReadonlyArray<string>, InvalidArgument> => {
  // A text is a list of letters to JavaScript: each would be a lock.
  if (!Array.isArray(keys)) {
    return Either.left(new InvalidArgument({ argument: "keys", value: render(keys), problem: "must be an array" }))
  }
  const all = Array.from(new Set(keys))
  if (all.length === 0) return Either.left(new InvalidArgument({ argument: "keys", problem: "must not be empty" }))
  return all.length <= maxEntries ? Either.right(all) : Either.left(
    new InvalidArgument({
      argument: "keys",
      value: `${all.length} keys`,
      problem: `etcd enters at most ${maxEntries} queues in one transaction (its limit is 128 operations)`
    })
  )
}

/** What is held under the several names, as one. */
const combine = (
  keys: ReadonlyArray<string>,
  all: ReadonlyArray<Held>,
  entries: ReadonlyArray<Entry>,
  own: Obligations
): Held<LocksHandle> => {
  let released = false

  const check = Effect.forEach(all, ({ check }) => check, { discard: true })

  const close: Held["close"] = Effect.suspend(() => {
    released = true
    return Effect.zipRight(Effect.forEach(all, ({ close }) => close, { discard: true }), own.settle())
  })

  const onLost: Held["onLost"] = (notify) => {
    let told = false
    const ends = all.map(({ onLost }) =>
      onLost((error) => {
        if (told) return
        told = true
        notify(error)
      })
    )
    return () => {
      for (const end of ends) end()
    }
  }

  const release = Effect.suspend(() =>
    released
      ? Effect.fail(new LockNotHeld({ key: keys[0] }))
      : Effect.flatMap(Effect.either(check), (held) =>
        Effect.zipRight(
          close,
          Either.isRight(held) ? Effect.void : Effect.fail(new LockNotHeld({ key: held.left.key }))
        ))
  )

  const makeLock = (scope?: Scope.CloseableScope): LocksHandle => {
    const locks = all.map(({ lock }) => lock())
    const [{ fencingToken, renew, ttl }] = locks
    const guards = locks.map(({ guard }) => guard)
    // They share a lease, and that may live on when one of them is lost.
    const allHeld = Effect.forEach(guards, ({ check }) => check, { discard: true })
    return {
      keys,
      etcdKeys: entries.map(({ key }) => key),
      fencingToken,
      guards,
      lost: Effect.async((resume) => Effect.sync(onLost((error) => resume(Effect.fail(error))))),
      ttl: Effect.zipRight(allHeld, ttl),
      renew: Effect.zipRight(allHeld, renew),
      isExpired: Effect.map(
        Effect.forEach(locks, ({ isExpired }) => isExpired, { concurrency: "unbounded" }),
        (expired) => expired.includes(true)
      ),
      release: Effect.uninterruptible(
        scope === undefined ? release : Effect.ensuring(release, Scope.close(scope, Exit.void))
      )
    }
  }

  const isLost = (): boolean => all.some(({ isLost }) => isLost())
  return { lock: makeLock, check, isLost, onLost, close }
}

/** @param queues shared with those who wait for a single lock */
export const make = (
  client: EtcdClient["Type"],
  sessions: Sessions["Type"],
  queues: Queues,
  folderOf: (key: string) => string,
  value: () => string
): Several => {
  /** That it had its turn is no reason to hold, if an entry was deleted while the others were waited for. */
  const stillThere = (entries: ReadonlyArray<Entry>): Effect.Effect<void, EtcdError | Queue.Evicted> =>
    Effect.flatMap(
      client.txn({ success: entries.map(({ key }) => Txn.range({ key, keysOnly: true })) }),
      ({ responses }) =>
        entries.every(({ createRevision }, index) => {
            const read = responses[index]
            return read._tag === "Range" && read.response.kvs[0]?.createRevision === createRevision
          })
          ? Effect.void
          : Effect.fail(new Queue.Evicted())
    )

  /** @param pending the keys whose turn has not come: told as it changes */
  const stay = (
    { keys, ttl }: Places,
    own: Obligations,
    pending: Set<string>
  ): Effect.Effect<WonAll, InvalidArgument | EtcdError | SessionExpired | Queue.Evicted> =>
    Effect.flatMap(sessions.borrow(ttl, own.owe), (session) => {
      for (const key of keys) pending.add(key)
      const folders = keys.map(folderOf)
      const entering = session.claimAll({
        folders,
        value: value(),
        reads: folders.map(Queue.size),
        onRemoved: queues.gone
      }, own.owe)
      return Effect.flatMap(
        entering,
        ({ entries: made, reads }): Effect.Effect<WonAll, EtcdError | SessionExpired | Queue.Evicted> => {
          const entries = made.flatMap((entry) => entry === undefined ? [] : [entry])
          if (entries.length < keys.length) return Effect.fail(new Queue.Evicted())
          const waiting = entries.flatMap((entry, index) => {
            const key = keys[index]
            if (!Queue.isAlone(reads[index])) return [{ entry, folder: folders[index], key }]
            pending.delete(key)
            return []
          })
          if (waiting.length === 0 && !session.isOver()) return Effect.succeed({ session, entries })
          return queues.awaitTurns(waiting, session, ({ key }) => pending.delete(key)).pipe(
            Effect.zipRight(stillThere(entries)),
            Effect.zipRight(session.check),
            Effect.as({ session, entries })
          )
        }
      )
    })

  const win = (places: Places, own: Obligations): Effect.Effect<WonAll, WinError> =>
    Effect.suspend(() => {
      const pending = new Set<string>()
      const { keys, timeout } = places
      return within(
        undeterred(own, stay(places, own, pending)),
        timeout,
        (timeout) => new LockTimeout({ key: keys.find((key) => pending.has(key)) ?? keys[0], timeout })
      )
    })

  const hold = (places: Places, mask: Masked): Effect.Effect<Held<LocksHandle>, WinError> =>
    Effect.suspend(() => {
      const { keys } = places
      const own = new Obligations()
      const winning = traced(mask.fiber, "Lock.acquireAll", { "lock.keys": keys }, win(places, own))
      return Effect.matchCauseEffect(restored(mask, winning), {
        onFailure: (cause) => giveUp("lock", keys.join(", "), own, cause, mask),
        onSuccess: ({ entries, session }) =>
          Effect.map(
            // What they owe is owed together.
            Effect.forEach(entries, (entry, index) => {
              const held = Handle.make(
                client,
                "lock",
                keys[index],
                { session, entry },
                new Obligations(),
                isDebugging(mask.fiber)
              )
              return Effect.as(held.announce, held)
            }),
            (all) => combine(keys, all, entries, own)
          )
      })
    })

  return {
    scoped: (places) =>
      masked((mask) =>
        Effect.flatMap(
          hold(places, mask),
          (held) =>
            Effect.scopeWith((outer) =>
              Effect.flatMap(
                Scope.fork(outer, ExecutionStrategy.sequential),
                (scope) => Effect.map(Scope.addFinalizer(scope, held.close), () => held.lock(scope))
              )
            )
        )
      ),
    around: (places, body, onLost) =>
      masked((mask) => Effect.flatMap(hold(places, mask), (held) => protect(held, body, onLost, mask)))
  }
}
