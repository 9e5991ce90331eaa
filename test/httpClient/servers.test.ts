import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpBody from "@effect/platform/HttpBody"
import type * as HttpClient from "@effect/platform/HttpClient"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import type { Options } from "../../src/HttpClient.js"
import { httpClient } from "../../src/HttpClient.js"
import * as Registry from "../../src/Registry.js"
import * as Session from "../../src/Session.js"
import * as TestEtcd from "../../src/testing.js"
import { freePort } from "../support/ports.js"
import * as Processes from "../support/processes.js"
import type { Report } from "./fixtures/server.js"
import { load, serve, until } from "./servers.js"

const name = "user"

/** A process of its own, as far as etcd can tell. */
const registry = Registry.layer().pipe(Layer.provide(Session.layer), Layer.provide(TestEtcd.client()))

const register = (id: string, port: number, options?: Registry.RegisterOptions) =>
  Registry.register({ id, name, address: "127.0.0.1", port }, options)

/** A client in a process of its own, which knows so many instances. */
const caller = (instances: number, options?: Options) =>
  Effect.gen(function*() {
    const own = yield* Layer.build(registry)
    const followed = yield* Context.get(own, Registry.Registry).follow(name)
    yield* until(Effect.sync(() => followed.current()?.services.length === instances))
    return yield* Effect.provide(httpClient(name, options), own)
  })

const clients: Record<string, Layer.Layer<HttpClient.HttpClient>> = {
  node: NodeHttpClient.layer,
  undici: NodeHttpClient.layerUndici,
  fetch: FetchHttpClient.layer
}

const text = (
  client: HttpClient.HttpClient,
  method: "get" | "post"
) => Effect.flatMap(method === "get" ? client.get("/") : client.post("/", { body: HttpBody.text("x") }), (_) => _.text)

const ask = <E>(effect: Effect.Effect<unknown, E>) => Effect.repeatN(effect, 9)

const run = <A, E>(
  client: Layer.Layer<HttpClient.HttpClient>,
  test: Effect.Effect<A, E, HttpClient.HttpClient | Registry.Registry | TestEtcd.TestEtcd | Scope.Scope>
) =>
  test.pipe(
    Effect.scoped,
    Effect.provide(Layer.mergeAll(client, registry).pipe(Layer.provideMerge(TestEtcd.layer())))
  )

describe("httpClient over real servers", () => {
  for (const [kind, layer] of Object.entries(clients)) {
    it.live(`${kind}: a port that nobody listens on is passed over, for every method`, () =>
      run(
        layer,
        Effect.gen(function*() {
          const there = yield* serve()
          yield* register("a", yield* Effect.promise(freePort))
          yield* register("b", there.port)
          const client = yield* caller(2, { pause: "1 millis", maxPause: "1 millis" })
          yield* ask(text(client, "post"))
          yield* ask(text(client, "get"))
          assert.strictEqual(there.requests(), 20)
        })
      ))

    it.live(`${kind}: a request whose connection breaks is repeated if that does no harm`, () =>
      run(
        layer,
        Effect.gen(function*() {
          const there = yield* serve()
          const breaks = yield* serve((request) => request.socket.destroy())
          yield* register("a", breaks.port)
          yield* register("b", there.port)
          const client = yield* caller(2, { pause: "1 hour", maxPause: "1 hour" })
          yield* ask(text(client, "get"))
          assert.deepStrictEqual([breaks.requests(), there.requests()], [1, 10])
          const another = yield* caller(2, { pause: "1 hour", maxPause: "1 hour" })
          const exits = yield* Effect.forEach(Array.from({ length: 10 }), () => Effect.exit(text(another, "post")))
          assert.strictEqual(exits.filter(Exit.isFailure).length, 1)
          assert.deepStrictEqual([breaks.requests(), there.requests()], [2, 19])
        })
      ))
  }

  it.live("a rolling restart of 3 of 20 instances under load: no request fails", () =>
    run(
      NodeHttpClient.layer,
      Effect.gen(function*() {
        const start = (index: number) =>
          Effect.gen(function*() {
            const scope = yield* Effect.acquireRelease(Scope.make(), Scope.close)
            const server = yield* Scope.extend(serve(), scope)
            // Closed in the opposite order: first it drains, then it leaves the list, and then it stops to listen.
            yield* Scope.extend(register(`user-${index}`, server.port, { drain: "200 millis" }), scope)
            return { server, stop: Scope.close(scope, Exit.void) }
          })
        const running = yield* Effect.forEach(Array.from({ length: 20 }, (_, index) => index), start)
        const client = yield* caller(20)
        const gets = yield* load(text(client, "get"), 4)
        const posts = yield* load(text(client, "post"), 4)
        yield* gets.more(100)
        for (const index of [3, 7, 11]) {
          const { server, stop } = running[index]
          yield* until(Effect.sync(() => server.requests() > 0))
          yield* stop
          const { server: successor } = yield* start(index)
          assert.notStrictEqual(successor.port, server.port)
          yield* until(Effect.sync(() => successor.requests() >= 5))
        }
        yield* gets.stop
        yield* posts.stop
        assert.deepStrictEqual([...gets.failures, ...posts.failures], [])
        assert.isAbove(gets.sent() + posts.sent(), 300)
      })
    ))

  it.live(
    "an instance that is killed: no request fails, it is avoided, and used again when it is back",
    () =>
      run(
        NodeHttpClient.layer,
        Effect.gen(function*() {
          const program = yield* Processes.compile<never, Report>(new URL("./fixtures/server.ts", import.meta.url))
          const start = (port: number) =>
            Effect.gen(function*() {
              const process = yield* program.start(String(port))
              return { process, port: (yield* process.next).port }
            })
          const one = yield* start(yield* Effect.promise(freePort))
          const two = yield* serve()
          const three = yield* serve()
          for (const [index, { port }] of [one, two, three].entries()) yield* register(`user-${index}`, port)
          const client = yield* caller(3, { pause: "100 millis", maxPause: "100 millis" })
          const gets = yield* load(text(client, "get"), 4)
          yield* gets.more(100)
          yield* one.process.kill
          const others = two.requests() + three.requests()
          yield* gets.more(300)
          assert.isAtLeast(two.requests() + three.requests() - others, 290)
          const again = yield* start(one.port)
          assert.strictEqual(again.port, one.port)
          const total = () => two.requests() + three.requests()
          // A third of the requests goes elsewhere again.
          yield* until(Effect.gen(function*() {
            const [sent, before] = [gets.sent(), total()]
            yield* gets.more(60)
            return (total() - before) / (gets.sent() - sent) < 0.8
          }))
          yield* gets.stop
          assert.deepStrictEqual(gets.failures, [])
        })
      ),
    60_000
  )
})
