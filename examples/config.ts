/**
 * Typed settings: set, read, changed by several at once without losing a change, changed together, followed, read from the
 * local copy, and what happens with a value that does not decode.
 *
 *     npx tsx examples/config.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/config.ts
 */
import { Effect, Option, Schema, Stream } from "effect"
import { Config, EtcdClient } from "effect-coord"
import { run, runName } from "./support.js"

const key = `${runName}/limits`
const Limits = Schema.Struct({ requestsPerSecond: Schema.Int, burst: Schema.optional(Schema.Int) })

const doubled = Config.modify(
  key,
  Limits,
  Option.match({
    onNone: () => ({ requestsPerSecond: 100 }),
    onSome: (limits) => ({ ...limits, requestsPerSecond: limits.requestsPerSecond * 2 })
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

  yield* Config.set(key, Limits, { requestsPerSecond: 100, burst: 10 })

  // Three writers at once: none of the changes is lost.
  yield* Effect.all([doubled, doubled, doubled], { concurrency: "unbounded" })
  const { value, version } = yield* Config.getWithVersion(key, Limits)
  yield* Effect.log(`read from the quorum: ${JSON.stringify(value)}`)
  yield* Effect.log(`read from the local copy: ${JSON.stringify((yield* Config.cached(key, Limits)).value)}`)

  // Both keys, or none: and only if nobody has changed the first one since it was read.
  const move = Config.transaction([
    Config.remove(key, { version }),
    Config.put(`${key}/api`, Limits, value, { version: 0n })
  ])
  yield* move
  const conflict = yield* Effect.flip(move)
  yield* Effect.log(conflict.message)

  // Another program writes something else. Followers are told, and go on.
  const etcd = yield* EtcdClient.EtcdClient
  yield* etcd.put({ key: `/config/${key}`, value: "plenty" })
  const failure = yield* Effect.flip(Config.get(key, Limits))
  yield* Effect.log(`reading it fails with ${failure._tag}`)

  yield* Config.transaction([Config.remove(key), Config.remove(`${key}/api`)])
  yield* Effect.sleep("200 millis")
}))
