/** Read, change, write if nobody else has meanwhile; else again. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import { VersionConflict } from "../../ConfigError.js"
import type { EtcdClient } from "../../EtcdClient.js"
import { EtcdError } from "../../EtcdError.js"
import * as Txn from "../../Txn.js"
import { toBytes } from "../bytes.js"
import * as Entries from "./entries.js"
import * as Guards from "./guard.js"
import * as Input from "./input.js"
import type { ModifyOptions, ReadError, Versioned, WriteError } from "./model.js"
import type { Names } from "./names.js"
import type { Turn, Turns } from "./turns.js"
import type { Writes, Wrote } from "./writes.js"
import { kvOf } from "./writes.js"

/**
 * A conflict means that somebody else has got on, so all together do at any pace. One that happens by chance is over with the
 * next attempt; where many want the same key, growing pauses spare etcd the attempts of those who would come too late. They
 * begin anew after some, or those who have waited for long would fall behind those who have just come.
 */
const defaultSchedule: Schedule.Schedule<unknown> = Schedule.forever.pipe(
  Schedule.addDelay((conflicts) => Duration.millis(conflicts === 0 ? 0 : 10 * 2 ** ((conflicts - 1) % 5))),
  Schedule.jittered
)

/** What a refused transaction has read is as good as another read for so long. */
const freshNanos = 1_000_000n

const isOutage = (error: unknown): boolean =>
  error instanceof EtcdError && (error.reason === "Unavailable" || error.reason === "DeadlineExceeded")

export const make = (
  client: EtcdClient["Type"],
  names: Names,
  { commit }: Writes,
  turns: Turns,
  wrote: Wrote
) =>
<A, I, R, E, R2>(
  key: string,
  schema: Schema.Schema<A, I, R>,
  f: (current: Option.Option<A>) => Effect.Effect<A, E, R2>,
  options: ModifyOptions
): Effect.Effect<Versioned<A>, E | VersionConflict | ReadError | WriteError, R | R2> =>
  Effect.gen(function*() {
    const name = yield* names.key(key)
    const codec = yield* Entries.codecFor(key, schema)
    const { guard, lease, schedule = defaultSchedule } = yield* Input.writing(options)
    yield* Input.check("schedule", schedule, Schedule.isSchedule(schedule), "must be a schedule")
    const clock = yield* Effect.clock
    const pauses = yield* Schedule.driver(schedule)
    const read = Effect.map(client.range({ key: name }), ({ kvs }): Entries.Stored | undefined => kvs[0])

    const change = (turn: Turn) =>
      Effect.gen(function*() {
        let present = turn.known() ?? (yield* read)
        for (;;) {
          const current = present === undefined
            ? Option.none<A>()
            : Option.some((yield* Entries.read(key, codec, present)).value)
          const expected = present?.modRevision ?? 0n
          const value = yield* f(current)
          const text = yield* Entries.encode(key, codec, value)
          turn.sending()
          const outcome = yield* commit({
            compare: [Txn.modRevision(name, "=", expected)],
            success: [Txn.put({ key: name, value: text, lease })],
            reads: [Txn.range({ key: name })],
            guard
          })
          if (outcome.applied) {
            const bytes = toBytes(text)
            turn.wrote({ value: bytes, modRevision: outcome.revision })
            wrote(name, outcome.revision, bytes)
            return { value, version: outcome.revision }
          }
          const found = kvOf(outcome.reads[0])
          const actual = found?.modRevision ?? 0n
          if (actual === expected && outcome.guards.length > 0) return yield* Guards.failed(key, outcome.guards)
          const conflict = new VersionConflict({ key, expected, actual })
          const refusedAt = clock.unsafeCurrentTimeNanos()
          yield* Effect.mapError(pauses.next(conflict), () => conflict)
          const isFresh = clock.unsafeCurrentTimeNanos() - refusedAt <= freshNanos
          present = isFresh ? found : yield* read
        }
      })

    return yield* turns.inTurn(name, (turn) =>
      Effect.tapError(change(turn), (error) => isOutage(error) ? Effect.sync(() => turn.open()) : Effect.void))
  })
