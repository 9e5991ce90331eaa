import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Coord from "../../src/Coord.js"
import * as Client from "../../src/EtcdClient.js"
import * as InstanceId from "../../src/InstanceId.js"
import * as Session from "../../src/Session.js"
import { TestEtcd } from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { eventually, keys, pass, scenario as inProcess, settle, text, whileTimePasses } from "../support/memory.js"
import { another, folder, hold, idOf, stored, taken } from "./support.js"

type Services = Client.EtcdClient | Session.Sessions | InstanceId.InstanceId | TestEtcd | Scope.Scope

/** Runs a test in one process with its etcd. */
const scenario = <A, E>(body: Effect.Effect<A, E, Services>) =>
  inProcess(Effect.provide(body, Layer.orDie(InstanceId.layer())))

const numbers = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index + 1)

/** Grants the lease that all share, so that what is counted afterwards is the allocation alone. */
const granted = Effect.flatMap(Session.Sessions, ({ get }) => Effect.flatMap(get("30 seconds"), ({ lease }) => lease))

const takenByHand = (ids: ReadonlyArray<number | string>) =>
  Effect.flatMap(TestEtcd, ({ putKey }) => Effect.forEach(ids, (id) => putKey(`${folder}${id}`, String(id))))

describe("allocate", () => {
  it.effect("takes the lowest number, in Go's layout, with the session's lease, and frees it with the scope", () =>
    Effect.gen(function*() {
      const lease = yield* granted
      const first = yield* hold()
      const kv = (yield* stored).find(({ key }) => text(key) === `${folder}1`)
      assert.deepStrictEqual(
        [first.id, first.etcdKey, first.fencingToken, text(kv?.value ?? new Uint8Array()), kv?.lease],
        [1, `${folder}1`, kv?.createRevision, "1", lease]
      )
      assert.strictEqual((yield* hold()).id, 2)
      yield* first.close
      assert.deepStrictEqual(yield* taken, [2])
      const again = yield* hold()
      assert.strictEqual(again.id, 1)
      assert.isTrue(again.fencingToken > first.fencingToken)
    }).pipe(scenario))

  for (const [what, gap, expected] of [["with a gap", 500, 500], ["without a gap", 0, 1_001]] as const) {
    it.effect(`costs two calls when 1,000 are taken, ${what}`, () =>
      Effect.gen(function*() {
        const etcd = yield* TestEtcd
        yield* granted
        yield* takenByHand(numbers(1_000).filter((id) => id !== gap))
        yield* etcd.resetUsage
        const allocated = yield* hold()
        assert.strictEqual(allocated.id, expected)
        const { calls } = yield* etcd.usage
        assert.deepStrictEqual([calls.range, calls.txn, calls.leaseGrant], [1, 1, 0])
        yield* allocated.close
        assert.strictEqual((yield* etcd.usage).calls.txn, 2)
      }).pipe(scenario))
  }

  it.effect("leaves nothing behind in etcd", () =>
    Effect.gen(function*() {
      const allocated = yield* hold()
      yield* pass("1 second")
      yield* allocated.close
      assert.deepStrictEqual(yield* keys, [])
    }).pipe(scenario))

  it.effect("says how many are in use when none is free, and goes on when one is", () =>
    Effect.gen(function*() {
      const all = yield* Effect.forEach(numbers(3), () => hold(3))
      const error = yield* Effect.flip(hold(3))
      assert.isTrue(
        error._tag === "IdsExhausted" && error.service === "orders" && error.maxId === 3 && error.inUse === 3
      )
      assert.strictEqual(error.message, "no instance ID of \"orders\" is free: 3 of 3 are in use")
      yield* all[1].release
      assert.strictEqual((yield* hold(3)).id, 2)
    }).pipe(scenario))

  it.effect("ignores keys that are no numbers up to maxId", () =>
    Effect.gen(function*() {
      yield* takenByHand(["0", "01", "-1", "1.5", "1e0", "x", "3", "9007199254740993", "1/ids/1"])
      yield* takenByHand([2])
      assert.strictEqual((yield* hold(2)).id, 1)
      const error = yield* Effect.flip(hold(2))
      assert.isTrue(error._tag === "IdsExhausted" && error.inUse === 2)
      assert.deepStrictEqual((yield* InstanceId.inspect("orders")).map(({ id }) => id), [1, 2, 3])
    }).pipe(scenario))

  it.effect("keeps services apart, those within each other's names too", () =>
    Effect.gen(function*() {
      for (const service of ["a", "b", "a/b", "a/ids", "a/ids/1"]) {
        assert.strictEqual((yield* InstanceId.allocate(service, { maxId: 1 })).id, 1, service)
      }
      assert.lengthOf(yield* InstanceId.inspect("a"), 1)
    }).pipe(scenario))

  it.effect("gives distinct numbers to all who ask at once in one process", () =>
    Effect.gen(function*() {
      const all = yield* whileTimePasses(Effect.all(numbers(100).map(() => hold()), { concurrency: "unbounded" }))
      assert.sameMembers(all.map(({ id }) => id), [...numbers(100)])
      assert.deepStrictEqual(yield* taken, numbers(100))
      yield* Effect.forEach(all, ({ close }) => close)
      assert.deepStrictEqual(yield* keys, [])
    }).pipe(scenario))

  it.effect("gives eight processes that start together the first eight numbers in two calls each", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const processes = yield* Effect.forEach(numbers(8), (name) => another(String(name)))
      yield* Effect.forEach(processes, (process) => Effect.provide(granted, process))
      yield* etcd.resetUsage
      const all = yield* Effect.all(processes.map((process) => Effect.provide(hold(), process)), {
        concurrency: "unbounded"
      })
      assert.sameMembers(all.map(({ id }) => id), [...numbers(8)])
      const { calls } = yield* etcd.usage
      assert.deepStrictEqual([calls.range, calls.txn], [8, 8])
    }).pipe(scenario))

  it.effect("needs one more call of those who find all that they tried taken", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const processes = yield* Effect.forEach(numbers(40), (name) => another(String(name)))
      yield* Effect.forEach(processes, (process) => Effect.provide(granted, process))
      yield* etcd.resetUsage
      const all = yield* Effect.all(processes.map((process) => Effect.provide(hold(40), process)), {
        concurrency: "unbounded"
      })
      assert.sameMembers(all.map(({ id }) => id), [...numbers(40)])
      const { calls } = yield* etcd.usage
      // Sixteen are served by the first round, sixteen by the second, and eight by the third.
      assert.deepStrictEqual([calls.range, calls.txn], [40, 40 + 24 + 8])
    }).pipe(scenario))

  it.effect("goes on with a new session when the lease is gone", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const lease = yield* granted
      yield* etcd.expireLease(lease)
      const { id } = yield* whileTimePasses(hold())
      assert.strictEqual(id, 1)
      assert.notStrictEqual((yield* InstanceId.inspect("orders"))[0].lease, lease)
    }).pipe(scenario))

  it.effect("fails in bounded time while etcd is away, and takes nothing afterwards", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* granted
      for (const [hurt, heal] of [[etcd.down, etcd.up], [etcd.stall({ streams: false }), etcd.resume]]) {
        yield* hurt
        const error = yield* whileTimePasses(Effect.flip(hold()), "15 seconds")
        assert.strictEqual(error._tag, "EtcdError")
        yield* heal
        yield* pass("10 seconds")
        assert.deepStrictEqual(yield* taken, [])
      }
    }).pipe(scenario))

  it.effect("leaves nothing when it is interrupted on its way", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* granted
      // The transaction is carried out, and its answer withheld.
      yield* etcd.loseRequest({
        match: ({ operation }) => {
          if (operation === "txn") Effect.runSync(etcd.stall({ applied: true, streams: false }))
          return false
        },
        times: Infinity
      })
      const allocating = yield* Effect.fork(hold())
      yield* eventually("it is sent", Effect.map(taken, (ids) => ids.length === 1))
      yield* etcd.clear
      const interrupting = yield* Effect.fork(Fiber.interrupt(allocating))
      yield* settle
      yield* etcd.resume
      yield* whileTimePasses(Fiber.join(interrupting))
      yield* pass("5 seconds")
      assert.deepStrictEqual(yield* taken, [])
      assert.strictEqual((yield* hold()).id, 1)
    }).pipe(scenario))

  it.effect("leaves nothing wherever it is interrupted", () =>
    Effect.gen(function*() {
      yield* granted
      let allocated = false
      for (let steps = 0; !allocated; steps++) {
        const fiber = yield* Effect.fork(Effect.scoped(Effect.zipRight(
          InstanceId.allocate("orders", { maxId: 8 }),
          Effect.zipRight(Effect.sync(() => void (allocated = true)), Effect.never)
        )))
        for (let i = 0; i < steps; i++) yield* Effect.yieldNow()
        yield* whileTimePasses(Fiber.interrupt(fiber))
        yield* settle
        assert.deepStrictEqual(yield* taken, [], `after ${steps} steps`)
      }
    }).pipe(scenario))

  const refused: ReadonlyArray<
    readonly [
      what: string,
      args: readonly [serviceName: string, options: InstanceId.AllocateOptions],
      argument: string
    ]
  > = [
    ...["", "..", "a//b", "/a", "a/", "a\nb", "\ud800"].map((name) =>
      [`the name ${JSON.stringify(name)}`, [name, { maxId: 1 }], "serviceName"] as const
    ),
    ...[0, -1, 1.5, NaN, Infinity, 2 ** 53].map((maxId) => [`maxId ${maxId}`, ["a", { maxId }], "maxId"] as const),
    ["a maxId that no text can be made of", ["a", { maxId: Object.create(null) as number }], "maxId"],
    ["ttl 0", ["a", { maxId: 1, ttl: 0 }], "ttl"],
    ["ttl -1", ["a", { maxId: 1, ttl: -1 }], "ttl"]
  ]
  for (const [what, args, argument] of refused) {
    it.effect(`refuses ${what}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(InstanceId.allocate(...args))
        assert.isTrue(error._tag === "InvalidArgument" && error.argument === argument)
        assert.deepStrictEqual([yield* keys, yield* (yield* TestEtcd).leases], [[], []])
      }).pipe(scenario))
  }
})

describe("the handle", () => {
  it.effect("is released once", () =>
    Effect.gen(function*() {
      const allocated = yield* hold()
      assert.isFalse(yield* allocated.isExpired)
      yield* allocated.release
      assert.isTrue(yield* allocated.isExpired)
      assert.deepStrictEqual(yield* keys, [])
      const error = yield* Effect.flip(allocated.release)
      assert.strictEqual(error.message, "the instance ID \"orders/1\" is not held")
      yield* allocated.close
    }).pipe(scenario))

  it.effect("frees nobody else's number", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const allocated = yield* hold()
      yield* etcd.deleteKey(allocated.etcdKey)
      yield* etcd.putKey(allocated.etcdKey, "1")
      assert.isTrue(yield* allocated.isExpired)
      yield* allocated.close
      assert.deepStrictEqual(yield* keys, [allocated.etcdKey])
    }).pipe(scenario))

  it.effect("hears that its key was deleted by hand", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const allocated = yield* hold()
      yield* pass("1 second")
      const lost = yield* Effect.fork(Effect.flip(allocated.lost))
      yield* etcd.deleteKey(allocated.etcdKey)
      const error = yield* whileTimePasses(Fiber.join(lost))
      assert.deepStrictEqual([error.kind, error.key, error.reason], ["instance ID", "orders/1", "deleted"])
      assert.strictEqual((yield* Effect.flip(allocated.release))._tag, "LockNotHeld")
      // What is left is the marker of the attempt, which goes with the release.
      assert.deepStrictEqual(yield* keys, [])
    }).pipe(scenario))

  it.effect("hears that its lease was revoked", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const lease = yield* granted
      const { lost } = yield* hold()
      yield* etcd.expireLease(lease)
      const error = yield* whileTimePasses(Effect.flip(lost))
      assert.include(["revoked", "deleted"], error.reason)
    }).pipe(scenario))

  it.effect("knows of the loss before another process can get the number", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const mine = yield* another("mine")
      const order = yield* Ref.make<ReadonlyArray<string>>([])
      const note = (what: string) => Ref.update(order, (all) => [...all, what])
      const { lost } = yield* Effect.provide(hold(1), mine)
      yield* Effect.fork(Effect.zipRight(Effect.flip(lost), note("lost")))
      yield* etcd.connection("mine").stall()
      const next = hold(1).pipe(
        Effect.retry({ while: ({ _tag }) => _tag === "IdsExhausted", schedule: Schedule.spaced("100 millis") }),
        Effect.zipRight(note("next"))
      )
      yield* whileTimePasses(next)
      assert.deepStrictEqual(yield* Ref.get(order), ["lost", "next"])
      yield* etcd.connection("mine").resume
    }).pipe(scenario))

  it.effect("guards transactions", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* Client.EtcdClient
      const { etcdKey, guard } = yield* hold()
      const write = client.txn({ compare: [guard], success: [Txn.put({ key: "data", value: "mine" })] })
      assert.isTrue((yield* write).succeeded)
      yield* etcd.deleteKey(etcdKey)
      assert.isFalse((yield* write).succeeded)
    }).pipe(scenario))
})

describe("inspect", () => {
  it.effect("tells which numbers are taken, and by which lease", () =>
    Effect.gen(function*() {
      const lease = yield* granted
      const allocated = yield* hold()
      yield* takenByHand([10, 9])
      const kvs = (yield* stored).filter(({ key }) => text(key).startsWith(folder))
      const revisionOf = (id: number) => kvs.find((kv) => idOf(kv) === id)?.createRevision
      assert.deepStrictEqual(yield* InstanceId.inspect("orders"), [
        { id: 1, etcdKey: `${folder}1`, fencingToken: allocated.fencingToken, lease },
        { id: 9, etcdKey: `${folder}9`, fencingToken: revisionOf(9) ?? 0n, lease: 0n },
        { id: 10, etcdKey: `${folder}10`, fencingToken: revisionOf(10) ?? 0n, lease: 0n }
      ])
      const error = yield* Effect.flip(InstanceId.inspect(""))
      assert.isTrue(error._tag === "InvalidArgument" && error.argument === "serviceName")
    }).pipe(scenario))
})

describe("options", () => {
  it.scoped("the prefix can be another one", () =>
    Effect.gen(function*() {
      const { etcdKey } = yield* InstanceId.allocate("a", { maxId: 1 })
      assert.strictEqual(etcdKey, "/numbers/a/ids/1")
    }).pipe(
      Effect.provide(Layer.provideMerge(Coord.layerServices({ instancePrefix: "/numbers" }), Client.layerMemory))
    ))

  it.effect("a prefix that cannot work fails the layer", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        Effect.scoped(Layer.build(Coord.layer({ instancePrefix: "numbers" })))
      )
      assert.deepStrictEqual([error.argument, error.value], ["instancePrefix", "numbers"])
    }))
})
