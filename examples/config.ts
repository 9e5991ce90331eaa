/**
 * Typed settings: set, read, changed only if nobody else did, followed, and what happens with a value that does not decode.
 *
 *     npx tsx examples/config.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/config.ts
 */
import { Effect, Schedule, Schema, Stream } from "effect"
import { Config, EtcdClient } from "effect-coord"
import { run, runName } from "./support.js"

const key = `${runName}/limits`
const Limits = Schema.Struct({ requestsPerSecond: Schema.Int, burst: Schema.optional(Schema.Int) })

/** Reads, changes, and writes if nobody else has written in between; else begins again. */
const doubled = Effect.gen(function*() {
  const { value, version } = yield* Config.getWithVersion(key, Limits)
  yield* Config.compareAndSet(key, Limits, { ...value, requestsPerSecond: value.requestsPerSecond * 2 }, version)
}).pipe(
  Effect.retry({
    while: (error) => error._tag === "VersionConflict",
    schedule: Schedule.jittered(Schedule.spaced("20 millis"))
  })
)

const follow = Config.watchPrefix(runName, Limits).pipe(
  Stream.runForEach((event) => {
    switch (event._tag) {
      case "Put":
        return Effect.log(`${event.key} version ${event.version}: ${JSON.stringify(event.value)}`)
      case "Delete":
        return Effect.log(`${event.key} was deleted`)
      case "Invalid":
        return Effect.log(`${event.key} version ${event.version} does not decode:\n${event.error.message}`)
    }
  })
)

run(Effect.gen(function*() {
  yield* Effect.forkScoped(follow)

  const version = yield* Config.set(key, Limits, { requestsPerSecond: 100 })
  yield* Config.compareAndSet(key, Limits, { requestsPerSecond: 100, burst: 10 }, version)
  const conflict = yield* Effect.flip(Config.compareAndSet(key, Limits, { requestsPerSecond: 1 }, version))
  yield* Effect.log(conflict.message)

  // Three writers at once: none of the changes is lost.
  yield* Effect.all([doubled, doubled, doubled], { concurrency: "unbounded" })
  yield* Effect.log(`read from the quorum: ${JSON.stringify(yield* Config.get(key, Limits))}`)

  // Another program writes something else. Followers are told, and go on.
  const etcd = yield* EtcdClient.EtcdClient
  yield* etcd.put({ key: `/config/${key}`, value: "plenty" })
  const failure = yield* Effect.flip(Config.get(key, Limits))
  yield* Effect.log(`reading it fails with ${failure._tag}`)

  yield* Config.delete(key)
  yield* Effect.sleep("200 millis")
}))
