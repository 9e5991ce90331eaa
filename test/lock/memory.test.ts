import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { until } from "../grpc/support.js"
import * as EtcdServer from "../support/EtcdServer.js"
import { leasesOf } from "../support/leases.js"
import { openStreamsOf, watchersOf } from "../support/metrics.js"
import * as Processes from "../support/processes.js"
import type { Order, Report } from "./memory.js"

const count = 10_000

/** So many keys of a session are watched one by one, and the others together. */
const watches = 64 + 1

describe("10,000 locks that one process holds at once", () => {
  it.scopedLive(
    "take one lease, one stream of keep-alives, one of watches, and less than 100 MB",
    () =>
      Effect.gen(function*() {
        const server = yield* EtcdServer.make()
        const program = yield* Processes.compile<Order, Report>(new URL("./fixtures/holdMany.ts", import.meta.url))
        const holder = yield* program.start(server.endpoint, String(count))
        const order = (order: Order) => Effect.zipRight(holder.send(order), holder.next)
        const measured = Effect.map(
          order("measure"),
          (report) => report._tag === "Measured" ? report.usage : assert.fail(report._tag)
        )
        const keys = Effect.map(
          server.etcdctl(["get", "/locks/", "--prefix", "--keys-only"]),
          (printed) => printed.split("\n").filter((line) => line !== "")
        )
        /** A key that is held for a while is watched. */
        const areWatched = until(
          "all are watched",
          Effect.map(watchersOf(server), (watchers) => watchers >= watches)
        )
        /** What a busy etcd has not confirmed in time is deleted in the background. */
        const areReleased = until(
          "nothing is held, and nothing is watched",
          Effect.map(
            Effect.all([keys, watchersOf(server)]),
            ([keys, watchers]) => keys.length === 0 && watchers === 0
          )
        )

        // Connections, the lease, and what is compiled and cached once are there before it is measured.
        yield* order("warm up")
        yield* areWatched
        yield* order("release")
        yield* areReleased
        const idle = yield* measured
        yield* order("acquire")
        yield* areWatched
        yield* until(
          "the lease is kept alive: after a third of its time for the first time",
          Effect.map(openStreamsOf(server, "LeaseKeepAlive"), (streams) => streams > 0)
        )
        const held = yield* measured
        assert.lengthOf(yield* keys, count)
        assert.lengthOf(yield* leasesOf(server), 1)
        assert.strictEqual(yield* openStreamsOf(server, "LeaseKeepAlive"), 1)
        assert.strictEqual(yield* openStreamsOf(server, "Watch"), 1)
        const watchers = yield* watchersOf(server)
        assert.isAtMost(watchers, 100)

        yield* order("release")
        yield* areReleased
        const after = yield* measured
        const above = held.used - idle.used
        console.log(
          `${count} locks: ${above.toFixed(0)} MiB above the ${idle.used.toFixed(0)} of an idle process ` +
            `(${(above * 1024 / count).toFixed(1)} KiB each; ${
              (held.resident - idle.resident).toFixed(0)
            } MiB resident), ` +
            `${watchers} watches; ${(after.used - idle.used).toFixed(0)} MiB when they are released`
        )
        assert.isBelow(above * 1.048_576, 100)
        assert.isBelow(after.used - idle.used, 20)
      }),
    120_000
  )
})
