/**
 * How a mirror's log is read: every change in order, or the newest state.
 *
 * A reader that the log does not reach back to reads on from etcd's own history, with a watch of its own, until it meets
 * a state from which the log goes on. Where etcd's history is gone as well, it is told the difference up to where that now
 * begins, and reads on from there.
 */
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { EtcdClient, WatchError, WatchEvent } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import type { Change, Snapshot } from "../../Mirror.js"
import type { KeyRange } from "../../Txn.js"
import { isOfAnyReading, listRange } from "./copy.js"
import type { Batch, MirrorLog } from "./log.js"
import { apply, compare, difference, sorted } from "./log.js"

/** How a mirror's keys are read in etcd's history; a mirror without that tells the difference instead. */
export interface Replay {
  /** A watch of what follows on a revision. */
  readonly watch: (
    after: bigint
  ) => Effect.Effect<Effect.Effect<ReadonlyArray<WatchEvent>, WatchError>, WatchError, Scope.Scope>
  /** What there was at a revision. */
  readonly list: (at: bigint) => Effect.Effect<Snapshot["entries"], EtcdError>
}

export const replayOf = (client: EtcdClient["Type"], range: KeyRange): Replay => ({
  watch: (after) =>
    Effect.map(
      client.openWatch({ ...range, startRevision: after + 1n }, { timeout: Duration.infinity }),
      ({ next }) => next
    ),
  list: (at) => Effect.map(listRange(client, range, at), ({ entries }) => entries)
})

/** Between two attempts to read the past. */
const pause = "1 second"

interface OwnWatch {
  readonly scope: Scope.CloseableScope
  readonly next: Effect.Effect<ReadonlyArray<WatchEvent>, WatchError>
}

type Told = Pick<Batch, "changes" | "gap">

const withoutEmpty = (told: ReadonlyArray<Told>): ReadonlyArray<Told> =>
  told.filter(({ changes }) => changes.length > 0)

/** One who reads. A class, so that thousands share their code: the parts of each are made when they are run. */
class Reading {
  readonly log: MirrorLog
  readonly replay: Replay | undefined
  readonly scope: Scope.Scope
  readonly first: Snapshot
  seen: Snapshot
  number: number
  own: OwnWatch | undefined = undefined
  begun = false

  constructor(log: MirrorLog, replay: Replay | undefined, earlier: Snapshot, scope: Scope.Scope) {
    this.log = log
    this.replay = replay
    this.scope = scope
    // Taken together, in one step: the state, and the number of what follows it.
    this.first = this.seen = log.current() ?? earlier
    this.number = log.next()
  }

  leaveReplay(): Effect.Effect<void> {
    const leaving = this.own
    this.own = undefined
    return leaving === undefined ? Effect.void : Scope.close(leaving.scope, Exit.void)
  }

  /** The reader is told what leads to `to`, and goes on with the log there. */
  jump(to: Snapshot, continueAt: number): Effect.Effect<ReadonlyArray<Told>> {
    return Effect.map(this.leaveReplay(), () => {
      const changes = difference(this.seen.entries, to)
      this.seen = to
      this.number = continueAt
      return [{ changes, gap: true }]
    })
  }

  jumpToPresent(): Effect.Effect<ReadonlyArray<Told>> {
    return this.jump(this.log.current() ?? this.first, this.log.next())
  }

  fromLog(): Effect.Effect<ReadonlyArray<Told>> {
    const batches = this.log.since(this.number)
    if (batches === undefined) return this.startReplay()
    if (batches.length === 0) return Effect.flatMap(this.log.changed(this.seen), () => this.fromLog())
    this.seen = batches[batches.length - 1].after
    this.number += batches.length
    return Effect.succeed(batches)
  }

  startReplay(): Effect.Effect<ReadonlyArray<Told>> {
    const from = this.seen
    const replay = this.replay
    if (replay === undefined || this.log.current()?.epoch !== from.epoch) return this.jumpToPresent()
    return Effect.matchEffect(
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(Scope.fork(this.scope, ExecutionStrategy.sequential), (scope) =>
          Effect.map(
            Effect.onError(
              restore(Scope.extend(replay.watch(from.revision), scope)),
              (cause) => Scope.close(scope, Exit.failCause(cause))
            ),
            (next) => {
              this.own = { scope, next }
            }
          ))
      ),
      {
        onFailure: (error) => this.afterLoss(error),
        onSuccess: () => this.pull()
      }
    )
  }

  /** Goes on where etcd's history now begins: what it still has is told, although what came before is gone. */
  afterLoss(error: WatchError): Effect.Effect<ReadonlyArray<Told>> {
    const { replay, seen } = this
    if (replay === undefined || error._tag === "WatchNewEpoch") return this.jumpToPresent()
    if (error._tag === "EtcdError") {
      // To ask from the same place again tells how much more is gone by then.
      return error.reason === "Compacted" || isOfAnyReading(error)
        ? Effect.zipRight(this.leaveReplay(), Effect.delay(Effect.suspend(() => this.startReplay()), pause))
        : this.jumpToPresent()
    }
    const revision = error.compactRevision
    const met = this.log.following(seen, revision)
    if (met !== undefined) return this.jump(met.before, met.number)
    return Effect.matchEffect(replay.list(revision), {
      onFailure: (error) => this.afterLoss(error),
      // The log does not reach back to there.
      onSuccess: (entries) => this.jump(compare(seen, { entries, revision, epoch: seen.epoch }).after, this.number)
    })
  }

  fromHistory({ next }: OwnWatch): Effect.Effect<ReadonlyArray<Told>> {
    const from = this.seen
    if (this.log.current()?.epoch !== from.epoch) return this.jumpToPresent()
    const met = this.log.following(from, from.revision)
    if (met !== undefined) return this.jump(met.before, met.number)
    return Effect.matchEffect(next, {
      onFailure: (error) => this.afterLoss(error),
      onSuccess: (events) => {
        const last = events[events.length - 1].kv.modRevision
        const meets = this.log.following(from, last)
        // What the log has as well is left to the log.
        const until = meets?.before.revision ?? last
        const { after, changes } = apply(from, events.filter(({ kv }) => kv.modRevision <= until))
        this.seen = after
        const known: Told = { changes, gap: false }
        return meets === undefined
          ? Effect.succeed([known])
          : Effect.map(this.jump(meets.before, meets.number), (rest) => [known, ...rest])
      }
    })
  }

  /** The next part; at first, the present copy. */
  pull(): Effect.Effect<ReadonlyArray<Told>> {
    if (this.begun) return this.own === undefined ? this.fromLog() : this.fromHistory(this.own)
    this.begun = true
    const changes = sorted(this.first.entries).map((kv): Change => ({ _tag: "Put", kv, previous: undefined }))
    return Effect.succeed([{ changes, gap: true }])
  }
}

/** What a reader is told, from the present copy on, a part at every run; how much of it at a time means nothing. */
const reading = (
  log: MirrorLog,
  replay: Replay | undefined,
  /** An earlier state. */
  earlier: Snapshot
): Effect.Effect<Effect.Effect<ReadonlyArray<Told>>, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => {
    const reading = new Reading(log, replay, earlier, scope)
    return Effect.suspend(() => reading.pull())
  })

const told = (log: MirrorLog, replay: Replay | undefined): Stream.Stream<Told> =>
  Stream.unwrapScoped(Effect.suspend(() => {
    const present = log.current()
    return present === undefined
      ? Effect.succeed(Stream.empty)
      : Effect.flatMap(reading(log, replay, present), (next) =>
        // The present copy is a step also when there is nothing in it.
        Effect.map(next, (first) =>
          Stream.concat(
            Stream.fromIterable(first),
            Stream.repeatEffectChunk(Effect.map(next, (told) => Chunk.unsafeFromArray(withoutEmpty(told))))
          )))
  }))

const changesOf = (told: ReadonlyArray<Told>): ReadonlyArray<Change> => told.flatMap(({ changes }) => changes)

/** The same as `changes`, without a stream: every run is the next part, which may be empty. */
export const reader = (
  log: MirrorLog,
  replay: Replay | undefined,
  earlier: Snapshot
): Effect.Effect<Effect.Effect<ReadonlyArray<Change>>, never, Scope.Scope> =>
  Effect.map(reading(log, replay, earlier), Effect.map(changesOf))

/** The entries of the present copy as puts, then every change after it. */
export const changes = (log: MirrorLog, replay: Replay | undefined): Stream.Stream<Change> =>
  Stream.mapChunks(
    told(log, replay),
    (all) => Chunk.unsafeFromArray(Chunk.toReadonlyArray(all).flatMap(({ changes }) => changes))
  )

const revisionOf = (change: Change): bigint => change._tag === "Put" ? change.kv.modRevision : change.modRevision

const byRevision = (changes: ReadonlyArray<Change>): ReadonlyArray<ReadonlyArray<Change>> => {
  const steps: Array<Array<Change>> = []
  let last: bigint | undefined
  for (const change of changes) {
    const revision = revisionOf(change)
    if (revision === last) steps[steps.length - 1].push(change)
    else steps.push([change])
    last = revision
  }
  return steps
}

/** The same, the changes that lead from one state to the next together. */
export const steps = (log: MirrorLog, replay: Replay | undefined): Stream.Stream<ReadonlyArray<Change>> =>
  Stream.mapConcat(told(log, replay), ({ changes, gap }) => gap ? [changes] : byRevision(changes))

/** The present copy, then the newest one whenever there is another. */
export const snapshots = (log: MirrorLog): Stream.Stream<Snapshot> =>
  Stream.suspend(() => {
    const first = log.current()
    if (first === undefined) return Stream.empty
    return Stream.concat(
      Stream.make(first),
      Stream.unfoldEffect(first, (seen) =>
        Effect.map(log.changed(seen), () => {
          const present = log.current() ?? seen
          return Option.some([present, present] as const)
        }))
    ).pipe(Stream.changesWith((a, b) => a.entries === b.entries))
  })
