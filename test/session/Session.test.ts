import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as Session from "../../src/Session.js"
import { refusals, TestEtcd } from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { eventually, keys, pass, process, scenario, settle, whileTimePasses } from "../support/memory.js"

const leaseOf = (id: bigint) =>
  Effect.flatMap(TestEtcd, (etcd) => Effect.map(etcd.leases, (leases) => leases.find((lease) => lease.id === id)))

const session = (ttl: Duration.DurationInput) => Session.make({ ttl })

/** The event loop stands still: time goes on, and nothing that sleeps wakes up. */
const stalledClock = (nanos: () => bigint): Effect.Effect<Clock.Clock> =>
  Effect.map(Effect.clock, (clock) => ({
    ...clock,
    unsafeCurrentTimeNanos: nanos,
    currentTimeNanos: Effect.sync(nanos),
    sleep: () => Effect.never
  }))

describe("Session", () => {
  it.effect("needs no lease until it is used, and keeps it alive afterwards", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* session("9 seconds")
      assert.strictEqual((yield* own.state)._tag, "Idle")
      assert.lengthOf(yield* etcd.leases, 0)
      const lease = yield* own.lease
      assert.deepStrictEqual(yield* own.state, { _tag: "Active", lease })
      yield* pass("2 minutes", "1 second")
      assert.strictEqual((yield* own.state)._tag, "Active")
      assert.isDefined(yield* leaseOf(lease))
      // every third of the time to live, and no faster
      const { calls } = yield* etcd.usage
      assert.isAtLeast(calls.leaseKeepAlive, 38)
      assert.isAtMost(calls.leaseKeepAlive, 41)
    }).pipe(scenario))

  it.effect("knows that it is lost before etcd gives its keys away", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* session("9 seconds")
      const lease = yield* own.lease
      yield* etcd.stall()
      const lost = yield* Effect.fork(Effect.flip(own.expired))
      yield* whileTimePasses(Fiber.join(lost))
      assert.strictEqual((yield* Fiber.join(lost)).reason, "expired")
      assert.isDefined(yield* leaseOf(lease), "etcd still has the lease when the loss is known")
      assert.isTrue(Either.isLeft(yield* Effect.either(own.check)))
      assert.strictEqual((yield* own.state)._tag, "Expired")
    }).pipe(scenario))

  it.effect("counts from the sending of a keep-alive, not from its answer", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* session("9 seconds")
      yield* own.lease
      // The keep-alive at 3 s is carried out, its answer arrives 2.9 s later: the time runs from 3 s all the same.
      yield* etcd.stall({ applied: true })
      yield* pass("5900 millis")
      yield* etcd.resume
      yield* settle
      yield* etcd.stall()
      yield* pass("5100 millis")
      assert.strictEqual((yield* own.state)._tag, "Active", "11 s: three and nine, less the margin, are 11.1 s")
      yield* pass("200 millis")
      assert.strictEqual((yield* own.state)._tag, "Expired")
    }).pipe(scenario))

  it.effect("shows that etcd is away, and that it is back", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* session("12 seconds")
      const seen = yield* Effect.fork(Stream.runCollect(Stream.take(own.states, 4)))
      yield* eventually("subscribed", Effect.map(own.state, (state) => state._tag === "Idle"))
      yield* settle
      const lease = yield* own.lease
      yield* etcd.down
      yield* pass("6 seconds")
      yield* etcd.up
      yield* pass("2 seconds")
      assert.deepStrictEqual(
        Chunk.toReadonlyArray(yield* Fiber.join(seen)).map(({ _tag }) => _tag),
        ["Idle", "Active", "Disconnected", "Active"]
      )
      assert.isDefined(yield* leaseOf(lease))
    }).pipe(scenario))

  it.effect("hears of a lease that etcd revoked", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* session("9 seconds")
      const lease = yield* own.lease
      yield* etcd.expireLease(lease)
      const error = yield* whileTimePasses(Effect.flip(own.expired))
      assert.deepStrictEqual([error.reason, error.lease], ["revoked", lease])
      assert.strictEqual(yield* Effect.flip(own.lease), error)
    }).pipe(scenario))

  it.effect("stays over when a keep-alive is acknowledged too late", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* session("9 seconds")
      yield* own.lease
      yield* etcd.stall()
      yield* pass("8500 millis")
      yield* etcd.resume
      yield* pass("10 seconds")
      assert.strictEqual((yield* own.state)._tag, "Expired")
    }).pipe(scenario))

  it.effect("stays over when a renewal that was asked for is acknowledged too late", () =>
    Effect.gen(function*() {
      const client = yield* EtcdClient
      const answers = yield* Effect.makeLatch()
      const own = yield* Effect.provideService(session("9 seconds"), EtcdClient, {
        ...client,
        leaseKeepAliveOnce: (id, options) => Effect.zipLeft(client.leaseKeepAliveOnce(id, options), answers.await)
      })
      yield* own.lease
      const renewing = yield* Effect.fork(Effect.flip(own.renew))
      yield* pass("8500 millis")
      yield* answers.open
      assert.strictEqual((yield* Fiber.join(renewing))._tag, "SessionExpired")
      assert.strictEqual((yield* own.state)._tag, "Expired")
    }).pipe(scenario))

  it.effect("looks at the clock when asked, although no timer has fired", () =>
    Effect.gen(function*() {
      let nanos = 0n
      const stalled = yield* stalledClock(() => nanos)
      const own = yield* Effect.withClock(session("9 seconds"), stalled)
      yield* Effect.withClock(own.lease, stalled)
      yield* own.check
      nanos = 8_000_000_000n
      yield* own.check
      nanos = 8_200_000_000n
      assert.strictEqual((yield* Effect.flip(own.check)).reason, "expired")
    }).pipe(scenario))

  it.effect("tells everybody of its end, although who finds out is interrupted by one of them, and another throws", () =>
    Effect.gen(function*() {
      let nanos = 0n
      const stalled = yield* stalledClock(() => nanos)
      const own = yield* Effect.withClock(session("9 seconds"), stalled)
      yield* Effect.withClock(own.lease, stalled)
      const told: Array<string> = []
      own.onEnd(() => {
        throw new Error("a listener's own")
      })
      const expired = yield* Effect.fork(Effect.flip(own.expired))
      const states = yield* Effect.fork(Stream.runDrain(Stream.takeUntil(own.states, ({ _tag }) => _tag === "Expired")))
      yield* settle
      const body = yield* Effect.fork(Effect.gen(function*() {
        const fiber = yield* Effect.withFiberRuntime<Fiber.RuntimeFiber<unknown, unknown>>(Effect.succeed)
        own.onEnd(() => fiber.unsafeInterruptAsFork(fiber.id()))
        nanos = 8_200_000_000n
        yield* own.check
      }))
      own.onEnd(({ reason }) => told.push(reason))
      assert.isTrue(Exit.isInterrupted(yield* Fiber.await(body)))
      assert.strictEqual((yield* Fiber.join(expired)).reason, "expired")
      yield* Fiber.join(states)
      own.onEnd(({ reason }) => told.push(reason))
      assert.deepStrictEqual(told, ["expired", "expired"])
    }).pipe(scenario))

  it.effect("once its time is over it stays over, although nobody has noticed, and a renewal is acknowledged", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      let nanos = 0n
      const stalled = yield* stalledClock(() => nanos)
      const own = yield* Effect.withClock(session("9 seconds"), stalled)
      yield* Effect.withClock(own.lease, stalled)
      yield* etcd.stall()
      nanos = 5_000_000_000n
      const renewing = yield* Effect.fork(Effect.flip(own.renew))
      yield* settle
      nanos = 8_200_000_000n
      assert.isTrue(own.isOver())
      yield* etcd.resume
      yield* settle
      assert.isTrue(own.isOver())
      assert.strictEqual((yield* Fiber.join(renewing))._tag, "SessionExpired")
    }).pipe(scenario))

  it.effect("that is closed while its lease is granted leaves none behind", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const scope = yield* Scope.make()
      const own = yield* Scope.extend(session("9 seconds"), scope)
      yield* etcd.stall({ streams: false, applied: true })
      const asking = yield* Effect.fork(Effect.flip(own.lease))
      yield* settle
      assert.lengthOf(yield* etcd.leases, 1)
      yield* Scope.close(scope, Exit.void)
      yield* etcd.resume
      yield* settle
      const error = yield* Fiber.join(asking)
      assert.isTrue(error._tag === "SessionExpired" && error.reason === "closed")
      assert.lengthOf(yield* etcd.leases, 0)
    }).pipe(scenario))

  it.effect("keeps a lease alive that is longer than timers reach", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* session("365 days")
      yield* own.lease
      yield* pass("3 hours", "10 minutes")
      assert.isAtLeast((yield* etcd.usage).calls.leaseKeepAlive, 2)
    }).pipe(scenario))

  it.effect("survives a lost answer to its grant, with one lease", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* session("9 seconds")
      yield* etcd.loseResponse({ match: ({ operation }) => operation === "leaseGrant" })
      const lease = yield* whileTimePasses(own.lease)
      assert.deepStrictEqual((yield* etcd.leases).map(({ id }) => id), [lease])
    }).pipe(scenario))

  it.effect("asks again for a lease that it could not get", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* session("9 seconds")
      yield* etcd.down
      assert.strictEqual((yield* whileTimePasses(Effect.flip(own.lease)))._tag, "EtcdError")
      yield* etcd.up
      assert.isDefined(yield* leaseOf(yield* own.lease))
    }).pipe(scenario))

  it.effect("revokes its lease when it is closed", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* Effect.scoped(Effect.gen(function*() {
        const own = yield* session("9 seconds")
        const lease = yield* own.lease
        yield* (yield* EtcdClient).put({ key: "k", value: "v", lease })
        assert.lengthOf(yield* etcd.leases, 1)
      }))
      assert.lengthOf(yield* etcd.leases, 0)
      assert.deepStrictEqual(yield* keys, [])
    }).pipe(scenario))

  it.effect("closes in bounded time when etcd does not answer", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const scope = yield* Scope.make()
      const own = yield* Scope.extend(session("9 seconds"), scope)
      yield* own.lease
      yield* etcd.stall()
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* pass("2 seconds")
      assert.isTrue(Option.isSome(yield* Fiber.poll(closing)), "closed within 2 s")
      yield* etcd.resume
      yield* pass("10 seconds")
      assert.lengthOf(yield* etcd.leases, 0)
    }).pipe(scenario))

  for (const ttl of ["0 seconds", -5_000, Duration.infinity, Number.NaN]) {
    it.effect(`refuses a time to live of ${String(ttl)}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(session(ttl as Duration.DurationInput))
        assert.deepStrictEqual([error._tag, error.argument], ["InvalidArgument", "ttl"])
        assert.strictEqual((yield* (yield* TestEtcd).usage).calls.leaseGrant, 0)
      }).pipe(scenario))
  }
})

describe("Session.enter", () => {
  const enter = (own: Session.Session, folder = "/q/") => own.enter({ folder, value: "v" })

  it.effect("puts a key with the lease and deletes it with the scope", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* session("9 seconds")
      const lease = yield* own.lease
      yield* Effect.scoped(Effect.gen(function*() {
        const { entry, fresh } = yield* enter(own)
        assert.isTrue(fresh)
        const [kv] = yield* etcd.snapshot
        assert.deepStrictEqual(Option.getOrThrow(entry), {
          key: `/q/${lease.toString(16)}`,
          lease,
          createRevision: kv.createRevision
        })
        assert.strictEqual(kv.lease, lease)
      }))
      assert.deepStrictEqual(yield* keys, [])
      assert.isDefined(yield* leaseOf(lease), "the lease is shared and lives on")
    }).pipe(scenario))

  it.effect("names entries of one folder apart, and uses names again", () =>
    Effect.gen(function*() {
      const own = yield* session("9 seconds")
      const hex = (yield* own.lease).toString(16)
      const first = yield* Scope.make()
      yield* Scope.extend(enter(own), first)
      const second = yield* Scope.make()
      yield* Scope.extend(enter(own), second)
      yield* Scope.extend(enter(own, "/other/"), second)
      assert.deepStrictEqual(yield* keys, [`/other/${hex}`, `/q/${hex}`, `/q/${hex}-1`])
      yield* Scope.close(first, Exit.void)
      const third = yield* Scope.make()
      yield* Scope.extend(enter(own), third)
      assert.deepStrictEqual(yield* keys, [`/other/${hex}`, `/q/${hex}`, `/q/${hex}-1`])
    }).pipe(scenario))

  it.effect("finds its own entry when the answer to the first sending was lost", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* session("30 seconds")
      yield* own.lease
      yield* etcd.loseResponse({ match: ({ operation }) => operation === "txn" })
      yield* Effect.scoped(Effect.gen(function*() {
        const { entry, fresh } = yield* whileTimePasses(enter(own))
        assert.isFalse(fresh)
        const snapshot = yield* etcd.snapshot
        assert.lengthOf(snapshot, 1)
        assert.strictEqual(Option.getOrThrow(entry).createRevision, snapshot[0].createRevision)
        assert.strictEqual(snapshot[0].version, 1n, "it was put once")
      }))
      assert.deepStrictEqual((yield* keys).filter((key) => key.startsWith("/q/")), [])
    }).pipe(scenario))

  it.effect("leaves nothing behind when it fails without an answer", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* session("60 seconds")
      yield* own.lease
      yield* etcd.loseResponse({ match: ({ operation }) => operation === "txn", times: Infinity })
      const error = yield* whileTimePasses(Effect.flip(Effect.scoped(enter(own))))
      assert.strictEqual(error._tag, "EtcdError")
      assert.isTrue(error._tag === "EtcdError" && error.mayBeApplied)
      yield* etcd.clear
      yield* pass("3 seconds")
      assert.deepStrictEqual(
        (yield* keys).filter((key) => key.startsWith("/q/")),
        [],
        "the lease lives, the key is gone"
      )
    }).pipe(scenario))

  it.effect("leaves nothing behind when it is interrupted while etcd does not answer", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* session("60 seconds")
      const lease = yield* own.lease
      yield* etcd.stall({ applied: true, streams: false })
      const entering = yield* Effect.fork(Effect.scoped(enter(own)))
      yield* eventually("sent", Effect.map(keys, (all) => all.length === 1))
      const interrupting = yield* Effect.fork(Fiber.interrupt(entering))
      yield* pass("3 seconds")
      assert.isTrue(Option.isSome(yield* Fiber.poll(interrupting)), "interruption is bounded")
      yield* etcd.resume
      yield* pass("3 seconds")
      assert.deepStrictEqual((yield* keys).filter((key) => key.startsWith("/q/")), [])
      assert.isDefined(yield* leaseOf(lease))
    }).pipe(scenario))

  it.effect("bars a put that is still on its way when it was given up", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* EtcdClient
      // What is sent, to be sent again when nobody expects it any more.
      const sent: Array<Txn.TxnRequest> = []
      const own = yield* Effect.provideService(session("60 seconds"), EtcdClient, {
        ...client,
        txn: (request, call) => {
          sent.push(request)
          return client.txn(request, call)
        }
      })
      const lease = yield* own.lease
      const hex = lease.toString(16)
      yield* etcd.loseRequest({ match: ({ operation }) => operation === "txn", times: Infinity })
      yield* whileTimePasses(Effect.flip(Effect.scoped(enter(own))))
      yield* etcd.clear
      yield* pass("3 seconds")
      // The first sending arrives at last.
      const late = yield* client.txn(sent[0])
      assert.isFalse(late.succeeded)
      assert.deepStrictEqual((yield* keys).filter((key) => key.startsWith("/q/")), [])
      // The name itself can be used again.
      yield* Effect.scoped(Effect.flatMap(enter(own), ({ entry }) =>
        Effect.sync(() =>
          assert.strictEqual(Option.getOrThrow(entry).key, `/q/${hex}`)
        )))
    }).pipe(scenario))

  it.effect("deletes in the background what could not be deleted at once", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* session("60 seconds")
      const lease = yield* own.lease
      const scope = yield* Scope.make()
      for (let i = 0; i < 50; i++) yield* Scope.extend(enter(own), scope)
      yield* etcd.stall({ streams: false })
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* pass("2500 millis")
      assert.isTrue(Option.isSome(yield* Fiber.poll(closing)), "one waits for all fifty")
      assert.lengthOf(yield* keys, 50)
      yield* etcd.resume
      yield* pass("8 seconds")
      assert.deepStrictEqual(yield* keys, [])
      assert.isDefined(yield* leaseOf(lease))
    }).pipe(scenario))

  it.effect("ends the session when etcd does not know its lease", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* session("60 seconds")
      yield* etcd.expireLease(yield* own.lease)
      const error = yield* Effect.flip(Effect.scoped(enter(own)))
      assert.strictEqual(error._tag, "SessionExpired")
      assert.strictEqual((yield* own.state)._tag, "Expired")
    }).pipe(scenario))

  it.effect("enters only if its conditions hold", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* session("60 seconds")
      yield* etcd.putKey("taken", "x")
      yield* Effect.scoped(Effect.gen(function*() {
        const { entry, reads } = yield* own.enter({
          folder: "/q/",
          value: "",
          onlyIf: [Txn.absent("taken")],
          reads: [Txn.range({ key: "taken" })]
        })
        assert.isTrue(Option.isNone(entry))
        assert.lengthOf(reads, 1)
        assert.deepStrictEqual(yield* keys, ["taken"])
      }))
    }).pipe(scenario))

  it.effect("sends nothing twice that was refused", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const own = yield* session("60 seconds")
      yield* own.lease
      yield* etcd.refuse(refusals.permissionDenied, { match: ({ operation }) => operation === "txn" })
      yield* etcd.resetUsage
      const error = yield* Effect.flip(Effect.scoped(enter(own)))
      assert.isTrue(error._tag === "EtcdError" && error.reason === "PermissionDenied")
      assert.strictEqual((yield* etcd.usage).calls.txn, 1, "nothing was put: nothing is deleted")
    }).pipe(scenario))
})

describe("Sessions", () => {
  const leaseFor = (ttl: Duration.DurationInput) =>
    Effect.flatMap(Session.Sessions, (sessions) => Effect.flatMap(sessions.get(ttl), (own) => own.lease))

  it.effect("shares one session for a time to live", () =>
    Effect.gen(function*() {
      const a = yield* leaseFor("9 seconds")
      assert.strictEqual(yield* leaseFor(9_000), a)
      assert.notStrictEqual(yield* leaseFor("10 seconds"), a)
      assert.lengthOf(yield* (yield* TestEtcd).leases, 2)
      assert.lengthOf(yield* (yield* Session.Sessions).all, 2)
    }).pipe(scenario))

  it.effect("keeps an idle session for a while, then revokes it", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const a = yield* Effect.scoped(leaseFor("9 seconds"))
      yield* pass("20 seconds", "1 second")
      assert.strictEqual(yield* Effect.scoped(leaseFor("9 seconds")), a)
      yield* pass("40 seconds", "1 second")
      assert.lengthOf(yield* etcd.leases, 0)
      assert.notStrictEqual(yield* Effect.scoped(leaseFor("9 seconds")), a)
    }).pipe(scenario))

  it.effect("replaces a session that is over while its users still hold it", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const sessions = yield* Session.Sessions
      const old = yield* sessions.get("9 seconds")
      const lease = yield* old.lease
      yield* etcd.expireLease(lease)
      yield* whileTimePasses(Effect.flip(old.expired))
      const next = yield* sessions.get("9 seconds")
      assert.notStrictEqual(yield* next.lease, lease)
      yield* next.check
      yield* pass("1 minute", "1 second")
      yield* next.check
    }).pipe(scenario))

  it.effect("closes all sessions at once, in bounded time, while etcd does not answer", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const scope = yield* Scope.make()
      const own = yield* Layer.buildWithScope(process(), scope)
      const sessions = Context.get(own, Session.Sessions)
      for (const ttl of [20, 30, 40, 50]) {
        yield* Effect.flatMap(Scope.extend(sessions.get(Duration.seconds(ttl)), scope), (own) => own.lease)
      }
      assert.lengthOf(yield* etcd.leases, 4)
      yield* etcd.stall()
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* pass("2500 millis")
      assert.isTrue(Option.isSome(yield* Fiber.poll(closing)))
    }).pipe(scenario))
})
