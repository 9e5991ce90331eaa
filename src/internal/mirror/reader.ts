/**
 * How a mirror's log is read: every change in order, or the newest state.
 *
 * A reader that the log does not reach back to reads on from etcd's own history, with a watch of its own, until it meets
 * a state from which the log goes on. Where etcd's history is gone as well, it is told the difference.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { WatchError, WatchEvent } from "../../EtcdClient.js"
import type { Change, Snapshot } from "../../Mirror.js"

import type { Batch, MirrorLog } from "./log.js"
import { apply, difference, sorted } from "./log.js"

/** A watch of the mirror's keys, from the revision after a state. */
export type Replay = (
  from: Snapshot
) => Effect.Effect<Effect.Effect<ReadonlyArray<WatchEvent>, WatchError>, WatchError, Scope.Scope>

interface OwnWatch {
  readonly scope: Scope.CloseableScope
  readonly next: Effect.Effect<ReadonlyArray<WatchEvent>, WatchError>
}

type Told = Pick<Batch, "changes" | "gap">

/** What a reader is told, from the present copy on, a part at every run; how much of it at a time means nothing. */
const reading = (
  log: MirrorLog,
  replay: Replay,
  /** An earlier state. */
  earlier: Snapshot
): Effect.Effect<Effect.Effect<ReadonlyArray<Told>>, never, Scope.Scope> =>
  Effect.gen(function*() {
    // Taken together, in one step: the state, and the number of what follows it.
    const first = log.current() ?? earlier
    let seen: Snapshot | undefined = first
    let number = log.next()
    let own: OwnWatch | undefined

    const leaveReplay: Effect.Effect<void> = Effect.suspend(() => {
      const leaving = own
      own = undefined
      return leaving === undefined ? Effect.void : Scope.close(leaving.scope, Exit.void)
    })
    yield* Effect.addFinalizer(() => leaveReplay)

    /** The reader is told what leads to `to`, and goes on with the log there. */
    const jump = (to: Snapshot, continueAt: number): Effect.Effect<ReadonlyArray<Told>> =>
      Effect.as(leaveReplay, to).pipe(Effect.map(() => {
        const changes = difference(seen?.entries ?? to.entries, to)
        seen = to
        number = continueAt
        return [{ changes, gap: true }]
      }))

    const jumpToPresent = Effect.suspend(() => jump(log.current() ?? first, log.next()))

    const fromLog: Effect.Effect<ReadonlyArray<Told>> = Effect.suspend(() => {
      const batches = log.since(number)
      if (batches === undefined) return startReplay
      if (batches.length === 0) return Effect.zipRight(log.changed(seen ?? first), fromLog)
      seen = batches[batches.length - 1].after
      number += batches.length
      return Effect.succeed(batches)
    })

    const startReplay: Effect.Effect<ReadonlyArray<Told>> = Effect.suspend(() => {
      const from = seen ?? first
      if (log.current()?.epoch !== from.epoch) return jumpToPresent
      return Effect.uninterruptibleMask((restore) =>
        Effect.gen(function*() {
          const scope = yield* Scope.make()
          const next = yield* Effect.onError(
            restore(Scope.extend(replay(from), scope)),
            (cause) => Scope.close(scope, Exit.failCause(cause))
          )
          own = { scope, next }
        })
      ).pipe(Effect.matchEffect({ onFailure: () => jumpToPresent, onSuccess: () => pull }))
    })

    const fromHistory = ({ next }: OwnWatch): Effect.Effect<ReadonlyArray<Told>> =>
      Effect.suspend(() => {
        const from = seen ?? first
        const met = log.following(from, from.revision)
        if (met !== undefined) return jump(met.before, met.number)
        return Effect.matchEffect(next, {
          onFailure: () => jumpToPresent,
          onSuccess: (events) => {
            const last = events[events.length - 1].kv.modRevision
            const meets = log.following(from, last)
            // What the log has as well is left to the log.
            const until = meets?.before.revision ?? last
            const { after, changes } = apply(from, events.filter(({ kv }) => kv.modRevision <= until))
            seen = after
            const known: Told = { changes, gap: false }
            return meets === undefined
              ? Effect.succeed([known])
              : Effect.map(jump(meets.before, meets.number), (rest) => [known, ...rest])
          }
        })
      })

    const pull: Effect.Effect<ReadonlyArray<Told>> = Effect.suspend(() =>
      own === undefined ? fromLog : fromHistory(own)
    )

    let begun = false
    return Effect.suspend(() => {
      if (begun) return Effect.map(pull, (all) => all.filter(({ changes }) => changes.length > 0))
      begun = true
      const changes = sorted(first.entries).map((kv): Change => ({ _tag: "Put", kv, previous: undefined }))
      return Effect.succeed([{ changes, gap: true }])
    })
  })

const told = (log: MirrorLog, replay: Replay): Stream.Stream<Told> =>
  Stream.unwrapScoped(Effect.suspend(() => {
    const present = log.current()
    return present === undefined
      ? Effect.succeed(Stream.empty)
      : Effect.map(reading(log, replay, present), (next) =>
        Stream.repeatEffectChunk(Effect.map(next, (told) => Chunk.unsafeFromArray(told))))
  }))

/** The same as `changes`, without a stream: every run is the next part, none for none. */
export const reader = (
  log: MirrorLog,
  replay: Replay,
  earlier: Snapshot
): Effect.Effect<Effect.Effect<ReadonlyArray<Change>>, never, Scope.Scope> =>
  Effect.map(reading(log, replay, earlier), Effect.map((told) => told.flatMap(({ changes }) => changes)))

/** The entries of the present copy as puts, then every change after it. */
export const changes = (log: MirrorLog, replay: Replay): Stream.Stream<Change> =>
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
export const steps = (log: MirrorLog, replay: Replay): Stream.Stream<ReadonlyArray<Change>> =>
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
