import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as EtcdServer from "../support/EtcdServer.js"
import * as Processes from "../support/processes.js"
import type { Order, Report } from "./memory.js"

const count = 10_000

/** A number that etcd counts, by its name and labels; 0 before the first. */
const metric = (page: string, name: RegExp): number => {
  const line = page.split("\n").find((line) => name.test(line))
  return line === undefined ? 0 : Number(line.slice(line.lastIndexOf(" ")))
}

/** The streams of a service that are open. */
const streams = (page: string, method: string): number => {
  const of = (what: string) =>
    page.split("\n")
      .filter((line) => line.startsWith(`grpc_server_${what}_total{`) && line.includes(`grpc_method="${method}"`))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0)
  return of("started") - of("handled")
}

describe("10,000 locks that one process holds at once", () => {
  it.scopedLive(
    "take one lease, one stream of keep-alives, one of watches, and less than 100 MB",
    () =>
      Effect.gen(function*() {
        const server = yield* EtcdServer.make()
        const program = yield* Processes.compile<Order, Report>(new URL("./fixtures/holdMany.ts", import.meta.url))
        const holder = yield* program.start(server.endpoint, String(count))
        const report = yield* holder.next
        if (report._tag !== "Held") return assert.fail(report._tag)
        const { held, idle } = report
        assert.strictEqual(report.count, count)
        const keys = yield* server.etcdctl(["get", "/locks/many/", "--prefix", "--keys-only"])
        assert.lengthOf(keys.split("\n").filter((line) => line !== ""), count)
        const page = yield* Effect.promise(async () => (await fetch(`${server.url}/metrics`)).text())
        const leases = yield* server.etcdctl(["lease", "list"])
        assert.lengthOf(leases.trim().split("\n").slice(1), 1)
        assert.deepStrictEqual([streams(page, "LeaseKeepAlive"), streams(page, "Watch")], [1, 1])
        const watchers = metric(page, /^etcd_debugging_mvcc_watcher_total /)
        assert.isAtMost(watchers, 100)

        yield* holder.send("release")
        const last = yield* holder.next
        if (last._tag !== "Released") return assert.fail(last._tag)
        // What a busy etcd has not confirmed in time is deleted in the background.
        yield* Effect.repeat(server.etcdctl(["get", "/locks/", "--prefix", "--keys-only"]), {
          until: (keys) => keys === "",
          schedule: Schedule.spaced("100 millis")
        })
        const above = held.used - idle.used
        console.log(
          `${count} locks: ${above.toFixed(0)} MiB above the ${idle.used.toFixed(0)} of an idle process ` +
            `(${(above * 1024 / count).toFixed(1)} KiB each; ${
              (held.resident - idle.resident).toFixed(0)
            } MiB resident), ` +
            `${watchers} watches; ${(last.after.used - idle.used).toFixed(0)} MiB when they are released`
        )
        assert.isBelow(above * 1.048_576, 100)
        assert.isBelow(last.after.used - idle.used, 20)
      }),
    120_000
  )
})
