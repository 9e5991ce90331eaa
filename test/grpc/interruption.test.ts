import { assert, describe, it, layer } from "@effect/vitest"
import { status } from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Net from "node:net"
import * as EtcdServer from "../support/EtcdServer.js"
import { interruptedAtEveryStep } from "../support/interruptedAtEveryStep.js"
import { stubServer } from "../support/stubServer.js"
import * as TcpProxy from "../support/TcpProxy.js"
import { bounded, calls, connect, failure, inFlight, proxied, until } from "./support.js"

const etcd = layer(EtcdServer.layer(), { excludeTestServices: true })

etcd("a call that is interrupted", (it) => {
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

describe("what the server sees of a call", () => {
  it.scopedLive("that is interrupted: its cancellation", () =>
    Effect.gen(function*() {
      const server = yield* stubServer()
      const client = yield* connect({ endpoints: server.endpoint })
      const fiber = yield* Effect.fork(client.get("key"))
      yield* server.come
      yield* bounded(Fiber.interrupt(fiber))
      yield* bounded(server.gone)
    }))

  it.scopedLive("with a deadline: the deadline, and its end", () =>
    Effect.gen(function*() {
      const server = yield* stubServer()
      const client = yield* connect({ endpoints: server.endpoint })
      // The connection stands before a deadline runs.
      const waiting = yield* Effect.fork(client.get("connects"))
      yield* server.come
      yield* Fiber.interrupt(waiting)
      yield* bounded(server.gone)
      const fiber = yield* Effect.fork(failure(client.get("key", { timeout: 500 })))
      yield* server.come
      assert.strictEqual((yield* Fiber.join(fiber)).reason, "DeadlineExceeded")
      yield* bounded(server.gone)
    }))
})

describe("a call that is interrupted at any step while it asks for a token", () => {
  it.scopedLive("leaves nobody waiting for the token", () =>
    Effect.gen(function*() {
      const server = yield* stubServer({ code: status.OK, details: "" })
      const auth = { username: "app", password: Redacted.make("secret") }
      const withoutToken = connect({ endpoints: server.endpoint, auth })
      let client = yield* withoutToken
      const steps = yield* interruptedAtEveryStep(
        Effect.suspend(() => client.get("key")),
        Effect.gen(function*() {
          yield* bounded(client.get("key"))
          client = yield* withoutToken
        })
      )
      assert.isAbove(steps, 10)
    }))
})

describe("a client whose scope closes", () => {
  it.scopedLive("closes its connection at once, with streams open and calls under way", () =>
    Effect.gen(function*() {
      const server = yield* stubServer()
      const proxy = yield* TcpProxy.make(server.endpoint)
      yield* Effect.scoped(Effect.gen(function*() {
        const client = yield* connect({ endpoints: proxy.endpoint })
        yield* Effect.forkScoped(client.get("key"))
        yield* Effect.forkScoped(client.openWatch({ key: "key" }))
        yield* Effect.forkScoped(client.leaseKeepAliveOnce(1n))
        yield* Effect.all([server.come, server.come, server.come])
        assert.strictEqual(yield* proxy.open, 1)
      }))
      yield* until("the end of the connection", Effect.map(proxy.open, (count) => count === 0))
      yield* bounded(server.gone)
    }))

  it.scopedLive("closes connections that never stood", () =>
    Effect.gen(function*() {
      const sockets = new Set<Net.Socket>()
      const port = yield* Effect.acquireRelease(
        Effect.async<Net.Server>((resume) => {
          const listener = Net.createServer((socket) => {
            sockets.add(socket)
            socket.on("error", () => {}).on("close", () => sockets.delete(socket)).resume()
          })
          listener.listen(0, "127.0.0.1", () => resume(Effect.succeed(listener)))
        }),
        (listener) =>
          Effect.sync(() => {
            listener.close()
            sockets.forEach((socket) => socket.destroy())
          })
      ).pipe(Effect.map((listener) => (listener.address() as Net.AddressInfo).port))
      for (const scheme of ["http", "https"]) {
        yield* Effect.scoped(Effect.gen(function*() {
          const client = yield* connect({ endpoints: `${scheme}://127.0.0.1:${port}`, connectTimeout: 100 })
          // The connection is given up, for a new one, several times.
          const error = yield* failure(client.get("key", { timeout: 1_000 }))
          assert.match(error.detail, /no handshake within 100 ms|No connection established/)
          yield* until("the end of the older ones", Effect.sync(() => sockets.size <= 1))
          yield* Effect.forkScoped(client.get("key"))
          yield* until("a connection", Effect.sync(() => sockets.size > 0))
        }))
        yield* until("the end of all connections", Effect.sync(() => sockets.size === 0))
        // Also before their time is over.
        yield* Effect.scoped(Effect.gen(function*() {
          const client = yield* connect({ endpoints: `${scheme}://127.0.0.1:${port}`, connectTimeout: "1 minute" })
          yield* Effect.forkScoped(client.get("key"))
          yield* until("a connection", Effect.sync(() => sockets.size > 0))
        }))
        yield* until("the end of the connection", Effect.sync(() => sockets.size === 0))
      }
    }))
})

describe("a call that is interrupted in the moment in which it is started", () => {
  it.scopedLive("does not stay with the server", () =>
    Effect.gen(function*() {
      const server = yield* stubServer()
      const client = yield* connect({ endpoints: server.endpoint })
      const waiting = yield* Effect.fork(client.get("connects"))
      assert.strictEqual(yield* bounded(server.come), "Range")
      yield* Fiber.interrupt(waiting)
      assert.strictEqual(yield* bounded(server.gone), "Range")

      const fiber = yield* Effect.fork(client.get("key"))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* bounded(server.come), "Range")
      assert.strictEqual(yield* bounded(server.gone), "Range")
    }))
})
