/** etcd's naming format, with etcd's own client for it in Go. */
import { assert, describe, layer } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as EtcdClient from "../../src/EtcdClient.js"
import * as Registry from "../../src/Registry.js"
import * as Session from "../../src/Session.js"
import { EtcdServer } from "../support/EtcdServer.js"
import * as EtcdServers from "../support/EtcdServer.js"
import * as GoNaming from "./GoNaming.js"

const registry = Layer.unwrapEffect(
  Effect.map(EtcdServer, ({ endpoint }) =>
    Registry.layer({ format: "etcd-naming" }).pipe(
      Layer.provideMerge(Session.layer),
      Layer.provideMerge(EtcdClient.layer({ endpoints: endpoint }))
    ))
)

/** Go's client for one target. */
const go = (target: string) => Effect.flatMap(EtcdServer, ({ endpoint }) => GoNaming.start(endpoint, target))

describe.skipIf(!GoNaming.isThere)("with etcd's naming client in Go", () => {
  const environment = Layer.merge(Layer.provideMerge(registry, EtcdServers.layer()), GoNaming.program)

  // Go takes its time to build what it never did before.
  layer(environment, { excludeTestServices: true, timeout: 240_000 })((it) => {
    it.scoped(
      "what its manager adds is found and followed here, and what it deletes is gone",
      () =>
        Effect.gen(function*() {
          const theirs = yield* go("theirs")
          yield* theirs.add({ Key: "theirs/a", Addr: "10.0.0.7:8080", Metadata: null })
          yield* theirs.add({
            Key: "theirs/zone/b",
            Addr: "[::1]:81",
            Metadata: { weight: 3, tags: ["x"], note: "<&>" }
          })
          yield* theirs.add({ Key: "theirs/c", Addr: "host:82", Metadata: "text" })
          const a = { id: "a", name: "theirs", address: "10.0.0.7", port: 8080, metadata: {} }
          const b = {
            id: "zone/b",
            name: "theirs",
            address: "::1",
            port: 81,
            metadata: { weight: "3", tags: "[\"x\"]", note: "<&>" }
          }
          const c = { id: "c", name: "theirs", address: "host", port: 82, metadata: { Metadata: "text" } }
          assert.deepStrictEqual(yield* Registry.discover("theirs"), [a, c, b])
          const events = yield* Stream.toPull(Stream.rechunk(Registry.watch("theirs"), 1))
          const next = Effect.map(events, Chunk.toReadonlyArray)
          for (const service of [a, c, b]) assert.deepStrictEqual(yield* next, [{ _tag: "Put", service }])
          yield* theirs.delete("theirs/zone/b")
          assert.deepStrictEqual(yield* next, [{ _tag: "Delete", service: b }])
          yield* theirs.add({ Key: "theirs/a", Addr: "10.0.0.8:8080", Metadata: null })
          assert.deepStrictEqual(yield* next, [{ _tag: "Put", service: { ...a, address: "10.0.0.8" } }])
        }),
      120_000
    )

    it.scoped(
      "what is registered here is listed, followed and resolved there, and gone there when it ends",
      () =>
        Effect.gen(function*() {
          const theirs = yield* go("ours")
          const scope = yield* Effect.acquireRelease(Scope.make(), Scope.close)
          yield* Registry.register({ id: "a", name: "ours", address: "10.0.0.7", port: 8080 })
          const registration = yield* Scope.extend(
            Registry.register({ id: "b", name: "ours", address: "::1", port: 81, metadata: { note: "<&> \u{1f600}" } }),
            scope
          )
          const a = { Key: "ours/a", Addr: "10.0.0.7:8080", Metadata: null }
          const b = { Key: "ours/b", Addr: "[::1]:81", Metadata: { note: "<&> \u{1f600}" } }
          assert.deepStrictEqual(yield* theirs.list, [a, b])

          yield* theirs.watch
          const updated = (update: GoNaming.Endpoint, Op: "Add" | "Delete") =>
            Effect.map(
              theirs.next,
              (report) => assert.deepStrictEqual(report, { _tag: "Updated", update: { Op, ...update } })
            )
          for (const endpoint of [a, b]) yield* updated(endpoint, "Add")
          yield* registration.setWeight(2)
          yield* updated({ ...b, Metadata: { ...b.Metadata, "coord.weight": "2" } }, "Add")

          const resolver = yield* go("ours")
          const resolved = (...addresses: ReadonlyArray<string>) =>
            Effect.map(resolver.next, (report) => assert.deepStrictEqual(report, { _tag: "Resolved", addresses }))
          yield* resolver.resolve
          yield* resolved("10.0.0.7:8080", "[::1]:81")

          yield* Scope.close(scope, Exit.void)
          yield* updated({ Key: "ours/b", Addr: "", Metadata: null }, "Delete")
          yield* resolved("10.0.0.7:8080")
          assert.deepStrictEqual(yield* theirs.list, [a])
        }),
      120_000
    )
  })
})
