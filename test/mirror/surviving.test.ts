/** What a mirror tells after a compaction: every version that etcd still has, in order, and not the present state alone. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Stream from "effect/Stream"
import * as TestContext from "effect/TestContext"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as MirrorCopy from "../../src/internal/mirror/copy.js"
import * as MirrorReader from "../../src/internal/mirror/reader.js"
import * as Mirror from "../../src/Mirror.js"
import { refusals, TestEtcd } from "../../src/testing.js"
import { pass, scenario, settle, text, whileTimePasses } from "../support/memory.js"
import { put, range, showBoth, toldBy } from "./support.js"

/** A mirror whose client does something before each reading of the past, and all that it tells. */
const observed = (before: (at: bigint, reading: number) => Effect.Effect<unknown> = () => Effect.void) =>
  Effect.gen(function*() {
    const client = yield* EtcdClient
    const listed: Array<bigint> = []
    const pages: EtcdClient["Type"]["pages"] = (request, options) => {
      const at = request.revision
      if (at === undefined) return client.pages(request, options)
      listed.push(at)
      return Stream.unwrap(Effect.as(before(at, listed.length), client.pages(request, options)))
    }
    const mirror = yield* Effect.provideService(Mirror.make(range), EtcdClient, { ...client, pages })
    const told = yield* toldBy(mirror, showBoth)
    yield* whileTimePasses(mirror.ready)
    yield* settle
    return {
      listed,
      mirror,
      told,
      tells: (last: string) => whileTimePasses(until(() => told.at(-1) === last))
    }
  })

const until = (condition: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => condition() ? Effect.void : Effect.zipRight(Effect.yieldNow(), until(condition)))

describe("a mirror that was cut off while etcd was compacted", () => {
  it.effect("tells what has survived, each version alone", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.putKey("m/goes", "1")
      yield* put("1")
      const { listed, mirror, tells, told } = yield* observed()
      yield* etcd.down
      yield* etcd.deleteKey("m/goes")
      yield* put("2", "3")
      yield* etcd.compact()
      yield* put("4", "5")
      yield* etcd.deleteKey("m/a")
      yield* put("6")
      yield* etcd.up
      yield* tells("m/a=6")
      assert.deepStrictEqual(told, [
        "m/a=1",
        "m/goes=1",
        "-m/goes (1)",
        "m/a=3 (1)",
        "m/a=4 (3)",
        "m/a=5 (4)",
        "-m/a (5)",
        "m/a=6"
      ])
      assert.deepStrictEqual(listed, [6n])
      yield* put("7")
      yield* settle
      assert.strictEqual(told.at(-1), "m/a=7 (6)")
      const { epoch, revision } = yield* mirror.snapshot
      assert.deepStrictEqual([epoch, revision], [0, yield* etcd.revision])
    }).pipe(scenario))

  for (const [further, survivors] of [[1n, ["4 (1)", "5 (4)", "6 (5)"]], [2n, ["5 (1)", "6 (5)"]]] as const) {
    it.effect(`tells the same after another compaction in the meantime, ${further} further`, () =>
      Effect.gen(function*() {
        const etcd = yield* TestEtcd
        yield* put("1")
        const { listed, told } = yield* observed((at, reading) =>
          // The new watch is in step by now, so it goes on as if nothing had happened.
          reading === 1 ? Effect.zipRight(settle, etcd.compact(at + further)) : Effect.void
        )
        yield* etcd.down
        yield* put("2", "3")
        yield* etcd.compact()
        yield* put("4", "5", "6")
        yield* etcd.up
        yield* pass("10 seconds", "500 millis")
        assert.deepStrictEqual(told, ["m/a=1", ...survivors.map((version) => `m/a=${version}`)])
        assert.deepStrictEqual(listed, [4n, 4n + further])
      }).pipe(scenario))
  }

  it.effect("tells the same when etcd goes away in the meantime", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put("1")
      const { listed, tells, told } = yield* observed()
      yield* etcd.refuse(refusals.noLeader, { match: ({ operation }) => operation === "range", times: 20 })
      yield* etcd.down
      yield* put("2", "3")
      yield* etcd.compact()
      yield* put("4", "5")
      yield* etcd.up
      yield* tells("m/a=5 (4)")
      assert.deepStrictEqual(told, ["m/a=1", "m/a=3 (1)", "m/a=4 (3)", "m/a=5 (4)"])
      assert.isAbove(listed.length, 1)
    }).pipe(scenario))

  it.effect("does not go back where its copy was read after what was compacted", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* EtcdClient
      yield* put("1")
      // The watch stands; what follows does not reach it, only the list.
      const late: EtcdClient["Type"] = {
        ...client,
        pages: (request, options) =>
          Stream.unwrap(Effect.as(
            request.revision === undefined
              ? Effect.all([etcd.stall({ calls: false }), Effect.provideService(put("2", "3", "4"), TestEtcd, etcd)])
              : Effect.void,
            client.pages(request, options)
          ))
      }
      const mirror = yield* Effect.provideService(Mirror.make(range), EtcdClient, late)
      const told = yield* toldBy(mirror, showBoth)
      yield* whileTimePasses(mirror.ready)
      yield* etcd.down
      yield* etcd.resume
      yield* etcd.compact(4n)
      yield* put("5")
      yield* etcd.up
      yield* pass("10 seconds", "500 millis")
      assert.deepStrictEqual(told, ["m/a=4", "m/a=5 (4)"])
      assert.strictEqual((yield* mirror.snapshot).epoch, 0)
    }).pipe(scenario))

  it.effect("ends equal to another history that has begun in the meantime", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put("1", "2", "3")
      const { mirror, told } = yield* observed((_, reading) =>
        reading > 1 ? Effect.void : Effect.zipRight(
          etcd.restartWithoutData,
          etcd.putKey("m/b", "new")
        )
      )
      yield* etcd.down
      yield* put("4", "5")
      yield* etcd.compact()
      yield* etcd.up
      yield* pass("10 seconds", "500 millis")
      assert.deepStrictEqual(told, ["m/a=3", "-m/a (3)", "m/b=new"])
      const { epoch, revision } = yield* mirror.snapshot
      assert.deepStrictEqual([epoch, revision], [1, 2n])
    }).pipe(scenario))

  it.effect("keeps a history and the next apart, whichever of the two the new watch was of", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put("1")
      const { mirror, told } = yield* observed((_, reading) =>
        reading > 1 ? Effect.void : Effect.gen(function*() {
          // Until the watch has told of 4 and 5.
          yield* settle
          yield* etcd.restartWithoutData
          yield* Effect.forEach(["1", "2", "3"], (value) => etcd.putKey("m/new", value))
          yield* Effect.forkDaemon(Effect.zipRight(
            settle,
            Effect.forEach(["4", "5", "6", "7"], (value) => etcd.putKey("m/new", value))
          ))
        })
      )
      yield* etcd.down
      yield* put("2", "3")
      yield* etcd.compact()
      yield* put("4", "5")
      yield* etcd.up
      // Comparing, as after every new connection, would take longer than this.
      yield* pass("4 seconds", "500 millis")
      assert.deepStrictEqual((yield* mirror.entries).map(({ key }) => text(key)), ["m/new"])
      assert.isFalse(told.includes("m/a=5 (4)"))
    }).pipe(scenario))

  it.effect("has the same copy if nothing changed", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put("1")
      const { listed, mirror, told } = yield* observed()
      const before = yield* mirror.snapshot
      yield* etcd.down
      yield* etcd.putKey("other", "1")
      yield* etcd.putKey("other", "2")
      yield* etcd.compact()
      yield* etcd.up
      yield* pass("5 seconds", "500 millis")
      assert.deepStrictEqual(listed, [4n])
      assert.deepStrictEqual(told, ["m/a=1"])
      assert.strictEqual((yield* mirror.snapshot).entries, before.entries)
    }).pipe(scenario))

  it.effect("begins with the present where etcd has something that it cannot be told", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* put("1")
      const { told } = yield* observed()
      yield* etcd.refuse({ code: 8, details: "Received message larger than max" }, {
        match: ({ operation }) => operation === "watch",
        times: 2
      })
      yield* etcd.down
      yield* put("2", "3")
      yield* etcd.up
      yield* pass("10 seconds", "500 millis")
      assert.deepStrictEqual(told, ["m/a=1", "m/a=3 (1)"])
    }).pipe(scenario))
})

describe("a mirror that has lost an event without a word", () => {
  it.effect("is told by etcd what came after, and tells it", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* EtcdClient
      yield* put("1")
      let watches = 0
      const forgetful: EtcdClient["Type"] = {
        ...client,
        openWatch: (request, options) =>
          Effect.map(client.openWatch(request, options), (watch) => {
            if (watches++ > 0) return watch
            const next: typeof watch.next = Effect.flatMap(watch.next, (events) => {
              const kept = events.filter(({ kv }) => !["2", "4", "5"].includes(text(kv.value)))
              return kept.length === 0 ? next : Effect.succeed(kept)
            })
            return { ...watch, next }
          })
      }
      const mirror = yield* Effect.provideService(Mirror.make(range), EtcdClient, forgetful)
      const told = yield* toldBy(mirror, showBoth)
      yield* whileTimePasses(mirror.ready)
      yield* etcd.putKey("m/b", "2")
      yield* put("3", "4", "5")
      yield* pass("30 seconds", "2 seconds")
      assert.deepStrictEqual(told, ["m/a=1", "m/a=3 (1)"])
      yield* pass("1 minute", "2 seconds")
      // What was lost on the way to the copy's state is told as a difference, what came after it each version alone.
      assert.deepStrictEqual(told, ["m/a=1", "m/a=3 (1)", "m/b=2", "m/a=4 (3)", "m/a=5 (4)"])
    }).pipe((test) => scenario(test, { engine: { version: "3.4.23" } })))
})

/** What is done to etcd and to the connection, at random, and what must be true of all that was told. */
const survives = (steps: ReadonlyArray<readonly [action: string, n: number]>) =>
  Effect.gen(function*() {
    const etcd = yield* TestEtcd
    const client = yield* EtcdClient
    const { log, ready } = yield* MirrorCopy.make(client, range, { maxEvents: 3 })
    yield* ready
    /** Of each key, what stood there from one revision on. */
    const stood = new Map<string, Array<{ readonly revision: bigint; readonly value: string | undefined }>>()
    let compacted = 0n
    /** With what may have been gone when it was heard. */
    const told: Array<Array<{ readonly change: Mirror.Change; readonly compacted: bigint }>> = [[], []]
    const readers = yield* Effect.forEach(told, (heard) =>
      Effect.map(
        MirrorReader.reader(log, MirrorReader.replayOf(client, range), log.current() ?? assert.fail("no copy")),
        (next) => Effect.map(next, (changes) => heard.push(...changes.map((change) => ({ change, compacted }))))
      ))
    // One at once, one after everything.
    yield* Effect.forkScoped(Effect.forever(readers[0]))
    yield* readers[1]
    const change = (n: number, value: string | undefined) =>
      Effect.gen(function*() {
        const key = `m/${n}`
        const before = yield* etcd.revision
        yield* value === undefined ? etcd.deleteKey(key) : etcd.putKey(key, value)
        const revision = yield* etcd.revision
        if (revision === before) return
        stood.set(key, [...stood.get(key) ?? [], { revision, value }])
      })
    const actions: Record<string, (n: number) => Effect.Effect<unknown>> = {
      put: (n) =>
        Effect.replicateEffect(Effect.flatMap(etcd.revision, (revision) => change(n % 2, `v${revision}`)), n + 1),
      delete: (n) => change(n % 2, undefined),
      cut: () => etcd.disconnect,
      down: () => etcd.down,
      up: () => etcd.up,
      stall: () => etcd.stall(),
      resume: () => etcd.resume,
      compact: (n) =>
        Effect.flatMap(etcd.revision, (revision) => {
          const at = revision - BigInt(n)
          if (at <= compacted || at < 2n) return Effect.void
          compacted = at
          return etcd.compact(at)
        }),
      pass: () => pass("2 seconds", "500 millis"),
      "fail over": () => etcd.failOver
    }
    for (const [action, n] of steps) {
      yield* actions[action](n)
      for (let i = 0; i < n * 3; i++) yield* Effect.yieldNow()
    }
    yield* etcd.up
    yield* etcd.resume
    yield* change(3, "last")
    yield* Effect.forkScoped(Effect.forever(readers[1]))
    const isLast = ({ change }: typeof told[number][number]) =>
      change._tag === "Put" && text(change.kv.value) === "last"
    yield* whileTimePasses(until(() => told.every((heard) => heard.slice(-1).some(isLast))))
    for (const heard of told) {
      for (const [key, versions] of stood) {
        const own = heard.map(({ change, compacted }) => ({
          compacted,
          ...change._tag === "Put"
            ? { key: text(change.kv.key), revision: change.kv.modRevision, value: text(change.kv.value) }
            : { key: text(change.key), revision: change.modRevision, value: undefined }
        })).filter((one) => one.key === key)
        own.slice(1).forEach(({ revision }, index) => assert.isTrue(revision > own[index].revision, "in order"))
        versions.forEach(({ revision, value }, index) => {
          const next = own.find((one) => one.revision >= revision)
          // Where only its result was seen, a delete has the revision at which it was.
          if (next !== undefined && next.value === value && (value === undefined || next.revision === revision)) return
          const gone = value === undefined ? revision : versions.at(index + 1)?.revision
          assert.isTrue(gone !== undefined && gone <= (next?.compacted ?? compacted), `${key}@${revision} was not told`)
        })
      }
    }
  }).pipe(scenario)

describe("a mirror and its readers", () => {
  it(
    "tell every version that no compaction has taken, after any mixture of changes, cuts and compactions",
    () =>
      FastCheck.assert(
        FastCheck.asyncProperty(
          FastCheck.array(
            FastCheck.oneof(
              { weight: 6, arbitrary: FastCheck.tuple(FastCheck.constant("put"), FastCheck.nat(5)) },
              { weight: 1, arbitrary: FastCheck.tuple(FastCheck.constant("delete"), FastCheck.nat(5)) },
              { weight: 3, arbitrary: FastCheck.tuple(FastCheck.constant("compact"), FastCheck.nat(5)) },
              {
                weight: 5,
                arbitrary: FastCheck.tuple(
                  FastCheck.constantFrom("down", "down", "up", "cut", "stall", "resume", "pass", "fail over"),
                  FastCheck.nat(5)
                )
              }
            ),
            { maxLength: 60 }
          ),
          (steps) => Effect.runPromise(Effect.provide(survives(steps), TestContext.TestContext))
        ),
        { numRuns: Number(process.env.SURVIVING_RUNS ?? 40) }
      ),
    120_000
  )
})
