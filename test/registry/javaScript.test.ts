/** What callers without types may pass to the registry and its clients: refused by name, and nothing is left behind. */
import * as HttpClient from "@effect/platform/HttpClient"
import { assert, describe, it } from "@effect/vitest"
import type * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Coord from "../../src/Coord.js"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as Grpc from "../../src/Grpc.js"
import { httpClient } from "../../src/HttpClient.js"
import * as Registry from "../../src/Registry.js"
import * as Session from "../../src/Session.js"

type Attempt = Effect.Effect<
  unknown,
  { readonly _tag: string; readonly argument?: string },
  Coord.Coord | HttpClient.HttpClient | Scope.Scope
>

const untyped = <A>(value: unknown): A => value as A

const service = { id: "1", name: "s", address: "127.0.0.1", port: 8080 }
const register = (fields: object, options?: object) =>
  Registry.register(untyped({ ...service, ...fields }), untyped(options))
const circular: { self?: unknown } = {}
circular.self = circular

const attempts: ReadonlyArray<readonly [what: string, attempt: () => Attempt, argument: string]> = [
  ...[undefined, null, 5, "s", []].flatMap((value) =>
    [
      [`the service ${String(value)}`, () => Registry.register(untyped(value)), "service"],
      [`the layer of the service ${String(value)}`, () => Layer.build(Registry.layerService(untyped(value))), "service"]
    ] as const
  ),
  ...[null, 5, "s"].flatMap((value) =>
    [
      [`options ${value} of a registration`, () => Registry.register(service, untyped(value)), "options"],
      [`options ${value} of a layer`, () => Layer.build(Registry.layerService(service, untyped(value))), "options"],
      [`options ${value} of a registry`, () => Layer.build(Registry.layer(untyped(value))), "options"],
      [`options ${value} of a session`, () => Session.make(untyped(value)), "options"],
      [`options ${value} of a connection`, () => Grpc.getConnection("s", untyped(value)), "options"],
      [`options ${value} of a gRPC client`, () => Grpc.client(class {}, "s", untyped(value)), "options"],
      [`options ${value} of an HTTP client`, () => httpClient("s", untyped(value)), "options"]
    ] as const
  ),
  ["a bigint as a port", () => register({ port: 80n }), "service.port"],
  ["a circular port", () => register({ port: circular }), "service.port"],
  ["a symbol as an address", () => register({ address: Symbol("a") }), "service.address"],
  ["a circular weight", () => register({ weight: circular }), "service.weight"],
  ["a weight without a prototype", () => register({ weight: Object.create(null) }), "service.weight"],
  ["no weight", () => register({ weight: null }), "service.weight"],
  ["a zone without a prototype", () => register({ zone: Object.create(null) }), "service.zone"],
  ["metadata that are a text", () => register({ metadata: "a" }), "service.metadata"],
  ["metadata that are a list", () => register({ metadata: ["a"] }), "service.metadata"],
  ["a time that is no number", () => register({}, { drain: NaN }), "drain"],
  ["a time below zero", () => register({}, { drain: "-1 seconds" }), "drain"],
  ["a time that never ends", () => register({}, { drain: Infinity }), "drain"],
  ["a ttl that is no number", () => register({}, { ttl: NaN }), "ttl"],
  ["a ttl in an object", () => register({}, { ttl: circular }), "ttl"],
  ["a grace that is no number", () => Layer.build(Registry.layer({ grace: NaN })), "grace"],
  ["another format", () => Layer.build(Registry.layer({ format: untyped(Object.create(null)) })), "format"],
  ["a number as a prefix", () => Layer.build(Registry.layer({ prefix: untyped(5) })), "prefix"],
  [
    "a number as a prefix of Go's",
    () => Layer.build(Registry.layer({ prefix: untyped(5), format: "etcd-naming" })),
    "prefix"
  ],
  ["a service's name that is null", () => Registry.unregister("1", untyped(null)), "name"],
  ["a number as a zone of gRPC", () => Grpc.getConnection("s", { zone: untyped(5) }), "zone"],
  ["another policy of gRPC", () => Grpc.getConnection("s", { policy: untyped(Object.create(null)) }), "policy"],
  ["other credentials", () => Grpc.getConnection("s", { credentials: untyped({}) }), "credentials"],
  ["a text as TLS", () => Grpc.getConnection("s", { tls: untyped("ca") }), "tls"],
  ["no TLS", () => Grpc.getConnection("s", { tls: untyped(null) }), "tls"],
  ["a text as a service config", () => Grpc.getConnection("s", { serviceConfig: untyped("{}") }), "serviceConfig"],
  ["a text as channel options", () => Grpc.getConnection("s", { channelOptions: untyped("a") }), "channelOptions"],
  ["no client", () => Grpc.client(untyped<typeof grpc.Client>(undefined), "s"), "Client"],
  ["one interceptor", () => Grpc.client(class {}, "s", { interceptors: untyped({}) }), "interceptors"],
  ["a number as a zone of HTTP", () => httpClient("s", { zone: untyped(5) }), "zone"],
  ["a text as methods", () => httpClient("s", { repeatMethods: untyped("GET") }), "repeatMethods"],
  ["a number as methods", () => httpClient("s", { repeatMethods: untyped(5) }), "repeatMethods"],
  ["another method", () => httpClient("s", { repeatMethods: [untyped(Object.create(null))] }), "repeatMethods"],
  ["a base path without a prototype", () => httpClient("s", { basePath: untyped(Object.create(null)) }), "basePath"],
  ["a pause that is no number", () => httpClient("s", { pause: NaN }), "pause"],
  ["a list of names", () => httpClient(untyped(["s"])), "name"]
]

const http = Layer.succeed(HttpClient.HttpClient, HttpClient.make(() => Effect.dieMessage("nothing is sent")))

describe("what JavaScript passes to the registry", () => {
  for (const [what, attempt, argument] of attempts) {
    it.scoped(`${what} is refused by its name`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Effect.suspend(attempt))
        assert.deepStrictEqual([error._tag, error.argument], ["InvalidArgument", argument])
        const etcd = yield* EtcdClient
        assert.strictEqual((yield* etcd.range({ key: "\0", rangeEnd: "\0" })).header.revision, 1n)
      }).pipe(Effect.provide([Coord.layerMemory, http])))
  }

  it.scoped("as new metadata is refused, and the old ones stay", () =>
    Effect.gen(function*() {
      const registration = yield* Registry.register({ ...service, metadata: { v: "1" }, weight: 2 })
      for (const metadata of [undefined, null, 5, "v", ["v"], { v: 2 }]) {
        const error = yield* Effect.flip(registration.update(untyped(metadata)))
        assert.strictEqual(error._tag === "InvalidArgument" && error.argument.split(".")[0], "metadata")
      }
      for (const weight of [undefined, null, "2", -1, NaN, 2n]) {
        const error = yield* Effect.flip(registration.setWeight(untyped(weight)))
        assert.strictEqual(error._tag === "InvalidArgument" && error.argument, "weight")
      }
      const [found] = yield* Registry.discover("s")
      assert.deepStrictEqual([found.metadata.v, Registry.weight(found)], ["1", 2])
    }).pipe(Effect.provide(Coord.layerMemory)))
})
