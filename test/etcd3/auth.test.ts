import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { IOptions } from "etcd3"
import { EtcdError } from "../../src/EtcdError.js"
import * as Transport from "../../src/internal/etcd3/transport.js"
import type { Client } from "../grpc/support.js"
import { bounded, failure, outcome, take, timeout } from "../grpc/support.js"
import * as EtcdServer from "../support/EtcdServer.js"
import { stubServer } from "../support/stubServer.js"
import * as TcpProxy from "../support/TcpProxy.js"
import { instance, over, withItsPolicies } from "./support.js"

/** How long the server keeps a token that nobody uses. */
const tokenSeconds = 1

/** Lets the server forget every token, which it looks for once a second: there is nothing to wait for but time. */
const tokensExpire = Effect.sleep((tokenSeconds + 1.3) * 1_000)

const protectedServer = Effect.gen(function*() {
  const server = yield* EtcdServer.make({
    version: "3.5",
    flags: ["--auth-token=simple", `--auth-token-ttl=${tokenSeconds}`, "--bcrypt-cost=4"]
  })
  for (
    const command of [
      "user add root:root",
      "user grant-role root root",
      "user add app:right",
      "role add app",
      "role grant-permission --prefix=true app readwrite /app/",
      "user grant-role app app",
      "auth enable"
    ]
  ) {
    yield* server.etcdctl(command.split(" "))
  }
  return { server, proxy: yield* TcpProxy.make(server.endpoint) }
})

const as = (username: string, password: string): Partial<IOptions> => ({
  auth: { username, password },
  // For the token, whose request would have no deadline else.
  defaultCallOptions: ({ isStream }) => isStream ? {} : { deadline: Date.now() + 1_000 }
})

/** May be repeated: some of these find a connection that has just been cut. */
const put = (client: Client, key: string) => client.put({ key, value: "" }, { idempotent: true })

describe("an instance with a user", () => {
  it.scopedLive("is told who may do what", () =>
    Effect.gen(function*() {
      const { proxy } = yield* protectedServer
      const client = yield* over(yield* instance(proxy.endpoint, as("app", "right")))
      yield* put(client, "/app/a")
      const denied = yield* failure(put(client, "/other"))
      assert.deepStrictEqual(outcome(denied), ["PermissionDenied", false])
      assert.deepStrictEqual([denied.operation, denied.key, denied.endpoint], ["put", "/other", proxy.endpoint])
      assert.strictEqual(
        ((yield* failure(client.openWatch({ key: "/other" }))) as EtcdError).reason,
        "PermissionDenied"
      )

      const nobody = yield* over(yield* instance(proxy.endpoint))
      assert.deepStrictEqual(outcome(yield* failure(put(nobody, "/app/"))), ["Unauthenticated", false])

      const wrong = yield* over(yield* instance(proxy.endpoint, as("app", "wrong")))
      for (
        const call of [
          Effect.asVoid(put(wrong, "/app/")),
          Effect.asVoid(wrong.openWatch({ key: "/app/" })),
          Effect.asVoid(wrong.leaseKeepAliveOnce(1n))
        ]
      ) {
        const error = (yield* bounded(failure(call))) as EtcdError
        assert.instanceOf(error, EtcdError)
        assert.deepStrictEqual([error.operation, ...outcome(error)], ["authenticate", "Unauthenticated", false])
      }
    }))

  it.scopedLive("whose token is forgotten: calls, new watches, broken watches and keep-alives go on", () =>
    Effect.gen(function*() {
      const { proxy, server } = yield* protectedServer
      const client = yield* over(yield* instance(proxy.endpoint, as("app", "right")))
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

      // A broken stream, and nothing but streams to find out that the token is no more.
      yield* tokensExpire
      yield* proxy.cut()
      const root = yield* over(yield* instance(server.endpoint, as("root", "root")))
      yield* Effect.all([put(root, "/app/a"), put(root, "/app/b")])
      yield* Effect.all([take(first, 1), take(second, 1)])
      yield* client.leaseKeepAliveOnce(id)

      // Many calls at once find out together.
      yield* tokensExpire
      yield* Effect.all(Array.from({ length: 20 }, (_, index) => put(client, `/app/c${index}`)), {
        concurrency: "unbounded"
      })
      yield* tokensExpire
      yield* server.kill
      yield* server.start
      yield* put(client, "/app/a")
      yield* take(first, 1)
    }))

  it.scopedLive("whose stream ends for its token: the next one has another", () =>
    Effect.gen(function*() {
      const server = yield* stubServer()
      const application = yield* instance(server.endpoint, as("app", "right"))
      const transport = Transport.make(application, { hosts: [], requestTimeoutMillis: 1_000 })
      const ended = yield* Deferred.make<EtcdError>()
      const open = transport.openWatch({
        onMessage: () => {},
        onEnd: (error) => Deferred.unsafeDone(ended, Effect.succeed(error))
      })
      yield* open
      const error = yield* bounded(Deferred.await(ended))
      assert.deepStrictEqual([error.operation, ...outcome(error)], ["watch", "Unauthenticated", false])
      yield* open
      yield* Effect.all([server.come, server.come])
      // Had it been the same token, it would be gone again.
      assert.isTrue(Option.isNone(yield* Effect.timeoutOption(Effect.zipRight(server.gone, server.gone), 300)))
    }))

  it.scopedLive("that gets no token: calls and streams fail at their deadlines", () =>
    Effect.gen(function*() {
      const { proxy } = yield* protectedServer
      // Without any deadline of its own, the instance waits for ever.
      const application = yield* instance(proxy.endpoint, { auth: { username: "app", password: "right" } })
      const client = yield* over(application, { requestTimeout: "500 millis" })
      yield* proxy.blackHole
      for (
        const call of [
          Effect.asVoid(client.put({ key: "/app/a", value: "" }, timeout)),
          Effect.asVoid(client.get("/app/a", timeout)),
          Effect.asVoid(client.openWatch({ key: "/app/a" }, timeout)),
          Effect.asVoid(client.leaseKeepAliveOnce(1n, timeout)),
          Effect.asVoid(client.leaseKeepAliveOnce(1n, { timeout: 900 }))
        ]
      ) {
        assert.deepStrictEqual(outcome((yield* bounded(failure(call))) as EtcdError), ["DeadlineExceeded", false])
      }
    }))

  it.scopedLive("and policies of etcd3, whose circuit breaker hangs: calls fail at their deadlines", () =>
    Effect.gen(function*() {
      const { proxy } = yield* protectedServer
      const application = yield* instance(proxy.endpoint, { ...as("app", "right"), ...withItsPolicies })
      const client = yield* over(application, { retry: { maxAttempts: 1 } })
      yield* put(client, "/app/a")
      yield* proxy.refuse
      yield* proxy.cut()
      yield* failure(put(client, "/app/a")).pipe(Effect.repeatN(3))
      yield* proxy.accept
      // The breaker is half open by then, and the token is gone.
      yield* Effect.sleep("5.2 seconds")
      const error = yield* bounded(failure(client.put({ key: "/app/a", value: "" }, timeout)))
      assert.deepStrictEqual(outcome(error), ["DeadlineExceeded", false])
    }))
})
