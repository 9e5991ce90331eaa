/**
 * Candidates that lead one after the other, what a leader proclaims, and somebody who watches.
 *
 *     npx tsx examples/election.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/election.ts
 */
import { Effect, Fiber, Option, Ref, Stream } from "effect"
import { Election, EtcdClient } from "effect-coord"
import { run, runName } from "./support.js"

const name = `${runName}/scheduler`

const watching = Stream.runForEach(
  Election.observe(name),
  Option.match({
    onNone: () => Effect.log("observer: nobody leads"),
    onSome: ({ term, value }) => Effect.log(`observer: term ${term}, ${value}`)
  })
)

/** Leads for a while. Those who come later wait for their turn, in the order of their arrival. */
const candidate = (who: string) =>
  Effect.scoped(Effect.gen(function*() {
    const leadership = yield* Election.campaign(name, { value: `${who} gets ready`, ttl: "5 seconds" })
    yield* Effect.sleep("200 millis")
    yield* leadership.proclaim(`${who} is at work`)
    yield* Effect.sleep("200 millis")
  }))

/** Leads for as long as it takes. Somebody deletes its key meanwhile: it is interrupted, and begins again as a new leader. */
const untilDone = Effect.gen(function*() {
  const etcd = yield* EtcdClient.EtcdClient
  const attempts = yield* Ref.make(0)
  const finished = yield* Election.withLeadership(name, { value: "dave", ttl: "5 seconds" })(({ etcdKey, term }) =>
    Effect.gen(function*() {
      const attempt = yield* Ref.updateAndGet(attempts, (n) => n + 1)
      yield* Effect.log(`dave leads term ${term}: attempt ${attempt}`)
      yield* Effect.sleep("300 millis")
      if (attempt === 1) return yield* Effect.zipRight(etcd.delete({ key: etcdKey }), Effect.never)
      return `finished in attempt ${attempt}`
    })
  )
  yield* Effect.log(`dave has ${finished}`)
})

run(Effect.gen(function*() {
  const observer = yield* Effect.fork(watching)
  yield* Effect.all(["alice", "bob", "carol"].map(candidate), { concurrency: "unbounded" })
  yield* untilDone
  yield* Effect.sleep("200 millis")
  yield* Fiber.interrupt(observer)
  yield* Effect.log(Option.isNone(yield* Election.leader(name)) ? "nobody leads any more" : "somebody leads still")
}))
