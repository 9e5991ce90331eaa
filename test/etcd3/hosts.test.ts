import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Coord from "../../src/Coord.js"
import * as Etcd3Client from "../../src/etcd3.js"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as Transport from "../../src/internal/etcd3/transport.js"
import * as Session from "../../src/Session.js"
import { bounded, failure, outcome } from "../grpc/support.js"
import * as EtcdServer from "../support/EtcdServer.js"
import * as TcpProxy from "../support/TcpProxy.js"
import { instance, over } from "./support.js"

const etcd = layer(EtcdServer.layer({ version: "3.5" }), { excludeTestServices: true })

/** Three ways to one server, which look like three members. */
const threeHosts = Effect.gen(function*() {
  const server = yield* EtcdServer.EtcdServer
  const proxies = yield* Effect.all([1, 2, 3].map(() => TcpProxy.make(server.endpoint)))
  return { server, proxies, endpoints: proxies.map(({ endpoint }) => endpoint) }
})

const upBytes = (proxy: TcpProxy.TcpProxy) => Effect.map(proxy.bytes, ({ up }) => up)

etcd("an instance with several hosts", (it) => {
  it.scoped("one of which refuses connections: no call fails for it", () =>
    Effect.gen(function*() {
      const { endpoints, proxies } = yield* threeHosts
      const client = yield* over(yield* instance(endpoints), { batch: false, retry: { maxAttempts: 1 } })
      // So that all three are known.
      yield* client.get("key").pipe(Effect.repeatN(40))
      for (const proxy of proxies) {
        yield* proxy.refuse
        yield* proxy.cut()
        // A read that was under way on the broken connection may fail; after it the client knows.
        yield* Effect.ignore(client.get("key")).pipe(Effect.repeatN(40))
        yield* client.put({ key: "key", value: "" }).pipe(Effect.repeatN(20))
        yield* proxy.accept
      }
    }))

  it.scoped("one of which loses the answer to a write: no other is asked to write", () =>
    Effect.gen(function*() {
      const { endpoints, proxies } = yield* threeHosts
      const client = yield* over(yield* instance(endpoints), { batch: false })
      yield* client.get("key").pipe(Effect.repeatN(40))
      yield* Effect.forEach(proxies, (proxy) => proxy.loseResponse())
      const error = yield* failure(client.put({ key: "once", value: "" }))
      assert.deepStrictEqual(outcome(error), ["Unavailable", true])
      yield* Effect.forEach(proxies, (proxy) => proxy.resume)
      const { kvs } = yield* client.range({ key: "once" })
      assert.deepStrictEqual(kvs.map(({ version }) => version), [1n])
    }))

  it.scoped("one of which leads nowhere: one call fails for it, and it is not asked again", () =>
    Effect.gen(function*() {
      const { endpoints, proxies } = yield* threeHosts
      const client = yield* over(yield* instance(endpoints), { batch: false })
      yield* client.get("key").pipe(Effect.repeatN(40))
      yield* proxies[0].stall()
      let failed = 0
      for (let round = 0; round < 60; round++) {
        // Only where it leads nowhere does it take that long.
        const either = yield* Effect.either(client.put({ key: "key", value: "" }, { timeout: 2_000 }))
        if (either._tag === "Left") {
          assert.deepStrictEqual(outcome(either.left), ["DeadlineExceeded", true])
          assert.strictEqual(either.left.endpoint, endpoints[0])
          failed++
        }
      }
      assert.strictEqual(failed, 1)
      // Until the others fail too.
      yield* proxies[0].resume
      for (const proxy of proxies.slice(1)) {
        yield* proxy.refuse
        yield* proxy.cut()
      }
      const before = yield* upBytes(proxies[0])
      yield* client.get("key")
      assert.isAbove(yield* upBytes(proxies[0]), before)
    }))

  it.scoped("one of which falls silent under a stream: the next is on another", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* threeHosts
      const transport = Transport.make(yield* instance(endpoints), { hosts: [], requestTimeoutMillis: 1_000 })
      const open = transport.openLease({ onMessage: () => {}, onEnd: () => {} })
      const seen = new Set<string>()
      while (seen.size < 3) seen.add((yield* Effect.scoped(open)).endpoint)
      const silent = yield* Effect.scoped(Effect.tap(open, ({ suspect }) => suspect("silent")))
      for (let round = 0; round < 20; round++) {
        assert.notStrictEqual((yield* Effect.scoped(open)).endpoint, silent.endpoint)
      }
    }))

  it.scoped("tells the state of each, when it is said which they are", () =>
    Effect.gen(function*() {
      const { endpoints, proxies } = yield* threeHosts
      const client = yield* over(yield* instance(endpoints), {
        endpoints: endpoints.map((endpoint) => `http://${endpoint}`)
      })
      assert.deepStrictEqual(client.endpoints, endpoints)
      for (let index = 0; index < 3; index++) {
        const before = yield* Effect.forEach(proxies, upBytes)
        const status = yield* client.status(endpoints[index]).pipe(Effect.repeatN(4))
        assert.strictEqual(status.endpoint, endpoints[index])
        // What is less is not a call: an acknowledgement of settings.
        const asked = (yield* Effect.forEach(proxies, upBytes)).map((bytes, i) => bytes > before[i] + 200)
        assert.deepStrictEqual(asked, [0, 1, 2].map((i) => i === index))
      }
      yield* proxies[1].stall()
      const health = yield* Coord.health({ timeout: "2 seconds" }).pipe(
        Effect.provideService(EtcdClient, client),
        Effect.provide(Session.layer),
        Effect.provideService(EtcdClient, client)
      )
      assert.deepStrictEqual(health.endpoints.map(({ _tag, endpoint }) => [_tag, endpoint]), [
        ["Up", endpoints[0]],
        ["Down", endpoints[1]],
        ["Up", endpoints[2]]
      ])
    }))

  it.scoped("does not ask another in place of one that it has not", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* threeHosts
      const client = yield* over(yield* instance(endpoints), { endpoints: "127.0.0.1:1", retry: { maxAttempts: 1 } })
      const error = yield* bounded(failure(client.status("127.0.0.1:1")))
      assert.deepStrictEqual(outcome(error), ["Unavailable", false])
      assert.match(error.detail, /did not draw 127\.0\.0\.1:1/)
      yield* client.get("key")
    }))
})

describe("options", () => {
  it.scopedLive("that cannot work are named", () =>
    Effect.gen(function*() {
      const application = yield* instance("127.0.0.1:1")
      for (
        const [options, argument] of [
          [{ endpoints: "" }, "endpoints"],
          [{ endpoints: "user:secret@host" }, "endpoints"],
          [{ requestTimeout: 0 }, "requestTimeout"],
          [{ keepAlive: { time: "1 second" } }, "keepAlive.time"],
          [{ namespace: "\n" }, "namespace"]
        ] as const
      ) {
        assert.strictEqual((yield* failure(Etcd3Client.fromEtcd3(application, options))).argument, argument)
      }
    }))
})
