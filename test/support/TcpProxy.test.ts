import { assert, describe, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import { once } from "node:events"
import * as Net from "node:net"
import type * as EtcdClient from "../../src/EtcdClient.js"
import { below, connect as connectEtcd, failure, outcome, show, take, text } from "../grpc/support.js"
import * as EtcdCluster from "./EtcdCluster.js"
import * as EtcdServer from "./EtcdServer.js"
import type { Frame } from "./http2Frames.js"
import { FrameReader, frameTypes, UnaryCalls } from "./http2Frames.js"
import { freePort } from "./ports.js"
import * as TcpProxy from "./TcpProxy.js"

const serve = (answer: (socket: Net.Socket) => void) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const sockets = new Set<Net.Socket>()
      const port = await freePort()
      const server = Net.createServer((socket) => {
        sockets.add(socket)
        answer(socket.on("error", () => {}))
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

/** A server that sends everything back. */
const echo = serve((socket) => void socket.pipe(socket))

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

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/** One frame, as it is sent. */
const frame = (type: number, flags: number, stream: number, length: number): string => {
  const header = Buffer.alloc(9)
  header.writeUIntBE(length, 0, 3)
  header[3] = type
  header[4] = flags
  header.writeUInt32BE(stream, 5)
  return header.toString("latin1") + "x".repeat(length)
}

const [data, headers, settings] = [frameTypes.data, frameTypes.headers, frameTypes.settings]

/** What a server sends: settings, an answer in three frames and a ping; all bytes are ASCII. */
const sent = [
  frame(settings, 0, 0, 6),
  frame(headers, 4, 1, 20),
  frame(data, 0, 1, 0),
  frame(data, 1, 1, 70_000),
  frame(frameTypes.ping, 0, 0, 8)
]

const ends = (frames: ReadonlyArray<string>, start = 0) =>
  frames.map((_, index) => start + frames.slice(0, index + 1).join("").length)

describe("TcpProxy with HTTP/2", () => {
  const setup = Effect.gen(function*() {
    const server = yield* serve((socket) => void socket.once("data", () => socket.write(sent.join(""), "latin1")))
    const proxy = yield* TcpProxy.make(server.endpoint)
    return { proxy, connect: connect(proxy.port) }
  })

  it.scopedLive("notes the frames of both directions", () =>
    Effect.gen(function*() {
      const { connect, proxy } = yield* setup
      const { frames } = yield* proxy.recordFrames
      for (const connection of [1, 2]) {
        const client = yield* connect
        yield* client.send(preface + frame(settings, 0, 0, 0) + frame(headers, 5, 1, 30))
        assert.strictEqual(yield* client.read(sent.join("").length), sent.join(""))
        const own = (yield* frames).filter((frame) => frame.connection === connection)
        const of = (way: string) => own.filter((frame) => frame.way === way)
        assert.deepStrictEqual(of("up").map(({ end }) => end), [24 + 9, 24 + 9 + 39])
        assert.deepStrictEqual(of("down").map(({ end }) => end), ends(sent))
        assert.deepStrictEqual(of("down").map(({ flags, start, stream, type }) => [start, type, flags, stream]), [
          [0, settings, 0, 0],
          [15, headers, 4, 1],
          [44, data, 0, 1],
          [53, data, 1, 1],
          [70_062, frameTypes.ping, 0, 0]
        ])
      }
    }))

  it("finds the same frames however the bytes are cut into pieces", () => {
    for (const [way, bytes] of [["down", sent.join("")], ["up", preface + sent.join("")]] as const) {
      for (const piece of [1, 3, 9, 10, 1_000, bytes.length]) {
        const seen: Array<string> = []
        const reader = new FrameReader(1, way, {
          before: ({ start }) => void seen.push(`from ${start}`),
          after: ({ end }) => void seen.push(`to ${end}`)
        })
        const all = Buffer.from(bytes, "latin1")
        let passed = 0
        for (let at = 0; at < all.length; at += piece) {
          passed += reader.read(all.subarray(at, at + piece)).size
        }
        assert.strictEqual(passed, all.length)
        const first = way === "up" ? 24 : 0
        const expected = ends(sent, first).flatMap((end, index) => [`from ${end - sent[index].length}`, `to ${end}`])
        assert.deepStrictEqual(seen, expected, `${way}, pieces of ${piece}`)
      }
    }
  })

  it.scopedLive("cuts after so many frames, once", () =>
    Effect.gen(function*() {
      const { connect, proxy } = yield* setup
      for (let count = 0; count < sent.length; count++) {
        yield* proxy.cutAfterFrame(count, "down")
        const client = yield* connect
        yield* client.send(preface)
        const passed = sent.slice(0, count).join("")
        assert.strictEqual(yield* client.read(passed.length), passed)
        assert.strictEqual(yield* client.closed, "end")
        assert.strictEqual(yield* client.available, 0)
      }
      yield* proxy.cutAfterFrame(1, "down")
      yield* proxy.resume
      const client = yield* connect
      yield* client.send(preface)
      yield* client.read(sent.join("").length)
      assert.strictEqual(yield* proxy.open, 1)
    }))

  it.scopedLive("sees no frames in other protocols", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* echo
      const proxy = yield* TcpProxy.make(endpoint)
      const { frames } = yield* proxy.recordFrames
      yield* proxy.cutAfterFrame(0, "up")
      yield* proxy.cutAfterFrame(0, "down")
      const client = yield* connect(proxy.port)
      const bytes = sent.slice(1).join("")
      yield* client.send(bytes)
      assert.strictEqual(yield* client.read(bytes.length), bytes)
      assert.deepStrictEqual(yield* frames, [])
    }))

  it("tells the answers to unary calls from streams", () => {
    const calls = new UnaryCalls()
    const notice = (way: Frame["way"], type: number, stream: number, flags = 0) =>
      calls.notice({ connection: 1, way, type, stream, flags, start: 0, end: 0 })
    const begin = (way: Frame["way"], stream: number) => notice(way, headers, stream, 4)
    const seen = [
      // A stream that both sides leave open, with a call within it.
      begin("up", 1),
      notice("up", data, 1),
      begin("down", 1),
      begin("up", 3),
      notice("up", data, 3, 1),
      notice("down", data, 1),
      begin("down", 3), // index 6
      notice("down", data, 3),
      notice("down", headers, 3, 5),
      // The stream's client ends its half late.
      notice("up", data, 1, 1),
      notice("down", headers, 1, 5),
      // A call that is refused with nothing but trailers, and one that is cancelled before its answer.
      notice("up", headers, 5, 5),
      notice("down", headers, 5, 5), // index 12
      notice("up", headers, 7, 5),
      notice("up", frameTypes.resetStream, 7),
      notice("down", headers, 7, 5)
    ]
    assert.deepStrictEqual(seen.flatMap((answers, index) => answers ? [index] : []), [6, 12])
  })
})

describe("TcpProxy before etcd", () => {
  /** Loses one answer, with a watch and keep-alives on the same connection, and looks at what etcd has done. */
  const loses = ({ endpoint }: EtcdServer.EtcdServerService, key: string) =>
    Effect.gen(function*() {
      const proxy = yield* TcpProxy.make(endpoint)
      const client = yield* connectEtcd({ endpoints: proxy.endpoint })
      const direct = yield* connectEtcd({ endpoints: endpoint })
      const put = (value: string, options?: EtcdClient.CallOptions) => client.put({ key, value }, options)
      const stored = Effect.map(direct.range({ key }), ({ kvs }) => kvs.map(({ value }) => text(value)))
      const watch = yield* client.openWatch(below(`${key}/`))
      const { id } = yield* client.leaseGrant({ ttl: "1 minute" })

      const { lost } = yield* proxy.loseResponse({ after: 2 })
      // None of these is the answer to a unary call: those of new streams neither.
      yield* client.leaseKeepAliveOnce(id)
      yield* client.leaseKeepAliveOnce(id)
      yield* client.openWatch({ key })
      yield* Effect.forEach(["1", "2"], (value) => direct.put({ key: `${key}/`, value: value.repeat(40_000) }))
      assert.lengthOf(yield* take(watch, 2), 2)
      yield* put("first")
      yield* put("second")
      assert.strictEqual(yield* proxy.accepted, 1)

      assert.deepStrictEqual(outcome(yield* failure(put("third"))), ["Unavailable", true])
      yield* lost
      assert.deepStrictEqual(yield* stored, ["third"])
      yield* direct.put({ key: `${key}/`, value: "3" })
      assert.match((yield* take(watch, 1)).map(show)[0], /=3@/)
      yield* put("fourth")
      assert.strictEqual(yield* proxy.accepted, 2)

      // One after another; none is left after that.
      const losses = yield* Effect.all([proxy.loseResponse(), proxy.loseResponse({ after: 1 })])
      assert.isTrue((yield* failure(put("fifth"))).mayBeApplied)
      yield* put("sixth")
      assert.isTrue((yield* failure(put("seventh"))).mayBeApplied)
      yield* Effect.forEach(losses, ({ lost }) => lost)
      assert.deepStrictEqual(yield* stored, ["seventh"])
      yield* proxy.loseResponse()
      yield* proxy.resume
      yield* put("eighth")
      assert.deepStrictEqual(yield* stored, ["eighth"])
    })

  for (const version of ["3.4", "3.5"]) {
    it.scopedLive(`loses the answer to a unary call after it was carried out (etcd ${version})`, () =>
      Effect.gen(function*() {
        yield* loses(yield* EtcdServer.make({ version }), "key")
      }))
  }

  it.scopedLive("does so before each member of a cluster", () =>
    Effect.gen(function*() {
      const { members } = yield* EtcdCluster.make({ version: "3.5" })
      yield* Effect.forEach(members, (member, index) => loses(member, `key${index}`))
    }), 60_000)
})
