import { assert, describe, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import { once } from "node:events"
import * as Net from "node:net"
import { freePort } from "./ports.js"
import * as TcpProxy from "./TcpProxy.js"

/** A server that sends everything back. */
const echo = Effect.acquireRelease(
  Effect.promise(async () => {
    const sockets = new Set<Net.Socket>()
    const port = await freePort()
    const server = Net.createServer((socket) => {
      sockets.add(socket)
      socket.on("error", () => {}).pipe(socket)
    })
    server.listen(port, "127.0.0.1")
    await once(server, "listening")
    return { server, sockets, endpoint: `127.0.0.1:${port}` }
  }),
  ({ server, sockets }) =>
    Effect.sync(() => {
      server.close()
      sockets.forEach((socket) => socket.destroy())
    })
)

/** A client whose received bytes and end can be awaited. */
const connect = (port: number) =>
  Effect.acquireRelease(
    Effect.gen(function*() {
      const received = yield* Queue.unbounded<string>()
      const socket = Net.connect({ host: "127.0.0.1", port, noDelay: true })
      const closed = new Promise<string>((resolve) => {
        let reason = "end"
        socket.on("error", (error: NodeJS.ErrnoException) => {
          reason = String(error.code)
        })
        socket.on("close", () => resolve(reason))
      })
      socket.setEncoding("utf8").on("data", (chunk: string) => {
        for (const character of chunk) {
          received.unsafeOffer(character)
        }
      })
      yield* Effect.promise(() => Promise.race([closed, new Promise((resolve) => socket.once("connect", resolve))]))
      return {
        send: (text: string) => Effect.sync(() => socket.write(text)),
        read: (count: number) => Effect.map(Queue.takeN(received, count), (all) => Array.from(all).join("")),
        available: Queue.size(received),
        closed: Effect.promise(() => closed),
        destroy: Effect.sync(() => socket.destroy()),
        socket
      }
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )

const setup = Effect.gen(function*() {
  const server = yield* echo
  const proxy = yield* TcpProxy.make(server.endpoint)
  return { server, proxy, connect: connect(proxy.port) }
})

describe("TcpProxy", () => {
  it.scopedLive("forwards and counts", () =>
    Effect.gen(function*() {
      const { connect, proxy } = yield* setup
      const client = yield* connect
      yield* client.send("hello")
      assert.strictEqual(yield* client.read(5), "hello")
      assert.deepStrictEqual(yield* proxy.bytes, { up: 5, down: 5 })
      assert.strictEqual(yield* proxy.accepted, 1)
      assert.strictEqual(yield* proxy.open, 1)
    }))

  it.scopedLive("cuts connections and accepts new ones", () =>
    Effect.gen(function*() {
      const { connect, proxy } = yield* setup
      const client = yield* connect
      yield* client.send("a")
      yield* client.read(1)
      yield* proxy.cut()
      assert.strictEqual(yield* client.closed, "end")
      const other = yield* connect
      yield* other.send("b")
      assert.strictEqual(yield* other.read(1), "b")
      yield* proxy.cut({ reset: true })
      assert.strictEqual(yield* other.closed, "ECONNRESET")
    }))

  it.scopedLive("refuses connections until it accepts them again", () =>
    Effect.gen(function*() {
      const { connect, proxy } = yield* setup
      const before = yield* connect
      yield* before.send("a")
      yield* before.read(1)
      yield* proxy.refuse
      assert.strictEqual(yield* Effect.flatMap(connect, ({ closed }) => closed), "ECONNREFUSED")
      yield* before.send("b")
      assert.strictEqual(yield* before.read(1), "b")
      yield* proxy.accept
      const after = yield* connect
      yield* after.send("c")
      assert.strictEqual(yield* after.read(1), "c")
    }))

  it.scopedLive("holds back one direction and delivers it later", () =>
    Effect.gen(function*() {
      const { connect, proxy } = yield* setup
      const client = yield* connect
      yield* proxy.stall("down")
      yield* client.send("abc")
      while ((yield* proxy.bytes).up < 3) {
        yield* Effect.yieldNow()
      }
      assert.strictEqual(yield* client.available, 0)
      yield* proxy.resume
      assert.strictEqual(yield* client.read(3), "abc")
    }))

  it.scopedLive("swallows bytes and leads new connections nowhere", () =>
    Effect.gen(function*() {
      const { connect, proxy, server } = yield* setup
      yield* proxy.blackHole
      const client = yield* connect
      yield* client.send("lost")
      assert.strictEqual(server.sockets.size, 0)
      yield* proxy.resume
      const other = yield* connect
      yield* other.send("x")
      assert.strictEqual(yield* other.read(1), "x")
      assert.strictEqual(yield* client.available, 0)
    }))

  it.scopedLive("cuts after so many bytes", () =>
    Effect.gen(function*() {
      const { connect, proxy } = yield* setup
      const client = yield* connect
      yield* proxy.cutAfterBytes(3, "down")
      yield* client.send("abcdef")
      assert.strictEqual(yield* client.read(3), "abc")
      assert.strictEqual(yield* client.closed, "end")
      const other = yield* connect
      yield* other.send("abcdef")
      assert.strictEqual(yield* other.read(6), "abcdef")
    }))

  it.scopedLive("delays and limits", () =>
    Effect.gen(function*() {
      const { connect, proxy } = yield* setup
      const client = yield* connect
      yield* proxy.slow({ latency: 40 })
      const begin = Date.now()
      yield* client.send("a")
      yield* client.read(1)
      assert.isAtLeast(Date.now() - begin, 75)
      yield* proxy.resume
      yield* proxy.slow({ bytesPerSecond: 10_000, direction: "up" })
      const middle = Date.now()
      yield* client.send("x".repeat(2_000))
      yield* client.read(2_000)
      assert.isAtLeast(Date.now() - middle, 100)
    }))

  it.scopedLive("forwards the end of a connection and sends later ones elsewhere", () =>
    Effect.gen(function*() {
      const { connect, proxy } = yield* setup
      const other = yield* echo
      const client = yield* connect
      yield* proxy.retarget(other.endpoint)
      const moved = yield* connect
      yield* moved.send("m")
      yield* moved.read(1)
      assert.strictEqual(other.sockets.size, 1)
      other.sockets.forEach((socket) => socket.destroy())
      assert.strictEqual(yield* moved.closed, "end")
      yield* client.send("still")
      assert.strictEqual(yield* client.read(5), "still")
    }))
})
