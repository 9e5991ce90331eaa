/** Instances that die at once. Their entries stay: only the connections tell. */
import { assert, it } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Grpc from "../../src/Grpc.js"
import * as Registry from "../../src/Registry.js"
import * as Processes from "../support/processes.js"
import { Echo } from "./echo.js"
import { call, instance, memory, reaches, shares, until, untilEffect } from "./support.js"

interface Ended {
  readonly id: string | undefined
  readonly startedAt: number
  readonly endedAt: number
}

const policies: ReadonlyArray<Grpc.Policy> = ["weighted", "round_robin"]

it.scopedLive.each([...policies, "pick_first"] as const)(
  "%s: calls that begin in the very step in which a connection is seen broken go to others, all at once",
  (policy) =>
    Effect.gen(function*() {
      const a = yield* instance("echo", "a")
      const others = yield* Effect.forEach(["b", "c"], (id) => instance("echo", id))
      const client = yield* Grpc.client(Echo, "echo", { policy })
      const all = policy === "pick_first" ? [a] : [a, ...others]
      for (const each of all) yield* reaches(client, each)
      const before = a.calls()

      // It goes on calling meanwhile, one call after the other, over a connection of its own that nothing happens to.
      const bystander = yield* Effect.acquireRelease(
        Effect.sync(() => new Echo(`127.0.0.1:${others[0].port}`, grpc.credentials.createInsecure())),
        (bystander) => Effect.sync(() => bystander.close())
      )
      let meanwhile = 0
      const count = Effect.forever(Effect.tap(call(bystander), () => Effect.sync(() => void meanwhile++)))

      /** Asks many, without a step in between, and waits for all answers. */
      const askAll = (resume: (answers: ReadonlyArray<string>) => void) => {
        const answers: Array<string> = []
        for (let index = 0; index < 12; index++) {
          client.who("?", new grpc.Metadata(), { deadline: Date.now() + 20_000 }, (error, id) => {
            if (answers.push(error?.message ?? id ?? "") === 12) resume(answers)
          })
        }
      }
      let seen = false
      const answers = yield* Effect.forkScoped(Effect.async<ReadonlyArray<string>>((resume) => {
        // In turn, so one of them is under way with each.
        for (const _ of all) {
          client.wait("?", new grpc.Metadata(), {}, () => {
            // Those with the others end with the test.
            if (seen) return
            seen = true
            meanwhile = 0
            askAll((answers) => resume(Effect.succeed(answers)))
          })
        }
      }))
      yield* until("a is waiting", () => a.waiting() === 1)
      yield* Effect.forkScoped(count)
      yield* until("the bystander calls", () => meanwhile > 0)
      yield* a.kill
      const got = yield* Fiber.join(answers)
      assert.isBelow(meanwhile, 10)
      const shareOf = (id: string) => got.filter((by) => by === id).length
      assert.strictEqual(shareOf("b") + shareOf("c"), 12, got.join())
      // Somewhere in the round.
      if (policy !== "pick_first") assert.approximately(shareOf("b"), 6, 1)
      assert.strictEqual(a.calls(), before + 1)
    }).pipe(Effect.provide(memory))
)

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

      // As fast as they are when they have run for a while.
      yield* shares(client, 600)

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
      const median = (all: ReadonlyArray<number>): string =>
        Array.from(all).sort((a, b) => a - b)[Math.floor(all.length / 2)].toFixed(1)
      const ordinary = ended.filter(({ id }) => id !== undefined).map(({ endedAt, startedAt }) => endedAt - startedAt)
      yield* Effect.log(
        `${policy}: after a kill another had answered within ${
          median(delays)
        } ms (median of ${delays.length}), where any ` +
          `call takes ${median(ordinary)} ms; ${failed} of ${ended.length} calls were under way and failed`
      )
    }).pipe(Effect.provide(memory))
)
