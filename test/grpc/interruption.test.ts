import { assert, describe, it, layer } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as EtcdServer from "../support/EtcdServer.js"
import * as TcpProxy from "../support/TcpProxy.js"
import { bounded, calls, connect, failure, proxied, until } from "./support.js"

const etcd = layer(EtcdServer.layer(), { excludeTestServices: true })

etcd("a call that is interrupted", (it) => {
  const inFlight = (proxy: TcpProxy.TcpProxy, call: Effect.Effect<unknown, unknown>) =>
    Effect.gen(function*() {
      yield* proxy.stall("down")
      const before = (yield* proxy.bytes).up
      const fiber = yield* Effect.fork(call)
      yield* until("the request", Effect.map(proxy.bytes, ({ up }) => up > before))
      return fiber
    })

  it.scoped("ends at once, and leaves the connection usable", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const client = yield* connect({ endpoints: proxy.endpoint })
      yield* client.get("key")
      for (const call of [Effect.asVoid(client.get("key")), Effect.asVoid(client.put({ key: "key", value: "" }))]) {
        const fiber = yield* inFlight(proxy, call)
        yield* bounded(Fiber.interrupt(fiber))
        yield* proxy.resume
        yield* client.get("key")
      }
      assert.strictEqual(yield* proxy.accepted, 1)
    }))

  it.scoped("ends at once while there is no connection", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      yield* proxy.blackHole
      const client = yield* connect({ endpoints: proxy.endpoint })
      const fibers = yield* Effect.forEach(Object.values(calls(client)), (call) => Effect.fork(call))
      yield* until("a connection", Effect.map(proxy.accepted, (count) => count > 0))
      yield* bounded(Fiber.interruptAll(fibers))
    }))

  it.scoped("says nothing against its member: the next call goes there too", () =>
    Effect.gen(function*() {
      const { proxy, server } = yield* proxied
      const other = yield* TcpProxy.make(server.endpoint)
      const client = yield* connect({ endpoints: [proxy.endpoint, other.endpoint] })
      yield* client.get("key")
      const used = (yield* proxy.accepted) > 0 ? proxy : other
      const unused = used === proxy ? other : proxy
      for (let round = 0; round < 4; round++) {
        const fiber = yield* inFlight(used, client.get("key"))
        yield* Fiber.interrupt(fiber)
        yield* used.resume
        yield* client.get("key")
      }
      assert.strictEqual(yield* unused.accepted, 0)
    }))
})

/** A server of gRPC that answers no call, and tells what it sees of one. */
const silentServer = Effect.gen(function*() {
  const received = yield* Deferred.make<grpc.Metadata>()
  const cancelled = yield* Deferred.make<void>()
  const bytes = (value: Buffer) => value
  const server = new grpc.Server()
  server.addService({
    range: {
      path: "/etcdserverpb.KV/Range",
      requestStream: false,
      responseStream: false,
      requestSerialize: bytes,
      requestDeserialize: bytes,
      responseSerialize: bytes,
      responseDeserialize: bytes
    }
  }, {
    range: (call: grpc.ServerUnaryCall<Buffer, Buffer>) => {
      call.on("cancelled", () => Deferred.unsafeDone(cancelled, Effect.void))
      Deferred.unsafeDone(received, Effect.succeed(call.metadata))
    }
  })
  const port = yield* Effect.acquireRelease(
    Effect.async<number, Error>((resume) =>
      server.bindAsync(
        "127.0.0.1:0",
        grpc.ServerCredentials.createInsecure(),
        (error, port) => resume(error === null ? Effect.succeed(port) : Effect.fail(error))
      )
    ),
    () => Effect.sync(() => server.forceShutdown())
  )
  return { endpoint: `127.0.0.1:${port}`, received: Deferred.await(received), cancelled: Deferred.await(cancelled) }
})

describe("what the server sees of a call", () => {
  it.scopedLive("that is interrupted: its cancellation", () =>
    Effect.gen(function*() {
      const server = yield* silentServer
      const client = yield* connect({ endpoints: server.endpoint })
      const fiber = yield* Effect.fork(client.get("key"))
      yield* server.received
      yield* bounded(Fiber.interrupt(fiber))
      yield* bounded(server.cancelled)
    }))

  it.scopedLive("with a deadline: the deadline, and its end", () =>
    Effect.gen(function*() {
      const server = yield* silentServer
      const client = yield* connect({ endpoints: server.endpoint })
      const fiber = yield* Effect.fork(failure(client.get("key", { timeout: 500 })))
      yield* server.received
      assert.strictEqual((yield* Fiber.join(fiber)).reason, "DeadlineExceeded")
      yield* bounded(server.cancelled)
    }))
})

etcd("a client whose scope closes", (it) => {
  it.scoped("closes its connection at once, with streams open and calls under way", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      yield* Effect.scoped(Effect.gen(function*() {
        const client = yield* connect({ endpoints: proxy.endpoint })
        yield* client.openWatch({ key: "key" })
        const { id } = yield* client.leaseGrant({ ttl: "1 minute" })
        yield* client.leaseKeepAliveOnce(id)
        yield* Effect.forkScoped(Stream.runDrain(client.watch({ key: "key" })))
        yield* proxy.stall("down")
        yield* Effect.forkScoped(client.get("key"))
        yield* Effect.yieldNow()
      }))
      // The server is not heard any more; what ends the connection is the client.
      yield* until("the end of the connection", Effect.map(proxy.open, (count) => count === 0))
    }))

  it.scoped("closes connections that never stood", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      yield* proxy.blackHole
      yield* Effect.scoped(Effect.gen(function*() {
        const client = yield* connect({ endpoints: proxy.endpoint })
        yield* Effect.forkScoped(client.get("key"))
        yield* until("a connection", Effect.map(proxy.accepted, (count) => count > 0))
      }))
      // Now the ends of connections pass again.
      yield* proxy.resume
      yield* until("the end of the connection", Effect.map(proxy.open, (count) => count === 0))
    }))
})
