/** What is followed of the entries that are registered here: nothing that becomes of them is missed. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { EtcdClient } from "../../src/EtcdClient.js"
import type { InvalidArgument } from "../../src/EtcdError.js"
import * as OwnEntries from "../../src/internal/registry/ownEntries.js"
import * as Key from "../../src/Key.js"
import * as Mirror from "../../src/Mirror.js"
import * as TestEtcd from "../../src/testing.js"
import { settle } from "../support/memory.js"
import { inVirtualTime, until } from "../support/virtualTime.js"

const service = Key.prefix("/services/user/")

/** An entry that was put, and is followed from now on. */
const entry = (entries: OwnEntries.OwnEntries, id: number) =>
  Effect.gen(function*() {
    const etcd = yield* TestEtcd.TestEtcd
    const key = `/services/user/u${id}`
    yield* etcd.putKey(key, "{}")
    /** What was seen when it was told last. */
    let there: boolean | undefined
    const { seen } = yield* entries.join(key, service, () => {
      const shown = seen()
      there = shown === undefined ? undefined : HashMap.has(shown.snapshot.entries, Mirror.indexKey(key))
    })
    return { isThere: () => there, delete: etcd.deleteKey(key) }
  })

/** With an etcd of its own. */
const inEtcd = <A, E>(
  effect: Effect.Effect<A, E, EtcdClient | TestEtcd.TestEtcd | Scope.Scope>
): Effect.Effect<A, E | InvalidArgument> =>
  effect.pipe(
    Effect.scoped,
    Effect.provide(Layer.provideMerge(TestEtcd.client(), TestEtcd.layer())),
    inVirtualTime
  )

describe("an entry that is followed", () => {
  it.live("is known to be deleted, at whatever moment that is", () =>
    Effect.gen(function*() {
      for (let turns = 0; turns < 40; turns++) {
        yield* Effect.gen(function*() {
          const one = yield* entry(yield* OwnEntries.make, 1)
          for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow()
          yield* one.delete
          yield* until(Effect.sync(() => !one.isThere()))
        }).pipe(inEtcd)
      }
    }))

  it.live("is known to be deleted, though it came while those of its service were being read", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const entries = yield* OwnEntries.make
      yield* etcd.stall()
      // So many have a mirror together.
      const all = yield* Effect.forEach([1, 2, 3, 4, 5], (id) => entry(entries, id))
      yield* settle
      const late = yield* entry(entries, 6)
      yield* late.delete
      yield* etcd.resume
      yield* until(Effect.sync(() => all.every((one) => one.isThere()) && !late.isThere()))
      assert.strictEqual((yield* etcd.usage).watchers, 1)
    }).pipe(inEtcd))
})
