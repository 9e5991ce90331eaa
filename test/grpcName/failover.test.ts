/** Instances that die at once, under a load of calls. Their entries stay: only the connections tell. */
import { assert, it } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Grpc from "../../src/Grpc.js"
import * as Registry from "../../src/Registry.js"
import * as Processes from "../support/processes.js"
import { Echo } from "./echo.js"
import { call, memory, shares, until, untilEffect } from "./support.js"

interface Ended {
  readonly id: string | undefined
  readonly startedAt: number
  readonly endedAt: number
}

const policies: ReadonlyArray<Grpc.Policy> = ["weighted", "round_robin"]

it.scopedLive.each(policies)(
  "%s: no call fails once the connection is seen broken",
  (policy) =>
    Effect.gen(function*() {
      const program = yield* Processes.compile<never, { readonly port: number }>(
        new URL("./fixtures/echo.ts", import.meta.url)
      )
      const ids = ["a", "b", "c", "d", "e", "f"]
      const processes = yield* Effect.forEach(ids, (id) =>
        Effect.gen(function*() {
          const process = yield* program.start(id)
          const { port } = yield* process.next
          yield* Registry.register({ id, name: "echo", address: "127.0.0.1", port })
          return process
        }), { concurrency: 2 })
      const client = yield* Grpc.client(Echo, "echo", { policy })
      yield* untilEffect("all are connected", Effect.map(shares(client, 12), (got) => ids.every((id) => got[id] === 2)))

      // One to each, never answered: it fails when its connection is seen broken, and tells the time of that.
      const broken: Array<number> = []
      for (const _ of ids) {
        yield* Effect.forkScoped(
          Effect.tapError(call(client, "wait"), () => Effect.sync(() => void broken.push(performance.now())))
        )
        yield* Effect.yieldNow()
      }

      const ended: Array<Ended> = []
      let stopped = false
      const one = Effect.suspend(() => {
        const startedAt = performance.now()
        const end = (id: string | undefined) => void ended.push({ id, startedAt, endedAt: performance.now() })
        return call(client).pipe(
          Effect.match({
            onSuccess: end,
            onFailure: (error) => {
              assert.strictEqual(error.code, grpc.status.UNAVAILABLE, error.message)
              end(undefined)
            }
          })
        )
      })
      yield* Effect.forkScoped(
        Effect.all(Array.from({ length: 4 }, () => Effect.repeat(one, { while: () => !stopped })), {
          concurrency: "unbounded"
        })
      )

      const delays: Array<number> = []
      let failed = 0
      for (const [index, process] of processes.slice(0, -1).entries()) {
        const first = ended.length
        yield* process.kill
        yield* until("the connection is seen broken", () => broken.length > index)
        const brokenAt = broken[index]
        const reached = () => ended.slice(first).filter(({ id, startedAt }) => startedAt > brokenAt && id !== undefined)
        yield* until("calls go on", () => reached().length > 100)
        const failures = ended.slice(first).filter(({ id }) => id === undefined)
        assert.deepStrictEqual(failures.filter(({ startedAt }) => startedAt > brokenAt), [])
        failed += failures.length
        delays.push(Math.min(...reached().map(({ endedAt }) => endedAt)) - brokenAt)
      }
      assert.strictEqual(broken.length, delays.length)
      stopped = true
      delays.sort((a, b) => a - b)
      yield* Effect.log(
        `${policy}: after a kill another was reached within ${delays[Math.floor(delays.length / 2)].toFixed(1)} ms ` +
          `(median of ${delays.length}), ${failed} of ${ended.length} calls were under way and failed`
      )
    }).pipe(Effect.provide(memory))
)
