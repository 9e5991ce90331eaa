/**
 * A holder that is paused for longer than its lock lasts, goes on, and knows nothing of it. No lock can help then; what can
 * is whoever receives the write: etcd, by the lock's guard, or any other store, by its fencing token.
 *
 *     npx tsx examples/fencing.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/fencing.ts
 */
import { Clock, Data, Duration, Effect, Fiber, Layer, Option, Schema } from "effect"
import { Config, Coord, Lock } from "effect-coord"
import { run, runName } from "./support.js"

const job = `${runName}/report`
const unprotected = `${runName}/unprotected`
const guarded = `${runName}/guarded`

/** A machine that can be suspended: its clock stands still meanwhile, and so does everything that waits by it. */
const makeMachine = Effect.gen(function*() {
  const real = yield* Effect.clock
  const running = yield* Effect.makeLatch(true)
  let missed = 0n
  let suspendedAt: bigint | undefined
  const nanos = () => (suspendedAt ?? real.unsafeCurrentTimeNanos()) - missed
  const millis = () => real.unsafeCurrentTimeMillis() - Number(missed / 1_000_000n)
  const sleepUntil = (time: bigint): Effect.Effect<void> =>
    Effect.suspend(() =>
      time <= nanos()
        ? Effect.void
        : Effect.zipRight(Effect.zipRight(real.sleep(Duration.nanos(time - nanos())), running.await), sleepUntil(time))
    )
  const clock: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeNanos: nanos,
    currentTimeNanos: Effect.sync(nanos),
    unsafeCurrentTimeMillis: millis,
    currentTimeMillis: Effect.sync(millis),
    sleep: (duration) => Effect.suspend(() => sleepUntil(nanos() + Duration.unsafeToNanos(duration)))
  }
  return {
    clock,
    suspend: Effect.zipRight(running.close, Effect.sync(() => suspendedAt = real.unsafeCurrentTimeNanos())),
    resume: Effect.suspend(() => {
      if (suspendedAt !== undefined) missed += real.unsafeCurrentTimeNanos() - suspendedAt
      suspendedAt = undefined
      return running.open
    })
  }
})

/** The services as another process on the same etcd has them. */
const services = Layer.build(Layer.fresh(Coord.layerServices()))

class Refused extends Data.TaggedError("Refused")<{ readonly message: string }> {}

/** A store outside of etcd, which remembers the largest token that it has seen. */
const store = { value: "", token: 0n }
const writeToStore = (value: string, token: bigint) =>
  Effect.suspend(() => {
    if (token < store.token) return new Refused({ message: `the store has seen token ${store.token}` })
    Object.assign(store, { value, token })
    return Effect.void
  })

run(Effect.gen(function*() {
  const machine = yield* makeMachine
  const one = yield* Effect.withClock(services, machine.clock)
  const two = yield* services
  // However this ends: what has to be closed then needs a clock that goes.
  yield* Effect.addFinalizer(() => machine.resume)

  const first = Lock.withLock(job, { ttl: "2 seconds" })((lock) =>
    Effect.gen(function*() {
      yield* Effect.log(`one holds the lock with token ${lock.fencingToken}, and its machine is suspended`)
      yield* machine.suspend
      yield* Effect.sleep("10 millis")

      // Looks at the clock, and finds nothing wrong.
      yield* lock.guard.check
      yield* Effect.log("one goes on, and believes its clock (see the time): the lock is held still")
      yield* Config.set(unprotected, Schema.String, "one")
      yield* Effect.log("one writes without protection: nobody refuses it")
      const refused = yield* Effect.flip(writeToStore("one", lock.fencingToken))
      yield* Effect.log(`one writes to the store with its token: refused, ${refused.message}`)
      yield* Config.set(guarded, Schema.String, "one", { guard: lock.guard })
    })
  ).pipe(
    Effect.catchTag(
      "LockExpired",
      (error) => Effect.log(`one writes to etcd under its guard: refused, ${error.message}`)
    ),
    Effect.provide(one),
    Effect.withClock(machine.clock)
  )

  const second = Lock.withLock(job, { ttl: "2 seconds" })((lock) =>
    Effect.gen(function*() {
      yield* Effect.log(`two holds the lock with token ${lock.fencingToken}, and writes`)
      yield* Config.set(unprotected, Schema.String, "two")
      yield* writeToStore("two", lock.fencingToken)
      yield* Config.set(guarded, Schema.String, "two", { guard: lock.guard })
    })
  ).pipe(Effect.provide(two))

  const paused = yield* Effect.fork(first)
  yield* Effect.repeat(Effect.delay(Lock.inspect(job), "10 millis"), { until: ({ holder }) => Option.isSome(holder) })
  yield* second
  yield* machine.resume
  yield* Fiber.join(paused)

  yield* Effect.log(
    `what stands there: unprotected by ${yield* Config.get(unprotected, Schema.String)}, ` +
      `in the store by ${store.value}, under the guard by ${yield* Config.get(guarded, Schema.String)}`
  )
}))
