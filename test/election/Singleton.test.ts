import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Election from "../../src/Election.js"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as Singleton from "../../src/Singleton.js"
import { refusals, TestEtcd } from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { pass, process, settle, whileTimePasses } from "../support/memory.js"
import { electionKeys, elections, leaderValue, node, standing } from "./support.js"

/** What happens to the singletons, in order. */
const journal = () => {
  const events: Array<string> = []
  const note = (what: string) => Effect.sync(() => void events.push(what))
  /** A layer that tells when it is built and closed. */
  const instance = (name: string) =>
    Layer.scopedDiscard(Effect.acquireRelease(note(`${name} starts`), () => note(`${name} stops`)))
  return { events, note, instance }
}

/** As one who has no compiler passes it. */
const untyped = <A>(value: unknown): A => value as A

/** Builds a layer as an application would, and closes it when asked. */
const application = <E, R>(layer: Layer.Layer<never, E, R>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    yield* Layer.buildWithScope(layer, scope)
    return { close: Scope.close(scope, Exit.void) }
  })

describe("a singleton", () => {
  it.effect("runs on one node, and on the next when that is shut down: after its finalizers", () =>
    Effect.gen(function*() {
      const { events, instance } = journal()
      const nodes = yield* Effect.forEach(["1", "2", "3"], (name, i) =>
        Effect.zipLeft(
          application(Singleton.layer("job", instance(name), { value: `node ${name}` })),
          standing("job", i + 1)
        ))
      yield* pass("1 minute", "1 second")
      assert.deepStrictEqual(events, ["1 starts"])
      assert.strictEqual(yield* leaderValue("job"), "node 1")
      yield* whileTimePasses(nodes[0].close)
      yield* pass("1 second")
      assert.deepStrictEqual(events, ["1 starts", "1 stops", "2 starts"])
      assert.strictEqual(yield* leaderValue("job"), "node 2")
      yield* whileTimePasses(nodes[2].close)
      yield* whileTimePasses(nodes[1].close)
      assert.deepStrictEqual(events, ["1 starts", "1 stops", "2 starts", "2 stops"])
      assert.deepStrictEqual(yield* electionKeys, [])
    }).pipe(elections))

  it.effect("moves when its node is cut off: it has stopped there before it starts elsewhere; and comes back", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const mine = yield* node("mine")
      const { events, instance } = journal()
      yield* Effect.provide(application(Singleton.layer("job", instance("1"), { ttl: "10 seconds" })), mine)
      yield* standing("job", 1)
      const second = yield* application(Singleton.layer("job", instance("2"), { ttl: "10 seconds" }))
      yield* standing("job", 2)
      yield* etcd.connection("mine").stall()
      yield* pass("20 seconds")
      assert.deepStrictEqual(events, ["1 starts", "1 stops", "2 starts"])
      yield* etcd.connection("mine").resume
      yield* pass("1 minute")
      assert.lengthOf(events, 3)
      yield* standing("job", 2)
      yield* whileTimePasses(second.close)
      yield* pass("1 second")
      assert.deepStrictEqual(events.slice(3), ["2 stops", "1 starts"])
    }).pipe(elections))

  it.effect("is built anew in every term, on what the layers around it provide", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const terms: Array<bigint> = []
      let databases = 0
      class Database extends Context.Tag("Database")<Database, number>() {}
      const database = Layer.effect(Database, Effect.sync(() => ++databases))
      const instance = (term: Singleton.Term) =>
        Layer.effectDiscard(Effect.map(Database, (database) => {
          assert.strictEqual(database, 1)
          terms.push(term.term)
        }))
      yield* application(Layer.provide(Singleton.layer("job", instance), database))
      yield* standing("job", 1)
      yield* pass("1 second")
      yield* etcd.deleteKey((yield* electionKeys)[0])
      yield* pass("1 second")
      assert.lengthOf(terms, 2)
      assert.isTrue(terms[0] < terms[1])
      assert.strictEqual(databases, 1)
    }).pipe(elections))

  it.effect("can have etcd refuse what it writes too late", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* EtcdClient
      const written: Array<boolean> = []
      const write = ({ guard }: Singleton.Term) =>
        Effect.map(client.txn({ compare: [guard], success: [Txn.put({ key: "x", value: "y" })] }), ({ succeeded }) => {
          written.push(succeeded)
        })
      const instance = (term: Singleton.Term) =>
        Layer.scopedDiscard(Effect.acquireRelease(write(term), () => Effect.ignore(write(term))))
      const { close } = yield* application(Singleton.layer("job", instance))
      yield* standing("job", 1)
      yield* pass("1 second")
      yield* etcd.deleteKey((yield* electionKeys)[0])
      yield* pass("1 second")
      yield* whileTimePasses(close)
      assert.deepStrictEqual(written, [true, false, true, true])
    }).pipe(elections))

  it.effect("that fails gives the leadership up, and its node stands again after a pause", () =>
    Effect.gen(function*() {
      const { events, instance, note } = journal()
      const causes: Array<Cause.Cause<unknown>> = []
      const retry = Schedule.spaced("10 seconds").pipe(
        Schedule.tapInput((cause: Cause.Cause<unknown>) => Effect.sync(() => causes.push(cause)))
      )
      const fails = Layer.scopedDiscard(
        Effect.zipRight(Effect.acquireRelease(note("1 tries"), () => note("1 tidies up")), Effect.fail("no"))
      )
      yield* application(Singleton.layer("job", fails, { retry }))
      yield* pass("25 seconds", "1 second")
      assert.deepStrictEqual(events, ["1 tries", "1 tidies up", "1 tries", "1 tidies up", "1 tries", "1 tidies up"])
      assert.deepStrictEqual(causes.map(Cause.failureOption), [Option.some("no"), Option.some("no"), Option.some("no")])
      assert.deepStrictEqual(yield* electionKeys, [])
      yield* application(Singleton.layer("job", instance("2")))
      yield* pass("10 seconds", "1 second")
      assert.deepStrictEqual(events.slice(6), ["2 starts"])
      yield* standing("job", 2)
    }).pipe(elections))

  it.effect("that dies or interrupts itself counts as one that fails", () =>
    Effect.gen(function*() {
      let attempts = 0
      const instance = Layer.effectDiscard(Effect.suspend(() => {
        attempts++
        return attempts === 1 ? Effect.die("bug") : attempts === 2 ? Effect.interrupt : Effect.void
      }))
      yield* application(Singleton.layer("job", instance))
      let thrown = 0
      const throwing = (): Layer.Layer<never> => {
        thrown++
        throw "bug"
      }
      yield* application(Singleton.layer("thrown", throwing, { retry: Schedule.recurs(2) }))
      yield* pass("10 seconds")
      assert.deepStrictEqual([attempts, thrown], [3, 3])
      yield* standing("job", 1)
      yield* standing("thrown", 0)
    }).pipe(elections))

  it.effect("pauses longer and longer, and from the beginning again once it was built", () =>
    Effect.gen(function*() {
      let attempts = 0
      const fails = Layer.effectDiscard(Effect.suspend(() => {
        attempts++
        return Effect.fail("no")
      }))
      yield* application(Singleton.layer("job", fails))
      yield* pass("10 minutes", "1 second")
      // 100 ms, doubled up to 30 seconds: 9 attempts in the first minute, and two a minute later on.
      assert.isAtLeast(attempts, 20)
      assert.isAtMost(attempts, 45)

      const etcd = yield* TestEtcd
      const { events, instance } = journal()
      yield* application(Singleton.layer("steady", instance("it"), { retry: Schedule.recurs(1) }))
      for (let i = 0; i < 5; i++) {
        yield* standing("steady", 1)
        yield* pass("1 second")
        yield* etcd.deleteKey((yield* electionKeys).find((key) => key.includes("steady")) ?? "")
        yield* pass("1 second")
      }
      assert.lengthOf(events, 11)
    }).pipe(elections))

  it.effect("stands no more when its schedule ends", () =>
    Effect.gen(function*() {
      let attempts = 0
      const fails = Layer.effectDiscard(Effect.suspend(() => {
        attempts++
        return Effect.fail("no")
      }))
      yield* application(Singleton.layer("job", fails, { retry: Schedule.recurs(2) }))
      yield* pass("1 minute", "1 second")
      assert.strictEqual(attempts, 3)
    }).pipe(elections))

  for (const where of ["a finalizer", "the acquisition"] as const) {
    it.effect(`does not keep the leadership when ${where} hangs, and does not run twice in one process`, () =>
      Effect.gen(function*() {
        const etcd = yield* TestEtcd
        const { events, instance, note } = journal()
        const finish = yield* Deferred.make<void>()
        const hanging = Layer.scopedDiscard(
          where === "a finalizer"
            ? Effect.acquireRelease(note("1 starts"), () => Deferred.await(finish))
            : Effect.acquireRelease(
              Effect.zipRight(note("1 starts"), Deferred.await(finish)),
              () => Effect.void
            )
        )
        const options = { closeTimeout: "5 seconds", ttl: "30 seconds" } as const
        const first = yield* application(Singleton.layer("job", hanging, options))
        yield* standing("job", 1)
        const second = yield* application(Singleton.layer("job", instance("2"), options))
        yield* standing("job", 2)
        yield* pass("1 second")
        const [{ key }] = yield* etcd.snapshot
        yield* etcd.deleteKey(key)
        yield* pass("10 seconds")
        assert.deepStrictEqual(events, ["1 starts", "2 starts"])
        yield* standing("job", 1)
        yield* Deferred.succeed(finish, void 0)
        yield* pass("1 second")
        yield* standing("job", 2)
        yield* whileTimePasses(second.close)
        yield* pass("1 second")
        assert.deepStrictEqual(events, ["1 starts", "2 starts", "2 stops", "1 starts"])
        yield* whileTimePasses(first.close)
      }).pipe(elections))
  }

  it.effect("that is shut down and does not close gives the leadership up all the same", () =>
    Effect.gen(function*() {
      const { events, instance, note } = journal()
      const hanging = Layer.scopedDiscard(Effect.acquireRelease(note("1 starts"), () => Effect.never))
      const first = yield* application(Singleton.layer("job", hanging, { closeTimeout: "5 seconds" }))
      yield* standing("job", 1)
      yield* application(Singleton.layer("job", instance("2")))
      yield* pass("1 second")
      yield* Effect.forkScoped(first.close)
      yield* pass("4 seconds")
      assert.deepStrictEqual(events, ["1 starts"])
      yield* pass("2 seconds")
      assert.deepStrictEqual(events, ["1 starts", "2 starts"])
    }).pipe(elections))

  it.effect("tells of itself in the log of its node, whatever its layer does to the log", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.make(({ annotations, message }) => {
        lines.push(`${[message].flat().join(" ")} ${[...annotations].flat().slice(0, 2).join(" ")}`)
      })
      const { close } = yield* application(Singleton.layer("job", Logger.minimumLogLevel(LogLevel.None))).pipe(
        Effect.provide(Logger.replace(Logger.defaultLogger, logger))
      )
      yield* pass("1 second")
      yield* close
      assert.deepStrictEqual(lines, [
        "the singleton job runs here singleton job",
        "the singleton job has closed here singleton job"
      ])
    }).pipe(elections))

  it.effect("tells in the log why it does not run", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const lines: Array<string> = []
      const logger = Logger.make(({ cause, logLevel, message }) => {
        const why = Option.map(Cause.failureOption(cause), (failure) => `: ${String(failure)}`)
        lines.push(`${logLevel.label} ${[message].flat().join(" ")}${Option.getOrElse(why, () => "")}`)
      })
      let attempts = 0
      const instance = Layer.effectDiscard(
        Effect.suspend(() => ++attempts === 1 ? Effect.fail("no database") : Effect.void)
      )
      const { close } = yield* application(
        Singleton.layer("job", instance, { retry: Schedule.spaced("10 seconds") })
      ).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
      yield* pass("1 second")
      // Before the pause, not after it.
      assert.deepStrictEqual(lines.splice(0), [
        "INFO the singleton job has closed here",
        "WARN the singleton job does not run here: no database"
      ])
      yield* pass("10 seconds")
      yield* etcd.deleteKey((yield* electionKeys)[0])
      yield* pass("1 second")
      assert.lengthOf(lines, 3)
      assert.match(lines[2], /^WARN the singleton job does not run here: .*leadership.*lost: deleted/)
      yield* whileTimePasses(close)
      assert.lengthOf(lines, 3, "to be shut down is no failure")
    }).pipe(elections))

  it.effect("that closes after a loss is waited for by the shutdown that comes meanwhile", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { events, note } = journal()
      const mayStop = yield* Effect.makeLatch(false)
      const slow = Layer.scopedDiscard(
        Effect.acquireRelease(note("starts"), () => Effect.zipRight(mayStop.await, note("stops")))
      )
      const { close } = yield* application(Singleton.layer("job", slow))
      yield* standing("job", 1)
      yield* pass("1 second")
      yield* etcd.deleteKey((yield* electionKeys)[0])
      yield* pass("1 second")
      // What the layer is built on is closed next.
      const closing = yield* Effect.fork(Effect.zipRight(close, note("application closed")))
      yield* pass("1 second")
      assert.deepStrictEqual(events, ["starts"])
      yield* mayStop.open
      yield* whileTimePasses(Fiber.join(closing))
      assert.deepStrictEqual(events, ["starts", "stops", "application closed"])
    }).pipe(elections))

  it.effect("closes within its bound, also when a finalizer hangs and etcd is away", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const started = yield* Deferred.make<void>()
      const hanging = Layer.scopedDiscard(
        Effect.acquireRelease(Deferred.succeed(started, void 0), () => Effect.never)
      )
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(
        Singleton.layer("job", hanging, { closeTimeout: "5 seconds" }).pipe(
          Layer.provide(Election.layer()),
          Layer.provide(process({ connection: "mine" }))
        ),
        scope
      )
      yield* Deferred.await(started)
      yield* etcd.connection("mine").stall()
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* pass("10 seconds")
      assert.isTrue(Option.isSome(yield* Fiber.poll(closing)))
      assert.strictEqual((yield* etcd.connection("mine").usage).callsInFlight, 0)
    }).pipe(elections))

  it.effect("is up at once with etcd away, and runs when etcd is there; refusals are waited out", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { events, instance } = journal()
      yield* etcd.down
      yield* application(Singleton.layer("job", instance("1")))
      yield* pass("1 minute", "1 second")
      yield* etcd.up
      yield* etcd.refuse(refusals.permissionDenied, { match: ({ operation }) => operation === "txn", times: 3 })
      assert.deepStrictEqual(events, [])
      yield* pass("4 minutes", "1 second")
      assert.deepStrictEqual(events, ["1 starts"])
    }).pipe(elections))

  it.effect("is refused with a name or an option that cannot work", () =>
    Effect.gen(function*() {
      for (
        const [argument, name, options] of [
          ["name", "a/", {}],
          ["ttl", "a", { ttl: 0 }],
          ["value", "a", { value: "\ud800" }],
          ["closeTimeout", "a", { closeTimeout: -1 }],
          ["retry", "a", { retry: untyped<Schedule.Schedule<unknown>>("for ever") }]
        ] as const
      ) {
        const error = yield* Effect.flip(application(Singleton.layer(name, Layer.empty, options)))
        assert.isTrue(error._tag === "InvalidArgument" && error.argument === argument)
      }
      yield* settle
      assert.lengthOf(yield* (yield* TestEtcd).leases, 0)
    }).pipe(elections))
})
