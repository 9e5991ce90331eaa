import { assert, describe, it, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import { EtcdError } from "../../src/EtcdError.js"
import * as Transport from "../../src/internal/etcd3/transport.js"
import type * as Floor from "../../src/internal/transport.js"
import {
  assertSequence,
  below,
  bounded,
  failure,
  outcome,
  proxied,
  show,
  take,
  timeout,
  until,
  watchStates,
  write
} from "../grpc/support.js"
import * as EtcdServer from "../support/EtcdServer.js"
import { stubServer } from "../support/stubServer.js"
import * as TcpProxy from "../support/TcpProxy.js"
import { applicationReads, instance, over, withItsPolicies } from "./support.js"

const etcd = layer(EtcdServer.layer({ version: "3.5" }), { excludeTestServices: true })

etcd("a watch", (it) => {
  for (const [name, options] of [["without policies", {}], ["with etcd3's own policies", withItsPolicies]] as const) {
    it.scoped(`has no gaps and repeats nothing, however often its connection is cut: ${name}`, () =>
      Effect.gen(function*() {
        const { proxy, server } = yield* proxied
        const writer = yield* over(yield* instance(server.endpoint))
        const watcher = yield* over(yield* instance(proxy.endpoint, options))
        const prefix = `/cut ${name}/`
        const watch = yield* watcher.openWatch(below(prefix))
        const states = yield* watchStates(watcher)
        const cutting = yield* Effect.fork(Effect.repeat(proxy.cut(), Schedule.spaced("150 millis")))
        const written = yield* write(writer, prefix, 1_500)
        yield* until(
          "two losses",
          Effect.sync(() => states.filter((state) => state === "Disconnected").length > 1)
        )
        yield* Fiber.interrupt(cutting)
        const events = yield* take(watch, written.length)
        assertSequence(events.map(show), written)
      }))
  }

  it.scoped("goes on through a restart of etcd", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.make({ version: "3.5" })
      const client = yield* over(yield* instance(server.endpoint))
      const watch = yield* client.openWatch(below("/restart/"))
      const before = yield* write(client, "/restart/", 3)
      yield* server.kill
      yield* server.start
      const after = yield* write(client, "/restart/", 3)
      assertSequence((yield* take(watch, 6)).map(show), [...before, ...after])
    }))

  it.scoped("has no deadline, whatever the instance sets for its calls", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const application = yield* instance(proxy.endpoint, {
        defaultCallOptions: () => ({ deadline: Date.now() + 300 })
      })
      const client = yield* over(application)
      const watch = yield* client.openWatch({ key: "unlimited" })
      const first = yield* client.watchConnection.get
      yield* Effect.sleep("700 millis")
      yield* client.put({ key: "unlimited", value: "" })
      yield* take(watch, 1)
      assert.strictEqual(yield* client.watchConnection.get, first)
    }))

  it.scoped("names the host that its stream is on", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const client = yield* over(yield* instance(proxy.endpoint))
      yield* client.openWatch({ key: "named" })
      assert.deepStrictEqual(yield* client.watchConnection.get, { _tag: "Connected", endpoint: proxy.endpoint })
      yield* proxy.refuse
      yield* proxy.cut()
      const error = yield* failure(client.openWatch({ key: "other" }, timeout))
      assert.instanceOf(error, EtcdError)
      assert.match(error.message, /not created within 300ms/)
    }))
})

describe("what the server sees of a stream", () => {
  it.scopedLive("that it wants a member with a leader, for as long as it lasts; and its end", () =>
    Effect.gen(function*() {
      const server = yield* stubServer()
      const proxy = yield* TcpProxy.make(server.endpoint)
      const application = yield* instance(proxy.endpoint)
      yield* Effect.scoped(Effect.gen(function*() {
        const client = yield* over(application)
        yield* Effect.forkScoped(client.openWatch({ key: "key" }))
        assert.strictEqual(yield* bounded(server.come), "Watch")
        const { deadline, metadata } = yield* server.first
        assert.deepStrictEqual([metadata.get("hasleader"), deadline], [["true"], Infinity])
        yield* Effect.forkScoped(client.leaseKeepAliveOnce(1n))
        assert.strictEqual(yield* bounded(server.come), "LeaseKeepAlive")
        yield* Effect.forkScoped(client.get("key"))
        assert.strictEqual(yield* bounded(server.come), "Range")
      }))
      const gone = yield* bounded(Effect.all([server.gone, server.gone, server.gone]))
      assert.deepStrictEqual(gone.sort(), ["LeaseKeepAlive", "Range", "Watch"])
      // The instance is as it was, with one connection for each service.
      const other = yield* over(application)
      yield* Effect.forkScoped(other.get("key"))
      assert.strictEqual(yield* bounded(server.come), "Range")
      assert.strictEqual(yield* proxy.accepted, 3)
    }))
})

etcd("a client whose scope closes", (it) => {
  it.scoped("leaves the instance open, with what the application does over it", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const application = yield* instance(proxy.endpoint)
      const seen = yield* Deferred.make<string>()
      const watcher = yield* Effect.promise(() => application.watch().key("the application's").create())
      watcher.on("put", ({ value }) => Deferred.unsafeDone(seen, Effect.succeed(value.toString())))
      for (let round = 0; round < 3; round++) {
        yield* Effect.scoped(Effect.gen(function*() {
          const client = yield* over(application)
          yield* client.openWatch({ key: "ours" })
          const { id } = yield* client.leaseGrant({ ttl: "1 minute" })
          yield* client.leaseKeepAliveOnce(id)
          yield* client.put({ key: "ours", value: String(round), lease: id })
        }))
        assert.strictEqual(yield* applicationReads(application, "ours"), String(round))
      }
      yield* Effect.promise(() => application.put("the application's").value("1").exec())
      assert.strictEqual(yield* bounded(Deferred.await(seen)), "1")
      // One for keys, one for leases, one for watches.
      assert.strictEqual(yield* proxy.accepted, 3)
      yield* Effect.promise(() => watcher.cancel())
    }))
})

etcd("keep-alives", (it) => {
  it.scoped("that are not acknowledged: the next one takes a new connection", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const client = yield* over(yield* instance(proxy.endpoint))
      const { id } = yield* client.leaseGrant({ ttl: "1 minute" })
      yield* client.leaseKeepAliveOnce(id)
      yield* proxy.blackHole
      const error = yield* bounded(failure(client.leaseKeepAliveOnce(id, timeout)))
      assert.deepStrictEqual(outcome(error), ["DeadlineExceeded", false])
      assert.strictEqual(error.endpoint, proxy.endpoint)
      yield* proxy.resume
      yield* bounded(client.leaseKeepAliveOnce(id))
      assert.strictEqual(yield* proxy.accepted, 2)
    }))

  it.scoped("of many leases share one stream, which outlives a cut", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const client = yield* over(yield* instance(proxy.endpoint))
      const leases = yield* Effect.all(Array.from({ length: 50 }, () => client.leaseGrant({ ttl: "1 minute" })), {
        concurrency: "unbounded"
      })
      const renew = Effect.forEach(leases, ({ id }) => client.leaseKeepAliveOnce(id), { concurrency: "unbounded" })
      assert.deepStrictEqual(yield* renew, leases)
      yield* proxy.cut()
      assert.deepStrictEqual(yield* Effect.retry(renew, Schedule.recurs(3)), leases)
    }))
})

etcd("a stream of the transport", (it) => {
  const makeTransport = (endpoint: string) =>
    Effect.map(
      instance(endpoint),
      (application) => Transport.make(application, { hosts: [], requestTimeoutMillis: 1_000 })
    )

  /** A stream on which a watch was created. */
  const open = (transport: Floor.Transport) =>
    Effect.gen(function*() {
      const created = yield* Deferred.make<void>()
      const ends: Array<EtcdError> = []
      const stream = yield* transport.openWatch({
        onMessage: () => Deferred.unsafeDone(created, Effect.void),
        onEnd: (error) => ends.push(error)
      })
      stream.send({ _tag: "Create", key: "key", startRevision: 0n, prevKv: false, noPut: false, noDelete: false })
      yield* bounded(Deferred.await(created))
      return { ...stream, ends }
    })

  it.scoped("tells of its end once, and not when it is closed", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const transport = yield* makeTransport(proxy.endpoint)
      const closed = yield* Effect.scoped(open(transport))
      const { ends, send } = yield* open(transport)
      yield* proxy.cut()
      yield* until("the end", Effect.sync(() => ends.length > 0))
      // There is nobody to hear it.
      send({ _tag: "Progress" })
      // What this comes to is there before the answer to another stream.
      yield* open(transport)
      assert.deepStrictEqual(ends.map(outcome), [["Unavailable", false]])
      assert.strictEqual(ends[0].endpoint, proxy.endpoint)
      assert.deepStrictEqual(closed.ends, [])
    }))

  it.scoped("takes its connection with it if it was silent, and only then", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const transport = yield* makeTransport(proxy.endpoint)
      yield* open(transport)
      yield* Effect.scoped(open(transport))
      yield* open(transport)
      assert.strictEqual(yield* proxy.accepted, 1)
      yield* Effect.scoped(Effect.map(open(transport), ({ suspect }) => suspect("silent")))
      yield* open(transport)
      assert.strictEqual(yield* proxy.accepted, 2)
    }))
})
