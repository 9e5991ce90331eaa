import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as EtcdClient from "../../src/EtcdClient.js"
import { until } from "../grpc/support.js"
import * as EtcdServer from "../support/EtcdServer.js"
import type { Usage } from "../support/memoryUsage.js"
import { openStreamsOf } from "../support/metrics.js"
import * as Processes from "../support/processes.js"
import type { Form, Order, Report } from "./many.js"

const count = Number(process.env.MANY ?? 10_000)
const services = 100

const ready = (report: Report) => report._tag === "Ready" ? report : assert.fail(report._tag)

const at = (sorted: ReadonlyArray<number>, quantile: number): number =>
  sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * quantile) - 1)]

describe(`${count} instances of ${services} services from one process, and as many watchers in another`, () => {
  it.scopedLive(
    "take less than 300 MB each and one stream of each kind, and hear of a change soon",
    () =>
      Effect.gen(function*() {
        const server = yield* EtcdServer.make()
        const program = yield* Processes.compile<Order, Report>(new URL("./fixtures/many.ts", import.meta.url))
        const registrar = yield* program.start(server.endpoint, "register", String(count))
        const { busy: registered, idle } = ready(yield* registrar.next)
        const watcher = yield* program.start(server.endpoint, "watch", String(count))
        const watching = ready(yield* watcher.next)
        const keys = yield* server.etcdctl(["get", "/services/many/", "--prefix", "--keys-only"])
        assert.lengthOf(keys.split("\n").filter((line) => line !== ""), count)
        const keepAlives = openStreamsOf(server, "LeaseKeepAlive")
        yield* until("the first keep-alive, which opens their stream", Effect.map(keepAlives, (count) => count > 0))
        assert.strictEqual(yield* keepAlives, 1)
        assert.strictEqual(yield* openStreamsOf(server, "Watch"), 2)

        const client = yield* EtcdClient.make({ endpoints: server.endpoint })
        const took: Array<number> = []
        for (let service = 0; service < services; service++) {
          const name = `many/${service}`
          const value = JSON.stringify({ id: "news", name, address: "10.0.0.8", port: 1 })
          const sent = Date.now()
          yield* client.put({ key: `/services/${name}/news`, value })
          const expected = count / services
          yield* watcher.send("reached")
          const report = yield* watcher.next
          if (report._tag !== "Reached") return assert.fail(report._tag)
          assert.lengthOf(report.at, expected)
          took.push(...report.at.map((at) => at - sent))
        }
        took.sort((a, b) => a - b)

        const each = ({ busy, idle }: { readonly busy: Usage; readonly idle: Usage }, count: number) =>
          (busy.used - idle.used) * 1024 / count
        const others = yield* Effect.forEach(["watch", "instances", "reader"] satisfies Array<Form>, (form) =>
          Effect.gen(function*() {
            yield* watcher.send({ more: form, count: count / 10 })
            const report = yield* watcher.next
            if (report._tag !== "More") {
              return assert.fail(report._tag)
            }
            return [form, each(report, count / 10)] as const
          }))

        for (const process of [registrar, watcher]) {
          yield* process.send("end")
        }
        const after = yield* Effect.forEach([registrar, watcher], ({ next }) =>
          next)
        const [afterwards] = after.map((report) =>
          report._tag === "Ended" ? report.after : assert.fail(report._tag)
        )
        const cost = ({ used }: typeof idle, before: typeof idle) =>
          `${(used - before.used).toFixed(0)} MiB (${((used - before.used) * 1024 / count).toFixed(1)} KiB each)`
        console.log(
          `${count} registrations: ${cost(registered, idle)}, ${
            (afterwards.used - idle.used).toFixed(0)
          } MiB when they ` +
            `are over; ${count} watchers: ${cost(watching.busy, watching.idle)}; a change reached them after ` +
            `${at(took, 0.5)} ms (median), ${at(took, 1)} ms (last); of ${count / 10} more, ${
              others.map(([form, kib]) => `${form} ${kib.toFixed(1)} KiB`).join(", ")
            } each`
        )
        for (const [form, kib] of others) {
          assert.isBelow(kib * 1024 * 10_000 / 1e6, form === "reader" ? 150 : 300, `ten thousand of ${form}, in MB`)
        }
        assert.isBelow((registered.used - idle.used) * 1.048_576, 300)
        assert.isBelow((watching.busy.used - watching.idle.used) * 1.048_576, 300)
        assert.isBelow(at(took, 1), 5_000)
      }),
    240_000
  )
})
