import { assert, describe, it, layer } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as DiagnosticsChannel from "node:diagnostics_channel"
import * as Net from "node:net"
import * as rpc from "../../src/internal/proto/rpc.js"
import * as EtcdCluster from "../support/EtcdCluster.js"
import * as EtcdServer from "../support/EtcdServer.js"
import * as TcpProxy from "../support/TcpProxy.js"
import * as DeafHost from "./deafHost.js"
import type { Client } from "./support.js"
import {
  assertSequence,
  below,
  connect,
  failure,
  outcome,
  show,
  take,
  text,
  until,
  watchStates,
  write
} from "./support.js"

// What one of three does to the calls, watches and leases of its clients is shown in test/cluster/endpoints.test.ts.
describe("a cluster of three", () => {
  it.scopedLive(
    "of which two are away: the third, cut off from a leader, feeds no silence",
    () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.make()
        const client = yield* connect({ endpoints: cluster.endpoints })
        const watch = yield* client.openWatch(below("/alone/"))
        const connection = yield* client.watchConnection.get
        const others = cluster.members.filter(({ endpoint }) =>
          connection._tag === "Connected" && connection.endpoint !== endpoint
        )
        assert.lengthOf(others, 2)
        yield* Effect.forEach(others, ({ kill }) => kill, { concurrency: "unbounded", discard: true })
        // The stream on it is ended by the server (hasleader), although its connection stands.
        yield* until(
          "the loss",
          Effect.map(
            client.watchConnection.get,
            (state) => state._tag === "Disconnected" && /no leader|ECONNREFUSED|No connection/.test(state.reason)
          )
        )
        yield* Effect.forEach(others, ({ start }) => start, { concurrency: "unbounded", discard: true })
        const expected = yield* write(client, "/alone/", 5)
        assertSequence((yield* take(watch, 5)).map(show), expected)
      }),
    60_000
  )
})

/** A listener of the test's own, on a free port or at a path. */
const listening = (accept: (socket: Net.Socket) => void, at: number | string = 0) =>
  Effect.acquireRelease(
    Effect.async<Net.Server>((resume) => {
      const listener = Net.createServer(accept)
      listener.listen(at, () => resume(Effect.succeed(listener)))
    }),
    (listener) => Effect.sync(() => listener.close())
  )

layer(EtcdServer.layer(), { excludeTestServices: true })("several ways to one server", (it) => {
  const setup = Effect.gen(function*() {
    const server = yield* EtcdServer.EtcdServer
    const proxies = yield* Effect.all(Array.from({ length: 3 }, () => TcpProxy.make(server.endpoint)))
    const client = yield* connect({ endpoints: proxies.map(({ endpoint }) => endpoint) })
    const used = Effect.gen(function*() {
      const open = yield* Effect.forEach(proxies, (proxy) => Effect.map(proxy.open, (count) => ({ proxy, count })))
      return open.filter(({ count }) => count > 0).map(({ proxy }) => proxy)
    })
    return { server, proxies, client, used }
  })

  it.scoped("are used one at a time, and left when they are refused", () =>
    Effect.gen(function*() {
      const { client, proxies, used } = yield* setup
      yield* Effect.forEach(Array.from({ length: 30 }), () => client.get("key"), { concurrency: "unbounded" })
      const [first, ...none] = yield* used
      assert.lengthOf(none, 0)
      yield* first.refuse
      yield* first.cut()
      yield* until("the cut", Effect.map(first.open, (count) => count === 0))
      const put = client.put({ key: "key", value: "" }, { idempotent: true })
      yield* Effect.forEach(Array.from({ length: 30 }), () => put, { concurrency: "unbounded" })
      const [second, ...others] = yield* used
      assert.lengthOf(others, 0)
      assert.notStrictEqual(second, first)
      yield* second.refuse
      yield* second.cut()
      yield* until("the cut", Effect.map(second.open, (count) => count === 0))
      yield* client.get("key")
      yield* first.accept
      const third = proxies.filter((proxy) => proxy !== first && proxy !== second)[0]
      yield* third.refuse
      yield* third.cut()
      yield* client.get("key")
      // The first is back.
      assert.deepStrictEqual(yield* used, [first])
    }))

  it.scoped("each end in silence: reads find another within their deadline, and stay there", () =>
    Effect.gen(function*() {
      const { client, used } = yield* setup
      yield* client.get("key")
      const [first] = yield* used
      yield* first.blackHole
      yield* client.get("key", { timeout: "5 seconds" })
      // The silent one is not asked again while others answer.
      const before = (yield* first.bytes).up
      yield* Effect.forEach(Array.from({ length: 10 }), () => client.get("key", { timeout: "5 seconds" }))
      assert.strictEqual((yield* first.bytes).up, before)
    }))

  const discoveries: Record<string, (client: Client, lease: bigint) => Effect.Effect<unknown, unknown>> = {
    "a call": (client) => client.get("key", { timeout: "5 seconds" }),
    "a keep-alive": (client, lease) => Effect.flip(client.leaseKeepAliveOnce(lease, { timeout: 300 }))
  }
  for (const [what, discover] of Object.entries(discoveries)) {
    it.scoped(`each end in silence: ${what} finds it out for the watches, long before the pings do`, () =>
      Effect.gen(function*() {
        const { proxies } = yield* setup
        const client = yield* connect({
          endpoints: proxies.map(({ endpoint }) => endpoint),
          keepAlive: { time: "1 hour", timeout: 300 }
        })
        const watch = yield* client.openWatch({ key: "moved" })
        const { id } = yield* client.leaseGrant({ ttl: "1 minute" })
        yield* client.leaseKeepAliveOnce(id)
        const connected = yield* client.watchConnection.get
        const first = proxies.find(({ endpoint }) => connected._tag === "Connected" && connected.endpoint === endpoint)!
        yield* first.stall()
        yield* discover(client, id)
        const moved = yield* client.watchReconnected(connected)
        assert.isTrue(moved._tag === "Connected" && moved.endpoint !== first.endpoint)
        yield* client.put({ key: "moved", value: "" })
        yield* take(watch, 1)
        // The connection that led nowhere is not used again either.
        yield* first.resume
        const before = yield* first.accepted
        yield* client.status(first.endpoint)
        assert.strictEqual(yield* first.accepted, before + 1)
      }))
  }

  it.scoped("each may be slow: a deadline that passes breaks nothing where somebody is still there", () =>
    Effect.gen(function*() {
      const { client, used } = yield* setup
      const watch = yield* client.openWatch({ key: "slow" })
      const [first] = yield* used
      const states = yield* watchStates(client)
      yield* first.stall("down")
      const error = yield* failure(client.put({ key: "slow", value: "" }, { timeout: 300 }))
      assert.deepStrictEqual(outcome(error), ["DeadlineExceeded", true])
      yield* first.resume
      // The write had arrived, and the watch stands as it stood.
      yield* take(watch, 1)
      yield* client.status(first.endpoint)
      yield* client.put({ key: "slow", value: "" })
      yield* take(watch, 1)
      assert.deepStrictEqual(states, ["Connected"])
      assert.strictEqual(yield* first.accepted, 1)
    }))

  it.scoped("each are left at once by a client that closes, whatever it still waits for", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.EtcdServer
      let answers = true
      let open = 0
      const listener = yield* listening((socket) => {
        open++
        const upstream = Net.connect(server.port, "127.0.0.1")
        upstream.on("error", () => {}).on("data", (chunk) => answers && socket.write(chunk))
        socket.on("error", () => {}).on("data", (chunk) => upstream.write(chunk)).on("close", () => {
          open--
          upstream.destroy()
        })
      })
      yield* Effect.scoped(Effect.gen(function*() {
        const client = yield* connect({
          endpoints: `localhost:${(listener.address() as Net.AddressInfo).port}`,
          keepAlive: { time: "1 hour", timeout: "1 hour" }
        })
        yield* client.get("key")
        answers = false
        yield* failure(client.get("key", { timeout: 300 }))
        assert.strictEqual(open, 1)
      }))
      yield* until("the end of the connection", Effect.sync(() => open === 0))
    }))

  it.scoped("lose a stream that was given up: it is cancelled, and the connection ends with it", () =>
    Effect.gen(function*() {
      const { proxies: [first] } = yield* setup
      const client = yield* connect({ endpoints: first.endpoint, keepAlive: { time: "1 hour" } })
      const { id } = yield* client.leaseGrant({ ttl: "1 minute" })
      yield* client.leaseKeepAliveOnce(id)
      yield* first.stall("down")
      assert.strictEqual((yield* failure(client.leaseKeepAliveOnce(id, { timeout: 300 }))).reason, "DeadlineExceeded")
      yield* first.resume
      yield* until("the end of the connection", Effect.map(first.open, (count) => count === 0))
      yield* client.leaseKeepAliveOnce(id)
      assert.strictEqual(yield* first.accepted, 2)
    }))

  it.scoped("lose a connection that was given up: what is under way on it is not cut off", () =>
    Effect.gen(function*() {
      const { proxies: [first] } = yield* setup
      const client = yield* connect({ endpoints: first.endpoint, keepAlive: { time: "1 hour", timeout: 300 } })
      yield* client.openWatch({ key: "slow" })
      yield* first.stall("down")
      const slow = yield* Effect.fork(client.put({ key: "slow", value: "" }))
      yield* failure(client.leaseKeepAliveOnce(1n, { timeout: 300 }))
      yield* until("the loss", Effect.map(client.watchConnection.get, ({ _tag }) => _tag === "Disconnected"))
      yield* first.resume
      yield* Fiber.join(slow)
    }))

  it.scoped("may drop what is sent to them: a connection is given up for a new one, until they hear", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.EtcdServer
      const deaf = yield* DeafHost.make(server.port)
      const sockets: Array<Net.Socket> = []
      const seen = (message: unknown): void => void sockets.push((message as { readonly socket: Net.Socket }).socket)
      yield* Effect.acquireRelease(
        Effect.sync(() => DiagnosticsChannel.subscribe("net.client.socket", seen)),
        () => Effect.sync(() => DiagnosticsChannel.unsubscribe("net.client.socket", seen))
      )
      const client = yield* connect({
        endpoints: deaf.endpoint,
        connectTimeout: 200,
        retry: { maxAttempts: 1_000, initialDelay: 50, maxDelay: 50 }
      })
      // Time for several attempts of 200 ms.
      const error = yield* failure(client.get("key", { timeout: 2_000 }))
      assert.deepStrictEqual(outcome(error), ["Unavailable", false])
      assert.match(error.detail, /No connection established within/)
      assert.isAtLeast(sockets.length, 2)
      assert.isAtMost(sockets.filter(({ destroyed }) => !destroyed).length, 1)
      yield* deaf.hear
      yield* client.get("key")
    }))

  it.scoped("may be written in any form", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.EtcdServer
      const socket = `${server.folder}/proxy.sock`
      yield* listening((client) => {
        const upstream = Net.connect(server.port, "127.0.0.1")
        client.on("error", () => {}).pipe(upstream).on("error", () => {}).pipe(client)
      }, socket)
      for (
        const endpoints of [
          `unix://${socket}`,
          `localhost:${server.port}`,
          `http://localhost:${server.port}/`,
          [`http://127.0.0.1:${server.port}`]
        ]
      ) {
        const client = yield* connect({ endpoints })
        yield* client.get("key", { timeout: Infinity })
        yield* client.openWatch({ key: "key" })
        assert.isTrue((yield* client.status(client.endpoints[0])).version.startsWith("3."))
      }
    }))

  it.scoped("are asked for their state one by one", () =>
    Effect.gen(function*() {
      const { client, proxies } = yield* setup
      const states = yield* Effect.forEach(client.endpoints, (endpoint) => client.status(endpoint))
      assert.deepStrictEqual(states.map(({ endpoint }) => endpoint), proxies.map(({ endpoint }) => endpoint))
      assert.deepStrictEqual(yield* Effect.all(proxies.map(({ accepted }) => accepted)), [1, 1, 1])
      assert.strictEqual(states[0].leader, states[0].memberId)
    }))
})

/** A member that answers every put but those of this value, and counts them. */
const forgetful = Effect.gen(function*() {
  let received = 0
  const server = new grpc.Server()
  server.addService({
    put: {
      path: "/etcdserverpb.KV/Put",
      requestStream: false,
      responseStream: false,
      requestSerialize: (request: rpc.PutRequest) => Buffer.from(rpc.PutRequest.encode(request).finish()),
      requestDeserialize: (bytes: Buffer) => rpc.PutRequest.decode(bytes),
      responseSerialize: (response: rpc.PutResponse) => Buffer.from(rpc.PutResponse.encode(response).finish()),
      responseDeserialize: (bytes: Buffer) => rpc.PutResponse.decode(bytes)
    }
  }, {
    put: (call: grpc.ServerUnaryCall<rpc.PutRequest, rpc.PutResponse>, answer: grpc.sendUnaryData<rpc.PutResponse>) => {
      received++
      if (text(call.request.value) !== "lost") answer(null, rpc.PutResponse.create())
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
  return { endpoint: `127.0.0.1:${port}`, received: () => received }
})

describe("a write that gets lost", () => {
  const setup = (timeout: number) =>
    Effect.gen(function*() {
      const members = yield* Effect.all([forgetful, forgetful])
      const client = yield* connect({ endpoints: members.map(({ endpoint }) => endpoint), batch: false })
      yield* client.put({ key: "key", value: "" })
      const [used, unused] = members[0].received() > 0 ? members : [members[1], members[0]]
      const lost = yield* Effect.fork(Effect.flip(client.put({ key: "key", value: "lost" }, { timeout })))
      yield* until("the write", Effect.sync(() => used.received() === 2))
      return { client, used, unused, lost }
    })

  it.scopedLive("makes the client leave its member", () =>
    Effect.gen(function*() {
      const { client, lost, unused, used } = yield* setup(300)
      assert.strictEqual((yield* Fiber.join(lost)).reason, "DeadlineExceeded")
      yield* client.put({ key: "key", value: "" })
      assert.deepStrictEqual([used.received(), unused.received()], [2, 1])
    }))

  it.scopedLive("but not when a later one was carried out: the member is well", () =>
    Effect.gen(function*() {
      // Long enough for the later one to be carried out before the deadline.
      const { client, lost, unused, used } = yield* setup(2_000)
      yield* client.put({ key: "key", value: "" })
      assert.strictEqual((yield* Fiber.join(lost)).reason, "DeadlineExceeded")
      yield* client.put({ key: "key", value: "" })
      assert.deepStrictEqual([used.received(), unused.received()], [4, 0])
    }))
})
