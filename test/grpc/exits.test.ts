import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as EtcdServer from "../support/EtcdServer.js"
import { freePort } from "../support/ports.js"
import * as TcpProxy from "../support/TcpProxy.js"
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
