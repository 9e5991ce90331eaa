import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Txn from "../../../src/Txn.js"
import { type It, refused, test } from "../support.js"

const compactedDetail = "etcdserver: mvcc: required revision has been compacted"
const futureDetail = "etcdserver: mvcc: required revision is a future revision"

export const maintenance = (it: It) => {
  test(it, "tells the state of a member", ({ at, backend, client, puts }) =>
    Effect.gen(function*() {
      yield* puts("a=1")
      const [endpoint] = client.endpoints
      const status = yield* client.status(endpoint)
      assert.strictEqual(status.endpoint, endpoint)
      assert.isTrue(status.version.startsWith(backend.version), status.version)
      assert.strictEqual(status.revision, at(1))
      assert.notStrictEqual(status.memberId, 0n)
      assert.strictEqual(status.leader, status.memberId)
      assert.isTrue(status.raftTerm > 0n && status.dbSize > 0n)
      const { header } = yield* client.range({ key: "\0", limit: 1 })
      assert.deepStrictEqual([header.memberId, header.raftTerm], [status.memberId, status.raftTerm])
      assert.notStrictEqual(header.clusterId, 0n)
      yield* refused(client.status("elsewhere:1"), "InvalidRequest", /^elsewhere:1 is none of the endpoints /)
    }))

  test(it, "compacts: the state at the revision can be read, earlier ones cannot", (stage) =>
    Effect.gen(function*() {
      const { all, at, client, contents, k, kvs, puts } = stage
      yield* puts("a=1", "a=2", "b=1")
      yield* client.delete({ key: k("b") })
      yield* puts("a=3")
      const header = yield* client.compact(at(3))
      assert.strictEqual(header.revision, at(5))
      for (const revision of [at(2), at(0), 1n]) {
        yield* refused(client.range({ ...all, revision }), "Compacted", compactedDetail)
        yield* refused(client.range({ key: k("a"), revision, countOnly: true }), "Compacted", compactedDetail, k("a"))
        yield* refused(
          client.txn({ success: [Txn.put({ key: k("c"), value: "1" }), Txn.range({ key: k("a"), revision })] }),
          "Compacted",
          compactedDetail
        )
      }
      const past = (revision: number) => Effect.map(client.range({ ...all, revision: at(revision) }), (r) => kvs(r.kvs))
      assert.deepStrictEqual(yield* past(3), ["a=2 c1 m2 v2", "b=1 c3 m3 v1"])
      assert.deepStrictEqual(yield* past(4), ["a=2 c1 m2 v2"])
      assert.deepStrictEqual(yield* past(5), ["a=3 c1 m5 v3"])
      assert.deepStrictEqual(yield* contents, ["a=3 c1 m5 v3"])
      yield* client.compact(at(5), { physical: true })
      yield* refused(client.range({ ...all, revision: at(4) }), "Compacted", compactedDetail)
      yield* puts("b=2")
      assert.deepStrictEqual(yield* contents, ["a=3 c1 m5 v3", "b=2 c6 m6 v1"])
    }))

  test(
    it,
    "refuses to compact what is compacted, and what is not there yet",
    ({ at, client, puts, revision }) =>
      Effect.gen(function*() {
        yield* puts("a=1", "a=2", "a=3")
        yield* client.compact(at(2))
        for (const revision of [at(2), at(1), at(0), 1n, 0n, -1n]) {
          yield* refused(client.compact(revision), "Compacted", compactedDetail)
        }
        yield* refused(client.compact(at(4)), "FutureRevision", futureDetail)
        yield* refused(client.compact(at(4_000), { physical: true }), "FutureRevision", futureDetail)
        yield* client.compact(at(3))
        assert.strictEqual(yield* revision, 3)
      })
  )
}
