/** Losing a lock on a real etcd: who is told first, and what the one who comes late can still do. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Config from "../../src/Config.js"
import * as Coord from "../../src/Coord.js"
import * as Lock from "../../src/Lock.js"
import * as EtcdServer from "../support/EtcdServer.js"
import * as Processes from "../support/processes.js"
import * as TcpProxy from "../support/TcpProxy.js"
import type { HolderOrder, HolderReport, ObserverReport, Run, Way, WorkerOrder, WorkerReport } from "./loss.js"

const ways: ReadonlyArray<Way> = ["interruptible", "uninterruptible", "abandoned", "scoped", "several"]

const fixture = (name: string): URL => new URL(`./fixtures/${name}.ts`, import.meta.url)

/** Takes reports until there are as many of a kind. */
const until = <Report>(
  process: Pick<Processes.Process<never, Report>, "next" | "reports">,
  isDone: (reports: ReadonlyArray<Report>) => boolean
): Effect.Effect<ReadonlyArray<Report>, Processes.ProcessEnded> =>
  Effect.flatMap(
    process.reports,
    (reports) => isDone(reports) ? Effect.succeed(reports) : Effect.zipRight(process.next, until(process, isDone))
  )

const millis = (nanos: bigint): number => Number(nanos / 10_000n) / 100

const quantiles = (values: ReadonlyArray<number>): string => {
  const sorted = values.slice().sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))].toFixed(0)
  return `min ${at(0)}, median ${at(0.5)}, max ${at(1)} ms`
}

describe("a holder that is cut off from etcd", () => {
  it.scopedLive(
    "is told, and its body interrupted, before anybody else can see the key gone",
    () =>
      Effect.gen(function*() {
        const server = yield* EtcdServer.make()
        const proxies = yield* Effect.forEach(Array.from({ length: 50 }), () => TcpProxy.make(server.endpoint))
        const runs = proxies.map(({ endpoint }, id): Run => ({ id, way: ways[id % ways.length], endpoint }))
        const [holding, observing] = yield* Effect.all([
          Processes.compile<HolderOrder, HolderReport>(fixture("holders")),
          Processes.compile<never, ObserverReport>(fixture("observer"))
        ])
        const observer = yield* observing.start(server.endpoint, "/locks/loss/")
        yield* observer.next
        const holders = yield* holding.start(JSON.stringify(runs))
        const held = (yield* until(
          holders,
          (reports) => reports.filter(({ _tag }) => _tag === "Held").length === runs.length
        )).flatMap((one) => one._tag === "Held" ? [one] : [])
        const keys = held.flatMap(({ etcdKeys }) => etcdKeys)

        // At different moments of the time between two renewals.
        const cuts = yield* Effect.forEach(proxies, (proxy, index) =>
          Effect.sleep(index * 40).pipe(
            Effect.zipRight(Effect.sync(() => process.hrtime.bigint())),
            Effect.zipLeft(proxy.blackHole)
          ), { concurrency: "unbounded" })
        const seen = yield* until(
          observer,
          (reports) => keys.every((key) => reports.some((one) => one._tag === "Gone" && one.etcdKey === key))
        )
        // What goes on whatever happens has gone on until here.
        yield* holders.send("come to an end")
        const told = yield* until(
          holders,
          (reports) =>
            runs.every(({ id }) =>
              reports.some((one) => one._tag === "Event" && one.id === id && one.what === "result")
            )
        )
        yield* holders.send("tell of stalls")
        yield* Effect.forEach(proxies, ({ resume }) => resume)
        const last = (yield* until(holders, (reports) => reports.some(({ _tag }) => _tag === "End")))
          .find((one) => one._tag === "End")
        if (last?._tag !== "End") return assert.fail("no end")
        let stalled = 0
        /** Before the key was gone; or in the first turn of a process that did not run when that happened. */
        const isBefore = (event: bigint, gone: bigint): boolean => {
          if (event < gone) return true
          stalled++
          return last.stalls.some(({ from, next, to }) =>
            BigInt(from) < gone && gone < BigInt(to) && event < BigInt(next)
          )
        }

        const notice: Array<number> = []
        const ahead: Array<number> = []
        for (const { id, way } of runs) {
          const label = `run ${id}, ${way}`
          const { etcdKeys } = held.find((one) => one.id === id) ?? assert.fail(`${label}: not held`)
          const gone = seen.flatMap((one) =>
            one._tag === "Gone" && etcdKeys.includes(one.etcdKey) ? [BigInt(one.time)] : []
          )
          const first = gone.reduce((one, other) => one < other ? one : other)
          const events = told.flatMap((one) => one._tag === "Event" && one.id === id ? [one] : [])
          const timeOf = (what: string): bigint => {
            const event = events.find((event) => event.what === what) ?? assert.fail(`${label}: not ${what}`)
            return BigInt(event.time)
          }
          const reasonOf = (what: string) => events.find((event) => event.what === what)?.reason
          assert.isTrue(isBefore(timeOf("lost"), first), `${label}: heard of the loss after the key was gone`)
          assert.strictEqual(reasonOf("lost"), "expired", label)
          assert.strictEqual(reasonOf("result"), "LockExpired", label)
          if (way === "uninterruptible") {
            // Waited for, so that it does not overlap with the next holder in its own process.
            assert.isTrue(timeOf("over") < timeOf("result"), `${label}: the body was not waited for`)
          } else if (way === "abandoned") {
            assert.isTrue(isBefore(timeOf("result"), first), `${label}: failed after the key was gone`)
            assert.isFalse(events.some(({ what, time }) => what === "over" && BigInt(time) < first), label)
          } else {
            assert.isTrue(isBefore(timeOf("interrupted"), first), `${label}: interrupted after the key was gone`)
          }
          notice.push(millis(timeOf("lost") - cuts[id]))
          ahead.push(millis(first - timeOf("lost")))
        }
        console.log(
          `${runs.length} holders with a time to live of 2 s, cut off: told after ${quantiles(notice)}; ` +
            `the key was gone after another ${quantiles(ahead)}; the holders' event loop was late by ` +
            `${last.delay.p99.toFixed(0)} ms (p99), ${last.delay.max.toFixed(0)} ms (max)` +
            (stalled === 0 ? "" : `; ${stalled} times the process did not run when the key went`)
        )
      }),
    60_000
  )
})

describe("a holder that is stopped for longer than its time to live", () => {
  it.scopedLive(
    "learns of the loss before its next guarded write, which etcd refuses as well",
    () =>
      Effect.gen(function*() {
        const server = yield* EtcdServer.make()
        const program = yield* Processes.compile<WorkerOrder, WorkerReport>(fixture("worker"))
        const worker = yield* program.start(server.endpoint)
        const held = yield* worker.next
        if (held._tag !== "Held") return assert.fail(held._tag)
        // While it runs and holds the lock it can write.
        yield* worker.send("write")
        assert.deepStrictEqual(yield* worker.next, { _tag: "Written", wasSent: true })
        assert.deepStrictEqual(yield* worker.next, { _tag: "Sent", succeeded: true })

        yield* worker.signal("SIGSTOP")
        yield* Effect.gen(function*() {
          // Somebody else gets the lock, and writes.
          const lock = yield* Lock.acquire("work")
          assert.isTrue(lock.fencingToken > BigInt(held.fencingToken))
          yield* Config.set("data", Schema.String, "next", { guard: lock.guard })
          // The order waits for the worker: it is the first thing that it sees.
          yield* worker.send("write")
          yield* worker.signal("SIGCONT")
          const reports = [yield* worker.next, yield* worker.next, yield* worker.next]
          const written = reports.find((report) => report._tag === "Written")
          // It looked at the clock.
          assert.deepStrictEqual(written, { _tag: "Written", wasSent: false, error: "LockExpired", reason: "expired" })
          assert.deepInclude(reports, { _tag: "Lost", reason: "expired" })
          assert.isBelow(
            reports.findIndex(({ _tag }) => _tag === "Lost"),
            reports.findIndex(({ _tag }) => _tag === "Sent"),
            "those who wait for the loss have heard of it before anything was sent"
          )
          assert.deepInclude(reports, { _tag: "Sent", succeeded: false })
          assert.strictEqual(yield* Config.get("data", Schema.String), "next")
          assert.isFalse(yield* lock.isExpired)
        }).pipe(Effect.provide(Coord.layer({ endpoints: server.endpoint })))
        yield* worker.send("end")
        const ended = yield* worker.next
        assert.deepStrictEqual(ended, { _tag: "Ended", error: "LockExpired" })
      }).pipe(Effect.scoped),
    60_000
  )
})

describe("a key that is deleted by hand", () => {
  it.scopedLive("is noticed, whether its holder has few locks or many", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.make()
      const noticed: Array<number> = []
      yield* Effect.gen(function*() {
        const scope = yield* Scope.make()
        const locks = yield* Effect.forEach(
          Array.from({ length: 300 }, (_, index) => `hand/${index}`),
          (key) => Scope.extend(Lock.acquire(key), scope),
          { concurrency: "unbounded" }
        )
        for (let index = 0; index < locks.length; index += 30) {
          const lost = yield* Effect.fork(Effect.zip(
            Effect.flip(locks[index].lost),
            Effect.sync(() => process.hrtime.bigint())
          ))
          yield* server.etcdctl(["del", locks[index].etcdKey])
          const deleted = process.hrtime.bigint()
          const [{ reason }, heard] = yield* Effect.flatten(Effect.map(Effect.exit(lost.await), Exit.flatten))
          assert.strictEqual(reason, "deleted")
          noticed.push(millis(heard - deleted))
        }
        const others = yield* Effect.forEach(locks, ({ isExpired }) => isExpired, { concurrency: "unbounded" })
        assert.lengthOf(others.filter((expired) => expired), 10)
        yield* Scope.close(scope, Exit.void)
      }).pipe(Effect.provide(Coord.layer({ endpoints: server.endpoint })))
      // From when etcdctl has ended, which may be later.
      console.log(`a key deleted by hand was noticed after ${quantiles(noticed)}`)
    }))
})
