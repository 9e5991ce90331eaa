/** Waiters and holders of everything that is abandoned at random, with etcd gone for a while. */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { connect, text } from "../grpc/support.js"
import * as EtcdServer from "../support/EtcdServer.js"
import * as Processes from "../support/processes.js"
import * as TcpProxy from "../support/TcpProxy.js"
import type { Order, Told } from "./abandonment.js"
import { duration, seed, until } from "./support.js"

describe("waiters and holders of four processes that are interrupted, timed out and killed at random", () => {
  it.scopedLive("leave no waiter stuck, and no key behind when etcd answers again", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.make({ version: "3.5" })
      const observer = yield* connect({ endpoints: server.endpoint })
      const program = yield* Processes.compile<Order, Told>(new URL("./fixtures/abandonment.ts", import.meta.url))
      let started = 0
      const stands = yield* Effect.forEach([1, 2, 3, 4], () =>
        Effect.gen(function*() {
          const proxy = yield* TcpProxy.make(server.endpoint)
          const start = Effect.suspend(() => program.start(proxy.endpoint, `${seed}-${++started}`))
          return { proxy, start, child: yield* start }
        }))

      const pause = (from: number, to: number) => Effect.flatMap(Random.nextIntBetween(from, to), Effect.sleep)
      /** What is stopped goes on, whenever this is interrupted. */
      const kinds: ReadonlyArray<(stand: (typeof stands)[number]) => Effect.Effect<void, never, Scope.Scope>> = [
        (stand) =>
          Effect.gen(function*() {
            yield* stand.child.kill
            stand.child = yield* stand.start
          }),
        ({ proxy }) => proxy.cut(),
        // Sometimes for longer than the shorter time to live.
        ({ child }) =>
          Effect.all([child.signal("SIGSTOP"), pause(100, 3_500), child.signal("SIGCONT")], { discard: true }),
        ({ proxy }) => Effect.all([proxy.blackHole, pause(100, 3_500), proxy.resume, proxy.cut()], { discard: true })
      ]
      const hurtProcesses = Effect.gen(function*() {
        for (const hurt of yield* Random.shuffle(kinds)) {
          yield* pause(100, 500)
          yield* Effect.uninterruptible(hurt(yield* Effect.orDie(Random.choice(stands))))
        }
      })
      // Both for longer than the shorter time to live.
      const hurtEtcd = Effect.gen(function*() {
        yield* pause(1_000, 2_000)
        yield* Effect.uninterruptible(Effect.all([server.pause, Effect.sleep("3 seconds"), server.resume]))
        yield* pause(1_000, 2_000)
        yield* Effect.uninterruptible(Effect.all([server.kill, Effect.sleep("3 seconds"), server.start]))
      })
      yield* Effect.all([Effect.forever(hurtProcesses), Effect.forever(hurtEtcd)], {
        concurrency: "unbounded",
        discard: true
      }).pipe(
        Effect.timeoutOption(Duration.seconds(Number(duration))),
        Effect.withRandom(Random.make(seed))
      )

      // In the end the long sessions are healthy, and outlive an outage in which all that they let go cannot be removed.
      yield* until(
        "all have started",
        Effect.map(
          Effect.forEach(stands, ({ child }) => child.reports),
          (told) => told.every((all) => all.some(({ _tag }) => _tag === "Started"))
        ),
        "20 seconds"
      )
      yield* Effect.sleep("2500 millis")
      yield* Effect.forEach(stands, ({ proxy }) => proxy.blackHole)
      yield* Effect.sleep("2500 millis")
      const children = stands.map(({ child }) => child)
      yield* Effect.forEach(stands, ({ proxy }) => Effect.zipRight(proxy.resume, proxy.cut()))
      yield* Effect.forEach(children, ({ send }) => send("end"))
      const stopped = Effect.map(
        Effect.forEach(children, ({ reports }) => reports),
        (told) => told.map((all) => all.flatMap((one) => one._tag === "Stopped" ? [one] : []))
      )
      yield* until(
        "all who waited were served, or gave up",
        Effect.map(stopped, (told) => told.every(({ length }) => length === 1)),
        "30 seconds"
      )
      const all = (yield* stopped).flat()
      const sum = (numbers: ReadonlyArray<number>) => numbers.reduce((one, other) => one + other, 0)
      console.log(
        `seed ${seed}: ${started} processes; those that are left served ${sum(all.map(({ served }) => served))}, ` +
          `abandoned ${sum(all.map(({ abandoned }) => abandoned))}`
      )
      assert.isAbove(started, stands.length)
      assert.isTrue(all.every(({ abandoned, served }) => served > 0 && abandoned > 0))

      const keys = Effect.map(
        observer.range({ key: "\0", rangeEnd: "\0", keysOnly: true }),
        ({ kvs }) => kvs.map(({ key }) => text(key))
      )
      // The processes still live, and so do the leases of those that were not killed.
      yield* until(
        "no key of a queue or an ID is left",
        Effect.map(keys, (names) => names.every((name) => name.startsWith("/coord/attempts/"))),
        // What killed processes had is gone after the longer time to live, and what was left behind stays for ever.
        "20 seconds"
      )
      yield* Effect.forEach(children, ({ ended, send }) => Effect.zipRight(send("exit"), ended), {
        concurrency: "unbounded"
      })
      yield* until("no key at all is left", Effect.map(keys, ({ length }) => length === 0), "20 seconds")
    }), 180_000)
})
