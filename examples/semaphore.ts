/**
 * Permits that are shared by all processes: so many exports at a time, a large one counting for two.
 *
 *     npx tsx examples/semaphore.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/semaphore.ts
 */
import type { Duration } from "effect"
import { Effect, Fiber } from "effect"
import { Semaphore } from "effect-coord"
import { oneAfterAnother, run, runName } from "./support.js"

const name = `${runName}/exports`
const limit = 3

const exporting = (what: string, permits: number, duration: Duration.DurationInput) =>
  Semaphore.withPermits(name, { limit, permits, ttl: "5 seconds" })(
    Effect.zipRight(Effect.log(`${what} begins with ${permits} of ${limit}`), Effect.sleep(duration)).pipe(
      Effect.ensuring(Effect.log(`${what} ends`))
    )
  )

run(Effect.gen(function*() {
  // When "small 1" ends one permit is free. "small 2" could have it, but does not overtake "large 2".
  const exports = yield* Effect.fork(
    oneAfterAnother([
      exporting("small 1", 1, "1 second"),
      exporting("large 1", 2, "2 seconds"),
      exporting("large 2", 2, "500 millis"),
      exporting("small 2", 1, "500 millis")
    ])
  )
  const { holders, waiters } = yield* Effect.repeat(Effect.delay(Semaphore.inspect(name), "10 millis"), {
    until: ({ holders, waiters }) => holders.length + waiters.length === 4
  })
  yield* Effect.log(`${holders.length} hold, ${waiters.length} wait`)

  // Who does not want to wait.
  yield* Semaphore.withPermitsIfAvailable(name, { limit })(Effect.log("this is not seen"))
  const taken = yield* Effect.flip(Effect.scoped(Semaphore.tryAcquire(name, { limit })))
  yield* Effect.log(taken.message)

  // All have to agree on the limit while it is in use.
  const mismatch = yield* Effect.flip(Effect.scoped(Semaphore.acquire(name, { limit: 10 })))
  yield* Effect.log(mismatch.message)

  yield* Fiber.join(exports)
  yield* Effect.scoped(Effect.zipRight(
    Semaphore.acquire(name, { limit: 10, permits: 10 }),
    Effect.log("nobody uses it any more: now the limit can be 10")
  ))
}))
