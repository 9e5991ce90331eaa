import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Config from "../../src/Config.js"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as TestEtcd from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { text } from "../support/memory.js"
import { embedded } from "./support.js"

const show = (entry: Config.HistoryEntry<number>): string => {
  switch (entry._tag) {
    case "Put":
      return `${entry.version}=${entry.value}`
    case "Delete":
      return `${entry.version} deleted`
    case "Invalid":
      return `${entry.version} invalid ${text(Redacted.value(entry.raw))}`
    case "Compacted":
      return `compacted before ${entry.before}`
  }
}

const kept = (key: string) =>
  Effect.map(Stream.runCollect(Config.history(key, Schema.Int)), (entries) => Array.from(entries, show))

/** So many revisions of etcd that have nothing to do with the key. */
const others = (count: number) =>
  Effect.flatMap(
    TestEtcd.TestEtcd,
    (etcd) => Effect.forEach(Array.from({ length: count }), () => etcd.putKey("/other", ""), { discard: true })
  )

/** Lives of one key, far from each other. */
const lives = Effect.gen(function*() {
  const etcd = yield* TestEtcd.TestEtcd
  const versions: Array<bigint> = []
  const put = (value: string) => Effect.map(etcd.putKey("/config/a", value), (version) => void versions.push(version))
  const remove = Effect.flatMap(
    etcd.deleteKey("/config/a"),
    () => Effect.map(etcd.revision, (version) => void versions.push(version))
  )
  yield* others(3)
  yield* put("1")
  yield* put("2")
  yield* others(250)
  yield* remove
  yield* others(1_000)
  // So short that no larger step would meet it.
  yield* put("3")
  yield* remove
  yield* others(120)
  yield* put("x")
  yield* others(5)
  yield* put("4")
  yield* remove
  yield* others(333)
  const [one, two, gone, three, goneAgain, invalid, four, goneAtLast] = versions
  return {
    versions,
    all: [
      `${goneAtLast} deleted`,
      `${four}=4`,
      `${invalid} invalid x`,
      `${goneAgain} deleted`,
      `${three}=3`,
      `${gone} deleted`,
      `${two}=2`,
      `${one}=1`
    ]
  }
})

describe("the history of a key", () => {
  it.effect("has all its lives, newest first", () =>
    Effect.gen(function*() {
      const { all } = yield* lives
      assert.deepStrictEqual(yield* kept("a"), all)
      const again = yield* Config.set("a", Schema.Int, 5)
      assert.deepStrictEqual(yield* kept("a"), [`${again}=5`, ...all])
      assert.deepStrictEqual(yield* kept("b"), [])
    }).pipe(Effect.provide(embedded())))

  it.effect("has the shortest lives, however far away", () =>
    Effect.gen(function*() {
      const { deleteKey, putKey } = yield* TestEtcd.TestEtcd
      const keys = Array.from({ length: 160 }, (_, index) => `short/${index}`)
      const lived = yield* Effect.forEach(keys, (key) =>
        Effect.gen(function*() {
          const version = yield* putKey(`/config/${key}`, "1")
          yield* deleteKey(`/config/${key}`)
          return [`${version + 1n} deleted`, `${version}=1`]
        }))
      // Those next to where the first three calls end.
      const atTheEdges = <A>(all: ReadonlyArray<A>) => [5, 55, 105].flatMap((from) => all.slice(from, from + 10))
      for (const again of [1, 2]) {
        assert.deepStrictEqual(yield* Effect.forEach(atTheEdges(keys), kept), atTheEdges(lived))
        yield* others(again)
      }
    }).pipe(Effect.provide(embedded())))

  it.effect("says where it was cut, wherever that is", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { all, versions } = yield* lives
      const [one, two, gone, three, goneAgain, invalid, four, goneAtLast] = versions
      const cuts: ReadonlyArray<readonly [at: bigint, entries: number, before: bigint]> = [
        // The version that was there at the revision of the compaction stays.
        [one, 8, one],
        [two + 100n, 7, two],
        [gone - 1n, 7, two],
        // Of a delete nothing stays.
        [gone, 5, gone],
        [gone + 500n, 5, gone + 500n],
        [three, 5, three],
        [goneAgain, 3, goneAgain],
        [goneAgain + 1n, 3, goneAgain + 1n],
        [invalid + 2n, 3, invalid],
        [four, 2, four],
        [goneAtLast, 0, goneAtLast],
        [goneAtLast + 333n, 0, goneAtLast + 333n]
      ]
      for (const [at, entries, before] of cuts) {
        yield* etcd.compact(at)
        assert.deepStrictEqual(yield* kept("a"), [...all.slice(0, entries), `compacted before ${before}`], `at ${at}`)
      }
      assert.deepStrictEqual(yield* kept("b"), [`compacted before ${goneAtLast + 333n}`])
    }).pipe(Effect.provide(embedded())))

  it.effect("goes on truthfully when etcd is compacted meanwhile", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const { all, versions } = yield* lives
      const entries = yield* Config.history("a", Schema.Int).pipe(
        Stream.tap((entry) => entry._tag === "Invalid" ? etcd.compact(versions[5]) : Effect.void),
        Stream.runCollect
      )
      assert.deepStrictEqual(Array.from(entries, show), [...all.slice(0, 3), `compacted before ${versions[5]}`])
    }).pipe(Effect.provide(embedded())))

  it.effect("reads no more than is taken", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      for (let i = 0; i < 20; i++) yield* Config.set("a", Schema.Int, i)
      yield* etcd.resetUsage
      const entries = yield* Stream.runCollect(Stream.take(Config.history("a", Schema.Int), 3))
      assert.lengthOf(Array.from(entries), 3)
      assert.isAtMost((yield* etcd.usage).calls.range, 4)
    }).pipe(Effect.provide(embedded())))

  it.effect("fails when etcd refuses", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      yield* etcd.refuse(TestEtcd.refusals.permissionDenied)
      const error = yield* Effect.flip(kept("a"))
      assert.isTrue(error._tag === "EtcdError" && error.reason === "PermissionDenied")
    }).pipe(Effect.provide(embedded())))
})

describe("the past", () => {
  it.effect("that was compacted says from where on it can be read", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const first = yield* Config.set("a", Schema.Int, 1)
      yield* others(700)
      const middle = yield* Config.set("a", Schema.Int, 2)
      yield* others(300)
      yield* etcd.compact(middle)
      for (
        const read of [
          Config.getAt("a", Schema.Int, first),
          Config.list("", Schema.Int, { revision: first }),
          Config.rollback("a", first)
        ]
      ) {
        const error = yield* Effect.flip(Effect.asVoid<unknown, unknown, Config.Config>(read))
        assert.instanceOf(error, Config.RevisionCompacted)
        if (error instanceof Config.RevisionCompacted) {
          assert.deepStrictEqual([error.revision, error.oldest], [first, middle])
        }
      }
      assert.deepStrictEqual(yield* Config.getAt("a", Schema.Int, middle), { value: 2, version: middle })
      const error = yield* Effect.flip(Config.getAt("a", Schema.Int, middle - 1n))
      assert.strictEqual(
        error.message,
        `config "a" cannot be read at revision ${
          middle - 1n
        }: it was compacted; the oldest that can be read is ${middle}`
      )
    }).pipe(Effect.provide(embedded())))

  it.effect("that has not come says how far etcd is", () =>
    Effect.gen(function*() {
      const version = yield* Config.set("a", Schema.Int, 1)
      for (
        const read of [
          Effect.flip(Config.getAt("a", Schema.Int, version + 1n)),
          Effect.flip(Config.list("", Schema.Int, { revision: version + 1n }))
        ]
      ) {
        const error = yield* read
        assert.isTrue(error._tag === "FutureRevision" && error.newest === version && error.revision === version + 1n)
      }
    }).pipe(Effect.provide(embedded())))

  it.effect("begins at revision 1, and anything else is refused at once", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const errors = yield* Effect.all([
        Effect.flip(Config.getAt("a", Schema.Int, 0n)),
        Effect.flip(Config.getAt("a", Schema.Int, 1 as any)),
        Effect.flip(Config.list("", Schema.Int, { revision: -1n })),
        Effect.flip(Config.rollback("a", 0n)),
        Effect.flip(Config.rollback("a", 1n, { expected: -1n }))
      ])
      assert.deepStrictEqual(
        errors.map((error) => error._tag === "InvalidArgument" ? error.argument : error._tag),
        ["revision", "revision", "revision", "version", "expected"]
      )
      assert.strictEqual((yield* etcd.usage).calls.range, 0)
    }).pipe(Effect.provide(embedded())))
})

describe("a rollback", () => {
  it.effect("overwrites nobody's write unseen", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const first = yield* Config.set("a", Schema.Int, 1)
      const second = yield* Config.set("a", Schema.Int, 2)
      const third = yield* Config.set("a", Schema.Int, 3)
      const error = yield* Effect.flip(Config.rollback("a", first, { expected: second }))
      assert.isTrue(error._tag === "VersionConflict" && error.expected === second && error.actual === third)
      const version = yield* Config.rollback("a", first, { expected: third })
      assert.deepStrictEqual(yield* Config.getWithVersion("a", Schema.Int), { value: 1, version })
      const client = yield* EtcdClient
      const overtaken: EtcdClient["Type"] = {
        ...client,
        txn: (request, options) => Effect.zipRight(etcd.putKey("/config/a", "5"), client.txn(request, options))
      }
      const config = yield* Effect.provideService(Config.make(), EtcdClient, overtaken)
      const unseen = yield* Effect.flip(config.rollback("a", first))
      assert.isTrue(unseen._tag === "VersionConflict" && unseen.expected === version)
      assert.strictEqual(yield* Config.get("a", Schema.Int), 5)
    }).pipe(Effect.scoped, Effect.provide(embedded())))

  it.effect("brings back what was deleted, byte for byte", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const version = yield* etcd.putKey("/config/a", " { \"x\" : 1 } ")
      yield* Config.delete("a")
      yield* Config.rollback("a", version)
      assert.strictEqual(
        text((yield* etcd.snapshot).filter(({ key }) => text(key) === "/config/a")[0].value),
        " { \"x\" : 1 } "
      )
      const error = yield* Effect.flip(Config.rollback("never", version))
      assert.isTrue(error._tag === "NotFound" && error.key === "never" && error.revision === version)
      assert.strictEqual(error.message, `there was no config "never" at revision ${version}`)
    }).pipe(Effect.provide(embedded())))

  it.effect("is done once when the answer is lost, and depends on its guard", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const first = yield* Config.set("a", Schema.Int, 1)
      yield* Config.set("a", Schema.Int, 2)
      const guard = Txn.exists("/lock")
      assert.strictEqual((yield* Effect.flip(Config.rollback("a", first, { guard })))._tag, "GuardFailed")
      yield* etcd.putKey("/lock", "")
      yield* etcd.loseResponse({ match: ({ operation }) => operation === "txn" })
      const version = yield* Config.rollback("a", first, { guard })
      const [kv] = (yield* etcd.snapshot).filter(({ key }) => text(key) === "/config/a")
      assert.deepStrictEqual([kv.version, kv.modRevision, text(kv.value)], [3n, version, "1"])
    }).pipe(Effect.provide(embedded())))
})
