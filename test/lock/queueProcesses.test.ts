import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as EtcdClient from "../../src/EtcdClient.js"
import * as Lock from "../../src/Lock.js"
import * as Session from "../../src/Session.js"
import { until } from "../grpc/support.js"
import * as EtcdServer from "../support/EtcdServer.js"
import * as Processes from "../support/processes.js"
import type { Report } from "./fixtures/waiters.js"

type Held = Extract<Report, { readonly _tag: "Held" }>

const perProcess = 50

/** A lock that is held, and as many processes as are asked for with fifty waiters each. */
const queue = (count: number, ttlSeconds: number) =>
  Effect.gen(function*() {
    const server = yield* EtcdServer.make()
    const program = yield* Processes.compile<never, Report>(new URL("./fixtures/waiters.ts", import.meta.url))
    const locks = yield* Layer.build(
      Lock.layer().pipe(Layer.provide(Session.layer), Layer.provide(EtcdClient.layer({ endpoints: server.endpoint })))
    )
    const scope = yield* Scope.make()
    yield* Effect.provide(Scope.extend(Lock.acquire("fair"), scope), locks)
    const start = program.start(server.endpoint, "fair", String(perProcess), String(ttlSeconds))
    const processes = yield* Effect.replicateEffect(start, count)
    yield* until(
      "all wait",
      Effect.map(
        Effect.provide(Lock.inspect("fair"), locks),
        ({ waiters }) => waiters.length === count * perProcess
      )
    )
    return { processes, release: Scope.close(scope, Exit.void) }
  })

/** In the order in which they had the lock, by a clock of the machine. */
const inOrder = (reports: ReadonlyArray<Report>): ReadonlyArray<Held> =>
  reports.filter((report) => report._tag === "Held").sort((a, b) => BigInt(a.time) < BigInt(b.time) ? -1 : 1)

const areInOrderOfTokens = (all: ReadonlyArray<Held>): boolean =>
  all.every(({ token }, index) => index === 0 || BigInt(token) > BigInt(all[index - 1].token))

describe("200 waiters of 4 processes", () => {
  it.scopedLive(
    "have the lock in the order of their tokens, by one watch per process, each woken for its turn only",
    () =>
      Effect.gen(function*() {
        const { processes, release } = yield* queue(4, 30)
        yield* release
        yield* Effect.forEach(processes, ({ ended }) => ended)
        const reports = (yield* Effect.forEach(processes, ({ reports }) => reports)).flat()
        const all = inOrder(reports)
        assert.lengthOf(all, 4 * perProcess)
        assert.isTrue(areInOrderOfTokens(all))
        // By the answer to its entering, and by its turn.
        assert.deepStrictEqual(new Set(all.map(({ wakes }) => wakes)), new Set([2]))
        assert.deepStrictEqual(reports.filter(({ _tag }) => _tag === "Done"), [
          { _tag: "Done", watches: 1 },
          { _tag: "Done", watches: 1 },
          { _tag: "Done", watches: 1 },
          { _tag: "Done", watches: 1 }
        ])
      }),
    60_000
  )

  it.scopedLive("have it in that order when one of the processes is killed among them", () =>
    Effect.gen(function*() {
      // So long the others wait for the one that is killed.
      const { processes, release } = yield* queue(4, 5)
      const [doomed, ...others] = processes
      yield* doomed.kill
      yield* release
      yield* Effect.forEach(others, ({ ended }) => ended)
      const all = inOrder((yield* Effect.forEach(others, ({ reports }) => reports)).flat())
      assert.lengthOf(all, 3 * perProcess)
      assert.isTrue(areInOrderOfTokens(all))
    }), 60_000)
})
