import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as Mirror from "../../src/Mirror.js"
import { TestEtcd } from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { pass, scenario, whileTimePasses } from "../support/memory.js"
import { range, show } from "./support.js"

/** A reader of steps, which takes one when asked. */
const reader = Effect.gen(function*() {
  const mirror = yield* Mirror.make(range)
  const queue = yield* Queue.bounded<string>(1)
  yield* Effect.forkScoped(
    Stream.runForEach(mirror.steps, (step) => Queue.offer(queue, step.map(show).join(" ")))
  )
  const next = whileTimePasses(Queue.take(queue))
  return { next, some: (count: number) => whileTimePasses(Effect.replicateEffect(Queue.take(queue), count)) }
})

const putTogether = (...puts: ReadonlyArray<readonly [string, string]>) =>
  Effect.flatMap(
    EtcdClient,
    (client) => client.txn({ success: puts.map(([key, value]) => Txn.put({ key, value })) })
  )

describe("steps of a mirror", () => {
  it.effect("are what was there, then one for each revision", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.putKey("m/b", "1")
      yield* etcd.putKey("m/a", "2")
      const { next } = yield* reader
      assert.strictEqual(yield* next, "m/a=2 m/b=1")
      yield* etcd.putKey("m/a", "3")
      yield* putTogether(["m/a", "4"], ["m/c", "5"])
      yield* etcd.putKey("n", "not mine")
      yield* etcd.deleteKey("m/b")
      assert.deepStrictEqual([yield* next, yield* next, yield* next], ["m/a=3", "m/a=4 m/c=5", "-m/b"])
    }).pipe(scenario))

  it.effect("begin with an empty one where nothing is", () =>
    Effect.gen(function*() {
      const { next } = yield* reader
      assert.strictEqual(yield* next, "")
    }).pipe(scenario))

  it.effect("are one for what a gap hid", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.putKey("m/a", "1")
      const { next } = yield* reader
      assert.strictEqual(yield* next, "m/a=1")
      yield* etcd.connection("mine").down
      yield* etcd.putKey("m/c", "2")
      yield* etcd.putKey("m/b", "3")
      yield* etcd.deleteKey("m/a")
      yield* etcd.compact()
      yield* etcd.connection("mine").up
      yield* pass("10 seconds")
      assert.strictEqual(yield* next, "-m/a m/c=2 m/b=3")
    }).pipe((test) => scenario(test, { connection: "mine" })))

  it.effect("stay whole for a reader that is far behind", () =>
    Effect.gen(function*() {
      const { next, some } = yield* reader
      assert.strictEqual(yield* next, "")
      const expected: Array<string> = []
      for (let i = 0; i < 2_500; i++) {
        yield* putTogether(["m/a", String(i)], ["m/b", String(i)])
        expected.push(`m/a=${i} m/b=${i}`)
      }
      assert.deepStrictEqual(yield* some(2_500), expected)
    }).pipe(scenario))
})
