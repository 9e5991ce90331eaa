/** Leading around a body: again and again, until the body ends by itself. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { Body, Leadership, WithLeadershipOptions } from "../../Election.js"
import type { EtcdClient } from "../../EtcdClient.js"
import type { InvalidArgument } from "../../EtcdError.js"
import { EtcdError } from "../../EtcdError.js"
import type { LockTimeout } from "../../LockError.js"
import { LockExpired } from "../../LockError.js"
import type { Holding, Win } from "../lock/holding.js"
import { kind } from "./candidate.js"
import * as Leaderships from "./leadership.js"

type Again = LockExpired | EtcdError

const pauses: Schedule.Schedule<unknown> = Schedule.exponential("100 millis").pipe(
  Schedule.either(Schedule.spaced("5 seconds")),
  Schedule.jittered
)

/** The loss of the term, if the failure is that. What was given up, here or with all the services, is not lost. */
const lossOf = (name: string, leadership: Leadership | undefined, failure: unknown): LockExpired | undefined =>
  failure instanceof LockExpired && failure.kind === kind && failure.key === name &&
    // Lost before the body had begun, or with what it began with.
    (leadership === undefined || failure.fencingToken === leadership.term) &&
    failure.reason !== "closed" && failure.reason !== "released"
    ? failure
    : undefined

const outageOf = (failure: unknown): EtcdError | undefined =>
  failure instanceof EtcdError && (failure.reason === "Unavailable" || failure.reason === "DeadlineExceeded")
    ? failure
    : undefined

/** @param win how the election is won, without a time limit */
export const lead = <A, E, R>(
  client: EtcdClient["Type"],
  holding: Holding,
  name: string,
  win: Win<LockTimeout | InvalidArgument | EtcdError>,
  body: Body<A, E, R>,
  { onLost, retry = pauses }: Pick<WithLeadershipOptions, "onLost" | "retry">
): Effect.Effect<A, E | LockExpired | InvalidArgument | EtcdError, R> =>
  Effect.flatMap(Schedule.driver(retry), (driver) => {
    let toldOfOutage = false

    const patiently: Win<InvalidArgument | EtcdError> = (winner) =>
      win({
        own: winner.own,
        won: (won) => winner.won(won),
        rest: (rest) => winner.rest(Effect.catchTag(rest, "LockTimeout", Effect.die))
      })

    const tell = (reason: Again): Effect.Effect<void> => {
      const log = reason._tag === "EtcdError" && toldOfOutage ? Effect.logDebug : Effect.logWarning
      toldOfOutage = reason._tag === "EtcdError"
      return Effect.annotateLogs(log(`campaigning again: ${reason.message}`), { election: name })
    }

    const term: Effect.Effect<A, E | LockExpired | InvalidArgument | EtcdError, R> = Effect.suspend(() => {
      let leadership: Leadership | undefined
      const led = holding.around("Election.campaign", name, patiently, (held) => {
        leadership = Leaderships.make(client, name, held)
        toldOfOutage = false
        return Effect.zipRight(driver.reset, Effect.isEffect(body) ? body : body(leadership))
      }, onLost)
      return Effect.catchAllCause(led, (cause) => {
        const failure = Option.getOrUndefined(Either.getLeft(Cause.failureOrCause(cause)))
        // Once the body has begun, any other failure is its own.
        const outage = leadership === undefined ? outageOf(failure) : undefined
        const reason = lossOf(name, leadership, failure) ?? outage
        return reason === undefined
          ? Effect.failCause(cause)
          : Effect.matchEffect(driver.next(reason), {
            onFailure: () => Effect.fail(reason),
            onSuccess: () => Effect.zipRight(tell(reason), term)
          })
      })
    })

    return term
  })
