import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Net from "node:net"
import * as EtcdCluster from "../support/EtcdCluster.js"
import type { EtcdServerService } from "../support/EtcdServer.js"
import * as EtcdServer from "../support/EtcdServer.js"
import * as TcpProxy from "../support/TcpProxy.js"
import type { Client } from "./support.js"
import { assertSequence, below, connect, show, take, until, write } from "./support.js"

/** Writes one key after another until told to stop; each may be repeated. Says how many values were acknowledged. */
const writing = (client: Client, prefix: string) =>
  Effect.gen(function*() {
    const acknowledged: Array<string> = []
    let stopped = false
    const fiber = yield* Effect.fork(Effect.gen(function*() {
      for (let index = 0; !stopped; index++) {
        yield* client.put({ key: `${prefix}${index % 7}`, value: String(index) }, {
          idempotent: true,
          timeout: "20 seconds"
        })
        acknowledged.push(String(index))
      }
    }))
    const count = Effect.sync(() => acknowledged.length)
    return {
      /** Waits until `count` more are acknowledged. */
      more: (count_: number) =>
        Effect.flatMap(count, (before) => until("progress", Effect.map(count, (now) => now >= before + count_))),
      stop: Effect.suspend(() => {
        stopped = true
        return Effect.as(Fiber.join(fiber), acknowledged)
      })
    }
  })

/** What etcd itself tells of the changes below the prefix, from a watch that was not disturbed. */
const history = (client: Client, prefix: string, startRevision: bigint) =>
  Effect.gen(function*() {
    const { header, kvs } = yield* client.range(below(prefix))
    const last = kvs.map(({ modRevision }) => modRevision).reduce((a, b) => a > b ? a : b)
    const watch = yield* client.openWatch({ ...below(prefix), startRevision })
    const events: Array<string> = []
    for (let seen = 0n; seen < last;) {
      const batch = yield* watch.next
      events.push(...batch.map(show))
      seen = batch[batch.length - 1].kv.modRevision
    }
    assert.isAtLeast(Number(header.revision), Number(last))
    return events
  })

/** All that etcd has, each once and in order; and all that was acknowledged is among it. */
const assertWhole = (
  client: Client,
  watch: { readonly revision: bigint } & Parameters<typeof take>[0],
  prefix: string,
  acknowledged: ReadonlyArray<string>
) =>
  Effect.gen(function*() {
    const expected = yield* history(client, prefix, watch.revision + 1n)
    const seen = (yield* take(watch, expected.length)).map(show)
    assertSequence(seen, expected)
    const values = new Set(expected.map((event) => /=(\d+)@/.exec(event)?.[1]))
    assert.deepStrictEqual(acknowledged.filter((value) => !values.has(value)), [])
  })

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })("a cluster of three", (it) => {
  const memberOf = (members: ReadonlyArray<EtcdServerService>, endpoint: string) =>
    members.find((member) => member.endpoint === endpoint) ?? members[0]

  const setup = Effect.gen(function*() {
    const cluster = yield* EtcdCluster.EtcdCluster
    const client = yield* connect({
      endpoints: cluster.endpoints,
      keepAlive: { time: "5 seconds", timeout: "1 second" }
    })
    yield* client.openWatch({ key: "/first" })
    yield* until("a stream", Effect.map(client.watchConnection.get, ({ _tag }) => _tag === "Connected"))
    const state = yield* client.watchConnection.get
    const used = memberOf(cluster.members, state._tag === "Connected" ? state.endpoint : "")
    return { cluster, client, used }
  })

  it.scoped("of which the member in use is killed: calls, watches and keep-alives go on", () =>
    Effect.gen(function*() {
      const { client, cluster, used } = yield* setup
      const watch = yield* client.openWatch(below("/killed/"))
      const { id } = yield* client.leaseGrant({ ttl: "1 minute" })
      yield* client.leaseKeepAliveOnce(id)
      const writer = yield* writing(client, "/killed/")
      yield* writer.more(50)
      yield* used.kill
      yield* writer.more(50)
      yield* Effect.retry(client.leaseKeepAliveOnce(id), { times: 3 })
      yield* client.get("/killed/0")
      yield* used.start
      yield* writer.more(50)
      yield* assertWhole(client, watch, "/killed/", yield* writer.stop)
      const state = yield* client.watchConnection.get
      assert.strictEqual(state._tag, "Connected")
      if (state._tag === "Connected") assert.notStrictEqual(state.endpoint, used.endpoint)
      assert.lengthOf(cluster.endpoints, 3)
    }), 60_000)

  it.scoped("of which the leader is killed: the same", () =>
    Effect.gen(function*() {
      const { client, cluster } = yield* setup
      const watch = yield* client.openWatch(below("/led/"))
      const writer = yield* writing(client, "/led/")
      yield* writer.more(50)
      const leader = yield* cluster.leader
      yield* leader.kill
      yield* writer.more(50)
      yield* leader.start
      yield* assertWhole(client, watch, "/led/", yield* writer.stop)
    }), 60_000)

  it.scoped(
    "of which the member in use stops in the middle: the same, without its answer",
    () =>
      Effect.gen(function*() {
        const { client, used } = yield* setup
        const watch = yield* client.openWatch(below("/paused/"))
        const { id } = yield* client.leaseGrant({ ttl: "1 minute" })
        yield* client.leaseKeepAliveOnce(id)
        const writer = yield* writing(client, "/paused/")
        yield* writer.more(50)
        yield* used.pause
        // A deadline that passes moves the calls to another member.
        yield* Effect.retry(client.get("/paused/0", { timeout: "2 seconds" }), { times: 3 })
        yield* Effect.retry(client.leaseKeepAliveOnce(id, { timeout: "1 second" }), { times: 3 })
        yield* writer.more(10)
        yield* used.resume
        yield* writer.more(10)
        yield* assertWhole(client, watch, "/paused/", yield* writer.stop)
      }),
    60_000
  )

  it.scoped("of which two are away: the third, cut off from a leader, feeds no silence", () =>
    Effect.gen(function*() {
      const { client, cluster, used } = yield* setup
      const watch = yield* client.openWatch(below("/alone/"))
      const others = cluster.members.filter((member) => member !== used)
      yield* Effect.forEach(others, ({ kill }) => kill, { concurrency: "unbounded", discard: true })
      // The stream on it is ended by the server (hasleader), although its connection stands.
      yield* until(
        "the loss",
        Effect.map(client.watchConnection.get, (state) =>
          state._tag === "Disconnected" && /no leader|ECONNREFUSED|No connection/.test(state.reason))
      )
      yield* Effect.forEach(others, ({ start }) =>
        start, { concurrency: "unbounded", discard: true })
      const expected = yield* write(client, "/alone/", 5)
      assertSequence((yield* take(watch, 5)).map(show), expected)
    }), 60_000)
})

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
      yield* client.get("key", { timeout: "2 seconds" })
      // The silent one is not asked again while others answer.
      const before = (yield* first.bytes).up
      yield* Effect.forEach(Array.from({ length: 10 }), () => client.get("key", { timeout: "2 seconds" }))
      assert.strictEqual((yield* first.bytes).up, before)
    }))

  it.scoped("may be written in any form", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.EtcdServer
      const socket = `${server.folder}/proxy.sock`
      yield* Effect.acquireRelease(
        Effect.async<Net.Server>((resume) => {
          const listener = Net.createServer((client) => {
            const upstream = Net.connect(server.port, "127.0.0.1")
            client.on("error", () => {}).pipe(upstream).on("error", () => {}).pipe(client)
          })
          listener.listen(socket, () => resume(Effect.succeed(listener)))
        }),
        (listener) => Effect.sync(() => listener.close())
      )
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
