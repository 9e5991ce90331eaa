/** Settings that many processes change at the same time, while connections break and answers get lost. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import { connect, text } from "../grpc/support.js"
import * as EtcdServer from "../support/EtcdServer.js"
import * as Processes from "../support/processes.js"
import * as TcpProxy from "../support/TcpProxy.js"
import type { Order, Told } from "./config.js"
import { number, seed, until } from "./support.js"

/** How often each process changes the value. By hand: `COORD_TEST_MODIFIES=1000 npx vitest run test/processes/config.test.ts`. */
const times = number("COORD_TEST_MODIFIES", 40)
const processes = 8

/** One trouble of one process' connection; none is longer than a call may take. */
const trouble = (proxy: TcpProxy.TcpProxy) =>
  Effect.gen(function*() {
    const losing = Effect.gen(function*() {
      const { lost } = yield* proxy.loseResponse({ after: yield* Random.nextIntBetween(0, 5) })
      yield* Effect.timeoutOption(lost, "200 millis")
    })
    yield* yield* Effect.orDie(Random.choice([proxy.cut(), proxy.cut({ reset: true }), losing, losing, losing, losing]))
    yield* proxy.resume
  })

describe("one counter that eight processes modify, with cuts and lost answers", () => {
  it.scopedLive("loses no change, makes none twice, and no conflict reaches a caller", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.make({ version: "3.5" })
      const observer = yield* connect({ endpoints: server.endpoint })
      const program = yield* Processes.compile<Order, Told>(new URL("./fixtures/config.ts", import.meta.url))
      const stands = yield* Effect.forEach(
        Array.from({ length: processes }),
        () =>
          Effect.gen(function*() {
            const proxy = yield* TcpProxy.make(server.endpoint)
            return { proxy, child: yield* program.start(proxy.endpoint, String(times), "2") }
          }),
        { concurrency: "unbounded" }
      )
      const children = stands.map(({ child }) => child)
      yield* Effect.forEach(children, ({ next }) => next)
      const began = process.hrtime.bigint()
      yield* Effect.forEach(children, ({ send }) => send("go"))

      let troubles = 0
      const troubled = Effect.forEach(stands, ({ proxy }) =>
        Effect.forever(Effect.gen(function*() {
          yield* Effect.sleep(yield* Random.nextIntBetween(20, 400))
          yield* trouble(proxy)
          troubles++
        })), { concurrency: "unbounded", discard: true })
      const hurting = yield* Effect.fork(Effect.withRandom(troubled, Random.make(seed)))
      const done = yield* Effect.forEach(children, ({ next }) => next)
      const millis = Number((process.hrtime.bigint() - began) / 1_000_000n)
      yield* Fiber.interrupt(hurting)
      yield* Effect.forEach(stands, ({ proxy }) => proxy.resume)

      const told = done.flatMap((one) => one._tag === "Done" ? [one] : [])
      const versions = told.flatMap(({ versions }) => versions)
      const { kvs: [counter] } = yield* observer.range({ key: "/config/counter" })
      const summary =
        `seed ${seed}: ${text(counter.value)} changes by ${processes} processes with ${troubles} troubles in ` +
        `${millis} ms, ${Math.round(versions.length * 1_000 / millis)}/s; the slowest took ` +
        `${Math.max(...told.map(({ slowestMillis }) => slowestMillis))} ms`
      console.log(summary)
      assert.deepStrictEqual(told.flatMap(({ failures }) => failures), [], summary)
      assert.strictEqual(text(counter.value), String(processes * times), summary)
      assert.strictEqual(counter.version, BigInt(processes * times), summary)
      assert.strictEqual(new Set(versions).size, processes * times, summary)
      assert.isAbove(troubles, 0)
      yield* Effect.forEach(children, ({ ended }) => ended)
      yield* until(
        "no key but those of the settings is left",
        Effect.map(
          observer.range({ key: "\0", rangeEnd: "\0", keysOnly: true }),
          ({ kvs }) => kvs.every(({ key }) => text(key).startsWith("/config/"))
        ),
        "5 seconds"
      )
    }), 600_000)
})
