/** Connections that do not come about, or break. */
import { assert, describe, it } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Net from "node:net"
import * as Grpc from "../../src/Grpc.js"
import * as Endpoints from "../../src/internal/grpcName/endpoints.js"
import * as Registry from "../../src/Registry.js"
import * as DeafHost from "../grpc/deafHost.js"
import { Echo, server } from "./echo.js"
import { call, instance, memory, reaches, shares, until, untilEffect } from "./support.js"

/** Accepts connections and says nothing. */
const silent = Effect.acquireRelease(
  Effect.async<{ readonly port: number; readonly accepted: () => number; readonly close: () => void }>((resume) => {
    const sockets = new Set<Net.Socket>()
    let accepted = 0
    const own = Net.createServer((socket) => {
      accepted++
      sockets.add(socket.on("error", () => {}).once("close", () => sockets.delete(socket)))
    })
    own.listen(0, "127.0.0.1", () =>
      resume(Effect.succeed({
        port: (own.address() as Net.AddressInfo).port,
        accepted: () => accepted,
        close: () => {
          own.close()
          sockets.forEach((socket) => socket.destroy())
        }
      })))
  }),
  ({ close }) => Effect.sync(close)
)

const policies: ReadonlyArray<Grpc.Policy> = ["weighted", "round_robin", "pick_first"]

describe.each(policies)("%s", (policy) => {
  it.scopedLive("gives up on one that says nothing", () =>
    Effect.gen(function*() {
      const { port } = yield* silent
      yield* Registry.register({ id: "a", name: "echo", address: "127.0.0.1", port })
      const client = yield* Grpc.client(Echo, "echo", { policy, connectTimeout: "200 millis" })
      const error = yield* Effect.flip(call(client))
      assert.strictEqual(error.code, grpc.status.UNAVAILABLE)
      assert.match(error.details, /no handshake within 200 ms/)
      // Others serve meanwhile.
      yield* instance("echo", "b")
      yield* untilEffect(
        "b is connected",
        Effect.map(Effect.exit(call(client)), (exit) => Exit.isSuccess(exit))
      )
      assert.deepStrictEqual(yield* shares(client, 5), { b: 5 })
    }).pipe(Effect.provide(memory)))

  it.scopedLive("connects again to one that comes back", () =>
    Effect.gen(function*() {
      const a = yield* instance("echo", "a")
      const b = yield* instance("echo", "b")
      const client = yield* Grpc.client(Echo, "echo", {
        policy,
        channelOptions: { "grpc.max_reconnect_backoff_ms": 200 }
      })
      yield* untilEffect("a takes calls", Effect.map(call(client), (id) => id === "a"))
      yield* a.kill
      yield* untilEffect("b takes all calls", Effect.map(shares(client, 4), (got) => got.b === 4))
      const again = yield* server("a", { port: a.port })
      if (policy === "pick_first") yield* b.close
      yield* until("connected", () => client.getChannel().getConnectivityState(true) === grpc.connectivityState.READY)
      yield* reaches(client, again)
    }).pipe(Effect.provide(memory)))

  it.scopedLive("leaves nothing behind that would go on connecting", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* DeafHost.make(1)
      const port = Number(endpoint.split(":")[1])
      const connecting = () => process.getActiveResourcesInfo().filter((name) => name === "ConnectWrap").length
      // Those of the host itself.
      const before = connecting()
      yield* Registry.register({ id: "a", name: "echo", address: "127.0.0.1", port })
      const scope = yield* Scope.make()
      const client = yield* Scope.extend(Grpc.client(Echo, "echo", { policy }), scope)
      client.getChannel().getConnectivityState(true)
      yield* until("it connects", () => connecting() === before + 1)
      yield* Scope.close(scope, Exit.void)
      yield* until("it has stopped connecting", () => connecting() === before)
    }).pipe(Effect.provide(memory)))
})

it.scopedLive.each(["weighted", "round_robin"] as const)(
  "%s does not go on connecting to one that has left",
  (policy) =>
    Effect.gen(function*() {
      const gone = yield* silent
      const stays = yield* silent
      const register = (id: string, port: number) => Registry.register({ id, name: "echo", address: "127.0.0.1", port })
      const registration = yield* register("gone", gone.port)
      yield* register("stays", stays.port)
      const client = yield* Grpc.client(Echo, "echo", {
        policy,
        connectTimeout: "20 millis",
        channelOptions: { "grpc.max_reconnect_backoff_ms": 100 }
      })
      client.getChannel().getConnectivityState(true)
      yield* until("it tries again and again", () => gone.accepted() > 2 && stays.accepted() > 2)
      yield* registration.unregister
      // What it is waiting for at that moment may still come about.
      const before = [gone.accepted(), stays.accepted()]
      yield* until("it tries the other", () => stays.accepted() > before[1] + 8)
      assert.isAtMost(gone.accepted(), before[0] + 2)
    }).pipe(Effect.provide(memory))
)

describe("addresses", () => {
  const construct = () => {}
  const service = (id: string, address: string, metadata: Record<string, string> = {}): Registry.ServiceInfo => ({
    id,
    name: "echo",
    address,
    port: 1,
    metadata
  })
  const draining = { "coord.draining": "true" }

  it("are there once each, and drain if all of their instances do", () => {
    const endpoints = Endpoints.make(
      [
        service("a", "h1", draining),
        service("b", "h1", { "coord.weight": "2", "coord.zone": "x" }),
        service("c", "h1", draining),
        service("d", "h2", draining),
        service("e", "[::1]")
      ],
      construct
    )
    assert.deepStrictEqual<unknown>(endpoints, [
      { addresses: [{ construct, host: "h1", port: 1 }], weight: 2, zone: "x", draining: false },
      { addresses: [{ construct, host: "h2", port: 1 }], weight: 1, zone: undefined, draining: true },
      { addresses: [{ construct, host: "::1", port: 1 }], weight: 1, zone: undefined, draining: false }
    ])
    assert.deepStrictEqual(Endpoints.withoutDraining(endpoints), [endpoints[0], endpoints[2]])
    assert.deepStrictEqual(Endpoints.withoutDraining([endpoints[1]]), [endpoints[1]])
  })

  it.scopedLive("may be names of hosts", () =>
    Effect.gen(function*() {
      const own = yield* server("a")
      yield* Registry.register({ id: "a", name: "echo", address: "localhost", port: own.port })
      assert.strictEqual(yield* call(yield* Grpc.client(Echo, "echo")), "a")
    }).pipe(Effect.provide(memory)))
})

it.scopedLive("take any time to connect that is given, also one that is longer than a timer can be", () =>
  Effect.gen(function*() {
    yield* instance("echo", "a")
    const client = yield* Grpc.client(Echo, "echo", { connectTimeout: "60 days" })
    assert.strictEqual(yield* call(client), "a")
  }).pipe(Effect.provide(memory)))
