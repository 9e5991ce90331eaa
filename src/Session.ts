/**
 * A session is a lease kept alive, together with the knowledge of how long it can be relied on.
 *
 * Locks, registrations and other keys that must not outlive their process hang on a session's lease; all that ask for the
 * same time to live share one. A session knows that it is lost *before* etcd can give its keys to somebody else: its time
 * is counted from the sending of the last acknowledged keep-alive, on a monotonic clock, less a margin.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { EtcdClient } from "./EtcdClient.js"
import type { EtcdError, InvalidArgument } from "./EtcdError.js"
import type { Claimant } from "./internal/session/claim.js"
import type { ClaimAll } from "./internal/session/claimAll.js"
import type { SessionExpired } from "./internal/session/expired.js"
import * as Remover from "./internal/session/remover.js"
import * as Single from "./internal/session/session.js"
import * as Shared from "./internal/session/shared.js"
import * as validate from "./internal/validate.js"
import type { Compare, Op, OpResponse, TxnRequest } from "./Txn.js"

export { SessionExpired } from "./internal/session/expired.js"

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
    claimant: Claimant<SessionExpired>
  ) => void
  /**
   * {@link Session.claim} for up to 64 folders, none of them twice, by one transaction: all entries are made or none, and
   * all have the same create revision, so that whoever enters several queues has the same order in each.
   */
  readonly claimAll: ClaimAll<SessionExpired>
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
    const client = yield* EtcdClient
    return yield* Single.make(client, ttl, yield* Remover.make(client), constVoid)
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

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Sessions, never, EtcdClient> = Layer.scoped(
  Sessions,
  Effect.flatMap(EtcdClient, Shared.make)
)
