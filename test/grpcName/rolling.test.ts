/** Nothing is lost: instances are restarted one after another under a constant load of calls. */
import { assert, describe, it } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as EtcdClient from "../../src/EtcdClient.js"
import * as Grpc from "../../src/Grpc.js"
import * as Certificates from "../support/certificates.js"
import * as EtcdServer from "../support/EtcdServer.js"
import type { ServerOptions } from "./echo.js"
import { Echo } from "./echo.js"
import type { Instance, Load } from "./support.js"
import { call, instance, load, memory, noFailures, reaches, registry, untilEffect } from "./support.js"

const authority = Certificates.authority("effect-coord test authority")

const serverTls = (hosts: ReadonlyArray<string>): ServerOptions => {
  const { cert, key } = authority.issue("server", hosts)
  return {
    credentials: grpc.ServerCredentials.createSsl(null, [{
      cert_chain: Buffer.from(cert),
      private_key: Buffer.from(key)
    }])
  }
}

/** Waits until the others get all calls. */
const unused = ({ calls, id }: Instance, load: Load) =>
  untilEffect(
    `${id} gets no calls`,
    Effect.suspend(() => {
      const before = calls()
      return Effect.map(load.more(40), () => calls() === before)
    })
  )

const rolling = (options: Grpc.ConnectionOptions, serverOptions: ServerOptions = {}) =>
  Effect.gen(function*() {
    const instances: Array<Instance> = []
    for (let i = 0; i < 20; i++) instances.push(yield* instance("echo", `i-${i}`, serverOptions))
    const client = yield* Grpc.client(Echo, "echo", options)
    yield* call(client)
    const calls = yield* load(client)
    yield* calls.more(200)
    for (let i = 0; i < 3; i++) {
      const old = instances[i]
      yield* old.registration.drain
      if (i === 1) {
        // One that does not let calls end by itself, and whose entry stays for a while.
        yield* unused(old, calls)
        yield* old.kill
        yield* calls.more(50)
      } else {
        yield* old.stop
      }
      yield* old.close
      yield* calls.more(50)
      const fresh = yield* instance("echo", `i-${i}`, serverOptions)
      assert.notStrictEqual(fresh.port, old.port)
      // Of pick_first, one instance has them all.
      if (options.policy !== "pick_first") yield* reaches(client, fresh)
      yield* calls.more(50)
    }
    yield* calls.stop
    yield* noFailures(calls)
    yield* Effect.log(`${yield* calls.calls} calls, none failed`)
  })

describe("a rolling restart loses no call", () => {
  const policies: ReadonlyArray<Grpc.Policy> = ["weighted", "round_robin", "pick_first"]

  it.scopedLive.each(policies)("%s", (policy) => Effect.provide(rolling({ policy }), memory))

  it.scopedLive.each(policies)(
    "%s, over TLS",
    (policy) =>
      Effect.provide(
        rolling({ policy, tls: { ca: authority.cert, serverName: "echo.internal" } }, serverTls(["echo.internal"])),
        memory
      )
  )

  it.scopedLive("over a real etcd", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* EtcdServer.make()
      yield* Effect.provide(rolling({}), registry(EtcdClient.layer({ endpoints: endpoint })))
    }))
})

describe("TLS", () => {
  it.scopedLive("expects the service's name in certificates", () =>
    Effect.gen(function*() {
      yield* instance("billing/api", "a", serverTls(["billing-api"]))
      const client = yield* Grpc.client(Echo, "billing/api", { tls: { ca: authority.cert } })
      assert.strictEqual(yield* call(client), "a")
      const other = yield* Grpc.client(Echo, "billing/api", { tls: { ca: authority.cert, serverName: "billing" } })
      const error = yield* Effect.flip(call(other))
      assert.strictEqual(error.code, grpc.status.UNAVAILABLE)
      assert.match(error.details, /altnames/)
      const strangers = Certificates.authority("another authority")
      const stranger = yield* Grpc.client(Echo, "billing/api", { tls: { ca: strangers.cert } })
      assert.strictEqual((yield* Effect.flip(call(stranger))).code, grpc.status.UNAVAILABLE)
    }).pipe(Effect.provide(memory)))

  it.scopedLive("takes credentials of grpc-js", () =>
    Effect.gen(function*() {
      yield* instance("echo", "a", serverTls(["echo"]))
      const credentials = grpc.credentials.createSsl(Buffer.from(authority.cert))
      const client = yield* Grpc.client(Echo, "echo", { credentials })
      assert.strictEqual(yield* call(client), "a")
    }).pipe(Effect.provide(memory)))

  it.scopedLive("reaches services of any name", () =>
    Effect.forEach(["user.1", "12", "a b@c:d#e?f%g", "größe/x"], (name) =>
      Effect.gen(function*() {
        yield* instance(name, "a")
        assert.strictEqual(yield* call(yield* Grpc.client(Echo, name)), "a")
      })).pipe(Effect.provide(memory)))
})
