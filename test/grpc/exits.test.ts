import { assert, describe, it, layer } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Client } from "../../src/internal/grpc/opening.js"
import * as EtcdServer from "../support/EtcdServer.js"
import { freePort } from "../support/ports.js"
import * as Processes from "../support/processes.js"
import * as TcpProxy from "../support/TcpProxy.js"
import * as DeafHost from "./deafHost.js"
import * as TlsServer from "./tlsServer.js"

class Program extends Context.Tag("effect-coord/test/grpc/Exits")<Program, Processes.Program<never, string>>() {}

const stage = Layer.merge(
  EtcdServer.layer(),
  Layer.scoped(Program, Processes.compile<never, string>(new URL("./fixtures/exits.ts", import.meta.url)))
)

/** Runs the program until it ends by itself; one that does not fails, and is killed with the test. */
const run = (seconds: number, ...args: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const program = yield* (yield* Program).start(String(seconds), ...args)
    const { code } = yield* Effect.timeoutFailCause(program.ended, {
      duration: "20 seconds",
      onTimeout: () => Cause.die(new Error("it did not end"))
    })
    const { message } = yield* Effect.flip(Effect.forever(program.next))
    assert.strictEqual(code, 0, message)
    return yield* program.reports
  })

/** With an etcd that answers, and where there is none. */
const there = (...args: ReadonlyArray<string>) =>
  Effect.map(run(15, ...args), (told) => assert.deepStrictEqual(told, ["with etcd", "closed"]))
const away = (...args: ReadonlyArray<string>) =>
  Effect.map(run(2, ...args), (told) => assert.deepStrictEqual(told, ["without etcd", "closed"]))

/** Credentials that are not ready before they are told to be. */
class LateCredentials extends grpc.ChannelCredentials {
  readonly ready: Promise<void>
  readonly asked: () => void

  constructor(ready: Promise<void>, asked: () => void) {
    super()
    this.ready = ready
    this.asked = asked
  }

  _isSecure(): boolean {
    return false
  }

  _equals(other: grpc.ChannelCredentials): boolean {
    return this === other
  }

  _createSecureConnector(
    ...args: Parameters<grpc.ChannelCredentials["_createSecureConnector"]>
  ): grpc.experimental.SecureConnector {
    const connector = grpc.credentials.createInsecure()._createSecureConnector(...args)
    connector.waitForReady = () => {
      this.asked()
      return this.ready
    }
    return connector
  }
}

describe("a client that is closed before it connects", () => {
  it.scopedLive("makes no connection afterwards", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.make()
      const proxy = yield* TcpProxy.make(server.endpoint)
      const connect = (endpoint: string) =>
        Effect.gen(function*() {
          const asked = yield* Deferred.make<void>()
          const ready = yield* Deferred.make<void>()
          const credentials = new LateCredentials(
            Effect.runPromise(Deferred.await(ready)),
            () => Deferred.unsafeDone(asked, Effect.void)
          )
          const client = new Client(`dns:${endpoint}`, credentials, { "grpc.use_local_subchannel_pool": 1 })
          client.getChannel().getConnectivityState(true)
          yield* Deferred.await(asked)
          return { client, proceed: Deferred.succeed(ready, void 0) }
        })
      const closed = yield* connect(proxy.endpoint)
      closed.client.close()
      const open = yield* connect(proxy.endpoint)
      yield* closed.proceed
      yield* open.proceed
      // Connections are accepted in their order: when the second stands, the first would have been here.
      yield* Effect.async<void, Error>((resume) =>
        open.client.waitForReady(Date.now() + 10_000, (error) =>
          resume(error === undefined ? Effect.void : Effect.fail(error)))
      )
      open.client.close()
      assert.strictEqual(yield* proxy.accepted, 1)
    }))
})

layer(stage, { excludeTestServices: true })("a program that is done ends by itself", (it) => {
  it.scoped("with etcd, after watches, leases and locks", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.EtcdServer
      yield* there(server.endpoint)
      assert.strictEqual(yield* server.etcdctl(["get", "/locks", "--prefix", "--keys-only"]), "")
    }))

  it.scoped("with nobody at the endpoint", () =>
    Effect.gen(function*() {
      const port = yield* Effect.promise(freePort)
      yield* away(`127.0.0.1:${port},nowhere.invalid`)
    }))

  it.scoped("with an etcd that swallows everything", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.EtcdServer
      const proxy = yield* TcpProxy.make(server.endpoint)
      yield* proxy.blackHole
      yield* away(proxy.endpoint)
    }))

  it.scoped("with a host that drops what is sent to it", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.EtcdServer
      const { endpoint } = yield* DeafHost.make(server.port)
      yield* away(endpoint)
    }))

  it.scoped("with certificates in files", () =>
    Effect.gen(function*() {
      const { server, tls } = yield* TlsServer.make()
      const { cert, key } = tls.client
      yield* there(server.url, tls.ca, cert, key)
      const proxy = yield* TcpProxy.make(server.endpoint)
      yield* proxy.blackHole
      yield* away(`https://${proxy.endpoint}`, tls.ca, cert, key)
      // And with files that make no connection.
      yield* away(server.url, tls.ca, tls.stranger.cert, tls.stranger.key)
    }))
})
