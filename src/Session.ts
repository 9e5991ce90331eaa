/**
 * A session is a lease kept alive, together with the knowledge of how long it can be relied on.
 *
 * Locks, registrations and other keys that must not outlive their process hang on a session's lease; all that ask for the
 * same time to live share one. A session knows that it is lost *before* etcd can give its keys to somebody else: its time
 * is counted from the sending of the last acknowledged keep-alive, on a monotonic clock, less a margin.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import { constVoid } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { EtcdClient } from "./EtcdClient.js"
import type { EtcdError, InvalidArgument } from "./EtcdError.js"
import { inBackground } from "./internal/background.js"
import { Bag } from "./internal/bag.js"
import { leaseHex, randomLeaseId } from "./internal/ids.js"
import { Obligations } from "./internal/obligations.js"
import { withoutBigints } from "./internal/plain.js"
import type { Ground } from "./internal/session/claim.js"
import * as Claim from "./internal/session/claim.js"
import * as ClaimAll from "./internal/session/claimAll.js"
import * as EntryNames from "./internal/session/entryNames.js"
import * as KeyGuard from "./internal/session/keyGuard.js"
import * as Remover from "./internal/session/remover.js"
import * as validate from "./internal/validate.js"
import type { Compare, Op, OpResponse, TxnRequest } from "./Txn.js"
import * as Txn from "./Txn.js"

/**
 * A session ended while something depended on it.
 *
 * - `expired`: no keep-alive was acknowledged in time; etcd deletes the keys about now
 * - `revoked`: etcd does not know the lease any more; the keys are gone
 * - `closed`: the session was closed by its owner
 *
 * @since 0.1.0
 * @category errors
 */
export class SessionExpired extends Schema.TaggedError<SessionExpired>("effect-coord/SessionExpired")(
  "SessionExpired",
  {
    lease: Schema.BigIntFromSelf,
    reason: Schema.Literal("expired", "revoked", "closed")
  }
) {
  override get message(): string {
    return `the session with lease ${leaseHex(this.lease)} is over: ${this.reason}`
  }

  /** For JSON, which has no bigints: as texts. */
  override toJSON(): unknown {
    return withoutBigints(super.toJSON())
  }
}

/**
 * What a session knows of its lease.
 *
 * - `Idle`: no lease was needed yet
 * - `Active`: kept alive
 * - `Disconnected`: still valid, but the last keep-alive was not acknowledged
 * - `Expired`: over, for good
 *
 * @since 0.1.0
 * @category models
 */
export type SessionState =
  | { readonly _tag: "Idle" }
  | { readonly _tag: "Active"; readonly lease: bigint }
  | { readonly _tag: "Disconnected"; readonly lease: bigint; readonly reason: string }
  | { readonly _tag: "Expired"; readonly error: SessionExpired }

/**
 * A key that stands with a session's lease, under a name nobody else uses.
 *
 * @since 0.1.0
 * @category models
 */
export interface Entry {
  readonly key: string
  readonly lease: bigint
  /** The revision that created the key: grows with every entry of a queue. */
  readonly createRevision: bigint
}

/**
 * The outcome of {@link Session.enter}.
 *
 * @since 0.1.0
 * @category models
 */
export interface Entered {
  /** None when a condition of `onlyIf` did not hold. */
  readonly entry: Option.Option<Entry>
  /**
   * Whether the reads saw the store just after the entry was made. `false` when an earlier sending, whose answer was
   * lost, had made it, or nothing was made: others may have come in between.
   */
  readonly fresh: boolean
  /** The answers to the reads that went along; none when an earlier sending had made the entry. */
  readonly reads: ReadonlyArray<OpResponse>
}

/**
 * What to put into a queue, see {@link Session.enter}.
 *
 * @since 0.1.0
 * @category options
 */
export interface EnterOptions {
  /** Ends with a slash. */
  readonly folder: string
  readonly value: string
  readonly reads?: ReadonlyArray<Op> | undefined
  readonly onlyIf?: ReadonlyArray<Compare> | undefined
  /** Told when the entry was deleted again, and etcd has confirmed it. */
  readonly onRemoved?: ((folder: string, key: string, createRevision: bigint) => void) | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Session {
  readonly ttl: Duration.Duration
  /** The lease, granted at the first use. Fails with the reason when etcd cannot be asked; the next caller tries again. */
  readonly lease: Effect.Effect<bigint, EtcdError | SessionExpired>
  readonly state: Effect.Effect<SessionState>
  /** The present state, then every change. */
  readonly states: Stream.Stream<SessionState>
  /** Fails when the session is over; never succeeds. */
  readonly expired: Effect.Effect<never, SessionExpired>
  /**
   * Succeeds while the lease can be relied on. Looks at the clock, so that the answer is right even when control comes
   * back to the holder after a long stall, before any timer fires.
   */
  readonly check: Effect.Effect<void, SessionExpired>
  /** What {@link Session.check} would find, for code that is no effect. */
  readonly isOver: () => boolean
  /**
   * Whether new users should get another session, so that this one ends soon: what it gave up without knowing the outcome
   * has left markers in etcd, which stay until the lease ends.
   */
  readonly isWorn: () => boolean
  /**
   * Renews the lease now, and says for how long: what the keep-alive in the background does anyway.
   */
  readonly renew: Effect.Effect<Duration.Duration, EtcdError | SessionExpired>
  /**
   * Puts a key of its own below `folder` (which ends with a slash) with the lease, in one transaction with `reads`, and
   * deletes it when the scope closes. With `onlyIf`, only if these compares hold: otherwise `entry` is none, and `reads`
   * tell why. The name is the lease's id in hex, as in Go, with a number behind it while that is in use.
   *
   * Safe to repeat after a lost response. Whatever happens, interruption included, the key does not stay behind longer
   * than the session: a delete that etcd does not confirm is repeated in the background until it does, and a put that was
   * given up but is still on its way somewhere finds itself barred.
   */
  readonly enter: (options: EnterOptions) => Effect.Effect<Entered, EtcdError | SessionExpired, Scope.Scope>
  /**
   * {@link Session.enter} without a scope, for paths where one would cost too much. What has to be undone in the end,
   * whatever happens, is handed to `owe` before anything is sent; the caller runs it where it cannot be interrupted.
   */
  readonly claim: (
    options: EnterOptions,
    owe: (undo: () => Effect.Effect<void> | void) => void
  ) => Effect.Effect<Entered, EtcdError | SessionExpired>
  /**
   * {@link Session.claim} without a fibre, for the hottest paths. The claimant is told once: how it went, or an effect that
   * is the rest of the way. To give it up, undo what is owed.
   */
  readonly startClaim: (
    options: EnterOptions,
    owe: (undo: () => Effect.Effect<void> | void) => void,
    claimant: Claim.Claimant<SessionExpired>
  ) => void
  /**
   * {@link Session.claim} for up to 64 folders, none of them twice, by one transaction: all entries are made or none, and
   * all have the same create revision, so that whoever enters several queues has the same order in each.
   */
  readonly claimAll: ClaimAll.ClaimAll<SessionExpired>
  /**
   * Tells the holder of a key of this session's when somebody else deletes it, until told to end. Only keys that are held
   * for longer than 200 milliseconds are watched.
   */
  readonly guardKey: (holder: {
    readonly entry: Pick<Entry, "key" | "createRevision">
    readonly onDeleted: () => void
  }) => { readonly end: () => void }
  /** Calls `notify` when the session is over, at once if it is already; the function that is returned takes it back. */
  readonly onEnd: (notify: (error: SessionExpired) => void) => () => void
  /**
   * Deletes `key` if `fence` holds. Tries for a bounded time; what cannot be confirmed by then is repeated in the
   * background until it is, or until the session ends (and its keys with it).
   */
  readonly remove: (removal: { readonly key: string; readonly fence?: Compare | undefined }) => Effect.Effect<void>
  /**
   * Carries out a transaction that undoes something, and does no harm when it is repeated: with the same patience as
   * {@link Session.remove}. `key` is what the log calls it.
   */
  readonly undo: (undoing: {
    readonly key: string
    readonly txn: TxnRequest
    /** Whether it puts a marker with the session's lease. Default: no */
    readonly bars?: boolean | undefined
  }) => Effect.Effect<void>
}

/** Renew this many times per time to live. */
const beatsPerTtl = 3
/** Timers do not reach further than 24 days. */
const longestSleep = Duration.hours(1)
/** Closing never waits longer than this for etcd. */
const closeTimeout = Duration.seconds(2)

/** A session that has left so many markers is not shared any further. */
const maxBars = 16

/** What is kept back for clocks that do not run at the same speed, and for the time to react. */
const marginMillis = (ttlMillis: number): number => Math.min(1_000, ttlMillis / 10)

/**
 * A session of one's own. It ends with the scope: the lease is revoked and its keys are deleted at once, if etcd can be
 * reached; closing takes 2 seconds at most.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: {
  /** How long the keys outlive a process that dies or loses etcd. Rounded up to seconds; etcd raises it to 2 or more. */
  readonly ttl: Duration.DurationInput
}): Effect.Effect<Session, InvalidArgument, EtcdClient | Scope.Scope> =>
  Effect.gen(function*() {
    if (!validate.isOptions(options)) return yield* validate.noOptions(options)
    const ttl = yield* validate.ttl(options.ttl)
    const remover = yield* Remover.make(yield* EtcdClient)
    return yield* makeChecked(ttl, remover, constVoid)
  })

/** @param onWorn told when it should not get new users any more */
const makeChecked = (
  ttl: Duration.Duration,
  remover: Remover.Remover,
  onWorn: () => void
): Effect.Effect<Session, never, EtcdClient | Scope.Scope> =>
  Effect.gen(function*() {
    const client = yield* EtcdClient
    const scope = yield* Effect.scope
    const clock = yield* Effect.clock
    const state = yield* SubscriptionRef.make<SessionState>({ _tag: "Idle" })
    const over = yield* Deferred.make<never, SessionExpired>()
    const granting = yield* Effect.makeSemaphore(1)
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
        return Deferred.fail(over, ended).pipe(
          Effect.zipRight(SubscriptionRef.set(state, { _tag: "Expired", error: ended })),
          Effect.zipRight(reason === "closed" ? Effect.void : Effect.logWarning(ended.message)),
          Effect.zipRight(
            Effect.forEach(thrown, (cause) => Effect.logError("a listener to the end of a session threw", cause))
          ),
          Effect.as(ended)
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
    const become = (next: SessionState): Effect.Effect<void> =>
      Effect.flatMap(
        SubscriptionRef.get(state),
        (present) =>
          ended !== undefined || present._tag === next._tag
            ? Effect.void
            : SubscriptionRef.set(state, next)
      )

    const renew = (id: bigint, timeout: Duration.Duration): Effect.Effect<Duration.Duration, EtcdError> =>
      Effect.suspend(() => {
        const sentAt = now()
        return client.leaseKeepAliveOnce(id, { timeout }).pipe(
          Effect.tap(({ ttl }) => {
            extend(sentAt, ttl)
            return become({ _tag: "Active", lease: id })
          }),
          Effect.map(({ ttl }) => ttl)
        )
      })

    const keepAlive = (id: bigint, interval: Duration.Duration): Effect.Effect<SessionExpired> =>
      Effect.matchEffect(renew(id, interval), {
        onSuccess: () => Effect.sleep(interval),
        onFailure: (error) =>
          error.reason === "LeaseNotFound"
            ? Effect.flatMap(end("revoked"), Effect.fail)
            : Effect.zipRight(
              become({ _tag: "Disconnected", lease: id, reason: error.message }),
              Effect.sleep(Duration.min(Duration.seconds(1), Duration.times(interval, 1 / 3)))
            )
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
        yield* become({ _tag: "Active", lease: id })
        const interval = Duration.millis(Math.floor(Duration.toMillis(granted.ttl) / beatsPerTtl))
        yield* background(id, Duration.min(interval, longestSleep))
        return id
      })
    )

    const leased: Session["lease"] = Effect.suspend(() =>
      lease !== undefined && !isOver()
        ? Effect.succeed(lease)
        : Effect.zipRight(check, granting.withPermits(1)(grant))
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
    yield* Scope.addFinalizer(scope, close)

    /** Nothing is left to delete when the lease is revoked, and with it its keys. */
    const isMoot = (): boolean => closing || ended?.reason === "revoked"

    /** After the end of the session its keys go by themselves soon: nobody should have to wait to hear of its loss. */
    const removeUnlessMoot = (removal: Remover.Removal, wait = true): Effect.Effect<void> =>
      remover.remove(removal, isMoot, wait && ended === undefined)

    const undo: Session["undo"] = ({ bars, key, txn }) =>
      Effect.suspend(() => removeUnlessMoot({ key, txn: () => txn, confirmed: bars === true ? wear : constVoid }))

    const remove: Session["remove"] = ({ fence, key }) =>
      undo({ key, txn: { compare: fence === undefined ? [] : [fence], success: [Txn.del({ key })] } })

    const names = EntryNames.make()

    const leaseGone = (error: EtcdError): Effect.Effect<never, EtcdError | SessionExpired> =>
      error.reason === "LeaseNotFound" ? Effect.flatMap(end("revoked"), Effect.fail) : Effect.fail(error)

    let bars = 0
    const isWorn = (): boolean => bars >= maxBars
    const wear = (): void => {
      bars++
      if (isWorn()) onWorn()
    }

    const ground: Ground<SessionExpired> = {
      client,
      names,
      leaseGone,
      remove: removeUnlessMoot,
      isMoot,
      isAnswered: () => ended === undefined && !remover.isBehind(),
      barred: wear
    }

    const startClaim: Session["startClaim"] = (options, owe, claimant) => {
      if (lease !== undefined && !isOver()) Claim.start(ground, lease, options, owe, claimant)
      else claimant.troubled(Effect.zipRight(leased, claim(options, owe)))
    }

    const claim: Session["claim"] = (options, owe) =>
      Effect.async((resume) =>
        startClaim(options, owe, { entered: (entered) => resume(Effect.succeed(entered)), troubled: resume })
      )

    const claimAll: Session["claimAll"] = (options, owe) =>
      Effect.flatMap(leased, (id) => ClaimAll.claimAll(ground, id, options, owe))

    // The obligation to delete is there before the put, so that no interruption can fall between them.
    const enter: Session["enter"] = (options) =>
      Effect.suspend(() => {
        const obligations = new Obligations()
        return Effect.zipRight(Effect.addFinalizer(() => obligations.settle()), claim(options, obligations.owe))
      })

    const keys = yield* KeyGuard.make(client)

    const session: Session = {
      ttl,
      lease: leased,
      state: Effect.zipRight(Effect.ignore(check), SubscriptionRef.get(state)),
      states: state.changes,
      expired: Deferred.await(over),
      check,
      isOver,
      isWorn,
      renew: Effect.flatMap(leased, (id) =>
        renew(id, ttl).pipe(
          Effect.catchAll(leaseGone),
          // Acknowledged too late, perhaps.
          Effect.zipLeft(check)
        )),
      enter,
      claim,
      startClaim,
      claimAll,
      guardKey: keys.add,
      onEnd: (notify) => {
        if (ended !== undefined) {
          notify(ended)
          return () => {}
        }
        const place = notifyAtEnd.add(notify)
        return () => place.leave()
      },
      remove,
      undo
    }
    return session
  })

/**
 * The sessions of an application: one for each time to live, shared by all who ask for it, replaced when it is over.
 *
 * @since 0.1.0
 * @category tags
 */
export class Sessions extends Context.Tag("effect-coord/Sessions")<Sessions, {
  /**
   * The session for this time to live, for as long as the scope is open. Never one that is over already. A session that
   * nobody uses is kept for another 30 seconds, so that locks taken one after another do not each cost a lease.
   */
  readonly get: (ttl: Duration.DurationInput) => Effect.Effect<Session, InvalidArgument, Scope.Scope>
  /**
   * `get` without a scope, for paths where one would cost too much: how to give the session back is handed
   * to `owe`, which the caller runs in the end, whatever happens.
   */
  readonly borrow: (
    ttl: Duration.DurationInput,
    owe: (giveBack: () => void) => void
  ) => Effect.Effect<Session, InvalidArgument>
  /**
   * `borrow` for the hottest paths, where there is a session that can be shared at once; otherwise nothing is borrowed.
   */
  readonly lend: (ttl: Duration.Duration, owe: (giveBack: () => void) => void) => Session | undefined
  /** All sessions that are open now. */
  readonly all: Effect.Effect<ReadonlyArray<Session>>
}>() {}

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

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Sessions, never, EtcdClient> = Layer.scoped(
  Sessions,
  Effect.gen(function*() {
    const client = yield* EtcdClient
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

    const make = (ttl: Duration.Duration): Effect.Effect<Shared> =>
      Effect.gen(function*() {
        const millis = Duration.toMillis(ttl)
        const own = yield* Scope.make()
        const done = yield* Effect.makeLatch(false)
        const session = yield* makeChecked(ttl, remover, () => {
          if (isDone(shared)) done.unsafeOpen()
        }).pipe(
          Effect.provideService(EtcdClient, client),
          Scope.extend(own)
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
      Effect.forEach(Array.from(all), retire, { concurrency: "unbounded", discard: true })
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
          const shared = current.get(Duration.toMillis(ttl))
          return shared !== undefined && isUsable(shared) ? Effect.succeed(shared) : make(ttl)
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
)
