/**
 * The copy under a mirror: how it is read, followed and compared with etcd.
 */
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { EtcdClient, Watch, WatchError, WatchEvent } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import type { Change, MirrorState } from "../../Mirror.js"
import type { Bytes, KeyRange, KeyValue } from "../../Txn.js"
import * as Txn from "../../Txn.js"
import { inBackground } from "../background.js"
import { toBinary } from "../bytes.js"
import { losesEvents } from "../serverVersion.js"
import type { MirrorLog } from "./log.js"
import * as Log from "./log.js"

export interface Copy {
  readonly log: MirrorLog
  /** Waits until the copy was read once. Fails when etcd refuses. */
  readonly ready: Effect.Effect<void, EtcdError>
  readonly state: Effect.Effect<MirrorState>
}

export interface CopyOptions {
  /** So many changes are kept for those who read them later. */
  readonly maxEvents: number
  /**
   * Told at once of what leads from one state to the next, the first time of what leads from none: for those who have no
   * time for a fibre of their own. All changes of a call belong together.
   */
  readonly onChanges?: ((changes: ReadonlyArray<Change>) => void) | undefined
}

/** Where the server loses events around compactions without a word, the copy is compared with it this often. */
const verifyInterval = Duration.minutes(1)
/** How long an event may be on its way before its absence counts as its loss. */
const verifyGrace = Duration.seconds(5)
/** How long etcd may take to say where its history begins, before it is asked again. */
const beginningGrace = Duration.seconds(2)

const retryDelays = Schedule.exponential("100 millis").pipe(
  Schedule.either(Schedule.spaced("2 seconds")),
  Schedule.jittered
)

/** What will not get better by itself; a reader that waits for the first copy should hear of it. */
const isRefusal = (error: EtcdError): boolean => error.reason !== "Unavailable" && error.reason !== "DeadlineExceeded"

/** What would hinder the reading of the present as well. */
export const isOfAnyReading = ({ reason }: EtcdError): boolean =>
  reason === "Unavailable" || reason === "DeadlineExceeded" || reason === "NoSpace" ||
  reason === "PermissionDenied" || reason === "Unauthenticated"

interface Listed {
  readonly entries: HashMap.HashMap<string, KeyValue>
  /** What there was at this revision. */
  readonly revision: bigint
  /** That of etcd when it was read. */
  readonly newest: bigint
}

const entriesOf = (lists: Iterable<ReadonlyArray<KeyValue>>): Listed["entries"] => {
  const entries = HashMap.beginMutation(HashMap.empty<string, KeyValue>())
  for (const kvs of lists) {
    for (const kv of kvs) HashMap.set(entries, toBinary(kv.key), kv)
  }
  return HashMap.endMutation(entries)
}

/** @param at the revision to read at; without it, what is there now */
export const listRange = (
  client: EtcdClient["Type"],
  range: KeyRange,
  at?: bigint
): Effect.Effect<Listed, EtcdError> =>
  Effect.map(Effect.suspend(() => Stream.runCollect(client.pages({ ...range, revision: at }))), (pages) => {
    const newest = Option.match(Chunk.head(pages), { onNone: () => 0n, onSome: ({ header }) => header.revision })
    return { entries: entriesOf(Chunk.map(pages, ({ kvs }) => kvs)), revision: at ?? newest, newest }
  })

const listKeys = (client: EtcdClient["Type"], keys: ReadonlyArray<Bytes>): Effect.Effect<Listed, EtcdError> =>
  Effect.map(client.txn({ success: keys.map((key) => Txn.range({ key })) }), ({ header, responses }) => ({
    entries: entriesOf(responses.map((answer) => answer._tag === "Range" ? answer.response.kvs : [])),
    revision: header.revision,
    newest: header.revision
  }))

/** Several keys, or one range. */
export type Copied = KeyRange | ReadonlyArray<Bytes>

const isSeveral = (copied: Copied): copied is ReadonlyArray<Bytes> => Array.isArray(copied)

/** A copy of these keys, until the scope closes. */
export const make = (
  client: EtcdClient["Type"],
  copied: Copied,
  { maxEvents, onChanges }: CopyOptions
): Effect.Effect<Copy, never, Scope.Scope> =>
  Effect.gen(function*() {
    const log = Log.make(maxEvents, onChanges)
    let staleSince: { readonly millis: number; readonly reason: string } | undefined
    let refused: EtcdError | undefined
    /** The connection under which the copy was last compared with etcd. */
    let compared = yield* client.watchConnection.get
    let waitingForFirst = Deferred.unsafeMake<void, EtcdError>(FiberId.none)

    // Those who still read are not left waiting.
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        log.end()
        Deferred.unsafeDone(waitingForFirst, Effect.interrupt)
      })
    )

    const list = isSeveral(copied) ? listKeys(client, copied) : listRange(client, copied)

    /** Whether etcd has begun a new history since the copy was read. */
    let newEpoch = false
    /** Whether there is something in what follows the copy that cannot be read, now or later. */
    let isBlocked = false

    /** Compares with what there was, and passes the difference on. */
    const replace = ({ entries, revision }: Listed): bigint => {
      const replaced = newEpoch || log.contradicts(entries, revision)
      log.replace({ entries, revision, epoch: (log.current()?.epoch ?? 0) + (replaced ? 1 : 0) })
      newEpoch = isBlocked = false
      staleSince = undefined
      refused = undefined
      Deferred.unsafeDone(waitingForFirst, Effect.void)
      return revision
    }

    const load: Effect.Effect<bigint, EtcdError> = Effect.map(list, replace)

    const follow = ([{ next }]: ReadonlyArray<Watch>, revision: bigint): Effect.Effect<never, WatchError> =>
      Effect.forever(Effect.map(next, (events) => {
        // The list has what came between the creation of the watch and the reading.
        const isNew = ({ kv }: WatchEvent): boolean => kv.modRevision > revision
        const news = isNew(events[0]) ? events : events.filter(isNew)
        if (news.length > 0) log.append(news)
      }))

    /**
     * What each watch tells is of its own key alone, and nothing tells when all have told everything of a revision. So any
     * change has all keys read again, together; what changes during that is one more reading.
     */
    const followKeys = (watches: ReadonlyArray<Watch>, revision: bigint): Effect.Effect<never, WatchError> =>
      Effect.gen(function*() {
        const told = yield* Queue.sliding<void>(1)
        let newest = revision
        let read = revision
        const listening = Effect.forEach(watches, ({ next }) =>
          Effect.forever(Effect.flatMap(next, (events) => {
            const last = events[events.length - 1].kv.modRevision
            if (last > newest) newest = last
            return Queue.offer(told, undefined)
          })), { concurrency: "unbounded", discard: true })
        const reading = Effect.forever(Effect.flatMap(Queue.take(told), () =>
          newest <= read ? Effect.void : Effect.map(load, (revision) => {
            read = revision
          })))
        return yield* Effect.raceFirst(Effect.zipRight(listening, Effect.never), reading)
      })

    const failed = (error: EtcdError): Effect.Effect<void> =>
      Effect.clockWith((clock) =>
        Effect.suspend(() => {
          staleSince ??= { millis: clock.unsafeCurrentTimeMillis(), reason: error.message }
          if (log.current() === undefined) {
            refused = error
            if (isRefusal(error)) {
              // Those who wait now hear of it; those who come later wait for the next attempt.
              Deferred.unsafeDone(waitingForFirst, Effect.fail(error))
              waitingForFirst = Deferred.unsafeMake(FiberId.none)
            }
          }
          return Effect.logDebug(`mirror reads again: ${error.message}`)
        })
      )

    /**
     * Watches from now on, and then lists: a watch that begins in the past would wait for etcd's synchronisation loop, up
     * to 100 ms, if anything was written meanwhile. Ends when the copy has to be compared with etcd's history.
     */
    const begin: Effect.Effect<void, WatchError> = Effect.scoped(Effect.gen(function*() {
      const [watches, followed] = isSeveral(copied)
        ? [
          yield* Effect.forEach(copied, (key) =>
            client.openWatch({ key }), { concurrency: "unbounded" }),
          followKeys
        ]
        : [[yield* client.openWatch(copied)], follow]
      compared = yield* client.watchConnection.get
      const revision = yield* load
      // Of another history than the watch.
      if (watches.some((watch) => revision < watch.revision)) return
      yield* Effect.raceFirst(followed(watches, revision), suspicion)
      // At once: it may take a while until other watches stand.
      if (isSeveral(copied)) yield* load
    }))

    /** Fails with the revision at which the history begins, after one that is gone; it is told to watches alone. */
    const findBeginning = (range: KeyRange, gone: bigint): Effect.Effect<void, WatchError> =>
      client.openWatch({ ...range, startRevision: gone }).pipe(
        Effect.flatMap(({ next }) => Effect.forever(next)),
        Effect.scoped,
        Effect.timeoutOption(beginningGrace),
        Effect.asVoid
      )

    /**
     * Goes on from a revision of the past: what there was then, and each version that followed. To read the present instead
     * would skip those between.
     */
    const resume = (range: KeyRange, from: bigint): Effect.Effect<void, WatchError> =>
      Effect.gen(function*() {
        const watch = yield* client.openWatch({ ...range, startRevision: from + 1n })
        compared = yield* client.watchConnection.get
        const there = yield* listRange(client, range, from)
        // Of another history than the watch.
        if (there.newest < watch.revision) {
          newEpoch = true
          return
        }
        yield* Effect.raceFirst(follow([watch], replace(there)), suspicion)
      }).pipe(
        Effect.scoped,
        Effect.catchTag("EtcdError", (error): Effect.Effect<void, WatchError> => {
          switch (error.reason) {
            case "Compacted":
              // Since the watch was told where to begin; so it may go on as if nothing had happened.
              return findBeginning(range, from)
            case "FutureRevision":
              newEpoch = true
              return Effect.void
            default:
              isBlocked = !isOfAnyReading(error)
              return Effect.fail(error)
          }
        })
      )

    /** @param begins what came before this revision is known to be gone */
    const stay = (begins: bigint): Effect.Effect<void, EtcdError> =>
      Effect.suspend(() => {
        const present = log.current()
        if (isSeveral(copied) || present === undefined || newEpoch || isBlocked) return begin
        // The copy may have been read after what its watch had still to tell.
        return resume(copied, present.revision > begins ? present.revision : begins)
      }).pipe(
        Effect.catchTags({
          WatchCompacted: ({ compactRevision }) => stay(compactRevision),
          WatchNewEpoch: () =>
            Effect.sync(() => {
              newEpoch = true
            })
        })
      )

    /** Whether the copy lacks what etcd has had for a while. */
    const differs: Effect.Effect<boolean, EtcdError> = Effect.gen(function*() {
      const before = log.current()
      const there = yield* list
      // Of another history: its watch may go on without a word, as no number in its headers is too low for what it asked for.
      if (before !== undefined && there.revision < before.revision) return true
      yield* Effect.sleep(verifyGrace)
      if (!log.lacks(there.entries, there.revision, there.entries)) return false
      // To read again skips what is on its way, so what was deleted since is told from what is lacking.
      const { entries } = yield* list
      return log.lacks(there.entries, there.revision, entries)
    })

    /**
     * Succeeds after every new connection: it may be to an etcd that lost its data and has since reached the copy's
     * revision, which no number in a header gives away.
     */
    const reconnected: Effect.Effect<unknown> = Effect.suspend(() => client.watchReconnected(compared)).pipe(
      Effect.tap((connection) =>
        Effect.sync(() => {
          compared = connection
        })
      ),
      // Not all clients of the cluster at the same moment.
      Effect.zipRight(Effect.flatMap(Random.nextRange(0, 1_000), Effect.sleep))
    )

    /** Ends when the copy has to be read again although the watch goes on. */
    const suspicion: Effect.Effect<void> = client.serverVersion.pipe(
      Effect.catchAll(() => Effect.succeed("")),
      Effect.flatMap((version) =>
        // Some servers lose events around compactions without a word.
        losesEvents(version) ? Effect.raceFirst(reconnected, Effect.sleep(verifyInterval)) : reconnected
      ),
      Effect.zipRight(Effect.retry(differs, retryDelays)),
      Effect.repeat({ until: (different) => different }),
      Effect.orDie,
      Effect.asVoid
    )

    // Refused or out of reach: again with pauses, for as long as it takes.
    yield* stay(0n).pipe(
      Effect.tapError(failed),
      Effect.retry(retryDelays),
      Effect.orDie,
      Effect.forever,
      // Of a range that is none, for example: nobody should wait for what never comes.
      Effect.tapDefect((cause) =>
        Effect.zipRight(
          Effect.logError("a mirror does not follow any more", cause),
          Deferred.failCause(waitingForFirst, cause)
        )
      ),
      // Whoever makes it in a region that cannot be interrupted still ends it with the scope.
      Effect.interruptible,
      inBackground("mirror"),
      Effect.forkScoped
    )

    const ready: Copy["ready"] = Effect.suspend(() =>
      log.current() === undefined ? Deferred.await(waitingForFirst) : Effect.void
    )

    const state = Effect.map(client.watchConnection.get, (connection): MirrorState => {
      if (log.current() === undefined) return { _tag: "Loading", error: Option.fromNullable(refused) }
      if (staleSince !== undefined) {
        return { _tag: "Stale", sinceMillis: staleSince.millis, reason: staleSince.reason }
      }
      return connection._tag === "Connected"
        ? { _tag: "Following" }
        : { _tag: "Stale", sinceMillis: connection.sinceMillis, reason: connection.reason }
    })

    return { log, ready, state }
  })
