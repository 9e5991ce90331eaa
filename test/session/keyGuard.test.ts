import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Session from "../../src/Session.js"
import { refusals, TestEtcd } from "../../src/testing.js"
import { pass, scenario, settle, whileTimePasses } from "../support/memory.js"

/** More than have a watch of their own. */
const many = 100
/** So many have. */
const alone = 64

const watchers = Effect.flatMap(TestEtcd, (etcd) => Effect.map(etcd.usage, ({ watchers }) => watchers))

/** A session whose keys are guarded; `lost` are the folders whose keys went. */
const guarding = Effect.gen(function*() {
  const own = yield* Session.make({ ttl: "1 hour" })
  const lost: Array<string> = []
  const hold = (folder: string) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { entry } = yield* Scope.extend(own.enter({ folder, value: "" }), scope)
      const { createRevision, key } = Option.getOrThrow(entry)
      const guarded = own.guardKey({ entry: { key, createRevision }, onDeleted: () => lost.push(folder) })
      return { key, release: Effect.zipRight(Effect.sync(() => guarded.end()), Scope.close(scope, Exit.void)) }
    })
  const holdAll = (from: number, to: number) =>
    Effect.forEach(Array.from({ length: to - from }, (_, index) => `/locks/${from + index}/`), hold)
  const hears = (...folders: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      yield* whileTimePasses(
        Effect.repeat(Effect.yieldNow(), { until: () => lost.length >= folders.length })
      )
      yield* settle
      assert.deepStrictEqual(lost.splice(0).sort(), folders.slice().sort())
    })
  return { hold, holdAll, hears, lost }
})

describe("the keys of a session", () => {
  it.effect("are watched one by one while there are few, and together where there are many", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { hears, holdAll } = yield* guarding
      const held = yield* holdAll(0, many)
      assert.strictEqual(yield* watchers, 0, "nothing is watched that is not held for a while")
      yield* pass("1 second")
      assert.strictEqual(yield* watchers, alone + 1)
      yield* etcd.resetUsage
      yield* pass("1 minute", "1 second")
      assert.strictEqual((yield* etcd.usage).calls.range, 0, "all is well")
      yield* etcd.putKey("/locks/somebody/else", "")
      yield* etcd.deleteKey("/locks/somebody/else")
      yield* Effect.forEach(held, ({ key }, index) => index % 7 === 0 ? etcd.deleteKey(key) : Effect.void)
      yield* hears(...held.flatMap((_, index) => index % 7 === 0 ? [`/locks/${index}/`] : []))
      yield* Effect.forEach(held, ({ release }) => release)
      yield* settle
      assert.strictEqual(yield* watchers, 0)
    }).pipe(scenario))

  it.effect("may have been deleted before they are watched together, and the delete be compacted away", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { hears, holdAll } = yield* guarding
      const held = yield* holdAll(0, many)
      yield* etcd.deleteKey(held[90].key)
      yield* etcd.putKey("x", "y")
      yield* etcd.compact()
      yield* hears("/locks/90/")
    }).pipe(scenario))

  it.effect("join a watch that stands, and may have been deleted before that", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { hears, holdAll } = yield* guarding
      yield* holdAll(0, many)
      yield* pass("1 second")
      const later = yield* holdAll(many, many + 10)
      yield* etcd.deleteKey(later[3].key)
      yield* hears("/locks/103/")
      yield* etcd.deleteKey(later[5].key)
      yield* hears("/locks/105/")
      assert.strictEqual(yield* watchers, alone + 1)
    }).pipe(scenario))

  it.effect("are watched in the narrowest folder, which widens", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const folders: Array<string> = []
      // Refuses nothing: it only looks on.
      yield* etcd.refuse(refusals.permissionDenied, {
        match: ({ keys, operation }) => {
          if (operation === "watch" && keys[0].endsWith("/")) folders.push(keys[0])
          return false
        }
      })
      const { hears, hold, holdAll } = yield* guarding
      yield* holdAll(0, alone)
      yield* pass("1 second")
      yield* hold("/locks/orders/1/")
      const second = yield* hold("/locks/orders/12/")
      yield* pass("1 second")
      const [other, semaphore] = [yield* hold("/locks/other/"), yield* hold("/semaphores/a/")]
      yield* pass("1 second")
      assert.deepStrictEqual(
        folders.map((folder) => folder.replace(/[0-9a-f]{10,}/, "…")),
        ["/locks/orders/", "/locks/", "/semaphores/a/"]
      )
      assert.strictEqual(yield* watchers, alone + 2)
      for (const { key } of [second, other, semaphore]) yield* etcd.deleteKey(key)
      yield* hears("/locks/orders/12/", "/locks/other/", "/semaphores/a/")
    }).pipe(scenario))

  it.effect("are held anew under the same name, without false alarm", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { hears, hold, holdAll, lost } = yield* guarding
      const held = yield* holdAll(0, many)
      yield* pass("1 second")
      yield* held[90].release
      const again = yield* hold("/locks/90/")
      assert.strictEqual(again.key, held[90].key)
      yield* pass("1 second")
      yield* held[91].release
      yield* pass("1 second")
      assert.deepStrictEqual(lost, [])
      yield* etcd.deleteKey(again.key)
      yield* hears("/locks/90/")
    }).pipe(scenario))

  it.effect("are released while they are about to be watched, and leave no watch behind", () =>
    Effect.gen(function*() {
      const { holdAll, lost } = yield* guarding
      const held = yield* holdAll(0, many)
      yield* pass("200 millis", "200 millis")
      yield* Effect.forEach(held, ({ release }) => release)
      yield* pass("1 second")
      assert.strictEqual(yield* watchers, 0)
      assert.deepStrictEqual(lost, [])
    }).pipe(scenario))

  it.effect("are watched one by one where etcd refuses to have them watched together", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      yield* etcd.refuse(refusals.permissionDenied, {
        match: ({ keys, operation }) => operation === "watch" && keys[0].endsWith("/"),
        times: Infinity
      })
      const { hears, holdAll } = yield* guarding
      const held = yield* holdAll(0, many)
      yield* etcd.deleteKey(held[90].key)
      yield* hears("/locks/90/")
      yield* pass("1 second")
      const later = yield* holdAll(many, many + 10)
      yield* pass("1 second")
      assert.strictEqual(yield* watchers, many - 1 + 10)
      yield* etcd.deleteKey(held[91].key)
      yield* etcd.deleteKey(later[0].key)
      yield* hears("/locks/91/", "/locks/100/")
    }).pipe(scenario))

  it.effect("are looked at again after an outage in which history was lost", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { hears, holdAll, lost } = yield* guarding
      const held = yield* holdAll(0, many)
      yield* pass("1 second")
      yield* etcd.down
      yield* pass("10 seconds")
      yield* etcd.deleteKey(held[10].key)
      yield* etcd.deleteKey(held[90].key)
      yield* etcd.putKey("x", "y")
      yield* etcd.compact()
      yield* etcd.up
      yield* hears("/locks/10/", "/locks/90/")
      yield* pass("10 seconds")
      assert.deepStrictEqual(lost, [])
    }).pipe(scenario))
})
