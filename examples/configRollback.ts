/**
 * A bad setting is found out, its history looked at, and the last good version put back; then one that was deleted.
 *
 *     npx tsx examples/configRollback.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/configRollback.ts
 */
import { Effect, Schema, Stream } from "effect"
import { Config } from "effect-coord"
import { run, runName } from "./support.js"

const key = `${runName}/timeouts`
const Timeouts = Schema.Struct({ connectSeconds: Schema.Int, readSeconds: Schema.Int })

const show = (entry: Config.HistoryEntry<typeof Timeouts.Type>): string => {
  switch (entry._tag) {
    case "Put":
      return `version ${entry.version}: ${JSON.stringify(entry.value)}`
    case "Delete":
      return `version ${entry.version}: deleted`
    case "Invalid":
      return `version ${entry.version}: does not decode`
    case "Compacted":
      return `etcd has dropped what is older than ${entry.before}`
  }
}

run(Effect.gen(function*() {
  yield* Config.set(key, Timeouts, { connectSeconds: 5, readSeconds: 30 })
  yield* Config.set(key, Timeouts, { connectSeconds: 5, readSeconds: 20 })
  yield* Config.set(key, Timeouts, { connectSeconds: 0, readSeconds: 0 })

  const history = Array.from(yield* Stream.runCollect(Stream.take(Config.history(key, Timeouts), 3)))
  for (const entry of history) yield* Effect.log(show(entry))

  const good = history.find((entry) => entry._tag === "Put" && entry.value.connectSeconds > 0)
  if (good?._tag !== "Put") return yield* Effect.log("there is no good version")

  // Only if nobody has put it right in the meantime.
  const bad = yield* Config.getWithVersion(key, Timeouts)
  const version = yield* Config.rollback(key, good.version, { expected: bad.version })
  yield* Effect.log(`rolled back to ${good.version}, which is now version ${version}`)
  const conflict = yield* Effect.flip(Config.rollback(key, good.version, { expected: bad.version }))
  yield* Effect.log(conflict.message)

  yield* Config.delete(key)
  yield* Config.rollback(key, version)
  yield* Effect.log(`deleted and brought back: ${JSON.stringify(yield* Config.get(key, Timeouts))}`)
}))
