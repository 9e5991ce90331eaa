/**
 * A lease that is granted at its first use and then kept alive, and the knowledge of how long it can be relied on. It is
 * over once, for good, and everybody hears of it.
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Scope from "effect/Scope"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import type { Session, SessionState } from "../../Session.js"
import { inBackground } from "../background.js"
import { Bag } from "../bag.js"
import * as Cell from "../cell.js"
import { leaseHex, randomLeaseId } from "../ids.js"
import * as InTurn from "../inTurn.js"
import { SessionExpired } from "./expired.js"

/** What a session says of its lease is what its lease says; see there for what is not described here. */
export interface KeptLease
  extends Pick<Session, "lease" | "state" | "states" | "expired" | "check" | "isOver" | "renew" | "onEnd">
{
  /** The lease, if it was granted and can be relied on now. */
  readonly present: () => bigint | undefined
  /** Whether it is known to be over, whatever the clock says. */
  readonly hasEnded: () => boolean
  /** Whether nothing is left to delete, as the lease is revoked and with it its keys, or is about to be. */
  readonly isMoot: () => boolean
  /** Ends the lease where that is what the error says. */
  readonly leaseGone: (error: EtcdError) => Effect.Effect<never, EtcdError | SessionExpired>
}

/** Renew this many times per time to live. */
const beatsPerTtl = 3
/** Timers do not reach further than 24 days. */
const longestSleep = Duration.hours(1)
/** Closing never waits longer than this for etcd. */
const closeTimeout = Duration.seconds(2)

/** What is kept back for clocks that do not run at the same speed, and for the time to react. */
const marginMillis = (ttlMillis: number): number => Math.min(1_000, ttlMillis / 10)

/** Until the scope closes; then it is revoked, if etcd can be reached. */
export const make = (
  client: EtcdClient["Type"],
  ttl: Duration.Duration
): Effect.Effect<KeptLease, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const clock = yield* Effect.clock
    const state = Cell.make<SessionState>({ _tag: "Idle" }, (a, b) => a._tag === b._tag)
    const over = yield* Deferred.make<never, SessionExpired>()
    const inTurn = InTurn.make()
    let lease: bigint | undefined
    let ended: SessionExpired | undefined
    const notifyAtEnd = new Bag<(error: SessionExpired) => void>()
    /** On the monotonic clock: until then the lease can be relied on. */
    let deadline = 0n

    const now = (): bigint => clock.unsafeCurrentTimeNanos()

    const isOver = (): boolean => ended !== undefined || lease !== undefined && now() >= deadline

    /** Not once its time is over: somebody may have acted on that. */
    const extend = (sentAt: bigint, granted: Duration.Duration): void => {
      if (isOver()) return
      const millis = Duration.toMillis(granted)
      const until = sentAt + BigInt(Math.floor((millis - marginMillis(millis)) * 1_000_000))
      if (until > deadline) deadline = until
    }

    const end = (reason: SessionExpired["reason"]): Effect.Effect<SessionExpired> =>
      Effect.suspend(() => {
        if (ended !== undefined) return Effect.succeed(ended)
        const error = ended = new SessionExpired({ lease: lease ?? 0n, reason })
        // Whatever one of them throws, the others have to hear of it.
        const thrown = Arr.getLefts(
          notifyAtEnd.values().map((notify) => Either.try({ try: () => notify(error), catch: Cause.die }))
        )
        Deferred.unsafeDone(over, Effect.fail(error))
        state.set({ _tag: "Expired", error })
        const told = reason === "closed" ? Effect.void : Effect.logWarning(error.message)
        return told.pipe(
          Effect.zipRight(
            Effect.forEach(thrown, (cause) => Effect.logError("a listener to the end of a session threw", cause))
          ),
          Effect.as(error)
        )
        // Who finds out may be interrupted by one of those that hear of it.
      }).pipe(Effect.uninterruptible)

    const notEnded: Effect.Effect<void, SessionExpired> = Effect.suspend(() =>
      ended === undefined ? Effect.void : Effect.fail(ended)
    )

    const check: Session["check"] = Effect.suspend(() =>
      isOver() ? Effect.flatMap(end("expired"), Effect.fail) : Effect.void
    )

    /** Ends when the time that was counted on is over. */
    const watchdog: Effect.Effect<SessionExpired> = Effect.suspend(() => {
      const left = deadline - now()
      return left <= 0n
        ? end("expired")
        : Effect.zipRight(Effect.sleep(Duration.min(Duration.nanos(left), longestSleep)), watchdog)
    })

    /** A session that is over stays over, whatever is acknowledged late. */
    const become = (next: SessionState): void => {
      if (ended === undefined) state.set(next)
    }

    const renew = (id: bigint, timeout: Duration.Duration): Effect.Effect<Duration.Duration, EtcdError> =>
      Effect.suspend(() => {
        const sentAt = now()
        return client.leaseKeepAliveOnce(id, { timeout }).pipe(
          Effect.map(({ ttl }) => {
            extend(sentAt, ttl)
            become({ _tag: "Active", lease: id })
            return ttl
          })
        )
      })

    const keepAlive = (id: bigint, interval: Duration.Duration): Effect.Effect<SessionExpired> =>
      Effect.matchEffect(renew(id, interval), {
        onSuccess: () => Effect.sleep(interval),
        onFailure: (error) =>
          error.reason === "LeaseNotFound"
            ? Effect.flatMap(end("revoked"), Effect.fail)
            : Effect.suspend(() => {
              become({ _tag: "Disconnected", lease: id, reason: error.message })
              return Effect.sleep(Duration.min(Duration.seconds(1), Duration.times(interval, 1 / 3)))
            })
      }).pipe(Effect.forever, Effect.merge)

    const background = (id: bigint, interval: Duration.Duration): Effect.Effect<void> =>
      Effect.sleep(interval).pipe(
        Effect.zipRight(keepAlive(id, interval)),
        Effect.raceFirst(watchdog),
        inBackground("session", { lease: leaseHex(id) }),
        Effect.interruptible,
        Effect.forkIn(scope),
        Effect.asVoid
      )

    const revoke = (id: bigint): Effect.Effect<void> => Effect.ignore(client.leaseRevoke(id, { timeout: closeTimeout }))

    const grant: Effect.Effect<bigint, EtcdError | SessionExpired> = Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        yield* notEnded
        if (lease !== undefined) return lease
        const id = randomLeaseId()
        const sentAt = now()
        // A grant that is interrupted, or whose answer is lost, leaves a lease without keys that ends by itself.
        const granted = yield* restore(client.leaseGrant({ ttl, id }))
        // Closed meanwhile: nobody would keep it alive, and nobody end it.
        yield* Effect.tapError(notEnded, () => revoke(id))
        extend(sentAt, granted.ttl)
        lease = id
        become({ _tag: "Active", lease: id })
        const interval = Duration.millis(Math.floor(Duration.toMillis(granted.ttl) / beatsPerTtl))
        yield* background(id, Duration.min(interval, longestSleep))
        return id
      })
    )

    const leased: Session["lease"] = Effect.suspend(() =>
      lease !== undefined && !isOver()
        ? Effect.succeed(lease)
        : Effect.zipRight(check, inTurn(grant))
    )

    let closing = false
    const close: Effect.Effect<void> = Effect.suspend(() => {
      closing = true
      return Effect.zipRight(
        end("closed"),
        // An expired lease is revoked as well: this side gave it up a little earlier than etcd will.
        lease === undefined || ended?.reason === "revoked"
          ? Effect.void
          : revoke(lease)
      )
    })
    // Whoever closes the scope may be interrupted meanwhile.
    yield* Scope.addFinalizer(scope, Effect.uninterruptible(close))

    const leaseGone: KeptLease["leaseGone"] = (error) =>
      error.reason === "LeaseNotFound" ? Effect.flatMap(end("revoked"), Effect.fail) : Effect.fail(error)

    return {
      lease: leased,
      present: () => isOver() ? undefined : lease,
      hasEnded: () => ended !== undefined,
      isMoot: () => closing || ended?.reason === "revoked",
      leaseGone,
      state: Effect.zipRight(Effect.ignore(check), Effect.sync(state.get)),
      states: state.changes,
      expired: Deferred.await(over),
      check,
      isOver,
      renew: Effect.flatMap(leased, (id) =>
        renew(id, ttl).pipe(
          Effect.catchAll(leaseGone),
          // Acknowledged too late, perhaps.
          Effect.zipLeft(check)
        )),
      onEnd: (notify) => {
        if (ended !== undefined) {
          notify(ended)
          return () => {}
        }
        const place = notifyAtEnd.add(notify)
        return () => place.leave()
      }
    }
  })
