import { assert, describe, it, layer } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { Client } from "../../src/internal/grpc/opening.js"
import * as EtcdServer from "../support/EtcdServer.js"
import { freePort } from "../support/ports.js"
import * as TcpProxy from "../support/TcpProxy.js"
import * as DeafHost from "./deafHost.js"
import * as TlsServer from "./tlsServer.js"

const fixture = fileURLToPath(new URL("./fixtures/exits.ts", import.meta.url))

/** Runs the program until it ends by itself; one that does not is killed and fails. */
const run = (...args: ReadonlyArray<string>) =>
  Effect.async<ReadonlyArray<string>, Error>((resume) => {
    const child = execFile(
      process.execPath,
      ["--import", "tsx", fixture, ...args],
      { timeout: 20_000 },
      (error, stdout, stderr) =>
        resume(
          error === null
            ? Effect.succeed(stdout.trim().split("\n"))
            : Effect.dieMessage(`${error.killed === true ? "it did not end" : error.message}\n${stdout}${stderr}`)
        )
    )
    return Effect.sync(() => child.kill("SIGKILL"))
  })

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

layer(EtcdServer.layer(), { excludeTestServices: true })("a program that is done ends by itself", (it) => {
  it.scoped("with etcd, after watches, leases and locks", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.EtcdServer
      assert.deepStrictEqual(yield* run(server.endpoint), ["with etcd", "closed"])
      assert.strictEqual(yield* server.etcdctl(["get", "/locks", "--prefix", "--keys-only"]), "")
    }))

  it.scoped("with nobody at the endpoint", () =>
    Effect.gen(function*() {
      const port = yield* Effect.promise(freePort)
      assert.deepStrictEqual(yield* run(`127.0.0.1:${port},nowhere.invalid`), ["without etcd", "closed"])
    }))

  it.scoped("with an etcd that swallows everything", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.EtcdServer
      const proxy = yield* TcpProxy.make(server.endpoint)
      yield* proxy.blackHole
      assert.deepStrictEqual(yield* run(proxy.endpoint), ["without etcd", "closed"])
    }))

  it.scoped("with a host that drops what is sent to it", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.EtcdServer
      const { endpoint } = yield* DeafHost.make(server.port)
      assert.deepStrictEqual(yield* run(endpoint), ["without etcd", "closed"])
    }))

  it.scoped("with certificates in files", () =>
    Effect.gen(function*() {
      const { server, tls } = yield* TlsServer.make()
      const { cert, key } = tls.client
      assert.deepStrictEqual(yield* run(server.url, tls.ca, cert, key), ["with etcd", "closed"])
      const proxy = yield* TcpProxy.make(server.endpoint)
      yield* proxy.blackHole
      assert.deepStrictEqual(yield* run(`https://${proxy.endpoint}`, tls.ca, cert, key), ["without etcd", "closed"])
      // And with files that make no connection.
      assert.deepStrictEqual(yield* run(server.url, tls.ca, tls.stranger.cert, tls.stranger.key), [
        "without etcd",
        "closed"
      ])
    }))
})
