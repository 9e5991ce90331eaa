import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Election from "../../src/Election.js"
import * as Session from "../../src/Session.js"
import { refusals, TestEtcd } from "../../src/testing.js"
import { pass, settle, whileTimePasses } from "../support/memory.js"
import { elections, lead, node, observer, standing } from "./support.js"

const folder = "/elections/a/"

describe("observe", () => {
  it.effect("tells that nobody leads, every leader, and every value that one proclaims", () =>
    Effect.gen(function*() {
      const { next, some } = yield* observer("a")
      assert.strictEqual(yield* next, "-")
      const first = yield* lead("a", { value: "one" })
      yield* first.leadership.proclaim("uno")
      yield* first.leadership.proclaim("uno")
      const waiting = yield* Effect.fork(lead("a", { value: "two" }))
      yield* standing("a", 2)
      yield* first.leave
      const second = yield* whileTimePasses(Fiber.join(waiting))
      yield* second.leave
      const one = first.leadership.term
      const two = second.leadership.term
      assert.deepStrictEqual(yield* whileTimePasses(some(5)), [
        `one@${one}`,
        `uno@${one}`,
        `uno@${one}`,
        `two@${two}`,
        "-"
      ])
    }).pipe(elections))

  it.effect("begins with the present leader, whatever the order of the keys", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const term = yield* etcd.putKey(`${folder}z`, "first")
      yield* etcd.putKey(`${folder}a`, "second")
      yield* etcd.putKey(`${folder}m`, "third")
      const { next } = yield* observer("a")
      assert.strictEqual(yield* whileTimePasses(next), `first@${term}`)
      yield* etcd.putKey(`${folder}z`, "changed")
      assert.strictEqual(yield* whileTimePasses(next), `changed@${term}`)
    }).pipe(elections))

  it.effect("does not tell of candidates, nor of nested elections", () =>
    Effect.gen(function*() {
      const { next } = yield* observer("a")
      assert.strictEqual(yield* next, "-")
      yield* lead("a/b", { value: "nested" })
      const { leadership } = yield* lead("a", { value: "one" })
      assert.strictEqual(yield* next, `one@${leadership.term}`)
      const candidate = yield* Effect.fork(Effect.scoped(Election.campaign("a", { value: "two" })))
      yield* standing("a", 3)
      yield* Fiber.interrupt(candidate)
      yield* settle
      yield* leadership.proclaim("uno")
      assert.strictEqual(yield* whileTimePasses(next), `uno@${leadership.term}`)
    }).pipe(elections))

  it.effect("tells nothing of who only would have led while one lease took its keys away", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const lease = yield* (yield* (yield* Session.Sessions).get("10 seconds")).lease
      const leader = yield* Effect.forkScoped(Effect.scoped(
        Effect.zipRight(Election.campaign("a", { value: "one", ttl: "10 seconds" }), Effect.never)
      ))
      yield* standing("a", 1)
      const candidates = yield* Effect.forkScoped(
        Effect.all([1, 2, 3].map(() => Effect.scoped(Election.campaign("a", { value: "x", ttl: "10 seconds" }))), {
          concurrency: "unbounded"
        })
      )
      yield* standing("a", 4)
      const { next } = yield* observer("a")
      assert.isTrue((yield* next).startsWith("one@"))
      yield* Fiber.interruptFork(leader)
      yield* Fiber.interruptFork(candidates)
      yield* etcd.expireLease(lease)
      assert.strictEqual(yield* whileTimePasses(next), "-")
    }).pipe(elections))

  it.effect("misses nothing when it reads slowly", () =>
    Effect.gen(function*() {
      const { next, some } = yield* observer("a")
      const expected = ["-"]
      assert.strictEqual(yield* next, "-")
      // More than a mirror keeps in mind.
      for (let i = 0; i < 30; i++) {
        const { leadership, leave } = yield* lead("a", { value: "0" })
        expected.push(`0@${leadership.term}`)
        for (let value = 1; value < 150; value++) {
          yield* leadership.proclaim(String(value))
          expected.push(`${value}@${leadership.term}`)
        }
        yield* leave
        expected.push("-")
      }
      assert.deepStrictEqual(yield* whileTimePasses(some(expected.length - 1)), expected.slice(1))
    }).pipe(elections), 60_000)

  it.effect("goes on through an outage and a restart", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const other = yield* node("other")
      const { leadership } = yield* Effect.provide(lead("a", { value: "one", ttl: "1 hour" }), other)
      const { next } = yield* observer("a")
      assert.strictEqual(yield* next, `one@${leadership.term}`)
      yield* etcd.connection("mine").down
      yield* pass("20 seconds")
      yield* leadership.proclaim("uno")
      yield* leadership.proclaim("ein")
      yield* etcd.connection("mine").up
      assert.strictEqual(yield* whileTimePasses(next), `uno@${leadership.term}`)
      assert.strictEqual(yield* next, `ein@${leadership.term}`)
      yield* etcd.restart
      yield* whileTimePasses(leadership.proclaim("un"))
      assert.strictEqual(yield* whileTimePasses(next), `un@${leadership.term}`)
    }).pipe((test) => elections(test, { connection: "mine" })))

  it.effect("tells the outcome of what was compacted away, and nothing that never was", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.putKey(`${folder}m`, "first")
      const { next } = yield* observer("a")
      assert.isTrue((yield* next).startsWith("first@"))
      yield* etcd.connection("mine").down
      // The one with the smallest key leads last, and was written to last: no order of theirs is that of the terms.
      const second = yield* etcd.putKey(`${folder}z`, "second")
      yield* etcd.putKey(`${folder}b`, "third")
      yield* etcd.putKey(`${folder}a`, "fourth")
      yield* etcd.putKey(`${folder}z`, "second, again")
      yield* etcd.deleteKey(`${folder}m`)
      yield* etcd.compact()
      yield* etcd.connection("mine").up
      assert.strictEqual(yield* whileTimePasses(next), `second, again@${second}`)
      yield* etcd.deleteKey(`${folder}z`)
      assert.isTrue((yield* whileTimePasses(next)).startsWith("third@"))
    }).pipe((test) => elections(test, { connection: "mine" })))

  it.effect("tells who leads in an etcd that lost its data", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      for (let i = 0; i < 20; i++) yield* etcd.putKey("x", "y")
      const term = yield* etcd.putKey(`${folder}1`, "old")
      const { next } = yield* observer("a")
      assert.strictEqual(yield* next, `old@${term}`)
      yield* etcd.restartWithoutData
      assert.strictEqual(yield* whileTimePasses(next), "-")
      const { leadership } = yield* lead("a", { value: "new" })
      assert.isTrue(leadership.term < term)
      assert.strictEqual(yield* whileTimePasses(next), `new@${leadership.term}`)
    }).pipe(elections))

  it.effect("fails when etcd refuses it, and for a name that cannot be", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.refuse(refusals.permissionDenied, { match: ({ operation }) => operation === "range", times: 10 })
      const denied = yield* whileTimePasses(Effect.flip(Stream.runHead(Election.observe("a"))))
      assert.isTrue(denied._tag === "EtcdError" && denied.reason === "PermissionDenied")
      yield* etcd.clear
      const invalid = yield* Effect.flip(Stream.runHead(Election.observe("a/")))
      assert.isTrue(invalid._tag === "InvalidArgument" && invalid.argument === "name")
    }).pipe(elections))

  it.effect("leaves no watcher behind", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      assert.deepStrictEqual(yield* Stream.runHead(Election.observe("a")), Option.some(Option.none()))
      yield* settle
      assert.strictEqual((yield* etcd.usage).watchers, 0)
    }).pipe(elections))
})
