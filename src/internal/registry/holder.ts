/**
 * Puts a key with a session's lease, and takes it away again. The session is the one shared by all of its time to live,
 * or one of its own; when it is over, the next put gets another.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { EtcdClient } from "../../EtcdClient.js"
import type { InvalidArgument } from "../../EtcdError.js"
import { EtcdError } from "../../EtcdError.js"
import * as Session from "../../Session.js"
import type { KeyValue } from "../../Txn.js"
import * as Txn from "../../Txn.js"
import { Obligations } from "../obligations.js"
import type { Listener, SessionStates } from "./sessionStates.js"

/** What stands under the key, as far as a put needs to know it. */
export type There = Pick<KeyValue, "lease" | "modRevision" | "value">

/** A put that was carried out, or what stood there in place of what was expected; `revision` is etcd's then, before the put. */
export type Outcome =
  | { readonly _tag: "Put"; readonly lease: bigint; readonly revision: bigint; readonly modRevision: bigint }
  | { readonly _tag: "Found"; readonly lease: bigint; readonly revision: bigint; readonly found: KeyValue | undefined }

export interface Holder {
  /**
   * Puts the value if the key is as expected. Repeating it does no harm: a second sending finds what the first one wrote.
   */
  readonly put: (
    expected: There | undefined,
    value: string,
    timeout?: Duration.Duration
  ) => Effect.Effect<Outcome, EtcdError>
  /** Whether the lease is one of this holder's, the present or an earlier one. */
  readonly owns: (lease: bigint) => boolean
  /** Whether the key may stand with this lease now. */
  readonly mayHold: (lease: bigint) => boolean
  /** Whether this is the present lease, and can be relied on. */
  readonly relies: (lease: bigint) => Effect.Effect<boolean>
  /** The same without an effect; a session that has just come to its end may not know that yet. */
  readonly isGood: (lease: bigint) => boolean
  /** From now on with a session of its own: somebody in this process holds the same key with the shared one. */
  readonly separate: Effect.Effect<void>
  /** Deletes the key, only if it is still this holder's, and in bounded time. To be called when nothing puts any more. */
  readonly close: Effect.Effect<void>
}

export interface Options {
  readonly key: string
  readonly ttl: Duration.Duration
  readonly separate: boolean
  readonly states: SessionStates
  readonly onState: Listener
  /** Where a last look for a late put runs, after the holder is closed. */
  readonly background: Scope.Scope
  /** Whether somebody in this process holds the key with this lease now. */
  readonly isHeld: (lease: bigint) => boolean
}

/** etcd gives up on a proposal after 7 seconds; what was sent before then does not arrive later than this. */
const stragglersAfter = Duration.seconds(10)

/** A lease that etcd does not know although its session does not know that yet is replaced at once, but not for ever. */
const maxSessions = 3

interface Held {
  readonly session: Session.Session
  readonly lease: bigint
  readonly owed: Obligations
}

const deadline = (key: string, timeout: Duration.Duration): EtcdError =>
  new EtcdError({
    operation: "leaseGrant",
    reason: "DeadlineExceeded",
    code: 4,
    key,
    mayBeApplied: false,
    detail: `no lease within ${Duration.format(timeout)}`
  })

/** Holds nothing until the first put; then `close` has to be called. */
export const make = (options: Options): Effect.Effect<Holder, never, EtcdClient | Session.Sessions> =>
  Effect.gen(function*() {
    const client = yield* EtcdClient
    const sessions = yield* Session.Sessions
    const clock = yield* Effect.clock
    const { key, ttl } = options
    const leases = new Set<bigint>()
    /** Under which leases the key may stand: more than one only while the outcome of a put is unknown. */
    const written = new Map<bigint, Session.Session>()
    let separate = options.separate
    let held: Held | undefined
    /** Until then, on the monotonic clock, a put without an answer may still arrive. */
    let doubtUntil = 0n

    const removeFrom = ([lease, session]: readonly [bigint, Session.Session]): Effect.Effect<void> =>
      session.remove({ key, fence: Txn.lease(key, "=", lease) })

    const lookAgain = ([lease, session]: readonly [bigint, Session.Session]): Effect.Effect<void> =>
      Effect.sleep(stragglersAfter).pipe(
        Effect.zipRight(Effect.suspend(() => options.isHeld(lease) ? Effect.void : removeFrom([lease, session]))),
        Effect.interruptible,
        Effect.forkIn(options.background),
        Effect.asVoid
      )

    const leave: Effect.Effect<void> = Effect.uninterruptible(Effect.suspend(() => {
      const left = held
      held = undefined
      return left === undefined ? Effect.void : left.owed.settle()
    }))

    // The session is left before the key is removed: with one of its own, the key goes together with the lease.
    const close: Effect.Effect<void> = Effect.zipRight(
      leave,
      Effect.suspend(() => {
        const all = Array.from(written)
        const doubtful = clock.unsafeCurrentTimeNanos() < doubtUntil
        return Effect.zipRight(
          Effect.forEach(all, removeFrom, { concurrency: "unbounded", discard: true }),
          doubtful ? Effect.forEach(all, lookAgain, { discard: true }) : Effect.void
        )
      })
    )

    const ownSession = (owed: Obligations): Effect.Effect<Session.Session, InvalidArgument> =>
      Effect.flatMap(Scope.make(), (scope) => {
        owed.owe(() => Scope.close(scope, Exit.void))
        return Session.make({ ttl }).pipe(Scope.extend(scope), Effect.provideService(EtcdClient, client))
      })

    const newSession = (owed: Obligations): Effect.Effect<Session.Session> =>
      Effect.suspend(() => separate ? ownSession(owed) : sessions.borrow(ttl, owed.owe)).pipe(
        // The time to live was checked when the registration began.
        Effect.orDie
      )

    const acquire = (timeout: Duration.Duration | undefined): Effect.Effect<Held, EtcdError> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function*() {
          yield* leave
          const owed = new Obligations()
          return yield* Effect.gen(function*() {
            const session = yield* restore(newSession(owed))
            const lease = yield* restore(
              timeout === undefined
                ? session.lease
                : Effect.timeoutFail(session.lease, { duration: timeout, onTimeout: () => deadline(key, timeout) })
            )
            owed.owe(yield* options.states.listen(session, options.onState))
            leases.add(lease)
            return held = { session, lease, owed }
          }).pipe(Effect.onError(() => owed.settle()))
        })
      ).pipe(Effect.catchTag("SessionExpired", () => Effect.zipRight(Effect.yieldNow(), acquire(timeout))))

    const hold = (timeout: Duration.Duration | undefined): Effect.Effect<Held, EtcdError> =>
      Effect.suspend(() => {
        const present = held
        return present === undefined
          ? acquire(timeout)
          : Effect.matchEffect(present.session.check, {
            onFailure: () => acquire(timeout),
            onSuccess: () => Effect.succeed(present)
          })
      })

    /** Has the session find out whether its lease is still there: a renewal ends it if it is not. */
    const suspect = ({ session }: Held): Effect.Effect<void> => Effect.ignore(session.renew)

    const send = (
      { lease, session }: Held,
      expected: There | undefined,
      value: string,
      timeout: Duration.Duration | undefined
    ): Effect.Effect<Outcome, EtcdError> =>
      Effect.suspend(() => {
        const earlier = written.has(lease)
        written.set(lease, session)
        // Not only when no answer comes: where the client has repeated the request, its first sending may still arrive.
        doubtUntil = clock.unsafeCurrentTimeNanos() + BigInt(Duration.toMillis(stragglersAfter)) * 1_000_000n
        return client.txn({
          compare: expected === undefined
            ? [Txn.absent(key)]
            : [Txn.modRevision(key, "=", expected.modRevision), Txn.lease(key, "=", expected.lease)],
          success: [Txn.put({ key, value, lease })],
          failure: [Txn.range({ key })]
        }, { idempotent: true, timeout }).pipe(
          Effect.onExit((exit) =>
            Effect.sync(() => {
              if (Exit.isSuccess(exit)) return
              if (exit.cause._tag === "Fail" && !exit.cause.error.mayBeApplied) {
                if (!earlier) written.delete(lease)
              } else {
                doubtUntil = clock.unsafeCurrentTimeNanos() +
                  BigInt(Duration.toMillis(stragglersAfter)) * 1_000_000n
              }
            })
          ),
          Effect.map(({ header, responses, succeeded }): Outcome => {
            if (succeeded) {
              for (const other of Array.from(written.keys())) {
                if (other !== lease) written.delete(other)
              }
              return { _tag: "Put", lease, revision: header.revision - 1n, modRevision: header.revision }
            }
            const [answer] = responses
            const found = answer._tag === "Range" ? answer.response.kvs[0] : undefined
            return { _tag: "Found", lease, revision: header.revision, found }
          })
        )
      })

    const put = (
      expected: There | undefined,
      value: string,
      timeout: Duration.Duration | undefined,
      sessionsLeft: number
    ): Effect.Effect<Outcome, EtcdError> =>
      Effect.flatMap(hold(timeout), (present) =>
        Effect.catchIf(
          send(present, expected, value, timeout),
          (error) => error.reason === "LeaseNotFound" && sessionsLeft > 1,
          () => Effect.zipRight(suspect(present), put(expected, value, timeout, sessionsLeft - 1))
        ))

    return {
      put: (expected, value, timeout) => put(expected, value, timeout, maxSessions),
      owns: (lease) => leases.has(lease),
      mayHold: (lease) => written.has(lease),
      relies: (lease) =>
        Effect.suspend(() => held?.lease === lease ? Effect.isSuccess(held.session.check) : Effect.succeed(false)),
      isGood: (lease) => held?.lease === lease && !held.session.isOver(),
      separate: Effect.suspend(() => {
        if (separate) return Effect.void
        separate = true
        return leave
      }),
      close
    }
  })
