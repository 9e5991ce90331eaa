import { assert, describe, it, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { copyFile } from "node:fs/promises"
import * as Path from "node:path"
import type * as EtcdClient from "../../src/EtcdClient.js"
import * as Certificates from "../support/certificates.js"
import * as TcpProxy from "../support/TcpProxy.js"
import { connect, failure, outcome, take, text, until } from "./support.js"
import * as TlsServer from "./tlsServer.js"

type Tls = EtcdClient.Options["tls"]

class Server extends Context.Tag("Server")<Server, Effect.Effect.Success<ReturnType<typeof TlsServer.make>>>() {}

const servers = {
  mutual: Layer.scoped(Server, TlsServer.make()),
  named: Layer.scoped(Server, TlsServer.make({ clientCertificates: false, hosts: ["etcd.internal"] }))
}

const retry = { maxAttempts: 2, initialDelay: 1 }

const client = (tls: Tls, endpoint?: string) =>
  Effect.flatMap(Server, ({ server }) => connect({ endpoints: endpoint ?? server.url, tls, retry }))

/** Works for calls and for streams. */
const works = (tls: Tls, endpoint?: string) =>
  Effect.gen(function*() {
    const own = yield* client(tls, endpoint)
    const watch = yield* own.openWatch({ key: "tls" })
    yield* own.put({ key: "tls", value: "" })
    yield* take(watch, 1)
  })

/** Is refused for a reason that the error says, long before the deadline. */
const fails = (tls: Tls, detail: RegExp, endpoint?: string) =>
  Effect.gen(function*() {
    const { server } = yield* Server
    const own = yield* client(tls, endpoint)
    const error = yield* failure(own.put({ key: "tls", value: "" }))
    assert.deepStrictEqual(outcome(error), ["Unavailable", false])
    assert.match(error.detail, detail)
    if (endpoint === undefined) assert.strictEqual(error.endpoint, server.endpoint)
    yield* Effect.forkScoped(own.openWatch({ key: "tls" }, { timeout: "1 minute" }))
    yield* until(
      "a stream that failed",
      Effect.map(own.watchConnection.get, (state) => state._tag === "Disconnected" && detail.test(state.reason))
    )
    const watching = yield* failure(own.openWatch({ key: "tls" }, { timeout: 200 }))
    assert.strictEqual(watching._tag, "EtcdError")
    assert.match(watching.message, detail)
  })

layer(servers.mutual, { excludeTestServices: true })("a server that asks for certificates", (it) => {
  it.scoped("takes those of its authority, as files", () =>
    Effect.gen(function*() {
      const { server, tls: { ca, client } } = yield* Server
      yield* works({ ca: { file: ca }, cert: { file: client.cert }, key: { file: client.key } })
      // The tls option is enough to say that it is TLS.
      yield* works({ ca: { file: ca }, cert: { file: client.cert }, key: { file: client.key } }, server.endpoint)
    }))

  it.scoped("takes those of its authority, as PEM in every form", () =>
    Effect.gen(function*() {
      const { authority, identity, tls: { ca } } = yield* Server
      yield* works({ ca: authority.cert, cert: identity.cert, key: Redacted.make(identity.key) })
      yield* works({
        ca: { file: ca },
        cert: Buffer.from(identity.cert),
        key: Redacted.make(Buffer.from(identity.key))
      })
      // One authority among others.
      yield* works({ ...identity, ca: Certificates.authority("other").cert + authority.cert })
    }))

  it.scoped("refuses a client without one", () =>
    Effect.gen(function*() {
      const { authority } = yield* Server
      yield* fails({ ca: authority.cert }, /certificate required|bad certificate|handshake/i)
    }))

  it.scoped("refuses one of another authority", () =>
    Effect.gen(function*() {
      const { authority, strangers } = yield* Server
      const { cert, key } = strangers.issue("stranger")
      yield* fails({ ca: authority.cert, cert, key }, /unknown ca|bad certificate|handshake/i)
    }))

  it.scoped("is not trusted without its authority", () =>
    Effect.gen(function*() {
      const { identity, strangers } = yield* Server
      yield* fails({ ...identity, ca: strangers.cert }, /certificate/)
      yield* fails({ ...identity }, /certificate/)
      yield* fails(undefined, /certificate/)
    }))

  it.scoped("does not understand a client without TLS", () =>
    Effect.gen(function*() {
      const { server } = yield* Server
      const plain = yield* connect({ endpoints: server.endpoint, retry })
      const error = yield* failure(plain.put({ key: "tls", value: "" }, { timeout: 1_000 }))
      assert.deepStrictEqual(outcome(error), ["Unavailable", false])
    }))
})

layer(servers.named, { excludeTestServices: true })("a server under another name", (it) => {
  it.scoped("is refused by the name of the endpoint", () =>
    Effect.gen(function*() {
      const { authority } = yield* Server
      yield* fails({ ca: authority.cert }, /altnames|certificate's/i)
    }))

  it.scoped("is accepted by the name of the option", () =>
    Effect.gen(function*() {
      const { authority } = yield* Server
      yield* works({ ca: authority.cert, serverName: "etcd.internal" })
      yield* fails({ ca: authority.cert, serverName: "other.internal" }, /altnames|certificate's/i)
    }))
})

layer(servers.mutual, { excludeTestServices: true })("certificates that change while the client runs", (it) => {
  it.scoped("are used by the connections made afterwards", () =>
    Effect.gen(function*() {
      const { folder, server, tls } = yield* Server
      const proxy = yield* TcpProxy.make(server.endpoint)
      const [ca, cert, key] = ["rotated-ca.pem", "rotated.pem", "rotated.key"].map((name) => Path.join(folder, name))
      const copy = (from: string, to: string) => Effect.promise(() => copyFile(from, to))
      const use = (ca_: string, files: TlsServer.Files) =>
        Effect.all([copy(ca_, ca), copy(files.cert, cert), copy(files.key, key)])
      yield* use(tls.ca, tls.stranger)
      const own = yield* connect({
        endpoints: `https://${proxy.endpoint}`,
        tls: { ca: { file: ca }, cert: { file: cert }, key: { file: key } },
        retry
      })
      const put = own.put({ key: "rotated", value: "" }, { timeout: "5 seconds" })
      assert.deepStrictEqual(outcome(yield* failure(put)), ["Unavailable", false])
      yield* use(tls.ca, tls.client)
      yield* until("the new certificate", Effect.isSuccess(put))
      const watch = yield* own.openWatch({ key: "rotated" })

      // A connection that stands does not care; a new one uses what the files hold then. Half a rotation, in which the key
      // is not that of the certificate, is survived as well.
      yield* copy(tls.stranger.key, key)
      yield* TlsServer.write(ca, "")
      yield* put
      yield* proxy.cut()
      yield* until("a refusal", Effect.map(Effect.either(put), (either) => either._tag === "Left"))
      yield* use(tls.ca, tls.client)
      yield* until("the certificate once more", Effect.isSuccess(put))
      yield* take(watch, 2)
    }), 60_000)
})

describe("an authority that is replaced while everything runs", () => {
  it.scopedLive(
    "is trusted once it is in the file: no restart, and no gap in what is watched",
    () =>
      Effect.gen(function*() {
        const { authority, folder, server, tls } = yield* TlsServer.make()
        const next = Certificates.authority("the next authority")
        const proxy = yield* TcpProxy.make(server.endpoint)
        const ca = Path.join(folder, "trusted.pem")
        const trust = (...authorities: ReadonlyArray<Certificates.Authority>) =>
          TlsServer.write(ca, authorities.map(({ cert }) => cert).join(""))
        yield* trust(authority)
        const own = yield* connect({
          endpoints: `https://${proxy.endpoint}`,
          tls: { ca: { file: ca }, cert: { file: tls.client.cert }, key: { file: tls.client.key } },
          retry
        })
        const watch = yield* own.openWatch({ key: "replaced" })
        const written: Array<string> = []
        let values = 0
        const put = Effect.suspend(() => {
          const value = String(++values)
          const putting = own.put({ key: "replaced", value }, { timeout: "5 seconds", idempotent: true })
          return Effect.tap(putting, () => Effect.sync(() => written.push(value)))
        })
        yield* put

        // The server has its new certificate too early: it is not trusted, and nobody is asked to trust it.
        yield* TlsServer.writeCertificate(folder, "server", next.issue("server"))
        yield* proxy.cut()
        yield* until("a refusal", Effect.map(Effect.either(put), (either) => either._tag === "Left"))
        yield* trust(authority, next)
        yield* until("the new authority", Effect.isSuccess(put))

        // The old one goes.
        yield* trust(next)
        yield* proxy.cut()
        yield* until("a connection", Effect.isSuccess(put))
        const seen: Array<string> = []
        while (!written.every((value) => seen.includes(value))) {
          seen.push(...(yield* take(watch, 1)).map(({ kv }) => text(kv.value)))
        }
        const old = yield* connect({
          endpoints: `https://${proxy.endpoint}`,
          tls: { ca: authority.cert, cert: { file: tls.client.cert }, key: { file: tls.client.key } },
          retry
        })
        assert.match((yield* failure(old.get("replaced"))).detail, /certificate/)
      }),
    60_000
  )
})

describe("Node's authorities", () => {
  it.scopedLive("include those of NODE_EXTRA_CA_CERTS", () =>
    Effect.gen(function*() {
      const { server, tls: { ca, client: files } } = yield* TlsServer.make()
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          process.env.NODE_EXTRA_CA_CERTS = ca
        }),
        () =>
          Effect.sync(() => {
            delete process.env.NODE_EXTRA_CA_CERTS
          })
      )
      const own = yield* connect({
        endpoints: server.url,
        tls: { cert: { file: files.cert }, key: { file: files.key } }
      })
      yield* own.get("tls")
    }))
})
