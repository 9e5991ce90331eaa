import { assert, layer } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import type { EtcdError } from "../../src/EtcdError.js"
import * as grpc from "../../src/internal/grpc/make.js"
import * as clientOptions from "../../src/internal/options.js"
import * as EtcdServer from "../support/EtcdServer.js"
import { freePort } from "../support/ports.js"
import * as TcpProxy from "../support/TcpProxy.js"
import {
  bounded,
  calls,
  connect,
  failure,
  outcome,
  proxied,
  show,
  take,
  timeout,
  until,
  watchStates
} from "./support.js"

const deadEndpoint = Effect.map(Effect.promise(freePort), (port) => `127.0.0.1:${port}`)

const keyed = ["range", "pages", "put", "delete", "txn", "watch"]

const etcd = layer(EtcdServer.layer(), { excludeTestServices: true })

etcd("etcd that cannot be reached", (it) => {
  it.scoped("refuses connections: every call fails with Unavailable, naming endpoint and key", () =>
    Effect.gen(function*() {
      const endpoint = yield* deadEndpoint
      const client = yield* connect({ endpoints: endpoint, retry: { maxAttempts: 2, initialDelay: 1 } })
      for (const [name, call] of Object.entries(calls(client, { timeout: 1_500 }))) {
        const error = (yield* bounded(failure(call))) as EtcdError
        // A watch waits for etcd as long as its deadline allows.
        const reason = name === "watch" ? "DeadlineExceeded" : "Unavailable"
        assert.deepStrictEqual([name, ...outcome(error)], [name, reason, false])
        assert.strictEqual(error.operation, name === "pages" ? "range" : name)
        assert.strictEqual(error.key, keyed.includes(name) ? "key" : undefined)
        assert.include(error.message, "ECONNREFUSED", name)
        assert.include(error.message, endpoint)
      }
    }))

  it.scoped("has an unknown name: the same", () =>
    Effect.gen(function*() {
      const client = yield* connect({ endpoints: "nowhere.invalid", retry: { maxAttempts: 2, initialDelay: 1 } })
      for (const call of [Effect.asVoid(client.get("key")), Effect.asVoid(client.put({ key: "key", value: "" }))]) {
        const error = yield* failure(call)
        assert.deepStrictEqual(outcome(error), ["Unavailable", false])
        assert.strictEqual(error.endpoint, "nowhere.invalid:2379")
        assert.match(error.detail, /Name resolution failed/)
      }
    }))

  it.scoped("swallows everything: every call fails at its deadline, not applied, naming endpoint and key", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      yield* proxy.blackHole
      const client = yield* connect({ endpoints: proxy.endpoint, batch: false })
      yield* Effect.forEach(Object.entries(calls(client)), ([name, call]) =>
        Effect.gen(function*() {
          const error = (yield* bounded(failure(call))) as EtcdError
          assert.include(["Unavailable", "DeadlineExceeded"], error.reason, name)
          assert.isFalse(error.mayBeApplied, name)
          assert.strictEqual(error.key, keyed.includes(name) ? "key" : undefined, name)
          if (!["watch", "leaseKeepAlive"].includes(name)) assert.strictEqual(error.endpoint, proxy.endpoint, name)
        }), { concurrency: "unbounded" })
    }))

  it.scoped("swallowed the connection: a later call makes a new one", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      yield* proxy.blackHole
      const client = yield* connect({ endpoints: proxy.endpoint, connectTimeout: 200 })
      yield* failure(client.put({ key: "swallowed", value: "" }, timeout))
      yield* proxy.resume
      yield* client.put({ key: "swallowed", value: "" }, { timeout: "5 seconds" })
      assert.isAtLeast(yield* proxy.accepted, 2)
    }))

  it.scoped("swallowed the connection of the streams: watches and keep-alives make a new one", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      yield* proxy.blackHole
      const client = yield* connect({ endpoints: proxy.endpoint, connectTimeout: 200 })
      const watching = yield* Effect.fork(client.openWatch({ key: "swallowed" }))
      yield* until("a connection", Effect.map(proxy.accepted, (count) => count > 0))
      yield* failure(client.leaseKeepAliveOnce(1n, { timeout: 400 }))
      yield* proxy.resume
      yield* Fiber.join(watching)
      assert.strictEqual((yield* failure(client.leaseKeepAliveOnce(1n))).reason, "LeaseNotFound")
    }))

  it.scoped("is one of several members: calls reach another within their deadline, writes too", () =>
    Effect.gen(function*() {
      const { proxy, server } = yield* proxied
      yield* proxy.blackHole
      const refused = yield* deadEndpoint
      // A third of it is for the one that swallows everything, and less than the time for a connection.
      const inTime = { timeout: "6 seconds" } as const
      // Clients begin with a member of their own choice: several of them, so that some begin with the bad ones.
      yield* Effect.forEach(Array.from({ length: 6 }, (_, index) => index), (index) =>
        Effect.gen(function*() {
          const client = yield* connect({ endpoints: [proxy.endpoint, refused, server.endpoint] })
          yield* client.put({ key: `several${index}`, value: "" }, inTime)
          yield* client.get(`several${index}`, inTime)
          const { id } = yield* client.leaseGrant({ ttl: "1 minute" }, inTime)
          yield* client.leaseKeepAliveOnce(id, inTime)
        }), { concurrency: "unbounded" })
    }))

  it.scoped("is one of several members: keep-alives find another, however short their deadlines", () =>
    Effect.gen(function*() {
      const { proxy, server } = yield* proxied
      const other = yield* TcpProxy.make(server.endpoint)
      yield* proxy.blackHole
      const { id } = yield* (yield* connect({ endpoints: server.endpoint })).leaseGrant({ ttl: "1 minute" })
      // Shorter than the time that is left for a connection, and long enough for one that comes about.
      const short = { timeout: "1 second" } as const
      yield* Effect.forEach(Array.from({ length: 4 }), () =>
        Effect.gen(function*() {
          const client = yield* connect({ endpoints: [proxy.endpoint, other.endpoint] })
          yield* Effect.retry(client.leaseKeepAliveOnce(id, short), { times: 3 })
        }), { concurrency: "unbounded" })
    }))

  it.scoped("comes back: what waited goes on", () =>
    Effect.gen(function*() {
      const { proxy, server } = yield* proxied
      yield* proxy.refuse
      const client = yield* connect({
        endpoints: proxy.endpoint,
        requestTimeout: "20 seconds",
        retry: { maxAttempts: 100 }
      })
      const key = "waited"
      const watching = yield* Effect.fork(
        Effect.flatMap(client.openWatch({ key }), (watch) =>
          Effect.zipRight(client.put({ key, value: "1" }), take(watch, 1)))
      )
      const streaming = yield* Effect.fork(
        Stream.runCollect(Stream.take(client.watch({ key: "streamed", startRevision: 1n }), 1))
      )
      const reading = yield* Effect.fork(client.get(key))
      yield* until(
        "a failed connection",
        Effect.map(client.watchConnection.get, (state) =>
          state._tag === "Disconnected" && state.reason.includes("ECONN"))
      )
      yield* proxy.accept
      assert.match((yield* Fiber.join(watching)).map(show)[0], /^\+waited=1@/)
      yield* server.etcdctl(["put", "streamed", "2"])
      assert.match(Chunk.toReadonlyArray(yield* Fiber.join(streaming)).map(show)[0], /^\+streamed=2@/)
      yield* Fiber.join(reading)
    }))

  it.scoped("is told as one loss, however often the connection is tried again", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const client = yield* connect({ endpoints: proxy.endpoint })
      const watch = yield* client.openWatch({ key: "told" })
      const states = yield* watchStates(client)
      yield* proxy.refuse
      yield* proxy.cut()
      yield* until("the loss", Effect.sync(() => states.includes("Disconnected")))
      // Each of these is refused, and the stream is tried again meanwhile.
      yield* Effect.repeatN(Effect.zipRight(Effect.flip(client.get("told", { timeout: 600 })), Effect.void), 2)
      assert.deepStrictEqual(states, ["Connected", "Disconnected"])
      yield* proxy.accept
      yield* client.put({ key: "told", value: "" })
      yield* take(watch, 1)
      yield* until("the new connection is told", Effect.sync(() => states.length > 2))
      assert.deepStrictEqual(states, ["Connected", "Disconnected", "Connected"])
    }))

  it.scoped("asks for a password: the time for the token is part of the call's", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const auth = { username: "somebody", password: Redacted.make("hidden") }
      const client = yield* connect({ endpoints: proxy.endpoint, auth })
      yield* proxy.blackHole
      for (
        const call of [
          Effect.asVoid(client.get("key", timeout)),
          Effect.asVoid(client.put({ key: "key", value: "" }, timeout))
        ]
      ) {
        assert.isFalse((yield* bounded(failure(call))).mayBeApplied)
      }
      const patient = yield* Effect.fork(client.get("key"))
      yield* Effect.yieldNow()
      // This one waits for the token that the other asked for.
      assert.isFalse((yield* bounded(failure(client.get("key", timeout)))).mayBeApplied)
      yield* Fiber.interrupt(patient)
    }))
})

etcd("an etcd that stops answering", (it) => {
  it.scoped("lets calls fail at their deadline: a write may be applied, a read not", () =>
    Effect.gen(function*() {
      const { proxy, server } = yield* proxied
      // Whoever does not answer for so long counts as gone, and its connection is replaced.
      const keepAlive = { timeout: "30 seconds" } as const
      const client = yield* connect({ endpoints: proxy.endpoint, batch: false, keepAlive })
      yield* client.get("key")
      yield* proxy.stall("down")
      const writes = ["put", "delete", "txn", "leaseGrant", "leaseRevoke", "compact"]
      const { leaseKeepAlive: _, ...others } = calls(client)
      yield* Effect.forEach(Object.entries(others), ([name, call]) =>
        Effect.gen(function*() {
          const error = (yield* bounded(failure(call))) as EtcdError
          assert.deepStrictEqual([name, ...outcome(error)], [name, "DeadlineExceeded", writes.includes(name)])
          if (name !== "watch") assert.strictEqual(error.endpoint, proxy.endpoint, name)
          assert.strictEqual(error.message.includes("may have been applied"), writes.includes(name))
        }), { concurrency: "unbounded" })
      const read = client.txn({ success: [{ _tag: "Range", request: { key: "key" } }] }, timeout)
      assert.deepStrictEqual(outcome(yield* failure(read)), ["DeadlineExceeded", false])
      // It was applied indeed: under a key that no other call deletes meanwhile.
      assert.deepStrictEqual(outcome(yield* failure(client.put({ key: "applied", value: "" }, timeout))), [
        "DeadlineExceeded",
        true
      ])
      yield* until(
        "the write",
        Effect.map(server.etcdctl(["get", "applied", "--keys-only"]), (keys) => keys.includes("applied"))
      )
      yield* proxy.resume
      yield* client.get("key")
      assert.strictEqual(yield* proxy.accepted, 1)
    }))

  it.scoped("did not answer a keep-alive: the next one takes a new connection", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const client = yield* connect({ endpoints: proxy.endpoint })
      const { id } = yield* client.leaseGrant({ ttl: "1 minute" })
      yield* client.leaseKeepAliveOnce(id)
      yield* proxy.stall("down")
      const slow = yield* Effect.fork(client.get("key"))
      yield* failure(client.leaseKeepAliveOnce(id, timeout))
      yield* proxy.resume
      // What was under way on the old connection is not cut off.
      yield* Fiber.join(slow)
      yield* client.leaseKeepAliveOnce(id)
      assert.strictEqual(yield* proxy.accepted, 2)
      yield* proxy.blackHole
      const error = yield* bounded(failure(client.leaseKeepAliveOnce(id, timeout)))
      assert.deepStrictEqual(outcome(error), ["DeadlineExceeded", false])
      assert.strictEqual(error.endpoint, proxy.endpoint)
      yield* proxy.resume
      yield* bounded(client.leaseKeepAliveOnce(id))
      assert.strictEqual(yield* proxy.accepted, 3)
    }))

  it.scoped("is suspected by each of the streams of one connection: it is replaced once", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const transport = yield* grpc.make({ endpoints: proxy.endpoint }, yield* clientOptions.parse({}))
      const handlers = { onMessage: () => {}, onEnd: () => {} }
      const read = transport.range({ key: "key" }, { timeoutMillis: 3_000 })
      yield* read
      const streams = [yield* transport.openWatch(handlers), yield* transport.openLease(handlers)]
      for (const { suspect } of streams) {
        suspect("silent")
        yield* read
      }
      assert.strictEqual(yield* proxy.accepted, 2)
    }))

  it.scoped("is found dead by pings: the next calls get a new connection", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const client = yield* connect({ endpoints: proxy.endpoint, keepAlive: { time: "5 seconds", timeout: 100 } })
      const watch = yield* client.openWatch({ key: "pinged" })
      yield* proxy.blackHole
      const connection = yield* Effect.fork(
        Stream.runHead(Stream.filter(client.watchConnection.changes, (state) => state._tag === "Disconnected"))
      )
      yield* Fiber.join(connection)
      yield* proxy.resume
      yield* client.put({ key: "pinged", value: "" })
      yield* take(watch, 1)
    }))
})
