/** A stay in a queue, from entering to holding: the same for locks and for all that are built like them. */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError, InvalidArgument } from "../../EtcdError.js"
import type { Kind } from "../../LockError.js"
import { LockConflict, LockTimeout } from "../../LockError.js"
import type { Entered, EnterOptions, Entry, Session, Sessions } from "../../Session.js"
import { SessionExpired } from "../../Session.js"
import type { KeyValue, Op, OpResponse } from "../../Txn.js"
import { toBytes, toText } from "../bytes.js"
import { firstOf } from "../firstOf.js"
import type { Obligations } from "../obligations.js"
import * as Owner from "../owner.js"
import type { Claimant } from "../session/claim.js"
import type { Won } from "./handle.js"
import type { Win, Winner } from "./holding.js"
import { byEffect } from "./holding.js"
import * as Queue from "./queue.js"
import * as Queues from "./queues.js"
import type { Recipe } from "./recipe.js"
import { holders } from "./recipe.js"

/** Where to stand, and as what. */
export interface Place<E = never> {
  /** What is to be held, as the user calls it. */
  readonly key: string
  /** Ends with a slash. */
  readonly folder: string
  readonly value: () => string
  readonly ttl: Duration.Duration
  /** Why nobody may stand here behind the one that is first, if so. */
  readonly objection?: ((first: KeyValue) => E | undefined) | undefined
}

export interface Stay {
  /** Waits until the entry holds; without a `timeout`, as long as it takes. */
  readonly wait: <E>(
    place: Place<E>,
    timeout: Duration.Duration | undefined
  ) => Win<E | LockTimeout | InvalidArgument | EtcdError>
  /** Holds at once or not at all. What can be seen to have to wait is not put into the queue. */
  readonly attempt: <E>(place: Place<E>) => Win<E | LockConflict | InvalidArgument | EtcdError>
  /** Where those who wait are. */
  readonly queues: Queues.Queues
}

/** So many entries are looked at when one enters where several may hold. */
const looksAt = 32

/**
 * Starts over when the own key or its lease is lost: the place is lost, the will is not.
 *
 * @param again the way from its beginning, where the effect is not that
 */
export const undeterred = <A, E>(
  own: Obligations,
  effect: Effect.Effect<A, E | SessionExpired | Queue.Evicted>,
  again: Effect.Effect<A, E | SessionExpired | Queue.Evicted> = effect
): Effect.Effect<A, E> =>
  Effect.catchAllCause(effect, (cause) => {
    const failure = Cause.failureOrCause(cause)
    if (Either.isRight(failure)) return Effect.failCause(failure.right)
    const error = failure.left
    return error instanceof SessionExpired || error instanceof Queue.Evicted
      ? Effect.zipRight(
        Effect.uninterruptible(Effect.suspend(() => own.settle())),
        undeterred(own, again)
      )
      : Effect.fail(error)
  })

/**
 * Ends in time, also where nobody may interrupt: an acquisition is often the first half of `acquireRelease`. A timeout of
 * Effect's would not end there, and takes half of what `firstOf` does elsewhere.
 */
export const within = <A, E, E2>(
  effect: Effect.Effect<A, E>,
  duration: Duration.Duration | undefined,
  onTimeout: (duration: Duration.Duration) => E2
): Effect.Effect<A, E | E2> => {
  if (duration === undefined) return effect
  const late = () => onTimeout(duration)
  return Effect.checkInterruptible((isInterruptible) =>
    isInterruptible
      ? Effect.timeoutFail(effect, { duration, onTimeout: late })
      : firstOf(effect, Effect.flatMap(Effect.sleep(duration), () => Effect.fail(late())))
  )
}

/** The steps from the end of a queue to its head. */
interface Way {
  readonly lookAtEntry: (folder: string) => Op
  readonly gone: EnterOptions["onRemoved"]
  readonly holdsAtOnce: (session: Session, entered: Entered) => Won | undefined
  readonly waitBehind: <E>(
    place: Place<E>,
    session: Session,
    entered: Entered
  ) => Effect.Effect<Won, E | EtcdError | SessionExpired | Queue.Evicted>
  readonly goOn: <E>(
    place: Place<E>,
    session: Session,
    entering: Effect.Effect<Entered, EtcdError | SessionExpired>
  ) => Effect.Effect<Won, E | EtcdError | SessionExpired | Queue.Evicted>
  readonly stay: <E>(
    place: Place<E>,
    own: Obligations
  ) => Effect.Effect<Won, E | InvalidArgument | EtcdError | SessionExpired | Queue.Evicted>
}

/** Somebody who enters, until the answer has come: one object, as hundreds may be on their way. */
class Arrival<E> implements EnterOptions, Claimant<SessionExpired> {
  readonly #way: Way
  readonly #place: Place<E>
  readonly #session: Session
  readonly #winner: Winner<E | InvalidArgument | EtcdError>

  constructor(way: Way, place: Place<E>, session: Session, winner: Winner<E | InvalidArgument | EtcdError>) {
    this.#way = way
    this.#place = place
    this.#session = session
    this.#winner = winner
  }

  get folder(): string {
    return this.#place.folder
  }

  get value(): string {
    return this.#place.value()
  }

  get reads(): ReadonlyArray<Op> {
    return [this.#way.lookAtEntry(this.#place.folder)]
  }

  get onRemoved(): EnterOptions["onRemoved"] {
    return this.#way.gone
  }

  entered(entered: Entered): void {
    const won = this.#way.holdsAtOnce(this.#session, entered)
    if (won === undefined) this.#rest(this.#way.waitBehind(this.#place, this.#session, entered))
    else this.#winner.won(won)
  }

  troubled(entering: Effect.Effect<Entered, EtcdError | SessionExpired>): void {
    this.#rest(this.#way.goOn(this.#place, this.#session, entering))
  }

  #rest(rest: Effect.Effect<Won, E | InvalidArgument | EtcdError | SessionExpired | Queue.Evicted>): void {
    const { own } = this.#winner
    this.#winner.rest(undeterred(own, rest, Effect.suspend(() => this.#way.stay(this.#place, own))))
  }
}

export const make = <Info, State>(
  client: EtcdClient["Type"],
  sessions: Sessions["Type"],
  kind: Kind,
  recipe: Recipe<Info, State>
): Effect.Effect<Stay, never, Scope.Scope> =>
  Effect.map(Queues.make(client, recipe), (queues): Stay => {
    const { awaitTurn, gone } = queues
    const lookAtEntry = (folder: string): Op => recipe.isShared ? Queue.oldest(folder, looksAt) : Queue.size(folder)

    const entering = ({ folder, value }: Place<unknown>, read: Op): EnterOptions => ({
      folder,
      value: value(),
      reads: [read],
      onRemoved: gone
    })

    const infosOf = (first: ReadonlyArray<KeyValue>): ReadonlyArray<Info> =>
      first.map(({ value }) => recipe.read(value))

    /** Where an entry is among the first of the queue; -1 if it is not one of them. */
    const indexOf = (entry: Entry, first: ReadonlyArray<KeyValue>): number =>
      first.findIndex(({ createRevision }) => createRevision === entry.createRevision)

    const holds = (entry: Entry, first: ReadonlyArray<KeyValue>): boolean => {
      const own = indexOf(entry, first)
      return own >= 0 && own < holders(recipe, infosOf(first))
    }

    /**
     * Fails where nobody may stand behind the first one. Not if that one came behind somebody who says what we say: then it
     * was refused itself, and is about to leave.
     */
    const mayStand = <E>(
      { folder, objection }: Place<E>,
      [first]: ReadonlyArray<KeyValue | undefined>
    ): Effect.Effect<void, E | EtcdError> => {
      if (first === undefined) return Effect.void
      const refused = objection?.(first)
      if (refused === undefined) return Effect.void
      return Queue.entries(client, folder, { keysOnly: false, revision: first.createRevision }).pipe(
        Effect.map(([before]) => objection?.(before) === undefined),
        Effect.catchIf(({ reason }) => reason === "Compacted", () => Effect.succeed(false)),
        Effect.flatMap((isLeaving) => isLeaving ? Effect.void : Effect.fail(refused))
      )
    }

    /** The first of the queue, by the read that went along with entering if that shows them. */
    const headOf = (
      { folder, objection }: Place<unknown>,
      read: OpResponse | undefined
    ): Effect.Effect<ReadonlyArray<KeyValue>, EtcdError> => {
      const seen = Queue.entriesOf(folder, read)
      return seen.length > 0 || objection === undefined
        ? Effect.succeed(seen)
        : Queue.entries(client, folder, { keysOnly: false })
    }

    /** The way from the end of the queue to its head. */
    const follow = <E>(
      place: Place<E>,
      won: Won,
      read: OpResponse | undefined
    ): Effect.Effect<Won, E | EtcdError | SessionExpired | Queue.Evicted> =>
      Effect.flatMap(
        headOf(place, read),
        (first): Effect.Effect<Won, E | EtcdError | SessionExpired | Queue.Evicted> =>
          mayStand(place, first).pipe(
            Effect.zipRight(
              holds(won.entry, first) ? Effect.void : awaitTurn({ folder: place.folder, entry: won.entry }, won.session)
            ),
            Effect.zipRight(won.session.check),
            Effect.as(won)
          )
      )

    const holdsAtOnce = (session: Session, { entry, fresh, reads }: Entered): Won | undefined =>
      Option.isSome(entry) && fresh && Queue.isAlone(reads[0]) && !session.isOver()
        ? { session, entry: entry.value }
        : undefined

    const waitBehind = <E>(
      place: Place<E>,
      session: Session,
      { entry, fresh, reads }: Entered
    ): Effect.Effect<Won, E | EtcdError | SessionExpired | Queue.Evicted> =>
      Option.isNone(entry)
        ? Effect.fail(new Queue.Evicted())
        : follow(place, { session, entry: entry.value }, fresh ? reads[0] : undefined)

    /** From the answer to entering on. */
    const goOn = <E>(place: Place<E>, session: Session, entering: Effect.Effect<Entered, EtcdError | SessionExpired>) =>
      Effect.flatMap(entering, (entered) => {
        const won = holdsAtOnce(session, entered)
        return won === undefined ? waitBehind(place, session, entered) : Effect.succeed(won)
      })

    const stay = <E>(
      place: Place<E>,
      own: Obligations
    ): Effect.Effect<Won, E | InvalidArgument | EtcdError | SessionExpired | Queue.Evicted> =>
      Effect.flatMap(
        sessions.borrow(place.ttl, own.owe),
        (session) => goOn(place, session, session.claim(entering(place, lookAtEntry(place.folder)), own.owe))
      )

    const way: Way = { lookAtEntry, gone, holdsAtOnce, waitBehind, goOn, stay }

    const wait = <E>(place: Place<E>): Win<E | InvalidArgument | EtcdError> => (winner) => {
      const session = sessions.lend(place.ttl, winner.own.owe)
      if (session === undefined) {
        winner.rest(undeterred(winner.own, stay(place, winner.own)))
      } else {
        const arrival = new Arrival(way, place, session, winner)
        session.startClaim(arrival, winner.own.owe, arrival)
      }
    }

    const attempt = <E>(
      place: Place<E>,
      own: Obligations
    ): Effect.Effect<Won, E | LockConflict | InvalidArgument | EtcdError | SessionExpired | Queue.Evicted> =>
      Effect.gen(function*() {
        const { folder, key } = place
        const session = yield* sessions.borrow(place.ttl, own.owe)
        const taken = ([first]: ReadonlyArray<KeyValue | undefined>) =>
          new LockConflict({
            kind,
            key,
            ...first === undefined ? {} : {
              holder: toText(first.key),
              owner: Option.getOrUndefined(Owner.parse(first.value))
            }
          })
        const options = entering(place, Queue.oldest(folder, recipe.isShared ? looksAt : 1))
        const { entry, reads } = yield* session.claim({ ...options, onlyIf: [Queue.isEmpty(folder)] }, own.owe)
        if (Option.isSome(entry)) return { session, entry: entry.value }
        const before = Queue.entriesOf(folder, reads[0])
        yield* mayStand(place, before)
        const all = [...infosOf(before), recipe.read(toBytes(options.value))]
        if (holders(recipe, all) < all.length) return yield* taken(before)
        // There may be room: only the queue itself can tell. Keys of nested names stand below the folder as well.
        const { entry: queued } = yield* session.claim(options, own.owe)
        if (Option.isNone(queued)) return yield* new Queue.Evicted()
        const first = yield* Queue.entries(client, folder, { keysOnly: false })
        if (indexOf(queued.value, first) === -1) return yield* new Queue.Evicted()
        yield* mayStand(place, first)
        return holds(queued.value, first) ? { session, entry: queued.value } : yield* taken(first)
      })

    return {
      wait: (place, timeout) =>
        timeout === undefined ?
          wait(place) :
          byEffect((own) =>
            within(
              undeterred(own, stay(place, own)),
              timeout,
              (timeout) => new LockTimeout({ kind, key: place.key, timeout })
            )
          ),
      attempt: (place) =>
        byEffect((own) => undeterred(own, Effect.tap(attempt(place, own), ({ session }) => session.check))),
      queues
    }
  })
