/** What a call says whose answer was lost on the way, after etcd had carried it out. */
import { assert, layer } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Stream from "effect/Stream"
import type { CallOptions } from "../../src/EtcdClient.js"
import type { EtcdError } from "../../src/EtcdError.js"
import * as Txn from "../../src/Txn.js"
import * as EtcdCluster from "../support/EtcdCluster.js"
import * as EtcdServer from "../support/EtcdServer.js"
import { frameTypes } from "../support/http2Frames.js"
import { leasesOf } from "../support/leases.js"
import * as TcpProxy from "../support/TcpProxy.js"
import type { Client } from "./support.js"
import { below, connect, failure, outcome, show, take, text, until, write } from "./support.js"

/** The call's own outcome, once its answer was lost. */
const losing = <A>(proxy: TcpProxy.TcpProxy, call: Effect.Effect<A, EtcdError>) =>
  Effect.gen(function*() {
    const { lost } = yield* proxy.loseResponse()
    const result = yield* Effect.either(call)
    yield* lost
    return result
  })

/** A call that says that it does not know. */
const inDoubt = (proxy: TcpProxy.TcpProxy, call: Effect.Effect<unknown, EtcdError>) =>
  Effect.gen(function*() {
    const { frames } = yield* proxy.recordFrames
    const result = yield* losing(proxy, call)
    if (Either.isRight(result)) return assert.fail("the answer was lost, and yet the call has succeeded")
    assert.deepStrictEqual(outcome(result.left), ["Unavailable", true])
    assert.strictEqual(result.left.endpoint, proxy.endpoint)
    assert.match(result.left.message, /may have been applied/)
    const requests = (yield* frames).filter(({ type, way }) => way === "up" && type === frameTypes.headers)
    assert.lengthOf(requests, 1)
    return result.left
  })

/** A call that is none the worse for it. */
const unharmed = <A>(proxy: TcpProxy.TcpProxy, call: Effect.Effect<A, EtcdError>) =>
  Effect.flatMap(losing(proxy, call), (result) =>
    Either.isRight(result)
      ? Effect.succeed(result.right)
      : Effect.die(result.left))

/** What is stored: the value, and how often it was written. */
const stored = (client: Client, key: string) =>
  Effect.map(client.range({ key }), ({ kvs }) => kvs.map(({ value, version }) => `${text(value)}, version ${version}`))

const createIfAbsent = (key: string, value: string): Txn.TxnRequest => ({
  compare: [Txn.absent(key)],
  success: [Txn.put({ key, value })],
  failure: [Txn.range({ key })]
})

layer(EtcdServer.layer({ version: "3.5" }), { excludeTestServices: true })("an answer that was lost", (it) => {
  const setup = Effect.gen(function*() {
    const server = yield* EtcdServer.EtcdServer
    const proxy = yield* TcpProxy.make(server.endpoint)
    const client = yield* connect({ endpoints: proxy.endpoint })
    return { server, proxy, client, direct: yield* connect({ endpoints: server.endpoint }) }
  })

  it.scoped("of a put: it may be applied, and was applied once", () =>
    Effect.gen(function*() {
      const { client, direct, proxy } = yield* setup
      const error = yield* inDoubt(proxy, client.put({ key: "put", value: "1" }))
      assert.deepStrictEqual([error.operation, error.key], ["put", "put"])
      assert.deepStrictEqual(yield* stored(direct, "put"), ["1, version 1"])
    }))

  it.scoped("of a put that may be repeated: it is", () =>
    Effect.gen(function*() {
      const { client, direct, proxy } = yield* setup
      const { header } = yield* unharmed(proxy, client.put({ key: "twice", value: "1" }, { idempotent: true }))
      assert.deepStrictEqual(yield* stored(direct, "twice"), ["1, version 2"])
      const [kv] = (yield* direct.range({ key: "twice" })).kvs
      assert.strictEqual(header.revision, kv.modRevision)
    }))

  it.scoped("of a delete: it may be applied, and was", () =>
    Effect.gen(function*() {
      const { client, direct, proxy } = yield* setup
      yield* direct.put({ key: "delete", value: "" })
      const error = yield* inDoubt(proxy, client.delete({ key: "delete" }))
      assert.deepStrictEqual([error.operation, error.key], ["delete", "delete"])
      assert.deepStrictEqual(yield* stored(direct, "delete"), [])
      // Whoever allows the repetition hears what is true of it: there was nothing left to delete.
      yield* direct.put({ key: "delete", value: "" })
      const { deleted } = yield* unharmed(proxy, client.delete({ key: "delete" }, { idempotent: true }))
      assert.strictEqual(deleted, 0n)
    }))

  it.scoped("of a transaction that creates what is not there: in doubt, and not a conflict with itself", () =>
    Effect.gen(function*() {
      const { client, direct, proxy } = yield* setup
      const error = yield* inDoubt(proxy, client.txn(createIfAbsent("create", "mine")))
      assert.deepStrictEqual([error.operation, error.key], ["txn", "create"])
      assert.deepStrictEqual(yield* stored(direct, "create"), ["mine, version 1"])
      // A real conflict is told as one, and nothing is in doubt about it afterwards.
      yield* inDoubt(proxy, client.txn(createIfAbsent("create", "other")))
      assert.isFalse((yield* client.txn(createIfAbsent("create", "other"))).succeeded)
      assert.deepStrictEqual(yield* stored(direct, "create"), ["mine, version 1"])
    }))

  it.scoped("of a refusal: in doubt as well, for nobody knows what it was", () =>
    Effect.gen(function*() {
      const { client, direct, proxy } = yield* setup
      const put = (options?: CallOptions) => client.put({ key: "refused", value: "", lease: 1n }, options)
      yield* inDoubt(proxy, put())
      const result = yield* Effect.flip(losing(proxy, put({ idempotent: true })).pipe(Effect.flatten))
      // The repetition is refused; what the first sending came to remains unknown.
      assert.deepStrictEqual(outcome(result), ["LeaseNotFound", true])
      assert.deepStrictEqual(yield* stored(direct, "refused"), [])
    }))

  it.scoped("of a compaction: it may be applied, and was", () =>
    Effect.gen(function*() {
      const { client, direct, proxy } = yield* setup
      const [{ header: first }, { header: second }] = yield* Effect.all([
        direct.put({ key: "compact", value: "1" }),
        direct.put({ key: "compact", value: "2" })
      ])
      yield* inDoubt(proxy, client.compact(second.revision))
      const error = yield* failure(direct.range({ key: "compact", revision: first.revision }))
      assert.strictEqual(error.reason, "Compacted")
    }))

  it.scoped("of a lease's grant: it is granted, once and under the same id", () =>
    Effect.gen(function*() {
      const { client, proxy, server } = yield* setup
      const before = yield* leasesOf(server)
      const chosen = yield* unharmed(proxy, client.leaseGrant({ ttl: "1 minute", id: 7_000_000_000n }))
      assert.deepStrictEqual([chosen.id, Duration.toSeconds(chosen.ttl)], [7_000_000_000n, 60])
      const { id } = yield* unharmed(proxy, client.leaseGrant({ ttl: "1 minute" }))
      const after = yield* leasesOf(server)
      assert.deepStrictEqual(after.filter((one) => !before.includes(one)).sort(), [chosen.id, id].sort())
      // It is a lease like any other.
      assert.strictEqual(Duration.toSeconds((yield* client.leaseKeepAliveOnce(id)).ttl), 60)
      yield* client.put({ key: "leased", value: "", lease: id })
    }))

  it.scoped("of a lease's grant under an id that is taken: nobody hears of the refusal, and the lease is there", () =>
    Effect.gen(function*() {
      const { client, direct, proxy } = yield* setup
      yield* direct.leaseGrant({ ttl: "1 minute", id: 8_000_000_000n })
      const grant = client.leaseGrant({ ttl: "1 minute", id: 8_000_000_000n })
      // With the refusal lost, the second one looks just as if the first sending had granted the lease.
      assert.deepStrictEqual(outcome(yield* failure(grant)), ["LeaseExists", false])
      assert.strictEqual((yield* unharmed(proxy, grant)).id, 8_000_000_000n)
    }))

  it.scoped("of a lease's revocation: it is revoked", () =>
    Effect.gen(function*() {
      const { client, direct, proxy, server } = yield* setup
      const { id } = yield* direct.leaseGrant({ ttl: "1 minute" })
      yield* direct.put({ key: "revoked", value: "", lease: id })
      yield* unharmed(proxy, client.leaseRevoke(id))
      assert.notInclude(yield* leasesOf(server), id)
      assert.deepStrictEqual(yield* stored(direct, "revoked"), [])
    }))

  it.scoped("of anything that only reads: it is read again", () =>
    Effect.gen(function*() {
      const { client, direct, proxy } = yield* setup
      const { id } = yield* direct.leaseGrant({ ttl: "1 minute" })
      yield* Effect.forEach(["/read/1", "/read/2", "/read/3"], (key) =>
        direct.put({ key, value: key.repeat(20_000), lease: id }))
      const reads: Record<string, Effect.Effect<number, EtcdError>> = {
        get: Effect.map(client.get("/read/1"), ({ _tag }) =>
          _tag === "Some" ? 3 : 0),
        range: Effect.map(client.range(below("/read/")), ({ kvs }) => kvs.length),
        txn: Effect.map(
          client.txn({ compare: [Txn.exists("/read/1")], success: [Txn.range(below("/read/"))] }),
          ({ responses: [first] }) => first._tag === "Range" ? first.response.kvs.length : 0
        ),
        leaseTimeToLive: Effect.map(client.leaseTimeToLive(id, { keys: true }), ({ keys }) => keys.length),
        status: Effect.as(client.status(client.endpoints[0]), 3)
      }
      for (const [name, read] of Object.entries(reads)) {
        assert.deepStrictEqual([name, yield* unharmed(proxy, read)], [name, 3])
      }
      // The second of three pages.
      const { lost } = yield* proxy.loseResponse({ after: 1 })
      const pages = yield* Stream.runCollect(client.pages(below("/read/"), { pageSize: 1 }))
      yield* lost
      const keys = Chunk.toReadonlyArray(pages).flatMap(({ kvs }) => kvs.map(({ key }) => text(key)))
      assert.deepStrictEqual(keys, ["/read/1", "/read/2", "/read/3"])
    }))

  it.scoped("among many calls and a watch on one connection: each says what is true of itself", () =>
    Effect.gen(function*() {
      const { client, direct, proxy } = yield* setup
      const watch = yield* client.openWatch(below("/many/"))
      for (const after of [0, 1, 5]) {
        const prefix = `/many/${after}/`
        const { lost } = yield* proxy.loseResponse({ after })
        const results = yield* Effect.forEach(Array.from({ length: 40 }, (_, index) => index), (index) => {
          const idempotent = index % 2 === 0
          return Effect.map(
            Effect.either(client.put({ key: `${prefix}${index}`, value: "" }, { idempotent })),
            (result) => ({ key: `${prefix}${index}`, idempotent, result })
          )
        }, { concurrency: "unbounded" })
        // Where few answers were needed for all of them, a later one is the one that is lost.
        yield* Effect.forEach(Array.from({ length: after }), () => Effect.either(client.get("key")))
        yield* lost
        const present = new Map(
          (yield* direct.range(below(prefix))).kvs.map(({ key, version }) => [text(key), version] as const)
        )
        for (const { idempotent, key, result } of results) {
          if (Either.isRight(result)) {
            assert.isTrue(present.has(key), `${key} was acknowledged`)
            if (!idempotent) assert.strictEqual(present.get(key), 1n)
          } else {
            assert.isFalse(idempotent, `${key} could have been repeated: ${result.left.message}`)
            assert.deepStrictEqual(outcome(result.left), ["Unavailable", true], key)
            assert.isTrue((present.get(key) ?? 0n) <= 1n, key)
          }
        }
        // The watch was not taken for a call, and goes on.
        yield* until("its connection", Effect.map(client.watchConnection.get, ({ _tag }) => _tag === "Connected"))
      }
      const { header } = yield* direct.put({ key: "/many/last", value: "" })
      const { kvs } = yield* direct.range({ ...below("/many/"), revision: header.revision })
      const writes = kvs.map(({ version }) => Number(version)).reduce((a, b) => a + b)
      const seen = yield* take(watch, writes)
      assert.lengthOf(seen, writes)
      assert.strictEqual(seen[writes - 1].kv.modRevision, header.revision)
      assert.lengthOf(new Set(seen.map(show)), writes)
    }))
})

layer(EtcdCluster.layer({ version: "3.5" }), { excludeTestServices: true, timeout: "60 seconds" })(
  "an answer that a member of three has lost",
  (it) => {
    const setup = Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      const proxies = yield* Effect.forEach(cluster.endpoints, TcpProxy.make)
      const client = yield* connect({ endpoints: proxies.map(({ endpoint }) => endpoint) })
      /** The proxy before the member that is asked at present. */
      const used = Effect.gen(function*() {
        yield* client.get("key")
        const open = yield* Effect.forEach(proxies, ({ open }) => open)
        assert.deepStrictEqual(open.filter((count) => count > 0), [1])
        return proxies[open.findIndex((count) => count > 0)]
      })
      return { cluster, proxies, client, used, direct: yield* connect({ endpoints: cluster.endpoints }) }
    })

    it.scoped("of a put: it may be applied, and is not sent to another", () =>
      Effect.gen(function*() {
        const { client, direct, used } = yield* setup
        const first = yield* used
        yield* inDoubt(first, client.put({ key: "put", value: "1" }))
        assert.deepStrictEqual(yield* stored(direct, "put"), ["1, version 1"])
        assert.notStrictEqual(yield* used, first)
      }))

    it.scoped("of a put that may be repeated: another member does it, and the third if need be", () =>
      Effect.gen(function*() {
        const { client, direct, proxies, used } = yield* setup
        const first = yield* used
        yield* unharmed(first, client.put({ key: "twice", value: "1" }, { idempotent: true }))
        assert.deepStrictEqual(yield* stored(direct, "twice"), ["1, version 2"])
        const second = yield* used
        assert.notStrictEqual(second, first)
        const third = proxies.find((proxy) => proxy !== first && proxy !== second) ?? first
        const { lost } = yield* third.loseResponse()
        yield* unharmed(second, client.put({ key: "three times", value: "1" }, { idempotent: true }))
        yield* lost
        assert.deepStrictEqual(yield* stored(direct, "three times"), ["1, version 3"])
        assert.strictEqual(yield* used, first)
      }))

    it.scoped("of a transaction that creates what is not there: in doubt, and not a conflict with itself", () =>
      Effect.gen(function*() {
        const { client, direct, used } = yield* setup
        // Before each of the members, whichever leads.
        for (const key of ["create1", "create2", "create3"]) {
          yield* inDoubt(yield* used, client.txn(createIfAbsent(key, "mine")))
          assert.deepStrictEqual(yield* stored(direct, key), ["mine, version 1"])
        }
      }))

    it.scoped("of a transaction that only reads: another member reads", () =>
      Effect.gen(function*() {
        const { client, direct, used } = yield* setup
        const expected = yield* write(direct, "/read/", 3)
        const first = yield* used
        const { responses } = yield* unharmed(first, client.txn({ success: [Txn.range(below("/read/"))] }))
        assert.isTrue(responses[0]._tag === "Range" && responses[0].response.kvs.length === expected.length)
        assert.notStrictEqual(yield* used, first)
      }))

    it.scoped("of a lease's grant and of its revocation: another member confirms them", () =>
      Effect.gen(function*() {
        const { client, cluster, used } = yield* setup
        const before = yield* leasesOf(cluster.members[0])
        const { id } = yield* unharmed(yield* used, client.leaseGrant({ ttl: "1 minute" }))
        assert.deepStrictEqual((yield* leasesOf(cluster.members[0])).filter((one) => !before.includes(one)), [id])
        yield* unharmed(yield* used, client.leaseRevoke(id))
        assert.strictEqual((yield* failure(client.leaseTimeToLive(id))).reason, "LeaseNotFound")
        assert.notInclude(yield* leasesOf(cluster.members[0]), id)
      }))
  }
)
