import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Coord from "../../src/Coord.js"
import * as Election from "../../src/Election.js"
import { EtcdClient, layerMemory } from "../../src/EtcdClient.js"
import * as Session from "../../src/Session.js"
import { TestEtcd } from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { eventually, keys, pass, settle, text, whileTimePasses } from "../support/memory.js"
import { electionKeys, elections, lead, leaderValue, node, standing } from "./support.js"

describe("campaign", () => {
  it.effect("leads at once where nobody does, in Go's layout, and gives it up with the scope", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const lease = yield* (yield* (yield* Session.Sessions).get("10 seconds")).lease
      yield* etcd.resetUsage
      const { leadership, leave } = yield* lead("jobs/a", { ttl: "10 seconds", value: "10.0.0.1:80" })
      const { calls } = yield* etcd.usage
      assert.deepStrictEqual([calls.txn, calls.range, calls.watch], [1, 0, 0])
      assert.strictEqual(leadership.etcdKey, `/elections/jobs/a/${lease.toString(16)}`)
      const [kv] = yield* etcd.snapshot
      assert.deepStrictEqual([text(kv.value), kv.lease], ["10.0.0.1:80", lease])
      assert.strictEqual(leadership.term, kv.createRevision)
      yield* leave
      assert.deepStrictEqual(yield* electionKeys, [])
    }).pipe(elections))

  it.effect("serves candidates in the order of their arrival, each with a larger term", () =>
    Effect.gen(function*() {
      const first = yield* lead("a")
      const order: Array<number> = []
      const terms = [first.leadership.term]
      for (let i = 0; i < 10; i++) {
        yield* Effect.fork(Effect.scoped(Effect.map(Election.campaign("a"), ({ term }) => {
          order.push(i)
          terms.push(term)
        })))
        yield* standing("a", i + 2)
      }
      yield* first.leave
      yield* whileTimePasses(eventually("all led", Effect.sync(() => order.length === 10)))
      assert.deepStrictEqual(order, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
      assert.isTrue(terms.every((term, i) => i === 0 || term > terms[i - 1]))
    }).pipe(elections))

  it.effect("lets one lead of those who stand in the same instant", () =>
    Effect.gen(function*() {
      const other = yield* node("other")
      let leading = 0
      const terms: Array<bigint> = []
      const candidate = Effect.scoped(Effect.gen(function*() {
        const { term } = yield* Election.campaign("a")
        leading++
        assert.strictEqual(leading, 1)
        terms.push(term)
        yield* Effect.yieldNow()
        leading--
      }))
      const candidates = Array.from(
        { length: 40 },
        (_, i) => i % 2 === 0 ? candidate : Effect.provide(candidate, other)
      )
      yield* whileTimePasses(Effect.all(candidates, { concurrency: "unbounded", discard: true }))
      assert.strictEqual(new Set(terms).size, 40)
      assert.deepStrictEqual(terms, terms.toSorted((a, b) => a < b ? -1 : 1))
    }).pipe(elections))

  it.effect("gives up at its timeout, and leaves the election", () =>
    Effect.gen(function*() {
      yield* lead("a")
      const error = yield* whileTimePasses(Effect.flip(Effect.scoped(Election.campaign("a", { timeout: "2 seconds" }))))
      assert.isTrue(error._tag === "LockTimeout" && error.kind === "leadership" && error.key === "a")
      assert.lengthOf(yield* electionKeys, 1)
    }).pipe(elections))

  it.effect("that is interrupted leaves no key, also if etcd does not answer then", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { leadership } = yield* lead("a", { ttl: "1 hour" })
      for (const stalled of [false, true]) {
        const waiter = yield* Effect.fork(Effect.scoped(Election.campaign("a", { ttl: "1 hour" })))
        yield* standing("a", 2)
        if (stalled) yield* etcd.stall()
        yield* whileTimePasses(Fiber.interrupt(waiter), "3 seconds")
        if (stalled) yield* etcd.resume
        yield* pass("3 seconds")
        assert.deepStrictEqual(yield* electionKeys, [leadership.etcdKey])
      }
    }).pipe(elections))

  it.effect("stands again when its lease dies while it waits", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const other = yield* node("other")
      const holder = yield* Effect.provide(lead("a", { ttl: "1 hour" }), other)
      const waiter = yield* Effect.fork(Election.campaign("a", { ttl: "10 seconds", value: "me" }))
      yield* standing("a", 2)
      const before = (yield* etcd.snapshot).find(({ value }) => text(value) === "me")
      yield* etcd.expireLease(before?.lease ?? 0n)
      yield* pass("5 seconds")
      yield* standing("a", 2)
      yield* holder.leave
      const leadership = yield* whileTimePasses(Fiber.join(waiter))
      assert.isTrue(leadership.term > (before?.createRevision ?? 0n))
      assert.isFalse(yield* leadership.isExpired)
      assert.strictEqual(yield* leaderValue("a"), "me")
    }).pipe(elections))

  it.effect("stands again when its key is deleted while it waits", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const holder = yield* lead("a", { value: "first" })
      const waiter = yield* Effect.fork(Election.campaign("a", { value: "second" }))
      yield* standing("a", 2)
      const mine = (yield* etcd.snapshot).find(({ value }) => text(value) === "second")
      yield* etcd.deleteKey(mine?.key ?? "")
      yield* holder.leave
      const leadership = yield* whileTimePasses(Fiber.join(waiter))
      assert.deepStrictEqual(yield* electionKeys, [leadership.etcdKey])
    }).pipe(elections))

  it.effect("survives lost answers without a ghost", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* Effect.scoped(Election.campaign("warm"))
      yield* etcd.loseResponse({ match: ({ operation }) => operation === "txn", times: 2 })
      const { leadership } = yield* whileTimePasses(lead("a"))
      assert.deepStrictEqual(yield* electionKeys, [leadership.etcdKey])
    }).pipe(elections))

  it.effect("keeps a and a/b apart", () =>
    Effect.gen(function*() {
      yield* lead("a/b", { value: "nested" })
      assert.isTrue(Option.isNone(yield* Election.leader("a")))
      yield* lead("a", { value: "outer" })
      assert.deepStrictEqual([yield* leaderValue("a"), yield* leaderValue("a/b")], ["outer", "nested"])
    }).pipe(elections))

  for (const name of ["", "..", "/a", "a/", "a//b", "a\nb", "\ud800"]) {
    it.effect(`refuses the name ${JSON.stringify(name)}`, () =>
      Effect.gen(function*() {
        const errors = yield* Effect.all([
          Effect.flip(Effect.scoped(Election.campaign(name))),
          Effect.flip(Election.withLeadership(name)(Effect.void)),
          Effect.flip(Election.leader(name))
        ])
        for (const error of errors) {
          assert.isTrue(error._tag === "InvalidArgument" && error.argument === "name" && error.value === name)
        }
        assert.deepStrictEqual(yield* keys, [])
      }).pipe(elections))
  }

  it.effect("refuses options that cannot work", () =>
    Effect.gen(function*() {
      for (
        const [argument, options] of [
          ["ttl", { ttl: 0 }],
          ["timeout", { timeout: -1 }],
          ["value", { value: "\ud800" }],
          ["value", { value: null as unknown as string }]
        ] as const
      ) {
        const error = yield* Effect.flip(Effect.scoped(Election.campaign("a", options)))
        assert.isTrue(error._tag === "InvalidArgument" && error.argument === argument)
      }
      assert.lengthOf(yield* (yield* TestEtcd).leases, 0)
      assert.strictEqual(
        (yield* Effect.flip(Effect.provide(Election.leader("a"), Election.layer({ prefix: "elections" }))))._tag,
        "InvalidArgument"
      )
    }).pipe(elections))
})

describe("leadership", () => {
  it.effect("tells and renews the time to live", () =>
    Effect.gen(function*() {
      const { leadership } = yield* lead("a", { ttl: "30 seconds" })
      yield* pass("5 seconds")
      assert.strictEqual((yield* leadership.ttl).toString(), "Duration(25s)")
      assert.strictEqual((yield* leadership.renew).toString(), "Duration(30s)")
      assert.isFalse(yield* leadership.isExpired)
    }).pipe(elections))

  it.effect("is resigned once, and hands over", () =>
    Effect.gen(function*() {
      const { leadership } = yield* lead("a", { value: "first" })
      const next = yield* Effect.fork(Election.campaign("a", { value: "second" }))
      yield* standing("a", 2)
      yield* leadership.resign
      const second = yield* whileTimePasses(Fiber.join(next))
      assert.isTrue(second.term > leadership.term)
      assert.strictEqual(yield* leaderValue("a"), "second")
      assert.isTrue(yield* leadership.isExpired)
      const error = yield* Effect.flip(leadership.resign)
      assert.isTrue(error._tag === "LockNotHeld" && error.kind === "leadership")
      const late = yield* Effect.flip(leadership.proclaim("late"))
      assert.isTrue(late._tag === "LockExpired" && late.reason === "released")
      assert.strictEqual(yield* leaderValue("a"), "second")
    }).pipe(elections))

  it.effect("is known to be lost before another process can lead", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const mine = yield* node("mine")
      const order = yield* Ref.make<ReadonlyArray<string>>([])
      const note = (what: string) => Ref.update(order, (all) => [...all, what])
      const { leadership } = yield* Effect.provide(lead("a", { ttl: "10 seconds" }), mine)
      yield* Effect.fork(Effect.zipRight(Effect.flip(leadership.lost), note("lost")))
      const next = yield* Effect.fork(Effect.zipRight(Election.campaign("a", { ttl: "1 hour" }), note("next")))
      yield* standing("a", 2)
      yield* etcd.connection("mine").stall()
      yield* whileTimePasses(Fiber.join(next))
      assert.deepStrictEqual(yield* Ref.get(order), ["lost", "next"])
      yield* etcd.connection("mine").resume
    }).pipe(elections))

  it.effect("hears that its key was deleted by hand", () =>
    Effect.gen(function*() {
      const { leadership } = yield* lead("a")
      yield* pass("1 second")
      yield* (yield* TestEtcd).deleteKey(leadership.etcdKey)
      const error = yield* whileTimePasses(Effect.flip(leadership.lost))
      assert.deepStrictEqual([error.kind, error.key, error.fencingToken, error.reason], [
        "leadership",
        "a",
        leadership.term,
        "deleted"
      ])
    }).pipe(elections))

  it.effect("guards transactions: the write of a late leader is refused", () =>
    Effect.gen(function*() {
      const client = yield* EtcdClient
      const { leadership } = yield* lead("a")
      const write = client.txn({ compare: [leadership.guard], success: [Txn.put({ key: "data", value: "mine" })] })
      assert.isTrue((yield* write).succeeded)
      yield* (yield* TestEtcd).deleteKey(leadership.etcdKey)
      assert.isFalse((yield* write).succeeded)
    }).pipe(elections))
})

describe("proclaim", () => {
  it.effect("tells another value in the same term, in the order of the calls", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { leadership } = yield* lead("a", { value: "one" })
      yield* leadership.proclaim("two")
      yield* Effect.all(["three", "four", "five"].map(leadership.proclaim), { concurrency: "unbounded" })
      const leader = Option.getOrThrow(yield* Election.leader("a"))
      assert.deepStrictEqual([leader.value, leader.term, leader.etcdKey], ["five", leadership.term, leadership.etcdKey])
      const [kv] = yield* etcd.snapshot
      assert.deepStrictEqual([kv.version, kv.modRevision, kv.createRevision], [
        5n,
        leader.modRevision,
        leadership.term
      ])
      assert.notStrictEqual(kv.lease, 0n)
      yield* leadership.proclaim("")
      assert.strictEqual(yield* leaderValue("a"), "")
    }).pipe(elections))

  it.effect("is applied once when answers are lost", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { leadership } = yield* lead("a", { value: "one" })
      yield* etcd.loseResponse({ match: ({ operation }) => operation === "txn", times: 2 })
      yield* whileTimePasses(leadership.proclaim("two"))
      const [kv] = yield* etcd.snapshot
      assert.deepStrictEqual([text(kv.value), kv.version], ["two", 2n])
      yield* leadership.proclaim("three")
      assert.strictEqual(yield* leaderValue("a"), "three")
    }).pipe(elections))

  it.effect("keeps the order of the calls when one of them has to be repeated", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { leadership } = yield* lead("a")
      yield* etcd.loseRequest({ match: ({ operation }) => operation === "txn" })
      const all = Effect.all(["one", "two", "three"].map(leadership.proclaim), { concurrency: "unbounded" })
      yield* whileTimePasses(all)
      assert.strictEqual(yield* leaderValue("a"), "three")
    }).pipe(elections))

  it.effect("of an earlier value that arrives late does not undo a later one", () =>
    Effect.gen(function*() {
      const client = yield* EtcdClient
      const sent: Array<Txn.TxnRequest> = []
      const recording: EtcdClient["Type"] = {
        ...client,
        txn: (request, options) => {
          sent.push(request)
          return client.txn(request, options)
        }
      }
      const election = yield* Effect.provideService(Election.make(), EtcdClient, recording)
      const leadership = yield* election.campaign("a", { value: "one" })
      sent.length = 0
      yield* leadership.proclaim("two")
      yield* leadership.proclaim("three")
      assert.isFalse((yield* client.txn(sent[0])).succeeded)
      assert.strictEqual(yield* leaderValue("a"), "three")
    }).pipe(elections))

  it.effect("comes after a value whose proclaiming was given up", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { leadership } = yield* lead("a", { value: "one", ttl: "1 hour" })
      yield* etcd.stall({ applied: true, streams: false })
      const givenUp = yield* Effect.fork(leadership.proclaim("two"))
      yield* settle
      yield* Fiber.interrupt(givenUp)
      yield* etcd.resume
      assert.strictEqual(yield* leaderValue("a"), "two")
      yield* leadership.proclaim("three")
      assert.strictEqual(yield* leaderValue("a"), "three")
    }).pipe(elections))

  it.effect("is refused by etcd when the leadership is lost and this side does not know", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { leadership } = yield* lead("a", { value: "one" })
      yield* etcd.deleteKey(leadership.etcdKey)
      yield* etcd.putKey(leadership.etcdKey, "somebody else's")
      const error = yield* Effect.flip(leadership.proclaim("two"))
      assert.isTrue(error._tag === "LockExpired" && error.kind === "leadership" && error.reason === "deleted")
      assert.strictEqual(yield* leaderValue("a"), "somebody else's")
      yield* etcd.deleteKey(leadership.etcdKey)
      assert.strictEqual((yield* Effect.flip(leadership.proclaim("two")))._tag, "LockExpired")
      assert.deepStrictEqual(yield* electionKeys, [])
    }).pipe(elections))

  it.effect("ends with the loss when etcd does not answer", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { leadership } = yield* lead("a", { ttl: "4 seconds" })
      yield* etcd.stall()
      const error = yield* whileTimePasses(Effect.flip(leadership.proclaim("two")), "5 seconds")
      assert.isTrue(error._tag === "LockExpired" && error.reason === "expired")
      const uninterruptible = Effect.uninterruptible(Effect.flip(leadership.proclaim("three")))
      assert.strictEqual((yield* whileTimePasses(uninterruptible, "1 second"))._tag, "LockExpired")
      yield* etcd.resume
    }).pipe(elections))

  it.effect("works where it cannot be interrupted", () =>
    Effect.gen(function*() {
      const { leadership } = yield* lead("a")
      yield* Effect.uninterruptible(leadership.proclaim("closing"))
      assert.strictEqual(yield* leaderValue("a"), "closing")
    }).pipe(elections))

  it.effect("is not ended by an interruption where it cannot be interrupted, and elsewhere is", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { leadership } = yield* lead("a")
      yield* etcd.stall({ streams: false })
      const told = yield* Deferred.make<void, unknown>()
      const closing = yield* Effect.fork(
        Effect.uninterruptible(Effect.intoDeferred(leadership.proclaim("closing"), told))
      )
      yield* settle
      yield* Fiber.interruptFork(closing)
      yield* settle
      assert.isTrue(Option.isNone(yield* Fiber.poll(closing)), "it is waited for")
      yield* etcd.resume
      yield* Deferred.await(told)
      assert.strictEqual(yield* leaderValue("a"), "closing")
      yield* etcd.stall({ streams: false })
      const late = yield* Effect.fork(leadership.proclaim("late"))
      yield* settle
      assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(late)))
      yield* etcd.resume
    }).pipe(elections))

  it.effect("refuses what is no text", () =>
    Effect.gen(function*() {
      const { leadership } = yield* lead("a", { value: "one" })
      const error = yield* Effect.flip(leadership.proclaim("\udc00"))
      assert.isTrue(error._tag === "InvalidArgument" && error.argument === "value")
      assert.strictEqual(yield* leaderValue("a"), "one")
    }).pipe(elections))
})

describe("Coord", () => {
  it.scoped("has elections, under the prefix that it is given", () =>
    Effect.gen(function*() {
      const leadership = yield* Election.campaign("a")
      assert.match(leadership.etcdKey, /^\/mine\/a\//)
      const error = yield* Effect.flip(Layer.build(Coord.layer({ electionPrefix: "elections" })))
      assert.strictEqual(error.argument, "electionPrefix")
    }).pipe(
      Effect.provide(Layer.provideMerge(Coord.layerServices({ electionPrefix: "/mine" }), layerMemory))
    ))
})
