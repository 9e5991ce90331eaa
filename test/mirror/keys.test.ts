/** Mirrors of several keys with much between them. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HashMap from "effect/HashMap"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as Mirror from "../../src/Mirror.js"
import { refusals, TestEtcd } from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { eventually, pass, scenario, settle, text, whileTimePasses } from "../support/memory.js"
import { show } from "./support.js"

const keys = ["m/a", "m/b/c", "z"]

const contents = (mirror: Mirror.Mirror) =>
  Effect.map(mirror.entries, (kvs) => kvs.map(({ key, value }) => `${text(key)}=${text(value)}`).join(" "))

/** Follows a mirror's steps. */
const stepsOf = (mirror: Mirror.Mirror) =>
  Effect.gen(function*() {
    const steps = yield* Queue.unbounded<string>()
    yield* Effect.forkScoped(Stream.runForEach(mirror.steps, (step) => steps.offer(step.map(show).join(" "))))
    return whileTimePasses(Queue.take(steps))
  })

const putTogether = (value: string) =>
  Effect.flatMap(EtcdClient, (client) => client.txn({ success: keys.map((key) => Txn.put({ key, value })) }))

describe("a mirror of keys", () => {
  it.effect("copies them and no others", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.putKey("m/a", "1")
      yield* etcd.putKey("m/b", "not mine")
      yield* etcd.refuse(refusals.permissionDenied, {
        match: ({ keys: asked }) => asked.some((key) => !keys.includes(key)),
        times: Infinity
      })
      const mirror = yield* Mirror.makeKeys(keys)
      const next = yield* stepsOf(mirror)
      assert.strictEqual(yield* next, "m/a=1")
      yield* etcd.putKey("m/b/c", "2")
      assert.strictEqual(yield* next, "m/b/c=2")
      yield* etcd.putKey("m/b", "not mine either")
      yield* etcd.deleteKey("m/a")
      assert.strictEqual(yield* next, "-m/a")
      assert.strictEqual(yield* contents(mirror), "m/b/c=2")
      assert.strictEqual((yield* mirror.state)._tag, "Following")
      yield* mirror.awaitRevision((yield* mirror.snapshot).revision)
    }).pipe(scenario))

  it.effect("shows what they were at one revision, whatever their watches tell first", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* putTogether("0")
      const client = yield* EtcdClient
      // Each key's watch tells later than that of the one before.
      const staggered: EtcdClient["Type"] = {
        ...client,
        openWatch: (request, options) =>
          Effect.map(client.openWatch(request, options), ({ next, revision }) => ({
            revision,
            next: Effect.zipLeft(next, Effect.sleep(`${keys.findIndex((key) => key === request.key)} seconds`))
          }))
      }
      const mirror = yield* Effect.provideService(Mirror.makeKeys(keys), EtcdClient, staggered)
      const seen: Array<string> = []
      yield* Effect.forkScoped(Stream.runForEach(mirror.snapshots, () =>
        Effect.map(contents(mirror), (content) => {
          seen.push(content)
        })))
      yield* mirror.ready
      yield* settle
      const revisions: Array<bigint> = []
      for (const value of ["1", "2", "3"]) {
        revisions.push((yield* putTogether(value)).header.revision)
        yield* pass("300 millis")
      }
      yield* pass("10 seconds")
      assert.deepStrictEqual(seen, ["0", "1", "2", "3"].map((v) => keys.map((key) => `${key}=${v}`).join(" ")))
      assert.strictEqual((yield* mirror.snapshot).revision, revisions[2])
      // What the first to tell had read was not read again for the others.
      assert.strictEqual((yield* etcd.usage).calls.txn, 4 + 4)
    }).pipe(scenario))

  it.effect("catches up after an outage, a compaction, and a loss of all data", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.down
      const mirror = yield* Mirror.makeKeys(keys)
      const first = yield* Effect.fork(mirror.ready)
      yield* pass("20 seconds")
      assert.strictEqual((yield* mirror.state)._tag, "Loading")
      yield* etcd.putKey("m/a", "1")
      yield* etcd.up
      yield* whileTimePasses(Fiber.join(first))
      const next = yield* stepsOf(mirror)
      assert.strictEqual(yield* next, "m/a=1")
      yield* etcd.down
      yield* pass("5 seconds")
      assert.strictEqual((yield* mirror.state)._tag, "Stale")
      yield* etcd.putKey("z", "2")
      yield* etcd.deleteKey("m/a")
      yield* etcd.compact()
      yield* etcd.up
      assert.strictEqual(yield* next, "-m/a z=2")
      yield* etcd.restartWithoutData
      yield* etcd.putKey("z", "new")
      yield* pass("20 seconds")
      yield* eventually("the new history", Effect.map(contents(mirror), (content) => content === "z=new"))
      const snapshot = yield* mirror.snapshot
      assert.strictEqual(HashMap.size(snapshot.entries), 1)
      assert.strictEqual(snapshot.epoch, 1)
    }).pipe(scenario))

  it.effect("tells a reader that fell behind the difference", () =>
    Effect.gen(function*() {
      const client = yield* EtcdClient
      const many = Array.from({ length: 100 }, (_, index) => `m/${100 + index}`)
      const mirror = yield* Mirror.makeKeys(many)
      const read = yield* mirror.reader
      assert.deepStrictEqual(yield* read, [])
      // More than the log keeps.
      for (let i = 0; i < 60; i++) {
        const { header } = yield* client.txn({ success: many.map((key) => Txn.put({ key, value: String(i) })) })
        yield* mirror.awaitRevision(header.revision)
      }
      assert.deepStrictEqual((yield* read).map(show).sort(), many.map((key) => `${key}=59`))
      yield* client.put({ key: many[0], value: "after" })
      assert.deepStrictEqual((yield* whileTimePasses(read)).map(show), ["m/100=after"])
    }).pipe(scenario))
})
