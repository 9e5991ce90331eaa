/** The way from a list of what is taken to a number of one's own. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError, InvalidArgument } from "../../EtcdError.js"
import type { Session, SessionExpired, Sessions } from "../../Session.js"
import type { KeyValue } from "../../Txn.js"
import type { Won } from "../lock/handle.js"
import type { Obligations } from "../obligations.js"
import * as Ids from "./ids.js"

type Client = EtcdClient["Type"]

export interface Wanted {
  /** Where the numbers of the service stand; ends with a slash. */
  readonly folder: string
  readonly maxId: number
  readonly ttl: Duration.Duration
}

export type Allocated =
  | { readonly _tag: "Allocated"; readonly id: number; readonly won: Won }
  | { readonly _tag: "Exhausted"; readonly inUse: number }

/** How far an attempt has come: what has to be undone in the end. */
interface Progress {
  /** `doubtful`: a sending was not answered, and may be applied at any time. */
  sent: "nothing" | "once" | "doubtful"
  taken: Ids.Taken | undefined
}

/** Sends an attempt, once more if it is not known what became of it. */
const send = (
  client: Client,
  session: Session,
  attempt: Ids.Attempt,
  own: Obligations
): Effect.Effect<Ids.Outcome, EtcdError | SessionExpired> => {
  const progress: Progress = { sent: "doubtful", taken: undefined }
  const undo = (): Effect.Effect<void> => {
    const { sent, taken } = progress
    progress.sent = "nothing"
    return sent === "nothing"
      ? Effect.void
      : session.undo({
        key: attempt.folder,
        txn: Ids.removal(attempt, taken, sent === "doubtful"),
        bars: sent === "doubtful"
      })
  }
  // The obligation to undo it is there before it is sent, so that no interruption can fall between them.
  own.owe(undo)

  const answered = (outcome: Ids.Outcome): Effect.Effect<Ids.Outcome> => {
    if (outcome._tag === "Taken") {
      progress.taken = outcome.taken
      return Effect.succeed(outcome)
    }
    if (progress.sent === "once") {
      progress.sent = "nothing"
      return Effect.succeed(outcome)
    }
    // A copy of it that is still on its way could find a number free by then.
    return Effect.as(Effect.uninterruptible(Effect.suspend(undo)), outcome)
  }
  const failed = (error: EtcdError): Effect.Effect<never, EtcdError | SessionExpired> =>
    // A renewal has the session see that its lease is gone.
    error.reason === "LeaseNotFound" ? Effect.zipRight(session.renew, Effect.fail(error)) : Effect.fail(error)

  const request = Ids.request(attempt)
  return Effect.matchEffect(client.txn(request), {
    onSuccess: (response) => {
      progress.sent = "once"
      return answered(Ids.outcomeOf(attempt, response))
    },
    onFailure: (error) => {
      if (error.mayBeApplied) {
        return Effect.matchEffect(client.txn(request, { idempotent: true }), {
          onSuccess: (response) => answered(Ids.outcomeOf(attempt, response)),
          onFailure: failed
        })
      }
      progress.sent = "nothing"
      return failed(error)
    }
  })
}

/** Tries the lowest free numbers until one of them is taken, or none is free. */
const takeOne = (
  client: Client,
  session: Session,
  lease: bigint,
  own: Obligations,
  { folder, maxId }: Wanted,
  present: ReadonlyArray<KeyValue>
): Effect.Effect<Allocated, EtcdError | SessionExpired> =>
  Effect.gen(function*() {
    let kvs = present
    for (;;) {
      const { free, inUse } = Ids.survey(folder, kvs, maxId)
      if (free.length === 0) return { _tag: "Exhausted", inUse }
      const attempt = Ids.attempt(folder, lease, free)
      const outcome = yield* send(client, session, attempt, own)
      if (outcome._tag === "Taken") {
        yield* session.check
        const { createRevision, id } = outcome.taken
        return {
          _tag: "Allocated",
          id,
          won: { session, entry: { key: Ids.keyOf(attempt, id), lease, createRevision } }
        }
      }
      kvs = outcome.kvs
    }
  })

/** What it owes is told to `own`. */
export const allocate = (
  client: Client,
  sessions: Sessions["Type"],
  own: Obligations,
  wanted: Wanted
): Effect.Effect<Allocated, InvalidArgument | EtcdError> =>
  Effect.gen(function*() {
    const session = yield* sessions.borrow(wanted.ttl, own.owe)
    // Not by `Effect.all`: where an interruption comes at the wrong step it never ends.
    const listing = yield* Effect.forkScoped(client.range(Ids.listing(wanted.folder)))
    const lease = yield* session.lease
    const { kvs } = yield* Fiber.join(listing)
    return yield* takeOne(client, session, lease, own, wanted, kvs)
  }).pipe(
    Effect.scoped,
    // The session ended meanwhile: there is a new one.
    Effect.catchTag("SessionExpired", () =>
      Effect.zipRight(
        Effect.uninterruptible(Effect.suspend(() => own.settle())),
        allocate(client, sessions, own, wanted)
      ))
  )
