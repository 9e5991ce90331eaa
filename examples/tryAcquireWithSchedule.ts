/**
 * Trying for a lock with growing pauses, a bounded number of times, instead of waiting in its queue.
 *
 *     npx tsx examples/tryAcquireWithSchedule.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/tryAcquireWithSchedule.ts
 *
 * Who tries has no place in the queue: those who wait with `acquire` are served first, and those who try may starve.
 * `acquire` with a `timeout` is the better choice unless others should go first.
 */
import { Effect, Schedule } from "effect"
import { Lock } from "effect-coord"
import { run, runName } from "./support.js"

const key = `${runName}/report`

/** 100 ms, 200 ms, 400 ms, … up to 2 s, each a little shorter or longer; six attempts after the first. */
const growingPauses = Schedule.exponential("100 millis").pipe(
  Schedule.either(Schedule.spaced("2 seconds")),
  Schedule.jittered,
  Schedule.intersect(Schedule.recurs(6))
)

const tryFor = (name: string) =>
  Lock.tryAcquire(key, { ttl: "5 seconds" }).pipe(
    Effect.tapErrorTag("LockConflict", () => Effect.log(`${name}: taken`)),
    Effect.retry({ while: (error) => error._tag === "LockConflict", schedule: growingPauses })
  )

run(Effect.gen(function*() {
  const first = yield* Lock.acquire(key, { ttl: "5 seconds" })
  yield* Effect.log("first: holds the lock for a second")
  yield* Effect.forkScoped(Effect.delay(first.release, "1 second"))

  const lock = yield* tryFor("second")
  yield* Effect.log(`second: holds it with token ${lock.fencingToken}`)

  // Nobody gives up the lock this time: after the last attempt the conflict is the result.
  const error = yield* Effect.flip(tryFor("third"))
  yield* Effect.log(`third: gives up: ${error.message}`)
}))
