import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { inspect } from "node:util"
import * as Config from "../../src/Config.js"
import * as Coord from "../../src/Coord.js"
import type * as EtcdClient from "../../src/EtcdClient.js"
import { EtcdError } from "../../src/EtcdError.js"
import * as Lock from "../../src/Lock.js"
import * as Registry from "../../src/Registry.js"
import * as EtcdServer from "../support/EtcdServer.js"
import { watchStreamsOf } from "../support/metrics.js"
import * as TcpProxy from "../support/TcpProxy.js"
import { connect, failure, outcome, take, text, until } from "./support.js"
import * as TlsServer from "./tlsServer.js"

const password = "hidden-Passw0rd"
const root = { username: "root", password: Redacted.make("root-hidden") }
const app = { username: "app", password: Redacted.make(password) }
const asRoot = ["--user=root:root-hidden"]

/** How long the server keeps a token that nobody uses. */
const tokenSeconds = 1

const addUsers = (server: EtcdServer.EtcdServerService) =>
  Effect.gen(function*() {
    yield* server.etcdctl(["user", "add", "root:root-hidden"])
    yield* server.etcdctl(["user", "grant-role", "root", "root"]).pipe(
      Effect.catchAll(() =>
        Effect.zipRight(server.etcdctl(["role", "add", "root"]), server.etcdctl(["user", "grant-role", "root", "root"]))
      )
    )
    yield* server.etcdctl(["user", "add", `app:${password}`])
    yield* server.etcdctl(["role", "add", "app"])
    yield* server.etcdctl(["role", "grant-permission", "--prefix=true", "app", "readwrite", "/app/"])
    yield* server.etcdctl(["user", "grant-role", "app", "app"])
  })

const start = (options: EtcdServer.EtcdServerOptions = {}) =>
  EtcdServer.make({
    ...options,
    flags: ["--auth-token=simple", `--auth-token-ttl=${tokenSeconds}`, "--bcrypt-cost=4", ...options.flags ?? []]
  })

const protectedServer = (options: EtcdServer.EtcdServerOptions = {}) =>
  Effect.gen(function*() {
    const server = yield* start(options)
    yield* addUsers(server)
    yield* server.etcdctl(["auth", "enable"])
    const proxy = yield* TcpProxy.make(server.endpoint)
    return { server, proxy }
  })

/** Lets the server forget every token, which it looks for once a second: there is nothing to wait for but time. */
const tokensExpire = Effect.sleep((tokenSeconds + 1.3) * 1_000)

const assertHidden = (error: EtcdError) => {
  for (
    const shown of [error.message, String(error), JSON.stringify(error), inspect(error, { depth: 10 }), error.stack]
  ) {
    assert.notInclude(shown ?? "", "hidden")
  }
}

/** May be repeated: some of these find a connection that has just been cut. */
const put = (client: EtcdClient.EtcdClient["Type"], key: string) => client.put({ key, value: "" }, { idempotent: true })

const suites = [{ version: undefined }, { version: "3.5" }] as const

// Each has a server of its own, and most of their time is waiting for tokens to expire.
describe.concurrent.each(suites)("a server that asks for a password (version $version)", ({ version }) => {
  it.scopedLive("tells who may do what", () =>
    Effect.gen(function*() {
      const { proxy } = yield* protectedServer({ version })
      const endpoints = proxy.endpoint

      // The right password.
      const client = yield* connect({ endpoints, auth: app })
      yield* Effect.all(Array.from({ length: 20 }, (_, index) => put(client, `/app/${index}`)), {
        concurrency: "unbounded"
      })
      assert.lengthOf((yield* client.range({ key: "/app/", rangeEnd: "/app0" })).kvs, 20)

      // A prefix of another's: final, at once, and nothing was done.
      const denied = yield* failure(put(client, "/other"))
      assert.deepStrictEqual(outcome(denied), ["PermissionDenied", false])
      assert.deepStrictEqual([denied.operation, denied.key, denied.endpoint], ["put", "/other", endpoints])
      const read = yield* failure(client.get("/other"))
      assert.deepStrictEqual(outcome(read), ["PermissionDenied", false])
      const nested = yield* failure(
        client.txn({ success: [{ _tag: "Put", request: { key: "/other", value: "" } }] })
      )
      assert.deepStrictEqual(outcome(nested), ["PermissionDenied", false])
      assert.deepStrictEqual((yield* (yield* connect({ endpoints, auth: root })).get("/other"))._tag, "None")

      // A watch that is refused fails alone.
      const watch = yield* client.openWatch({ key: "/app/watched" })
      const refused = yield* failure(client.openWatch({ key: "/other" }))
      assert.instanceOf(refused, EtcdError)
      assert.deepStrictEqual(outcome(refused as EtcdError), ["PermissionDenied", false])
      assert.strictEqual((refused as EtcdError).key, "/other")
      const stream = yield* failure(Stream.runDrain(client.watch({ key: "/other" })))
      assert.strictEqual((stream as EtcdError).reason, "PermissionDenied")
      yield* put(client, "/app/watched")
      yield* take(watch, 1)

      // No password, a wrong one, an unknown user.
      const none = yield* failure(put(yield* connect({ endpoints }), "/app/"))
      assert.deepStrictEqual(outcome(none), ["Unauthenticated", false])
      for (
        const auth of [
          { username: "app", password: Redacted.make("hidden-wrong") },
          { username: "nobody", password: Redacted.make("hidden-wrong") }
        ]
      ) {
        const wrong = yield* connect({ endpoints, auth })
        for (
          const call of [
            Effect.asVoid(put(wrong, "/app/")),
            Effect.asVoid(wrong.get("/app/")),
            Effect.asVoid(wrong.openWatch({ key: "/app/" })),
            Effect.asVoid(wrong.leaseKeepAliveOnce(1n))
          ]
        ) {
          const error = (yield* failure(call)) as EtcdError
          assert.deepStrictEqual(outcome(error), ["Unauthenticated", false])
          assert.include(error.message, `"${auth.username}"`)
          assert.match(error.message, /password/)
          assertHidden(error)
        }
      }
    }))

  it.scopedLive("forgets its tokens: calls, new watches, broken watches and keep-alives go on", () =>
    Effect.gen(function*() {
      const { proxy, server } = yield* protectedServer({ version })
      const client = yield* connect({ endpoints: proxy.endpoint, auth: app })
      const first = yield* client.openWatch({ key: "/app/a" })
      const { id } = yield* client.leaseGrant({ ttl: "1 minute" })
      yield* client.leaseKeepAliveOnce(id)

      // A new watch on the old stream.
      yield* tokensExpire
      const second = yield* client.openWatch({ key: "/app/b" })
      yield* client.leaseKeepAliveOnce(id)
      yield* put(client, "/app/a")
      yield* put(client, "/app/b")
      yield* Effect.all([take(first, 1), take(second, 1)])

      // Both are on the new stream, and the old one is gone.
      yield* until("one stream", Effect.map(watchStreamsOf(server), (count) => count === 1))

      // Both on a new stream, with the old token.
      yield* tokensExpire
      yield* proxy.cut()
      yield* Effect.all([put(client, "/app/a"), put(client, "/app/b")])
      yield* Effect.all([take(first, 1), take(second, 1)])
      yield* client.leaseKeepAliveOnce(id)

      // Many calls at once find out together.
      yield* tokensExpire
      yield* Effect.all(Array.from({ length: 20 }, () => put(client, "/app/c")), { concurrency: "unbounded" })
      // Still refused where it has to be.
      assert.strictEqual(
        ((yield* failure(client.openWatch({ key: "/other" }))) as EtcdError).reason,
        "PermissionDenied"
      )
    }))

  it.scopedLive("forgets the token of an idle watch: its heart-beat finds out, and it goes on with a new one", () =>
    Effect.gen(function*() {
      const { proxy, server } = yield* protectedServer({ version })
      const client = yield* connect({ endpoints: proxy.endpoint, auth: app, keepAlive: { time: "5 seconds" } })
      const watch = yield* client.openWatch({ key: "/app/a" })
      const before = yield* client.watchConnection.get
      // The token is older than its time when the heart-beat comes.
      yield* client.watchReconnected(before)
      yield* put(client, "/app/a")
      const [{ kv }] = yield* take(watch, 1)
      assert.strictEqual(text(kv.key), "/app/a")
      yield* until("one stream", Effect.map(watchStreamsOf(server), (count) => count === 1))
      assert.strictEqual(yield* proxy.accepted, 1)
    }))

  it.scopedLive("lets a user have a prefix: all services work within it, and touch nothing outside", () =>
    Effect.gen(function*() {
      const { proxy, server } = yield* protectedServer({ version })
      const services = yield* Layer.build(
        Coord.layer({ endpoints: proxy.endpoint, auth: app, namespace: "/app" })
      )
      yield* Effect.gen(function*() {
        const instances = yield* Effect.fork(
          Stream.runHead(Stream.filter(Registry.instances("search"), (all) => all.length > 0))
        )
        const changes = yield* Effect.fork(Stream.runHead(Config.watch("limit", Schema.Int)))
        const lock = yield* Lock.acquire("nightly", { ttl: "10 seconds" })
        const waiting = yield* Effect.fork(Effect.scoped(Lock.acquire("nightly", { ttl: "10 seconds" })))
        yield* until("a waiter", Effect.map(Lock.inspect("nightly"), ({ waiters }) => waiters.length === 1))
        yield* Registry.register({ id: "1", name: "search", address: "127.0.0.1", port: 80 })
        const version = yield* Config.set("limit", Schema.Int, 1, { guard: lock.guard })
        yield* Fiber.join(instances)

        // In the middle of it the token expires, and the connection breaks.
        yield* tokensExpire
        yield* proxy.cut()
        yield* Config.compareAndSet("limit", Schema.Int, 2, version)
        yield* Fiber.join(changes)
        assert.isFalse(yield* lock.isExpired)
        yield* lock.release
        yield* Fiber.join(waiting)
        yield* until("the whole of it", Effect.map(Registry.discover("search"), (all) => all.length === 1))
      }).pipe(Effect.scoped, Effect.provide(services))

      const keys = yield* server.etcdctl([...asRoot, "get", "", "--from-key", "--keys-only"])
      const outside = keys.split("\n").filter((key) => key !== "" && !key.startsWith("/app/"))
      assert.deepStrictEqual(outside, [])
      assert.include(keys, "/app/config/limit")
    }))
})

describe("a server that does not ask for a password", () => {
  it.scopedLive("serves a client that has one, and asks for it later", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const endpoints = server.endpoint
      const client = yield* connect({ endpoints, auth: app })
      const stranger = yield* connect({ endpoints })
      yield* put(client, "/app/a")
      const before = yield* client.openWatch({ key: "/app/a" })
      yield* addUsers(server)
      yield* server.etcdctl(["auth", "enable"])

      yield* put(client, "/app/a")
      yield* take(before, 1)
      const after = yield* client.openWatch({ key: "/app/b" })
      yield* put(client, "/app/b")
      yield* take(after, 1)
      assert.deepStrictEqual(outcome(yield* failure(put(stranger, "/app/a"))), ["Unauthenticated", false])
      assert.deepStrictEqual(outcome(yield* failure(put(client, "/other"))), ["PermissionDenied", false])

      yield* server.etcdctl([...asRoot, "auth", "disable"])
      yield* until("a server without auth", Effect.isSuccess(put(stranger, "/other")))
      yield* put(client, "/other")
    }))

  it.scopedLive("restarts and has forgotten the token", () =>
    Effect.gen(function*() {
      const { server } = yield* protectedServer()
      const client = yield* connect({ endpoints: server.endpoint, auth: app })
      const watch = yield* client.openWatch({ key: "/app/a" })
      yield* put(client, "/app/a")
      yield* server.kill
      yield* server.start
      yield* put(client, "/app/a")
      const events = yield* take(watch, 2)
      assert.deepStrictEqual(events.map(({ kv }) => text(kv.key)), ["/app/a", "/app/a"])
    }))
})

describe("a server that knows its users by their certificates", () => {
  it.scopedLive("gives a client what its certificate's name may have", () =>
    Effect.gen(function*() {
      const { authority, server } = yield* TlsServer.make()
      const certificate = (name: string) => ({ ca: authority.cert, ...authority.issue(name) })
      yield* addUsers(server)
      yield* server.etcdctl(["auth", "enable"])
      const client = yield* connect({ endpoints: server.url, tls: certificate("app") })
      const watch = yield* client.openWatch({ key: "/app/a" })
      yield* put(client, "/app/a")
      yield* take(watch, 1)
      assert.deepStrictEqual(outcome(yield* failure(put(client, "/other"))), ["PermissionDenied", false])
      const refused = yield* failure(client.openWatch({ key: "/other" }))
      assert.deepStrictEqual(outcome(refused as EtcdError), ["PermissionDenied", false])
      const stranger = yield* connect({ endpoints: server.url, tls: certificate("nobody") })
      assert.deepStrictEqual(outcome(yield* failure(put(stranger, "/app/a"))), ["PermissionDenied", false])
      // A password tells more than a certificate.
      const both = yield* connect({ endpoints: server.url, tls: certificate("nobody"), auth: app })
      yield* put(both, "/app/a")
      yield* take(watch, 1)
    }))
})
