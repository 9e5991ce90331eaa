import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"
import { EtcdError } from "../../src/EtcdError.js"
import * as Key from "../../src/Key.js"
import type { Op, TxnRequest } from "../../src/Txn.js"
import * as Txn from "../../src/Txn.js"
import { eventually, pass, settle, text, whileTimePasses } from "../support/memory.js"
import type { Watched } from "./support.js"
import { watched } from "./support.js"

const range = (n: number): ReadonlyArray<number> => Array.from({ length: n }, (_, i) => i)

/** Starts effects in order, each in a fibre. */
const start = <A, E>(effects: ReadonlyArray<Effect.Effect<A, E>>) =>
  Effect.forEach(effects, (effect) => Effect.fork(effect))

/** Occupies the lane of writes, so that what comes next is gathered. */
const occupied = ({ client, hold, sent }: Watched, key = "busy") =>
  Effect.gen(function*() {
    yield* hold
    const before = sent.length
    const first = yield* start([client.put({ key, value: "" })])
    yield* eventually("the first call", Effect.sync(() => sent.length === before + 1))
    return first
  })

const enter = (name: string, id: string): TxnRequest => ({
  compare: [Txn.absent(`/locks/${name}/${id}`)],
  success: [
    Txn.put({ key: `/locks/${name}/${id}`, value: "" }),
    Txn.range({ ...Key.prefix(`/locks/${name}/`), sort: { by: "create", order: "descend" }, limit: 2, keysOnly: true })
  ],
  failure: [Txn.range({ key: `/locks/${name}/${id}`, keysOnly: true })]
})

describe("what leaves together", () => {
  it.scoped("a request of an idle client leaves as it is, at once", () =>
    Effect.gen(function*() {
      const { client, sent } = yield* watched()
      yield* client.put({ key: "a", value: "1" })
      yield* client.get("a")
      yield* client.txn({ compare: [Txn.exists("a")], success: [Txn.put({ key: "b", value: "2" })] })
      yield* client.delete({ key: "a" })
      assert.deepStrictEqual(sent.map(({ call, ops }) => [call, ...ops]), [
        ["put", "put a"],
        ["range", "range a"],
        ["txn", "put b"],
        ["del", "delete a"]
      ])
    }))

  it.scoped("requests made at the same time leave as few calls, reads apart from writes", () =>
    Effect.gen(function*() {
      const { client, sent } = yield* watched()
      yield* client.put({ key: "r1", value: "one" })
      const before = sent.length
      const reads = range(40).map((i) => client.get(`r${i}`))
      const writes = range(40).map((i) => client.put({ key: `w${i}`, value: `${i}` }))
      yield* Effect.all([...reads, ...writes], { concurrency: "unbounded", discard: true })
      const calls = sent.slice(before)
      assert.deepStrictEqual(calls.map(({ call, ops }) => [call, ops.length]), [
        ["range", 1],
        ["put", 1],
        ["txn", 39],
        ["txn", 39]
      ])
      for (const { ops } of calls) assert.strictEqual(new Set(ops.map((op) => op.split(" ")[0])).size, 1)
    }))

  it.scoped("a transaction of reads alone is not nested", () =>
    Effect.gen(function*() {
      const { client, sent } = yield* watched()
      yield* client.put({ key: "b", value: "2" })
      const reads = range(5).map((i) => client.txn({ success: [Txn.range({ key: `a${i}` }), Txn.range({ key: "b" })] }))
      const answers = yield* Effect.all(reads, { concurrency: "unbounded" })
      assert.deepStrictEqual(sent.map(({ ops }) => ops.length), [1, 2, 8])
      assert.isTrue(sent.every(({ ops }) => ops.every((op) => !op.startsWith("txn"))))
      for (const { header, responses, succeeded } of answers) {
        assert.isTrue(succeeded)
        assert.strictEqual(header.revision, 2n)
        assert.deepStrictEqual(
          responses.map((one) => one._tag === "Range" ? one.response.kvs.map(({ value }) => text(value)) : one),
          [[], ["2"]]
        )
      }
    }))

  it.scoped("what may bring much, is stale on purpose, or has conditions is read by itself", () =>
    Effect.gen(function*() {
      const { client, sent } = yield* watched()
      const busy = [client.get("a"), client.get("b"), client.get("c")]
      const apart = [
        client.range(Key.prefix("p")),
        client.range({ key: "a", serializable: true }),
        client.txn({ compare: [Txn.exists("a")], success: [Txn.range({ key: "a" })] })
      ]
      yield* Effect.all([...busy, ...apart], { concurrency: "unbounded", discard: true })
      assert.deepStrictEqual(
        sent.map(({ call, ops }) => [call, ops.length]),
        [["range", 1], ["range", 1], ["range", 1], ["txn", 1], ["txn", 2]]
      )
    }))

  it.scoped("a switched off batcher sends everything by itself", () =>
    Effect.gen(function*() {
      const { client, sent } = yield* watched({ client: { batch: false } })
      yield* Effect.forEach(range(20), (i) => client.put({ key: `k${i}`, value: "" }), { concurrency: "unbounded" })
      assert.deepStrictEqual(new Set(sent.map(({ call }) => call)), new Set(["put"]))
      assert.strictEqual(sent.length, 20)
    }))
})

describe("limits", () => {
  it.scoped("no call has more operations than etcd takes, nested ones counted", () =>
    Effect.gen(function*() {
      const { client, sent } = yield* watched()
      yield* Effect.all([
        ...range(300).map((i) => Effect.asVoid(client.put({ key: `k${i}`, value: "" }))),
        ...range(300).map((i) => Effect.asVoid(client.txn(enter(`l${i}`, "x")))),
        client.txn({ success: range(100).map((i) => Txn.put({ key: `big${i}`, value: "" })) }),
        ...range(300).map((i) => client.get(`k${i}`))
      ], { concurrency: "unbounded", discard: true })
      const depth = (request: TxnRequest): number => {
        const ops = [...request.success ?? [], ...request.failure ?? []]
        return Math.max(request.compare?.length ?? 0, request.success?.length ?? 0, request.failure?.length ?? 0) +
          Math.max(0, ...ops.map((op) => op._tag === "Txn" ? depth(op.request) : 0))
      }
      const depths = sent.flatMap(({ request }) => request === undefined ? [] : [depth(request)])
      assert.isAtMost(Math.max(...depths), 128)
      assert.isAbove(Math.max(...depths), 120)
      assert.isAtMost(sent.length, 20)
    }))

  it.scoped("an etcd that takes fewer operations is found out", () =>
    Effect.gen(function*() {
      const { client, etcd, sent } = yield* watched({ engine: { maxTxnOps: 10 } })
      yield* Effect.forEach(range(200), (i) => client.put({ key: `k${i}`, value: "" }), { concurrency: "unbounded" })
      assert.strictEqual((yield* etcd.snapshot).length, 200)
      const before = sent.length
      yield* Effect.forEach(range(200), (i) => client.put({ key: `k${i}`, value: "" }), { concurrency: "unbounded" })
      const sizes = sent.slice(before).map(({ ops }) => ops.length)
      assert.isAtMost(Math.max(...sizes), 10)
      assert.isAtMost(sizes.length, 200 / 5)
    }))

  it.scoped("large values leave by themselves and do not hold up small ones", () =>
    Effect.gen(function*() {
      const { client, sent } = yield* watched()
      const large = "x".repeat(200_000)
      yield* Effect.all([
        client.put({ key: "first", value: "" }),
        ...range(4).map((i) => client.put({ key: `large${i}`, value: large })),
        ...range(10).map((i) => client.put({ key: `small${i}`, value: "" }))
      ], { concurrency: "unbounded", discard: true })
      for (const { request } of sent) {
        if (request === undefined) continue
        const bytes = (request.success ?? []).reduce(
          (sum, op) => sum + (op._tag === "Put" ? op.request.value.length : 0),
          0
        )
        assert.isAtMost(bytes, 256 * 1024)
      }
    }))

  it.scoped("with a limit on answers, writes that bring values back do not share one", () =>
    Effect.gen(function*() {
      const { client, sent } = yield* watched({ client: { maxReceiveBytes: 1_000 } })
      yield* Effect.forEach(range(10), (i) => client.put({ key: `k${i}`, value: "", prevKv: true }), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(new Set(sent.map(({ call }) => call)), new Set(["put"]))
    }))
})

describe("independence", () => {
  it.scoped("two that enter one queue never get the same revision", () =>
    Effect.gen(function*() {
      const { client, sent } = yield* watched()
      const requests = range(50).flatMap((i) => range(4).map((j) => enter(`lock${i}`, `id${j}`)))
      const answers = yield* Effect.forEach(requests, (request) => client.txn(request), { concurrency: "unbounded" })
      assert.isTrue(answers.every(({ succeeded }) => succeeded))
      const revisions = range(50).map((i) => answers.slice(4 * i, 4 * i + 4).map(({ header }) => header.revision))
      for (const ofOneLock of revisions) assert.strictEqual(new Set(ofOneLock).size, 4)
      assert.isAtMost(sent.length, 20)
    }))

  it.scoped("writes of one key are carried out in the order in which they were made", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* watched()
      const versions = yield* Effect.forEach(
        range(100),
        (i) => client.put({ key: "counter", value: `${i}`, prevKv: true }),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        versions.slice(1).map(({ prevKv }) => prevKv === undefined ? undefined : text(prevKv.value)),
        range(99).map(String)
      )
      assert.deepStrictEqual((yield* etcd.snapshot).map(({ value }) => text(value)), ["99"])
    }))

  it.scoped("a write overtakes no earlier write of its key, not even to a call that is under way", () =>
    Effect.gen(function*() {
      const all = yield* watched()
      const { client, release, sent } = all
      yield* occupied(all, "k")
      yield* start<unknown, EtcdError>([
        client.delete(Key.prefix("k")),
        client.put({ key: "other", value: "" }),
        client.txn({ success: [Txn.put({ key: "k", value: "2" })] })
      ])
      yield* settle
      assert.deepStrictEqual(sent.map(({ ops }) => ops), [["put k"], ["put other"]])
      yield* release
      yield* eventually("all are sent", Effect.sync(() => sent.length === 4))
      assert.deepStrictEqual(sent.slice(2).map(({ ops }) => ops), [["delete k"], ["put k"]])
    }))

  it.scoped("what cannot share a call does not wait for one", () =>
    Effect.gen(function*() {
      const all = yield* watched()
      const { client, sent } = all
      yield* occupied(all)
      yield* start(range(10).map((i) => client.txn(enter("one", `${i}`))))
      yield* eventually("all are under way", Effect.sync(() => sent.length === 11))
      assert.isTrue(sent.every(({ answered }) => !answered()))
    }))

  const leave = (name: string, id: string): TxnRequest => ({
    compare: [Txn.exists(`/locks/${name}/${id}`)],
    success: [Txn.del({ key: `/locks/${name}/${id}` })]
  })

  it.scoped("whoever leaves a queue and whoever enters it share a call: the one who enters sees the other gone", () =>
    Effect.gen(function*() {
      const all = yield* watched()
      const { client, release, sent } = all
      yield* client.txn(enter("one", "first"))
      const before = sent.length
      // One call is under way, and as many are needed to gather; whatever comes first, those who leave are put in front.
      yield* occupied(all, "busy")
      yield* occupied(all, "busier")
      const entering = yield* Effect.fork(client.txn(enter("one", "second")))
      const leaving = yield* Effect.fork(client.txn(leave("one", "first")))
      yield* settle
      assert.strictEqual(sent.length, before + 2)
      yield* release
      const entered = yield* Fiber.join(entering)
      assert.isTrue((yield* Fiber.join(leaving)).succeeded)
      assert.deepStrictEqual(sent.slice(before + 2).map(({ ops }) => ops), [[
        "txn /locks/one/first",
        "txn /locks/one/second"
      ]])
      const [, read] = entered.responses
      assert.strictEqual(read._tag === "Range" ? read.response.count : undefined, 1n)
    }))

  it.scoped("what is deleted and stands in a condition, or was read by the same request, keeps requests apart", () =>
    Effect.gen(function*() {
      const apart = (one: TxnRequest, other: TxnRequest) =>
        Effect.scoped(Effect.gen(function*() {
          const all = yield* watched()
          const { client, release, sent } = all
          yield* Effect.forEach(["a", "b", "c"], (key) => client.put({ key, value: "" }))
          yield* occupied(all, "busy")
          yield* occupied(all, "busier")
          const before = sent.length
          const fibers = yield* start([client.txn(one), client.txn(other)])
          yield* settle
          yield* release
          yield* Fiber.joinAll(fibers)
          assert.strictEqual(sent.length, before + 2)
        }))
      const removal: TxnRequest = { success: [Txn.del({ key: "a" })] }
      const conditional: TxnRequest = { compare: [Txn.exists("a")], success: [Txn.put({ key: "b", value: "" })] }
      yield* apart(removal, conditional)
      yield* apart(conditional, removal)
      const reading: TxnRequest = { success: [Txn.range({ key: "a" }), Txn.put({ key: "b", value: "" })] }
      const removing: TxnRequest = { success: [Txn.range({ key: "c" }), Txn.del({ key: "a" })] }
      yield* apart(reading, removing)
      yield* apart(removing, reading)
    }))

  const keyOf = FastCheck.constantFrom("/a", "/a/1", "/a/2", "/b", "/b/1", "/c\u00e9", "/d")
  const opOf: FastCheck.Arbitrary<Op> = FastCheck.oneof(
    keyOf.map((key) => Txn.put({ key, value: "" })),
    keyOf.map((key) => Txn.del({ key })),
    keyOf.map((key) => Txn.range({ key })),
    keyOf.map((key) => Txn.range({ ...Key.prefix(key), limit: 2 })),
    FastCheck.constant(Txn.range({ key: "/b", rangeEnd: Uint8Array.of(0), limit: 1 }))
  )
  const requestOf = FastCheck.record({
    compare: FastCheck.array(keyOf.map((key) => Txn.exists(key)), { maxLength: 2 }),
    success: FastCheck.uniqueArray(opOf, { maxLength: 3, selector: (op) => op._tag === "Txn" ? "" : op.request.key }),
    failure: FastCheck.uniqueArray(opOf, { maxLength: 2, selector: (op) => op._tag === "Txn" ? "" : op.request.key })
  })

  it.scoped.prop(
    "no transaction holds two members of which one writes what the other reads or writes, except removals before reads",
    [FastCheck.array(FastCheck.oneof(opOf, requestOf.map(Txn.txn)), { minLength: 2, maxLength: 40 })],
    ([operations]) =>
      Effect.gen(function*() {
        const { client, sent } = yield* watched()
        yield* Effect.forEach(operations, (op): Effect.Effect<unknown, EtcdError> => {
          switch (op._tag) {
            case "Range":
              return client.range(op.request)
            case "Put":
              return client.put(op.request)
            case "Delete":
              return client.delete(op.request)
            case "Txn":
              return client.txn(op.request)
          }
        }, { concurrency: "unbounded", discard: true })
        for (const { request } of sent) {
          // Only batches have no conditions and more than one part.
          if (request === undefined || (request.compare ?? []).length > 0) continue
          const parts = request.success ?? []
          const isBatch = parts.some(({ _tag }) => _tag === "Txn")
          for (const [i, one] of parts.entries()) {
            for (const other of isBatch ? parts.slice(i + 1) : []) assert.isFalse(collide(one, other))
          }
        }
      }),
    { fastCheck: { numRuns: 200 } }
  )
})

interface Span {
  readonly from: Buffer
  readonly to: Buffer | undefined
}

const bytesOf = (value: string | Uint8Array): Buffer => Buffer.from(value)

const spanOf = ({ key, rangeEnd }: { readonly key: string | Uint8Array; readonly rangeEnd?: unknown }): Span => {
  const from = bytesOf(key)
  if (rangeEnd === undefined) return { from, to: Buffer.concat([from, Buffer.of(0)]) }
  const to = bytesOf(rangeEnd as Uint8Array)
  return { from, to: to.equals(Buffer.of(0)) ? undefined : to }
}

interface Spans {
  readonly conditions: ReadonlyArray<Span>
  readonly reads: ReadonlyArray<Span>
  readonly puts: ReadonlyArray<Span>
  readonly deletes: ReadonlyArray<Span>
}

const spansOf = (op: Op): Spans => {
  const none: Spans = { conditions: [], reads: [], puts: [], deletes: [] }
  switch (op._tag) {
    case "Range":
      return { ...none, reads: [spanOf(op.request)] }
    case "Put":
      return { ...none, puts: [spanOf(op.request)] }
    case "Delete":
      return { ...none, deletes: [spanOf(op.request)] }
    case "Txn": {
      const below = [...op.request.success ?? [], ...op.request.failure ?? []].map(spansOf)
      return {
        conditions: [...(op.request.compare ?? []).map(spanOf), ...below.flatMap(({ conditions }) => conditions)],
        reads: below.flatMap(({ reads }) => reads),
        puts: below.flatMap(({ puts }) => puts),
        deletes: below.flatMap(({ deletes }) => deletes)
      }
    }
  }
}

const meet = (one: Span, other: Span): boolean =>
  (other.to === undefined || Buffer.compare(one.from, other.to) < 0) &&
  (one.to === undefined || Buffer.compare(other.from, one.to) < 0)

const anyMeet = (some: ReadonlyArray<Span>, others: ReadonlyArray<Span>): boolean =>
  some.some((one) => others.some((other) => meet(one, other)))

/** Whether the two must not share a transaction, `one` before `other`. */
const collide = (one: Op, other: Op): boolean => {
  const [a, b] = [spansOf(one), spansOf(other)]
  const [aWrites, bWrites] = [[...a.puts, ...a.deletes], [...b.puts, ...b.deletes]]
  // What only removes may stand before what reads, but for conditions.
  const aHides = a.reads.length === 0 ? a.puts : aWrites
  return anyMeet(aWrites, [...bWrites, ...b.conditions]) || anyMeet(aHides, b.reads) ||
    anyMeet(bWrites, [...a.reads, ...a.conditions])
}

describe("answers", () => {
  it.scoped("each has its own", () =>
    Effect.gen(function*() {
      const all = yield* watched()
      const { client, release } = all
      yield* client.put({ key: "a", value: "1" })
      yield* client.put({ key: "b", value: "2" })
      yield* occupied(all)
      const putFiber = yield* Effect.fork(client.put({ key: "a", value: "3", prevKv: true }))
      const delFiber = yield* Effect.fork(client.delete({ key: "b", prevKv: true }))
      const failing = yield* Effect.fork(
        client.txn({ compare: [Txn.exists("c")], success: [], failure: [Txn.put({ key: "d", value: "" })] })
      )
      const succeeding = yield* Effect.fork(
        client.txn({ compare: [Txn.absent("e")], success: [Txn.put({ key: "f", value: "" })] })
      )
      yield* settle
      yield* release
      const put = yield* Fiber.join(putFiber)
      const del = yield* Fiber.join(delFiber)
      const failed = yield* Fiber.join(failing)
      const succeeded = yield* Fiber.join(succeeding)
      assert.strictEqual(put.prevKv?.modRevision, 2n)
      assert.deepStrictEqual([del.deleted, del.prevKvs[0].modRevision], [1n, 3n])
      assert.deepStrictEqual([failed.succeeded, failed.responses[0]._tag], [false, "Put"])
      assert.deepStrictEqual([succeeded.succeeded, succeeded.responses[0]._tag], [true, "Put"])
      for (const { header } of [put, del, failed, succeeded]) assert.strictEqual(header.revision, 5n)
    }))

  it.scoped("a refusal that is due to one does not touch the others", () =>
    Effect.gen(function*() {
      const all = yield* watched()
      const { client, etcd, release, sent } = all
      const first = yield* occupied(all)
      const good = yield* start(range(5).map((i) => client.put({ key: `good${i}`, value: "" })))
      const bad = yield* start([client.put({ key: "bad", value: "", lease: 77n })])
      const nested = yield* start([
        client.txn({ compare: [Txn.absent("n")], success: [Txn.put({ key: "n", value: "", lease: 78n })] })
      ])
      yield* settle
      yield* release
      yield* Fiber.joinAll([...first, ...good])
      const errors = [yield* Effect.flip(Fiber.join(bad[0])), yield* Effect.flip(Fiber.join(nested[0]))]
      assert.deepStrictEqual(
        errors.map(({ key, mayBeApplied, operation, reason }) => [operation, key, reason, mayBeApplied]),
        [["put", "bad", "LeaseNotFound", false], ["txn", "n", "LeaseNotFound", false]]
      )
      assert.strictEqual((yield* etcd.snapshot).length, 6)
      assert.deepStrictEqual(sent.map(({ ops }) => ops.length), [1, 7, 1, 1, 1, 1, 1, 1, 1])
    }))

  it.scoped("a read at a revision that is gone fails alone", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* watched()
      for (const i of range(5)) yield* client.put({ key: "a", value: `${i}` })
      yield* etcd.compact(4n)
      const answers = yield* Effect.forEach(
        [undefined, undefined, 2n, 6n, 100n],
        (revision) => Effect.either(client.range({ key: "a", revision })),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        answers.map((answer) => answer._tag === "Left" ? answer.left.reason : text(answer.right.kvs[0].value)),
        ["4", "4", "Compacted", "4", "FutureRevision"]
      )
    }))

  it.scoped("when the outcome is unknown, each write says so itself, and nothing is repeated", () =>
    Effect.gen(function*() {
      const { client, etcd, sent } = yield* watched()
      yield* etcd.loseResponse({ times: 2 })
      const fibers = yield* start(range(4).map((i) => Effect.flip(client.put({ key: `k${i}`, value: "" }))))
      const errors = yield* whileTimePasses(Fiber.join(Fiber.all(fibers)))
      assert.deepStrictEqual(
        errors.map(({ key, mayBeApplied, operation, reason }) => [operation, key, reason, mayBeApplied]),
        range(4).map((i) => ["put", `k${i}`, "Unavailable", true])
      )
      assert.strictEqual(sent.length, 2)
      assert.strictEqual((yield* etcd.snapshot).length, 4)
    }))

  it.scoped("reads are repeated after a broken connection", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* watched()
      yield* client.put({ key: "a", value: "1" })
      yield* etcd.loseResponse({ times: 2 })
      const answers = yield* whileTimePasses(
        Effect.forEach(range(10), () => client.get("a"), { concurrency: "unbounded" })
      )
      assert.isTrue(answers.every(Option.isSome))
    }))
})

describe("interruption and time", () => {
  it.scoped("what still waits for its turn is not sent", () =>
    Effect.gen(function*() {
      const all = yield* watched()
      const { client, release, sent } = all
      // Three calls: one that is alone, one that was gathered, and what waits for them.
      yield* occupied(all)
      yield* start([client.put({ key: "second", value: "" })])
      yield* eventually("the second is sent", Effect.sync(() => sent.length === 2))
      const [a, b] = yield* start(["a", "b"].map((key) => client.put({ key, value: "" })))
      yield* settle
      assert.strictEqual(sent.length, 2)
      yield* Fiber.interrupt(a)
      yield* release
      yield* Fiber.join(b)
      assert.deepStrictEqual(sent.map(({ ops }) => ops), [["put busy"], ["put second"], ["put b"]])
    }))

  it.scoped("one that is interrupted leaves its call; the last one cancels it", () =>
    Effect.gen(function*() {
      const all = yield* watched()
      const { client, etcd, hold, release, sent } = all
      yield* occupied(all)
      const [a, b] = yield* start(["a", "b"].map((key) => client.put({ key, value: "" })))
      yield* eventually("both are sent", Effect.sync(() => sent.length === 2))
      yield* Fiber.interrupt(a)
      yield* release
      yield* Fiber.join(b)
      assert.strictEqual((yield* etcd.snapshot).length, 3)

      yield* hold
      const others = yield* start(["c", "d", "e"].map((key) => client.put({ key, value: "" })))
      yield* eventually("all are sent", Effect.sync(() => sent.length === 4))
      yield* Fiber.interruptAll(others)
      yield* settle
      assert.strictEqual((yield* etcd.usage).callsInFlight, 0)
      yield* release
      yield* client.put({ key: "f", value: "" })
      // An idle client again: nothing is left under way.
      assert.strictEqual(sent.at(-1)?.call, "put")
    }))

  it.scoped("one that is interrupted is not sent once more when its call is taken apart", () =>
    Effect.gen(function*() {
      const refuse = yield* Deferred.make<void>()
      const tooMany = new EtcdError({
        operation: "txn",
        reason: "TooLarge",
        code: 3,
        mayBeApplied: false,
        detail: "etcdserver: too many operations in txn request"
      })
      const all = yield* watched({
        transport: (transport) => ({
          txn: (request, call) =>
            (request.success ?? []).length > 4
              ? Effect.zipRight(Deferred.await(refuse), tooMany)
              : transport.txn(request, call)
        })
      })
      const { client, etcd, sent } = all
      yield* occupied(all)
      const fibers = yield* start(range(8).map((i) => client.put({ key: `k${i}`, value: "" })))
      yield* eventually("all are sent", Effect.sync(() => sent.length === 2))
      yield* Fiber.interruptAll([fibers[1], fibers[6]])
      yield* Deferred.succeed(refuse, undefined)
      yield* all.release
      yield* Fiber.joinAll(fibers.filter((_, i) => i !== 1 && i !== 6))
      assert.deepStrictEqual(
        (yield* etcd.snapshot).map(({ key }) => text(key)),
        ["busy", "k0", "k2", "k3", "k4", "k5", "k7"]
      )
    }))

  it.scoped("a deadline that passes while others are stuck is kept, and nothing was sent", () =>
    Effect.gen(function*() {
      const { client, etcd, sent } = yield* watched()
      yield* etcd.stall()
      yield* start([client.put({ key: "a", value: "" }), client.put({ key: "b", value: "" })])
      yield* eventually("two calls", Effect.sync(() => sent.length === 2))
      const hurried = yield* Effect.fork(Effect.flip(client.put({ key: "c", value: "" }, { timeout: "1 second" })))
      yield* settle
      yield* TestClock.adjust("999 millis")
      assert.isTrue(Option.isNone(yield* Fiber.poll(hurried)))
      yield* TestClock.adjust("1 millis")
      const error = yield* Fiber.join(hurried)
      assert.deepStrictEqual(
        [error.operation, error.key, error.reason, error.mayBeApplied],
        ["put", "c", "DeadlineExceeded", false]
      )
      assert.strictEqual(sent.length, 2)
      yield* etcd.resume
    }))

  it.scoped("one in a hurry does not shorten the time of others", () =>
    Effect.gen(function*() {
      const all = yield* watched()
      const { client, etcd, release, sent } = all
      yield* occupied(all)
      yield* etcd.stall()
      const [hurried, patient] = yield* start([
        client.put({ key: "a", value: "" }, { timeout: "1 second" }),
        client.put({ key: "b", value: "" })
      ])
      yield* eventually("they are under way", Effect.sync(() => sent.length === 2))
      yield* TestClock.adjust("2 seconds")
      const error = yield* Effect.flip(Fiber.join(hurried))
      assert.deepStrictEqual([error.key, error.reason, error.mayBeApplied], ["a", "DeadlineExceeded", true])
      assert.isTrue(Option.isNone(yield* Fiber.poll(patient)))
      yield* etcd.resume
      yield* release
      yield* Fiber.join(patient)
    }))

  it.scoped("a client that closes leaves nobody waiting", () =>
    Effect.gen(function*() {
      const { client, close, etcd, sent } = yield* watched()
      yield* etcd.stall()
      const fibers = yield* start(range(3).map((i) => Effect.flip(client.put({ key: `k${i}`, value: "" }))))
      yield* eventually("two calls", Effect.sync(() => sent.length === 2))
      const waiting = yield* start([Effect.flip(client.put({ key: "waiting", value: "" }))])
      yield* settle
      yield* close
      yield* pass("30 seconds")
      const errors = yield* Effect.forEach([...fibers.slice(1), ...waiting], (fiber) => Fiber.join(fiber))
      assert.deepStrictEqual(
        errors.map(({ key, mayBeApplied, reason }) => [key, reason, mayBeApplied]),
        [["k1", "Unavailable", true], ["k2", "Unavailable", true], ["waiting", "Unavailable", false]]
      )
    }))

  it.scoped("a defect of an answer reaches those who wait for it", () =>
    Effect.gen(function*() {
      const { client } = yield* watched({
        transport: (transport) => ({
          txn: (request, call) => Effect.map(transport.txn(request, call), (answer) => ({ ...answer, responses: [] }))
        })
      })
      const exits = yield* Effect.forEach(range(3), (i) => Effect.exit(client.get(`k${i}`)), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(
        exits.map((exit) => Exit.isSuccess(exit) ? "success" : Cause.isDie(exit.cause) ? "defect" : "failure"),
        ["success", "defect", "defect"]
      )
    }))
})

describe("with credentials", () => {
  const versions = (versions: ReadonlyArray<string>) => ({
    transport: (transport: { readonly status: Watched["client"]["status"] } | object) => ({
      identified: true,
      endpoints: versions.map((_, i) => `member${i}`),
      status: (endpoint: string) =>
        "status" in transport
          ? Effect.succeed({
            header: { clusterId: 1n, memberId: 1n, revision: 1n, raftTerm: 1n },
            version: versions[Number(endpoint.slice("member".length))],
            dbSize: 0n,
            leader: 1n,
            raftIndex: 1n,
            raftTerm: 1n
          })
          : Effect.never
    })
  })

  const load = ({ client }: Watched) =>
    Effect.all([
      ...range(10).map((i) => client.put({ key: `k${i}`, value: "" })),
      ...range(10).map((i) => client.txn(enter(`l${i}`, "x")))
    ], { concurrency: "unbounded", discard: true })

  for (
    const [all, nests] of [
      [["3.4.23"], false],
      [["3.4.41"], false],
      [["3.4.42"], true],
      [["3.5.27"], false],
      [["3.5.28"], true],
      [["3.6.8"], false],
      [["3.6.9"], true],
      [["3.7.0"], true],
      [["4.0.0"], true],
      [["3.3.27"], false],
      [["3.5.28", "3.5.27"], false],
      [["3.5.28", "3.6.9", "3.4.42"], true],
      [["unknown"], false]
    ] as const
  ) {
    it.scoped(`${all.join(", ")}: transactions are ${nests ? "" : "not "}nested`, () =>
      Effect.gen(function*() {
        const fixture = yield* watched(versions(all))
        const { sent } = fixture
        yield* load(fixture)
        yield* settle
        const before = sent.length
        // Until the versions are known nothing is nested.
        assert.isFalse(sent.some(({ ops }) => ops.some((op) => op.startsWith("txn"))))
        // Writes without conditions share calls on every version.
        assert.isTrue(sent.some(({ ops }) => ops.length > 5))
        yield* load(fixture)
        assert.strictEqual(sent.slice(before).some(({ ops }) => ops.some((op) => op.startsWith("txn"))), nests)
      }))
  }
})
