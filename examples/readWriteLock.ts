/**
 * Many readers or one writer, in the order of their arrival: a writer that waits is not overtaken by later readers.
 *
 *     npx tsx examples/readWriteLock.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/readWriteLock.ts
 */
import { Effect, Fiber, Option } from "effect"
import { ReadWriteLock } from "effect-coord"
import { oneAfterAnother, run, runName } from "./support.js"

const name = `${runName}/catalogue`
const options = { ttl: "5 seconds" } as const

const working = (who: string) =>
  Effect.zipRight(Effect.log(`${who} begins`), Effect.sleep("1 second")).pipe(
    Effect.ensuring(Effect.log(`${who} ends`))
  )

const reader = (who: string) => ReadWriteLock.withRead(name, options)(working(who))
const writer = (who: string) => ReadWriteLock.withWrite(name, options)(working(who))

run(Effect.gen(function*() {
  const all = yield* Effect.fork(
    oneAfterAnother([
      reader("reader 1"),
      reader("reader 2"),
      writer("the writer"),
      reader("reader 3"),
      reader("reader 4")
    ])
  )
  const { holders, waiters } = yield* Effect.repeat(Effect.delay(ReadWriteLock.inspect(name), "10 millis"), {
    until: ({ holders, waiters }) => holders.length + waiters.length === 5
  })
  const modes = (entries: ReadonlyArray<ReadWriteLock.ReadWriteEntry>) =>
    entries.map(({ mode }) => Option.getOrElse(mode, () => "?")).join(", ")
  yield* Effect.log(`holding: ${modes(holders)}; waiting: ${modes(waiters)}`)

  // Only readers hold, but a writer waits: who comes now would have to wait behind it.
  const skipped = yield* ReadWriteLock.withReadIfAvailable(name, options)(Effect.log("this is not seen"))
  yield* Effect.log(`a reader that does not want to wait ${Option.isNone(skipped) ? "passes by" : "reads"}`)
  yield* Fiber.join(all)
}))
