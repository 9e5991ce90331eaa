import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as Config from "../../src/Config.js"
import { EtcdClient } from "../../src/EtcdClient.js"
import { EtcdError } from "../../src/EtcdError.js"
import * as TestEtcd from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { eventually, settle, text, whileTimePasses } from "../support/memory.js"
import { embedded, everyTxn, process } from "./support.js"

const isMarker = (key: string) => key.startsWith("/coord/attempts/")
const onTxn = ({ operation }: TestEtcd.Request) => operation === "txn"

const all = Effect.flatMap(TestEtcd.TestEtcd, (etcd) => etcd.snapshot)
const markers = Effect.map(all, (kvs) => kvs.filter(({ key }) => isMarker(text(key))))
const stored = (key: string) => Effect.map(all, (kvs) => kvs.find((kv) => text(kv.key) === `/config/${key}`))

const lost = new EtcdError({
  operation: "txn",
  reason: "Unavailable",
  code: 14,
  mayBeApplied: true,
  detail: "connection dropped"
})

describe("an answer that is lost", () => {
  it.effect("is neither a conflict nor a second write", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* etcd.loseResponse({ match: onTxn })
      const version = yield* Config.compareAndSet("a", Schema.Int, 1, 0n)
      const kv = yield* stored("a")
      assert.deepStrictEqual([kv?.version, kv?.modRevision], [1n, version])
      yield* etcd.loseResponse({ match: onTxn })
      const next = yield* Config.compareAndSet("a", Schema.Int, 2, version)
      assert.deepStrictEqual(yield* Config.getWithVersion("a", Schema.Int), { value: 2, version: next })
      assert.strictEqual((yield* stored("a"))?.version, 2n)
    }).pipe(Effect.provide(embedded())))

  it.effect("does not hide a conflict", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const actual = yield* Config.set("a", Schema.Int, 1)
      yield* etcd.loseResponse({ match: onTxn })
      const error = yield* Effect.flip(Config.compareAndSet("a", Schema.Int, 2, 0n))
      assert.isTrue(error._tag === "VersionConflict" && error.actual === actual)
      assert.strictEqual((yield* stored("a"))?.version, 1n)
    }).pipe(Effect.provide(embedded())))

  it.effect("is no NotFound, and no failed guard", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* Config.set("a", Schema.Int, 1)
      yield* etcd.loseResponse({ match: onTxn })
      yield* Config.delete("a")
      const token = yield* etcd.putKey("/lock", "")
      yield* etcd.loseResponse({ match: onTxn })
      yield* Config.set("a", Schema.Int, 2, { guard: Txn.createRevision("/lock", "=", token) })
      assert.strictEqual((yield* stored("a"))?.version, 1n)
      yield* Config.delete("a")
      yield* etcd.loseResponse({ match: onTxn })
      assert.strictEqual((yield* Effect.flip(Config.delete("a")))._tag, "NotFound")
    }).pipe(Effect.provide(embedded())))

  it.effect("tells the version of this write, whoever wrote since", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* etcd.loseResponse({ match: onTxn })
      yield* etcd.refuse(TestEtcd.refusals.noLeader, { match: ({ keys }) => keys.every(isMarker) && keys.length > 0 })
      const writing = yield* Effect.fork(Config.compareAndSet("a", Schema.Int, 1, 0n))
      yield* eventually("the first write", Effect.map(stored("a"), (kv) => kv !== undefined))
      const mine = (yield* stored("a"))?.modRevision
      yield* settle
      yield* etcd.putKey("/config/a", "7")
      assert.strictEqual(yield* whileTimePasses(Fiber.join(writing)), mine)
      assert.strictEqual(yield* Config.get("a", Schema.Int), 7)
    }).pipe(Effect.provide(embedded())))

  it.effect("may be lost again", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      // The write, then twice the question what became of it.
      yield* etcd.loseResponse({ match: onTxn, times: 3 })
      const version = yield* whileTimePasses(Config.compareAndSet("a", Schema.Int, 1, 0n))
      assert.strictEqual((yield* stored("a"))?.modRevision, version)
      // The write does not arrive, the answer that withdraws it is lost, and so is the next write.
      yield* etcd.loseRequest({ match: onTxn })
      yield* etcd.loseResponse({ match: onTxn, times: 2 })
      const next = yield* whileTimePasses(Config.compareAndSet("a", Schema.Int, 2, version))
      const kv = yield* stored("a")
      assert.deepStrictEqual([kv?.version, kv?.modRevision], [2n, next])
    }).pipe(Effect.provide(embedded())))

  it.effect("of a plain set is told as it is", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* etcd.loseResponse()
      const error = yield* Effect.flip(Config.set("a", Schema.Int, 1))
      assert.isTrue(error._tag === "EtcdError" && error.mayBeApplied)
      assert.strictEqual((yield* stored("a"))?.version, 1n)
      assert.deepStrictEqual(yield* markers, [])
    }).pipe(Effect.provide(embedded())))
})

describe("a request that is lost", () => {
  it.effect("is sent again", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* etcd.loseRequest({ match: onTxn })
      const version = yield* Config.compareAndSet("a", Schema.Int, 1, 0n)
      assert.deepStrictEqual(yield* Config.getWithVersion("a", Schema.Int), { value: 1, version })
    }).pipe(Effect.provide(embedded())))

  it.effect("does nothing when it arrives late", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const client = yield* EtcdClient
      const onTheWay: Array<Txn.TxnRequest> = []
      let losing = false
      const lossy: EtcdClient["Type"] = {
        ...client,
        txn: (request, options) =>
          Effect.suspend(() => {
            if (!losing) return client.txn(request, options)
            losing = false
            onTheWay.push(request)
            return Effect.fail(lost)
          })
      }
      const config = yield* Effect.provideService(Config.make(), EtcdClient, lossy)
      const losingOne = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
        Effect.suspend(() => {
          losing = true
          return effect
        })
      const token = yield* etcd.putKey("/lock", "")
      // After the answer each could be carried out once more, but for the marker.
      yield* losingOne(config.set("guarded", Schema.Int, 1, { guard: Txn.createRevision("/lock", "=", token) }))
      yield* config.set("deleted", Schema.Int, 1)
      yield* losingOne(config.delete("deleted"))
      yield* config.set("created", Schema.Int, 1)
      yield* losingOne(Effect.flip(config.compareAndSet("created", Schema.Int, 2, 0n)))
      yield* config.set("guarded", Schema.Int, 2)
      yield* config.set("deleted", Schema.Int, 2)
      yield* config.delete("created")
      assert.lengthOf(onTheWay, 3)
      for (const request of onTheWay) assert.isFalse((yield* client.txn(request)).succeeded)
      assert.strictEqual(yield* config.get("guarded", Schema.Int), 2)
      assert.strictEqual(yield* config.get("deleted", Schema.Int), 2)
      assert.isUndefined(yield* stored("created"))
    }).pipe(Effect.scoped, Effect.provide(embedded())))
})

describe("an outcome that cannot be known", () => {
  it.effect("is told, and its marker is not used again", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* Config.compareAndSet("a", Schema.Int, 1, 0n)
      yield* etcd.loseResponse({ match: onTxn, times: Infinity })
      const error = yield* whileTimePasses(Effect.flip(Config.compareAndSet("b", Schema.Int, 1, 0n)))
      assert.isTrue(error._tag === "EtcdError" && error.mayBeApplied && error.reason === "Unavailable")
      yield* etcd.clear
      yield* Config.compareAndSet("c", Schema.Int, 1, 0n)
      assert.lengthOf(yield* markers, 2)
    }).pipe(Effect.provide(embedded())))

  it.effect("of an interrupted write leaves its marker alone", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* Config.compareAndSet("a", Schema.Int, 1, 0n)
      yield* etcd.stall({ streams: false })
      const writing = yield* Effect.fork(Config.compareAndSet("b", Schema.Int, 1, 0n))
      yield* settle
      yield* Fiber.interrupt(writing)
      yield* etcd.resume
      yield* Config.compareAndSet("c", Schema.Int, 1, 0n)
      assert.lengthOf(yield* markers, 2)
    }).pipe(Effect.provide(embedded())))

  it.effect("does not outlast the caller's deadline", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* Config.compareAndSet("a", Schema.Int, 1, 0n)
      yield* etcd.stall({ streams: false })
      const writing = yield* Effect.fork(Effect.flip(Config.compareAndSet("b", Schema.Int, 1, 0n)))
      yield* settle
      yield* TestClock.adjust("2 seconds")
      const error = yield* Fiber.join(writing)
      assert.isTrue(error._tag === "EtcdError" && error.mayBeApplied && error.reason === "DeadlineExceeded")
      yield* etcd.resume
    }).pipe(Effect.provide(embedded({ requestTimeout: "2 seconds" }))))

  it.effect("is no worry when etcd is away from the beginning", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* etcd.loseResponse({ match: ({ operation }) => operation === "leaseGrant", times: Infinity })
      const error = yield* whileTimePasses(Effect.flip(Config.compareAndSet("a", Schema.Int, 1, 0n)))
      assert.isTrue(error._tag === "EtcdError" && !error.mayBeApplied)
    }).pipe(Effect.provide(embedded())))
})

describe("markers", () => {
  it.effect("are used again, one for each write in flight", () =>
    Effect.gen(function*() {
      for (let i = 0; i < 20; i++) yield* Config.compareAndSet(`a/${i}`, Schema.Int, 1, 0n)
      assert.lengthOf(yield* markers, 1)
      yield* Effect.forEach([1, 2, 3], (i) => Config.compareAndSet(`b/${i}`, Schema.Int, 1, 0n), {
        concurrency: "unbounded"
      })
      const kvs = yield* markers
      assert.isAtMost(kvs.length, 3)
      assert.isTrue(kvs.every(({ lease }) => lease !== 0n && lease === kvs[0].lease))
    }).pipe(Effect.provide(embedded())))

  it.effect("of two processes are different ones", () =>
    Effect.gen(function*() {
      for (const key of ["a", "b"]) {
        const context = yield* Layer.build(process())
        yield* Effect.provide(Config.compareAndSet(key, Schema.Int, 1, 0n), context)
      }
      assert.lengthOf(yield* markers, 2)
    }).pipe(Effect.scoped, Effect.provide(TestEtcd.layer())))

  it.effect("are gone when the layer is closed", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(process(), scope)
      yield* Effect.provide(Config.compareAndSet("a", Schema.Int, 1, 0n), context)
      assert.lengthOf(yield* markers, 1)
      yield* Scope.close(scope, Exit.void)
      assert.lengthOf(yield* markers, 0)
      assert.deepStrictEqual(yield* etcd.leases, [])
    }).pipe(Effect.provide(TestEtcd.layer())))

  it.effect("do not hold up closing when etcd is away", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(process(), scope)
      yield* Effect.provide(Config.compareAndSet("a", Schema.Int, 1, 0n), context)
      yield* etcd.stall()
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* settle
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(closing)
    }).pipe(Effect.provide(TestEtcd.layer())))

  it.effect("get another lease when theirs is gone", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* Config.compareAndSet("a", Schema.Int, 1, 0n)
      const [{ id }] = yield* etcd.leases
      assert.isTrue(yield* etcd.expireLease(id))
      const version = yield* Config.compareAndSet("b", Schema.Int, 1, 0n)
      assert.strictEqual((yield* stored("b"))?.modRevision, version)
      const [another] = yield* etcd.leases
      assert.notStrictEqual(another.id, id)
    }).pipe(Effect.provide(embedded())))

  it.effect("keep their lease while they are used, and let it go afterwards", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* Config.compareAndSet("a", Schema.Int, 1, 0n)
      const [{ id }] = yield* etcd.leases
      for (const i of [1, 2, 3, 4]) {
        yield* TestClock.adjust("40 seconds")
        yield* Config.compareAndSet(`b/${i}`, Schema.Int, 1, 0n)
      }
      assert.deepStrictEqual((yield* etcd.leases).map((lease) => lease.id), [id])
      assert.lengthOf(yield* markers, 1)
      yield* TestClock.adjust("61 seconds")
      assert.deepStrictEqual(yield* etcd.leases, [])
      yield* Config.compareAndSet("c", Schema.Int, 1, 0n)
      assert.lengthOf(yield* etcd.leases, 1)
    }).pipe(Effect.provide(embedded())))

  it.effect("are not needed to read, to set, and to watch", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* Config.set("a", Schema.Int, 1)
      yield* Config.get("a", Schema.Int)
      yield* Config.list("", Schema.Int)
      assert.deepStrictEqual(yield* etcd.leases, [])
    }).pipe(Effect.provide(embedded())))
})

describe("many writers", () => {
  it.effect("lose no update when requests and answers are lost", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* etcd.loseResponse({ match: everyTxn(5), times: Infinity })
      yield* etcd.loseRequest({ match: everyTxn(7), times: Infinity })
      const writers = 8
      const rounds = 25
      yield* Config.set("counter", Schema.Int, 0)
      const writer = Effect.gen(function*() {
        const config = yield* Config.Config
        const increment: Effect.Effect<void, unknown> = Effect.gen(function*() {
          const { value, version } = yield* config.getWithVersion("counter", Schema.Int)
          yield* config.compareAndSet("counter", Schema.Int, value + 1, version)
        }).pipe(Effect.catchTag("VersionConflict", () => increment))
        yield* Effect.repeatN(increment, rounds - 1)
      })
      yield* whileTimePasses(
        Effect.all(Array.from({ length: writers }, () => Effect.provide(writer, Layer.fresh(process()))), {
          concurrency: "unbounded",
          discard: true
        }),
        "10 minutes"
      )
      yield* etcd.clear
      const kv = yield* stored("counter")
      assert.strictEqual(kv === undefined ? "" : text(kv.value), String(writers * rounds))
      // Nothing was written twice either.
      assert.strictEqual(kv?.version, BigInt(writers * rounds + 1))
    }).pipe(Effect.provide(embedded())))
})
