/** A lock from the moment it is won: what its holder can ask and do, and how its loss is noticed. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { EtcdClient } from "../../EtcdClient.js"
import type { Body, LockHandle, WithLockOptions } from "../../Lock.js"
import { LockExpired, LockNotHeld } from "../../LockError.js"
import type { Entry, Session, SessionExpired } from "../../Session.js"
import * as Txn from "../../Txn.js"
import { inBackground } from "../background.js"
import { leaseHex } from "../ids.js"
import * as KeyWatch from "../keyWatch.js"

/** A queue entry whose turn it is. */
export interface Won {
  readonly session: Session
  readonly entry: Entry
}

/** The own key is watched once a lock is held for longer than most are: short critical sections pay nothing for it. */
const watchOwnKeyAfter = "200 millis"

/** The handle, and how the holder makes sure that nothing was lost when control comes back to it. */
export interface Held {
  readonly lock: LockHandle
  readonly check: Effect.Effect<void, LockExpired>
}

/** @param own closed by `release`; the entry leaves the queue with it */
export const make = (
  client: EtcdClient["Type"],
  own: Scope.CloseableScope,
  key: string,
  { entry, session }: Won
): Effect.Effect<Held> =>
  Effect.gen(function*() {
    const lease = yield* Effect.orDie(session.lease)
    const fencingToken = entry.createRevision
    const deleted = yield* Deferred.make<never, LockExpired>()
    let released = false
    const expired = (reason: LockExpired["reason"]) => new LockExpired({ key, fencingToken, reason })
    const overBy = ({ reason }: SessionExpired) => expired(reason)

    yield* Scope.addFinalizer(own, Effect.sync(() => released = true))
    yield* KeyWatch.awaitDeleted(client, entry.key, fencingToken).pipe(
      Effect.delay(watchOwnKeyAfter),
      Effect.flatMap(() => Deferred.fail(deleted, expired("deleted"))),
      Effect.catchAll((error) => Effect.logWarning(`cannot watch the key of lock ${key}: ${error.message}`)),
      inBackground("lock", { lock: key }),
      Effect.interruptible,
      Effect.forkIn(own)
    )
    yield* Effect.annotateLogs(Effect.logDebug("lock acquired"), {
      lock: key,
      lease: leaseHex(lease),
      fencingToken: String(fencingToken)
    })

    const check: Held["check"] = Effect.zipRight(
      Effect.mapError(session.check, overBy),
      Effect.flatMap(Deferred.poll(deleted), Option.getOrElse(() => Effect.void))
    )

    const isGone = Effect.map(
      client.get(entry.key),
      (kv) => Option.isNone(kv) || kv.value.createRevision !== fencingToken
    )

    const release: LockHandle["release"] = Effect.suspend(() => {
      if (released) return Effect.fail(new LockNotHeld({ key }))
      released = true
      return Effect.flatMap(Effect.isSuccess(check), (held) =>
        Effect.zipRight(Scope.close(own, Exit.void), held ? Effect.void : Effect.fail(new LockNotHeld({ key }))))
    }).pipe(Effect.uninterruptible)

    const lock: LockHandle = {
      key,
      etcdKey: entry.key,
      fencingToken,
      guard: Txn.createRevision(entry.key, "=", fencingToken),
      lost: Effect.raceFirst(Effect.mapError(session.expired, overBy), Deferred.await(deleted)),
      ttl: Effect.zipRight(check, client.leaseTimeToLive(lease)).pipe(
        Effect.map(({ remaining }) =>
          remaining
        ),
        Effect.catchIf(
          (error) => error._tag === "EtcdError" && error.reason === "LeaseNotFound",
          () => Effect.fail(expired("revoked"))
        )
      ),
      renew: Effect.zipRight(
        check,
        Effect.catchTag(session.renew, "SessionExpired", (error) => Effect.fail(overBy(error)))
      ),
      isExpired: Effect.suspend(() =>
        released ? Effect.succeed(true) : Effect.matchEffect(check, {
          onFailure: () => Effect.succeed(true),
          onSuccess: () => isGone
        })
      ),
      release
    }
    return { lock, check }
  })

/** Runs the body, interrupted at the loss of the lock. One that ends after the loss was not protected to its end either. */
export const protect = <A, E, R>(
  { check, lock }: Held,
  body: Body<A, E, R>,
  onLost: WithLockOptions["onLost"]
): Effect.Effect<A, E | LockExpired, R> => {
  const work = Effect.isEffect(body) ? body : Effect.suspend(() => body(lock))
  return Effect.raceFirst(
    Effect.zipLeft(onLost === "abandon" ? Effect.disconnect(work) : work, check),
    lock.lost
  )
}
