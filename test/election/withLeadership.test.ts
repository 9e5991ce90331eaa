import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Config from "../../src/Config.js"
import * as Election from "../../src/Election.js"
import { EtcdError } from "../../src/EtcdError.js"
import { LockExpired } from "../../src/LockError.js"
import * as Session from "../../src/Session.js"
import { refusals, TestEtcd } from "../../src/testing.js"
import { pass, settle, text, whileTimePasses } from "../support/memory.js"
import { electionKeys, elections, node, standing } from "./support.js"

/** A body that reports each term and each interruption, and goes on for ever. */
const reporting = Effect.gen(function*() {
  const reports = yield* Queue.unbounded<string>()
  const terms: Array<bigint> = []
  const body = ({ term }: Election.Leadership) =>
    Effect.gen(function*() {
      terms.push(term)
      yield* Queue.offer(reports, "leads")
      return yield* Effect.never
    }).pipe(Effect.onInterrupt(() => Queue.offer(reports, "interrupted")))
  return { body, terms, next: whileTimePasses(Queue.take(reports)), size: Queue.size(reports) }
})

const deleteLeader = Effect.gen(function*() {
  const [key] = yield* electionKeys
  yield* pass("1 second")
  yield* (yield* TestEtcd).deleteKey(key)
})

const expired = (key: string, fencingToken: bigint, kind: "lock" | "leadership" = "leadership") =>
  new LockExpired({ kind, key, fencingToken, reason: "expired" })

describe("withLeadership", () => {
  it.effect("runs the body while leading, returns what it returns, and gives the leadership up", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const result = yield* Election.withLeadership("a", { value: "me" })(({ name, term }) =>
        Effect.map(etcd.snapshot, ([kv]) => [name, text(kv.value), kv.createRevision === term])
      )
      assert.deepStrictEqual(result, ["a", "me", true])
      assert.strictEqual(yield* Election.withLeadership("a")(Effect.succeed(1)), 1)
      assert.deepStrictEqual(yield* electionKeys, [])
    }).pipe(elections))

  it.effect("ends with a body that fails, that dies, and that is interrupted", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* Effect.flip(Election.withLeadership("a")(Effect.fail("no"))), "no")
      const died = yield* Effect.exit(Election.withLeadership("a")(Effect.die("bug")))
      assert.deepStrictEqual(died, Exit.die("bug"))
      const thrown = yield* Effect.exit(
        Election.withLeadership("a")((): Effect.Effect<never> => {
          throw "bug"
        })
      )
      assert.deepStrictEqual(thrown, Exit.die("bug"))
      const { body, next } = yield* reporting
      const running = yield* Effect.fork(Election.withLeadership("a")(body))
      yield* next
      yield* Fiber.interrupt(running)
      assert.strictEqual(yield* next, "interrupted")
      assert.deepStrictEqual(yield* electionKeys, [])
    }).pipe(elections))

  it.effect("interrupts the body at the loss, campaigns again, and runs it once more, in a later term", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { body, next, terms } = yield* reporting
      yield* Effect.forkScoped(Election.withLeadership("a", { ttl: "10 seconds" })(body))
      assert.strictEqual(yield* next, "leads")
      yield* deleteLeader
      assert.deepStrictEqual([yield* next, yield* next], ["interrupted", "leads"])
      const [{ lease }] = yield* etcd.snapshot
      yield* etcd.expireLease(lease)
      assert.deepStrictEqual([yield* next, yield* next], ["interrupted", "leads"])
      assert.isTrue(terms[0] < terms[1] && terms[1] < terms[2])
      assert.lengthOf(yield* electionKeys, 1)
    }).pipe(elections))

  it.effect("interrupts the body before another process leads, and stands behind it when etcd is back", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const mine = yield* node("mine")
      const { body, next, terms } = yield* reporting
      yield* Effect.forkScoped(Effect.provide(Election.withLeadership("a", { ttl: "10 seconds" })(body), mine))
      assert.strictEqual(yield* next, "leads")
      const other = yield* reporting
      const others = yield* Effect.forkScoped(Election.withLeadership("a", { ttl: "1 hour" })(other.body))
      yield* standing("a", 2)
      yield* etcd.connection("mine").stall()
      yield* Effect.race(other.next, Effect.zipRight(next, Effect.never)).pipe(
        Effect.zipLeft(Effect.sync(() => assert.lengthOf(terms, 1)))
      )
      yield* pass("1 minute", "1 second")
      yield* etcd.connection("mine").resume
      yield* pass("20 seconds")
      yield* Fiber.interrupt(others)
      assert.strictEqual(yield* next, "leads")
      assert.isTrue(terms[1] > other.terms[0])
    }).pipe(elections))

  it.effect("campaigns again when the body fails because of the loss", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      let attempts = 0
      const result = yield* whileTimePasses(
        Election.withLeadership("a")(({ etcdKey, guard, proclaim }) =>
          Effect.gen(function*() {
            attempts++
            if (attempts <= 2) yield* etcd.deleteKey(etcdKey)
            if (attempts === 1) yield* proclaim("late")
            yield* Config.set("c", Schema.Number, attempts, { guard })
            return attempts
          })
        )
      )
      assert.strictEqual(result, 3)
    }).pipe(Effect.provide(Config.layer()), elections))

  it.effect("does not when it fails because of another loss, or because of etcd", () =>
    Effect.gen(function*() {
      const outage = new EtcdError({
        operation: "get",
        reason: "Unavailable",
        code: 14,
        mayBeApplied: false,
        detail: "away"
      })
      let attempts = 0
      const failures = [
        ({ term }: Election.Leadership) => expired("a", term, "lock"),
        ({ term }: Election.Leadership) => expired("b", term),
        ({ term }: Election.Leadership) => expired("a", term - 1n),
        () => outage
      ]
      for (const failure of failures) {
        let failed: unknown
        const error = yield* Effect.flip(
          Election.withLeadership("a")((leadership) => {
            attempts++
            failed = failure(leadership)
            return Effect.fail(failure(leadership))
          })
        )
        assert.deepStrictEqual<unknown>(error, failed)
      }
      assert.strictEqual(attempts, 4)
    }).pipe(elections))

  it.effect("drops what was made after the loss, and has it made again", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const session = yield* (yield* Session.Sessions).get("30 seconds")
      let attempts = 0
      const loseSilently = Effect.zipRight(
        Effect.flatMap(session.lease, etcd.expireLease),
        Effect.ignore(session.renew)
      )
      const result = yield* whileTimePasses(
        Election.withLeadership("a", { ttl: "30 seconds" })(Effect.suspend(() => {
          attempts++
          return Effect.as(attempts === 1 ? loseSilently : Effect.void, attempts)
        }))
      )
      assert.strictEqual(result, 2)
    }).pipe(elections))

  it.effect("waits for an etcd that is away, at first and later", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.down
      const { body, next, size } = yield* reporting
      yield* Effect.forkScoped(Election.withLeadership("a", { ttl: "10 seconds" })(body))
      yield* pass("1 minute", "1 second")
      assert.strictEqual(yield* size, 0)
      yield* etcd.up
      assert.strictEqual(yield* next, "leads")
      yield* etcd.down
      assert.strictEqual(yield* next, "interrupted")
      yield* pass("1 minute", "1 second")
      yield* etcd.up
      assert.strictEqual(yield* next, "leads")
    }).pipe(elections))

  it.effect("does not wait for an etcd that refuses", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.refuse(refusals.permissionDenied, { match: ({ operation }) => operation === "txn", times: Infinity })
      const error = yield* whileTimePasses(Effect.flip(Election.withLeadership("a")(Effect.void)))
      assert.isTrue(error._tag === "EtcdError" && error.reason === "PermissionDenied")
      yield* etcd.clear
    }).pipe(elections))

  it.effect("refuses what is no schedule before it campaigns, not at the first loss", () =>
    Effect.gen(function*() {
      for (const retry of [null, "for ever"]) {
        const options = { retry } as unknown as Election.WithLeadershipOptions
        const error = yield* Effect.flip(Election.withLeadership("a", options)(Effect.void))
        assert.isTrue(error._tag === "InvalidArgument" && error.argument === "retry")
      }
      assert.lengthOf(yield* (yield* TestEtcd).leases, 0)
    }).pipe(elections))

  it.effect("campaigns as often as its schedule says, counted anew in every term", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { body, next, terms } = yield* reporting
      const running = yield* Effect.fork(
        Election.withLeadership("a", { retry: Schedule.recurs(1), ttl: "10 seconds" })(body)
      )
      for (let i = 0; i < 3; i++) {
        assert.strictEqual(yield* next, "leads")
        yield* deleteLeader
        assert.strictEqual(yield* next, "interrupted")
      }
      assert.strictEqual(yield* next, "leads")
      yield* etcd.down
      const error = yield* whileTimePasses(Effect.flip(Fiber.join(running)))
      assert.isTrue(error._tag === "EtcdError" && error.reason === "Unavailable")
      assert.lengthOf(terms, 4)

      yield* etcd.up
      const once = yield* Effect.fork(Election.withLeadership("b", { retry: Schedule.stop })(body))
      yield* Effect.zipRight(next, next)
      const [kv] = (yield* etcd.snapshot).filter(({ key }) => text(key).startsWith("/elections/b/"))
      yield* pass("1 second")
      yield* etcd.deleteKey(kv.key)
      const lost = yield* whileTimePasses(Effect.flip(Fiber.join(once)))
      assert.isTrue(lost._tag === "LockExpired" && lost.reason === "deleted" && lost.fencingToken === kv.createRevision)
    }).pipe(elections))

  it.effect("waits for a body that cannot be interrupted, unless it is to be left behind", () =>
    Effect.gen(function*() {
      for (const onLost of ["wait", "abandon"] as const) {
        const finish = yield* Deferred.make<void>()
        let begun = 0
        const running = yield* Effect.fork(
          Election.withLeadership("a", { onLost })(Effect.uninterruptible(Effect.suspend(() => {
            begun++
            return begun === 1 ? Deferred.await(finish) : Effect.void
          })))
        )
        yield* standing("a", 1)
        yield* deleteLeader
        yield* pass("10 seconds")
        assert.strictEqual(begun, onLost === "wait" ? 1 : 2)
        assert.strictEqual(Option.isSome(yield* Fiber.poll(running)), onLost === "abandon")
        yield* Deferred.succeed(finish, void 0)
        yield* whileTimePasses(Fiber.join(running))
        assert.strictEqual(begun, 2)
      }
    }).pipe(elections))

  it.effect("can be interrupted while it waits to lead, and while it waits to campaign again", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { body, next } = yield* reporting
      const holder = yield* Effect.fork(Election.withLeadership("a")(body))
      yield* next
      const waiting = yield* Effect.fork(Election.withLeadership("a")(Effect.void))
      yield* standing("a", 2)
      yield* Fiber.interrupt(waiting)
      assert.lengthOf(yield* electionKeys, 1)
      yield* etcd.down
      const away = yield* Effect.fork(Election.withLeadership("a")(Effect.void))
      yield* pass("11 seconds")
      yield* whileTimePasses(Fiber.interrupt(away))
      yield* etcd.up
      yield* whileTimePasses(Fiber.interrupt(holder))
      yield* pass("5 seconds")
      assert.deepStrictEqual(yield* electionKeys, [])
    }).pipe(elections))

  it.effect("ends with the services it campaigns with, and with a body that resigns and uses its guard", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const services = yield* Scope.extend(node("mine"), scope)
      const { body, next } = yield* reporting
      const running = yield* Effect.fork(Effect.provide(Election.withLeadership("a")(body), services))
      assert.strictEqual(yield* next, "leads")
      yield* whileTimePasses(Scope.close(scope, Exit.void))
      const closed = yield* whileTimePasses(Effect.flip(Fiber.join(running)))
      assert.isTrue(closed._tag === "LockExpired" && closed.reason === "closed")
      const resigned = yield* whileTimePasses(Effect.flip(
        Election.withLeadership("a")(({ proclaim, resign }) => Effect.zipRight(resign, proclaim("late")))
      ))
      assert.isTrue(resigned._tag === "LockExpired" && resigned.reason === "released")
    }).pipe(elections))

  it.effect("stops the body before it gives the leadership up", () =>
    Effect.gen(function*() {
      const closing = yield* Deferred.make<ReadonlyArray<string>>()
      const running = yield* Effect.fork(
        Election.withLeadership("a")(
          Effect.onInterrupt(Effect.never, () => Effect.flatMap(electionKeys, (all) => Deferred.succeed(closing, all)))
        )
      )
      yield* standing("a", 1)
      yield* settle
      yield* Fiber.interrupt(running)
      assert.lengthOf(yield* Deferred.await(closing), 1)
      assert.deepStrictEqual(yield* electionKeys, [])
    }).pipe(elections))
})
