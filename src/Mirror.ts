/**
 * A mirror is a local copy of a part of the key space, consistent and kept current: it lists at a revision and watches from
 * the next one. After a gap that cannot be closed it lists again, compares, and passes on what changed: after a compaction as
 * of where etcd's history now begins, when etcd lost its data as of now. Its readers see changes in order, each once, however
 * slow they are.
 *
 * The idea of a range cache over one watch is that of IBM's etcd-java (`RangeCache`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { EtcdClient } from "./EtcdClient.js"
import type { EtcdError } from "./EtcdError.js"
import { toBinary } from "./internal/bytes.js"
import * as MirrorCopy from "./internal/mirror/copy.js"
import * as MirrorLog from "./internal/mirror/log.js"
import * as MirrorReader from "./internal/mirror/reader.js"
import type { Bytes, KeyRange, KeyValue } from "./Txn.js"

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
   * `changes` for one consumer and without the cost of a stream, where there are thousands of them: every run of what this
   * gives waits for the next ones. There may be none in the first.
   */
  readonly reader: Effect.Effect<Effect.Effect<ReadonlyArray<Change>>, EtcdError, Scope.Scope>
  /**
   * The same, with the changes of one revision together, so that each step leads from one state of etcd to another: first
   * the present entries (none, if there are none), then what one transaction or the end of one lease changed. What a gap
   * hid (after a compaction, or when etcd lost its data) is one step.
   */
  readonly steps: Stream.Stream<ReadonlyArray<Change>, EtcdError>
  /** The present copy, then the newest one whenever it changed: a slow reader skips what is overtaken. */
  readonly snapshots: Stream.Stream<Snapshot, EtcdError>
  /**
   * Waits until the copy has reached a revision at which one of its keys was written, or until etcd has lost its data and
   * with it what was written then.
   */
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

const maxLoggedEvents = 4_096

const mirrorOf = ({ log, ready, state }: MirrorCopy.Copy, replay: MirrorReader.Replay | undefined): Mirror => {
  const snapshot: Mirror["snapshot"] = Effect.flatMap(ready, () => {
    const present = log.current()
    return present === undefined ? Effect.dieMessage("a mirror that is ready has a copy") : Effect.succeed(present)
  })

  const awaitFrom = (present: Snapshot, revision: bigint): Effect.Effect<void, EtcdError> =>
    present.revision >= revision ? Effect.void : Effect.flatMap(
      Effect.zipRight(log.changed(present), snapshot),
      (next) => next.epoch === present.epoch ? awaitFrom(next, revision) : Effect.void
    )

  return {
    ready,
    snapshot,
    get: (key) => Effect.map(snapshot, ({ entries }) => HashMap.get(entries, toBinary(key))),
    entries: Effect.map(snapshot, ({ entries }) => MirrorLog.sorted(entries)),
    reader: Effect.flatMap(snapshot, (first) => MirrorReader.reader(log, replay, first)),
    changes: Stream.unwrap(Effect.map(ready, () => MirrorReader.changes(log, replay))),
    steps: Stream.unwrap(Effect.map(ready, () => MirrorReader.steps(log, replay))),
    snapshots: Stream.unwrap(Effect.map(ready, () => MirrorReader.snapshots(log))),
    awaitRevision: (revision) => Effect.flatMap(snapshot, (present) => awaitFrom(present, revision)),
    state
  }
}

/**
 * A mirror of all keys in `range` (see `Key.prefix`), until the scope closes. It is read in the background: this succeeds
 * at once, with etcd away too.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (range: KeyRange): Effect.Effect<Mirror, never, EtcdClient | Scope.Scope> =>
  Effect.flatMap(
    EtcdClient,
    (client) =>
      Effect.map(MirrorCopy.make(client, range, { maxEvents: maxLoggedEvents }), (copy) =>
        mirrorOf(copy, MirrorReader.replayOf(client, range)))
  )

/**
 * A mirror of several keys that have no narrow range in common, until the scope closes: no other key is read, and none but
 * these need be permitted. Every copy is what all of them were at one revision.
 *
 * For that they are read together after each change of one, so this is for few keys that change seldom. What came between
 * two readings is one step, and only its result is told.
 *
 * @param keys at most 128, as etcd reads no more in one transaction
 * @since 0.1.0
 * @category constructors
 */
export const makeKeys = (keys: ReadonlyArray<Bytes>): Effect.Effect<Mirror, never, EtcdClient | Scope.Scope> =>
  Effect.flatMap(EtcdClient, (client) =>
    Effect.map(
      MirrorCopy.make(client, keys, { maxEvents: maxLoggedEvents }),
      (copy) => mirrorOf(copy, undefined)
    ))
