/**
 * A mirror is a local copy of a part of the key space, consistent and kept current: it lists at a revision, watches from
 * the next one, and after a gap that cannot be closed (compaction, an etcd that lost its data) lists again, compares, and
 * passes on what changed. Its readers see changes in order, each once, however slow they are.
 *
 * The idea of a range cache over one watch is that of IBM's etcd-java (`RangeCache`).
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Watch, WatchError, WatchEvent } from "./EtcdClient.js"
import { EtcdClient } from "./EtcdClient.js"
import type { EtcdError } from "./EtcdError.js"
import { inBackground } from "./internal/background.js"
import { toBinary } from "./internal/bytes.js"
import * as MirrorLog from "./internal/mirror/log.js"
import * as MirrorReader from "./internal/mirror/reader.js"
import { losesEvents } from "./internal/serverVersion.js"
import type { KeyRange, KeyValue } from "./Txn.js"

/**
 * A change of one key.
 *
 * @since 0.1.0
 * @category models
 */
export type Change =
  | {
    readonly _tag: "Put"
    readonly kv: KeyValue
    /** What the reader saw before; `undefined` when the key is new to it. */
    readonly previous: KeyValue | undefined
  }
  | {
    readonly _tag: "Delete"
    readonly key: Uint8Array
    /** The revision of the delete; where only its result was seen, the revision at which it was. */
    readonly modRevision: bigint
    /** The last known value. */
    readonly previous: KeyValue
  }

/**
 * The copy at one moment. It never changes afterwards.
 *
 * @since 0.1.0
 * @category models
 */
export interface Snapshot {
  readonly entries: HashMap.HashMap<string, KeyValue>
  /** Everything up to this revision is in. */
  readonly revision: bigint
  /** Grows when etcd lost its data and began a new history: revisions of different epochs cannot be compared. */
  readonly epoch: number
}

/**
 * - `Loading`: not read yet; with the last failure, if there was one
 * - `Following`: in step with etcd, as far as can be known
 * - `Stale`: the copy is the last known one; etcd has not been heard of since `sinceMillis` (wall clock)
 *
 * @since 0.1.0
 * @category models
 */
export type MirrorState =
  | { readonly _tag: "Loading"; readonly error: Option.Option<EtcdError> }
  | { readonly _tag: "Following" }
  | { readonly _tag: "Stale"; readonly sinceMillis: number; readonly reason: string }

/**
 * @since 0.1.0
 * @category models
 */
export interface Mirror {
  /** Waits until the copy was read once. Fails when etcd refuses the read (permissions, credentials). */
  readonly ready: Effect.Effect<void, EtcdError>
  /** The present copy, once there is one. */
  readonly snapshot: Effect.Effect<Snapshot, EtcdError>
  /** One key of the present copy. */
  readonly get: (key: string) => Effect.Effect<Option.Option<KeyValue>, EtcdError>
  /** The present copy's keys in etcd's order. */
  readonly entries: Effect.Effect<ReadonlyArray<KeyValue>, EtcdError>
  /**
   * The present entries as puts, then every change: in order, none twice, none missing as long as etcd keeps it. A reader
   * that falls far behind reads on from etcd's history, on its own; it delays nobody.
   */
  readonly changes: Stream.Stream<Change, EtcdError>
  /**
   * The same, with the changes of one revision together, so that each step leads from one state of etcd to another: first
   * the present entries (none, if there are none), then what one transaction or the end of one lease changed. What a gap
   * hid (after a compaction, or when etcd lost its data) is one step.
   */
  readonly steps: Stream.Stream<ReadonlyArray<Change>, EtcdError>
  /** The present copy, then the newest one whenever it changed: a slow reader skips what is overtaken. */
  readonly snapshots: Stream.Stream<Snapshot, EtcdError>
  /** Waits until the copy has reached a revision at which one of its keys was written. */
  readonly awaitRevision: (revision: bigint) => Effect.Effect<void, EtcdError>
  readonly state: Effect.Effect<MirrorState>
}

/**
 * How a key indexes `Snapshot.entries`: one character a byte, so that keys that are not UTF-8 stay apart.
 *
 * @since 0.1.0
 * @category utilities
 */
export const indexKey: (key: string | Uint8Array) => string = toBinary

/** Where the server loses events around compactions without a word, the copy is compared with it this often. */
const verifyInterval = Duration.minutes(1)
/** How long an event may be on its way before its absence counts as its loss. */
const verifyGrace = Duration.seconds(5)

const maxLoggedEvents = 4_096

const retryDelays = Schedule.exponential("100 millis").pipe(
  Schedule.either(Schedule.spaced("2 seconds")),
  Schedule.jittered
)

/** What will not get better by itself; a reader that waits for the first copy should hear of it. */
const isRefusal = (error: EtcdError): boolean => error.reason !== "Unavailable" && error.reason !== "DeadlineExceeded"

/**
 * A mirror of all keys in `range` (see `Key.prefix`), until the scope closes. It is read in the background: this succeeds
 * at once, with etcd away too.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (range: KeyRange): Effect.Effect<Mirror, never, EtcdClient | Scope.Scope> =>
  Effect.gen(function*() {
    const client = yield* EtcdClient
    const log = MirrorLog.make(maxLoggedEvents)
    let staleSince: { readonly millis: number; readonly reason: string } | undefined
    let refused: EtcdError | undefined
    /** The connection under which the copy was last compared with etcd. */
    let compared = yield* client.watchConnection.get
    let waitingForFirst = Deferred.unsafeMake<void, EtcdError>(FiberId.none)

    const list: Effect.Effect<{ entries: HashMap.HashMap<string, KeyValue>; revision: bigint }, EtcdError> = Effect.gen(
      function*() {
        const pages = yield* Stream.runCollect(client.pages(range))
        const entries = HashMap.beginMutation(HashMap.empty<string, KeyValue>())
        for (const { kvs } of pages) {
          for (const kv of kvs) HashMap.set(entries, toBinary(kv.key), kv)
        }
        return {
          entries: HashMap.endMutation(entries),
          revision: Option.match(Chunk.head(pages), { onNone: () => 0n, onSome: ({ header }) => header.revision })
        }
      }
    )

    /** Whether etcd has begun a new history since the copy was read. */
    let newEpoch = false

    /** Lists, compares with what there was, and passes the difference on. */
    const load: Effect.Effect<bigint, EtcdError> = Effect.map(list, ({ entries, revision }) => {
      const replaced = newEpoch || log.contradicts(entries, revision)
      log.replace({ entries, revision, epoch: (log.current()?.epoch ?? 0) + (replaced ? 1 : 0) })
      newEpoch = false
      staleSince = undefined
      refused = undefined
      Deferred.unsafeDone(waitingForFirst, Effect.void)
      return revision
    })

    const follow = ({ next }: Watch, revision: bigint): Effect.Effect<never, WatchError> =>
      Effect.forever(Effect.map(next, (events) => {
        // The list has what came between the creation of the watch and the reading.
        const isNew = ({ kv }: WatchEvent): boolean => kv.modRevision > revision
        const news = isNew(events[0]) ? events : events.filter(isNew)
        if (news.length > 0) log.append(news)
      }))

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
     * to 100 ms, if anything was written meanwhile. Ends when the copy has to be read again.
     */
    const stay: Effect.Effect<void, EtcdError> = Effect.scoped(Effect.gen(function*() {
      const watch = yield* client.openWatch(range)
      compared = yield* client.watchConnection.get
      const revision = yield* load
      // Of another history than the watch.
      if (revision < watch.revision) return
      yield* Effect.raceFirst(follow(watch, revision), suspicion)
      // At once: it may take a while until another watch stands.
      yield* load
    })).pipe(
      Effect.catchTags({
        WatchCompacted: () => Effect.void,
        WatchNewEpoch: () =>
          Effect.sync(() => {
            newEpoch = true
          })
      })
    )

    /** Whether the copy lacks what etcd has had for a while. */
    const differs: Effect.Effect<boolean, EtcdError> = Effect.gen(function*() {
      const there = yield* list
      yield* Effect.sleep(verifyGrace)
      return log.lacks(there.entries, there.revision)
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
    yield* stay.pipe(
      Effect.tapError(failed),
      Effect.retry(retryDelays),
      Effect.orDie,
      Effect.forever,
      inBackground("mirror"),
      Effect.forkScoped
    )

    const ready: Mirror["ready"] = Effect.suspend(() =>
      log.current() === undefined ? Deferred.await(waitingForFirst) : Effect.void
    )

    const snapshot: Mirror["snapshot"] = Effect.flatMap(ready, () => {
      const present = log.current()
      return present === undefined ? Effect.dieMessage("a mirror that is ready has a copy") : Effect.succeed(present)
    })

    const awaitRevision = (revision: bigint): Effect.Effect<void, EtcdError> =>
      Effect.flatMap(snapshot, (present) =>
        present.revision >= revision
          ? Effect.void
          : Effect.zipRight(log.changed(present), awaitRevision(revision)))

    const replay: MirrorReader.Replay = (from: Snapshot) =>
      Effect.map(
        client.openWatch({ ...range, startRevision: from.revision + 1n }, { timeout: Duration.infinity }),
        ({ next }) => next
      )

    return {
      ready,
      snapshot,
      get: (key) => Effect.map(snapshot, ({ entries }) => HashMap.get(entries, toBinary(key))),
      entries: Effect.map(snapshot, ({ entries }) => MirrorLog.sorted(entries)),
      changes: Stream.unwrap(Effect.map(ready, () => MirrorReader.changes(log, replay))),
      steps: Stream.unwrap(Effect.map(ready, () => MirrorReader.steps(log, replay))),
      snapshots: Stream.unwrap(Effect.map(ready, () => MirrorReader.snapshots(log))),
      awaitRevision,
      state: Effect.map(client.watchConnection.get, (connection): MirrorState => {
        if (log.current() === undefined) return { _tag: "Loading", error: Option.fromNullable(refused) }
        if (staleSince !== undefined) {
          return { _tag: "Stale", sinceMillis: staleSince.millis, reason: staleSince.reason }
        }
        return connection._tag === "Connected"
          ? { _tag: "Following" }
          : { _tag: "Stale", sinceMillis: connection.sinceMillis, reason: connection.reason }
      })
    }
  })
