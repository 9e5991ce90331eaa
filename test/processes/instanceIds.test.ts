import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { connect } from "../grpc/support.js"
import * as EtcdServer from "../support/EtcdServer.js"
import * as Processes from "../support/processes.js"
import type { Report } from "./history.js"
import { faults, type Section, sectionsOf } from "./history.js"
import { duration, seed, until } from "./support.js"

const maxId = 64

type Child = Processes.Process<"end", Report>

describe("instance IDs of eight processes that are killed at random", () => {
  it.scopedLive("are never held by two at once", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.make({ version: "3.5" })
      const program = yield* Processes.compile<"end", Report>(new URL("./fixtures/instanceIds.ts", import.meta.url))
      const sections: Array<Section> = []
      let started = 0
      const start = Effect.suspend(() => {
        const name = `process ${++started}`
        return Effect.map(program.start(server.endpoint, `${seed}-${started}`, String(maxId)), (child) => ({
          name,
          child
        }))
      })
      const record = ({ child, name }: { readonly name: string; readonly child: Child }, died: bigint) =>
        Effect.map(child.reports, (reports) => void sections.push(...sectionsOf(name, reports, died)))
      const alive = yield* Effect.all(Array.from({ length: 8 }, () => start), { concurrency: "unbounded" })

      yield* Effect.gen(function*() {
        const over = process.hrtime.bigint() + duration * 1_000_000_000n
        while (process.hrtime.bigint() < over) {
          yield* Effect.sleep(yield* Random.nextIntBetween(100, 1_000))
          // However slow the machine is, those that are killed have held something.
          const busy = yield* Effect.filter(alive.keys(), (index) =>
            Effect.map(alive[index].child.reports, (reports) => reports.some(({ _tag }) => _tag === "Begin")))
          if (busy.length === 0) {
            continue
          }
          const index = yield* Effect.orDie(Random.choice(busy))
          const died = process.hrtime.bigint()
          assert.deepStrictEqual(yield* alive[index].child.kill, { code: null, signal: "SIGKILL" })
          yield* record(alive[index], died)
          alive[index] = yield* start
        }
      }).pipe(Effect.withRandom(Random.make(seed)))

      const ends = yield* Effect.forEach(alive, ({ child }) =>
        Effect.zipRight(child.send("end"), child.ended), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(ends, alive.map(() => ({ code: 0, signal: null })))
      yield* Effect.forEach(alive, (one) => record(one, process.hrtime.bigint()))
      const killed = sections.filter(({ outcome }) => outcome === "killed")
      const ids = new Set(sections.map(({ resource }) => resource))
      const summary = `seed ${seed}: ${sections.length} times one of ${ids.size} IDs was held by one of ${started} ` +
        `processes, ${killed.length} times it was killed meanwhile`
      console.log(summary)
      assert.strictEqual(faults(sections), "", summary)
      const isTakenAgain = (lost: Section) =>
        sections.some(({ begin, resource }) => resource === lost.resource && begin > lost.end)
      assert.isTrue(killed.some(isTakenAgain), summary)
      const observer = yield* connect({ endpoints: server.endpoint })
      yield* until(
        "no ID is left",
        Effect.map(observer.range({ key: "\0", rangeEnd: "\0", countOnly: true }), ({ count }) => count === 0n),
        "5 seconds"
      )
    }), 120_000)
})
