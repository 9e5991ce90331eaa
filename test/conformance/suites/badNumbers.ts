import { assert } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { WatchError } from "../../../src/EtcdClient.js"
import { EtcdError } from "../../../src/EtcdError.js"
import * as Txn from "../../../src/Txn.js"
import { type It, test } from "../support.js"

/** The first number that etcd's 64 bits cannot hold. */
const tooLarge = 1n << 63n

/** Refused as a bad request, and known not to be applied: it cannot even be sent. */
const refused = <A, R>(
  call: () => Effect.Effect<A, WatchError, R>
): Effect.Effect<void, never, R> =>
  Effect.map(Effect.either(Effect.suspend(call)), (either) => {
    const error = either._tag === "Left" ? either.left : either
    assert.instanceOf(error, EtcdError)
    assert.deepStrictEqual([error.reason, error.mayBeApplied], ["InvalidRequest", false], error.message)
  })

export const badNumbers = (it: It) => {
  test(it, "refuses revisions and versions beyond 64 bits", ({ client, k }) =>
    Effect.gen(function*() {
      yield* refused(() => client.range({ key: k("a"), revision: tooLarge }))
      yield* refused(() => client.range({ key: k("a"), minModRevision: tooLarge }))
      yield* refused(() => client.compact(tooLarge))
      yield* refused(() => client.txn({ compare: [Txn.version(k("a"), "=", tooLarge)] }))
      yield* refused(() => client.txn({ success: [Txn.range({ key: k("a"), revision: tooLarge })] }))
    }))

  test(it, "refuses lease ids beyond 64 bits", ({ client, k }) =>
    Effect.gen(function*() {
      yield* refused(() => client.leaseGrant({ id: tooLarge, ttl: "60 seconds" }))
      yield* refused(() => client.leaseTimeToLive(tooLarge))
      yield* refused(() => client.leaseRevoke(tooLarge))
      yield* refused(() => client.put({ key: k("a"), value: "", lease: tooLarge }))
    }))

  test(it, "refuses to renew a lease id beyond 64 bits, and renews the others", ({ client }) =>
    Effect.gen(function*() {
      const { id } = yield* client.leaseGrant({ ttl: "60 seconds" })
      const [, renewed] = yield* Effect.all([
        refused(() => client.leaseKeepAliveOnce(tooLarge)),
        client.leaseKeepAliveOnce(id)
      ], { concurrency: "unbounded" })
      assert.strictEqual(renewed.id, id)
      yield* client.leaseRevoke(id)
    }))

  test(it, "refuses times to live that no lease has", ({ client }) =>
    Effect.gen(function*() {
      yield* refused(() => client.leaseGrant({ ttl: Duration.infinity }))
      yield* refused(() => client.leaseGrant({ ttl: Number.NaN }))
    }))

  test(it, "refuses limits that are no whole numbers", ({ all, client }) =>
    Effect.gen(function*() {
      yield* refused(() => client.range({ ...all, limit: 1.5 }))
      yield* refused(() => client.range({ ...all, limit: Number.NaN }))
      yield* refused(() => client.range({ ...all, limit: Infinity }))
    }))

  test(it, "refuses a watch from a revision beyond 64 bits, and lets the others be", (stage) =>
    Effect.gen(function*() {
      const { all, client, expectEvents, puts } = stage
      const kept = yield* client.openWatch(all)
      yield* refused(() => client.openWatch({ ...all, startRevision: tooLarge }, { timeout: "2 seconds" }))
      assert.strictEqual((yield* client.watchConnection.get)._tag, "Connected")
      yield* puts("a=1")
      yield* expectEvents(kept, ["+a=1 c1 m1 v1"])
    }))
}
