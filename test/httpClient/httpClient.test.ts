import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as EtcdClient from "../../src/EtcdClient.js"
import type { Options } from "../../src/HttpClient.js"
import { httpClient, noInstance } from "../../src/HttpClient.js"
import type { Registry } from "../../src/Registry.js"
import * as TestEtcd from "../../src/testing.js"
import {
  eventually,
  known,
  name,
  Network,
  ok,
  refused,
  register,
  reset,
  services,
  socketError,
  times
} from "./support.js"

/** A test with a network of its own, over an etcd of its own. */
const scenario = <A, E>(
  body: (
    network: Network,
    client: (
      options?: Options
    ) => Effect.Effect<HttpClient.HttpClient, unknown, Registry | Scope.Scope>
  ) => Effect.Effect<
    A,
    E,
    Registry | EtcdClient.EtcdClient | TestEtcd.TestEtcd | Scope.Scope
  >
) =>
  Effect.suspend(() => {
    const network = new Network()
    return body(network, (options) => Effect.provide(httpClient(name, options), network.layer))
  }).pipe(
    Effect.ensuring(Effect.flatMap(TestEtcd.TestEtcd, ({ up }) => up)),
    Effect.scoped,
    Effect.provide(services)
  )

const spread = (counts: Record<string, number>, expected: Record<string, number>): void => {
  assert.deepStrictEqual(Object.keys(counts).sort(), Object.keys(expected).sort())
  for (const host of Object.keys(expected)) {
    assert.closeTo(counts[host], expected[host], 1, `${host} of ${JSON.stringify(counts)}`)
  }
}

/** Requests of the host wait until the latch opens. */
const hold = (network: Network, ...hosts: ReadonlyArray<string>) => {
  const latch = Effect.unsafeMakeLatch()
  for (const host of hosts) network.answer(host, () => latch.whenOpen(Effect.sync(() => new Response("ok"))))
  return latch
}

const get = (client: HttpClient.HttpClient) => Effect.flatMap(client.get("/"), (response) => response.text)

/** Sends requests that do not end soon, and waits until they are sent. */
const begin = (network: Network, client: HttpClient.HttpClient, count: number) =>
  Effect.gen(function*() {
    const before = network.sent.length
    const fibers = yield* times(count, Effect.fork(get(client)))
    yield* eventually("all are sent", Effect.sync(() => network.sent.length === before + count))
    return fibers
  })

describe("httpClient", () => {
  describe("policies", () => {
    it.effect("weighted: each gets what its weight says", () =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const client = yield* make()
          yield* register("a", { weight: 5 })
          yield* register("b", { weight: 2 })
          const c = yield* register("c")
          yield* known("a", "b", "c")
          yield* times(80, get(client))
          spread(network.counts(), { a: 50, b: 20, c: 10 })
          yield* c.setWeight(3)
          yield* eventually(
            "c has more",
            Effect.gen(function*() {
              yield* times(10, get(client))
              return (network.counts()["c"] ?? 0) >= 3
            })
          )
          yield* times(100, get(client))
          spread(network.counts(), { a: 50, b: 20, c: 30 })
        })
      ))

    it.effect("round_robin: each in turn, whatever its weight", () =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const client = yield* make({ policy: "round_robin" })
          yield* register("a", { weight: 5 })
          yield* register("b")
          yield* known("a", "b")
          yield* times(20, get(client))
          assert.deepStrictEqual(network.counts(), { a: 10, b: 10 })
        })
      ))

    it.effect("least_in_flight: the one that is least busy for its weight", () =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const client = yield* make({ policy: "least_in_flight" })
          yield* register("a", { weight: 2 })
          yield* register("b")
          yield* register("c")
          yield* known("a", "b", "c")
          const slow = hold(network, "a")
          const others = hold(network, "b", "c")
          const fibers = yield* begin(network, client, 8)
          assert.deepStrictEqual(network.counts(), { a: 4, b: 2, c: 2 })
          yield* others.open
          yield* eventually(
            "only a is busy",
            Effect.map(Effect.forEach(fibers, Fiber.poll), (exits) => exits.filter(Option.isSome).length === 4)
          )
          yield* times(10, get(client))
          const counts = network.counts()
          assert.deepStrictEqual(Object.keys(counts).sort(), ["b", "c"])
          assert.isAtLeast(Math.min(counts["b"], counts["c"]), 3)
          yield* slow.open
        })
      ))

    it.effect("clients that start together begin with different instances", () =>
      scenario((network, make) =>
        Effect.gen(function*() {
          yield* register("a")
          yield* register("b")
          yield* known("a", "b")
          yield* times(40, Effect.flatMap(make(), get))
          assert.sameMembers(Object.keys(network.counts()), ["a", "b"])
        })
      ))
  })

  describe("requests in flight", () => {
    /** What is left of the requests before counts against the instance. */
    const countsAfter = (
      before: (network: Network, client: HttpClient.HttpClient) => Effect.Effect<unknown, unknown, Scope.Scope>
    ) =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const client = yield* make({ policy: "least_in_flight" })
          yield* register("a")
          yield* known("a")
          yield* before(network, client)
          yield* register("b")
          yield* known("a", "b")
          network.sent.length = 0
          const latch = hold(network, "a", "b")
          yield* begin(network, client, 4)
          yield* latch.open
          return network.counts()
        })
      )

    it.effect("do not count when they have ended", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* countsAfter((_, client) => times(3, get(client))), { a: 2, b: 2 })
      }))

    it.effect("do not count when they were interrupted", () =>
      Effect.gen(function*() {
        const counts = yield* countsAfter((network, client) =>
          Effect.gen(function*() {
            yield* Effect.asVoid(Effect.sync(() => hold(network, "a")))
            yield* Fiber.interruptAll(yield* begin(network, client, 3))
          })
        )
        assert.deepStrictEqual(counts, { a: 2, b: 2 })
      }))

    it.effect("do not count when they have failed", () =>
      Effect.gen(function*() {
        const counts = yield* countsAfter((network, client) => {
          network.fail("a", new Error("no answer of this kind is known"))
          return times(3, Effect.flip(get(client)))
        })
        assert.deepStrictEqual(counts, { a: 2, b: 2 })
      }))

    it.effect("do not count when nobody reads the body", () =>
      Effect.gen(function*() {
        const counts = yield* countsAfter((_, client) => times(3, client.get("/")))
        assert.deepStrictEqual(counts, { a: 2, b: 2 })
      }))

    it.effect("count while the body is read, and not when the reading was interrupted", () =>
      Effect.gen(function*() {
        const endless = () =>
          Effect.sync(() => new Response(new ReadableStream({ start: (body) => body.enqueue(Buffer.from("first")) })))
        const reading = (network: Network, client: HttpClient.HttpClient) =>
          Effect.gen(function*() {
            network.answer("a", endless)
            const chunks = yield* Effect.makeLatch()
            const read = client.get("/").pipe(
              Effect.flatMap(({ stream }) => Stream.runForEach(stream, () => chunks.open))
            )
            const fiber = yield* Effect.forkScoped(read)
            yield* chunks.await
            const text = yield* Effect.forkScoped(Effect.flatMap(client.get("/"), ({ text }) => text))
            yield* eventually("it is sent", Effect.sync(() => network.sent.length === 2))
            yield* times(20, Effect.yieldNow())
            return Effect.zipRight(Fiber.interrupt(fiber), Fiber.interrupt(text))
          })
        assert.deepStrictEqual(yield* countsAfter(reading), { a: 1, b: 3 })
        const stopped = yield* countsAfter((network, client) => Effect.flatten(reading(network, client)))
        assert.deepStrictEqual(stopped, { a: 2, b: 2 })
      }))
  })

  describe("when an instance fails", () => {
    it.effect("a refused connection tries the next one, and all in the end", () =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const client = yield* make()
          for (const id of ["a", "b", "c"]) yield* register(id)
          yield* known("a", "b", "c")
          network.fail("a", refused)
          network.fail("b", Object.assign(new TypeError("fetch failed"), { cause: refused }))
          yield* times(12, client.post("/", { body: HttpBody.text("order") }))
          const counts = network.counts()
          assert.deepStrictEqual(counts, { a: 1, b: 1, c: 12 })
          network.fail("c", Object.assign(new AggregateError([refused, refused], "all"), { code: "ECONNREFUSED" }))
          const error = yield* Effect.flip(client.get("/"))
          assert.strictEqual(error._tag, "RequestError")
          assert.isTrue(Option.isNone(noInstance(error)))
          assert.deepStrictEqual(network.counts(), { a: 1, b: 1, c: 1 })
        })
      ))

    it.effect("a broken connection: repeated once, and only what may be", () =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const client = yield* make()
          const withPut = yield* make({ repeatMethods: ["PUT"] })
          for (const id of ["a", "b", "c"]) {
            yield* register(id)
            network.fail(id, reset)
          }
          yield* known("a", "b", "c")
          const total = () => network.sent.splice(0).length
          for (const effect of [client.get("/"), client.head("/"), client.options("/"), withPut.put("/")]) {
            assert.strictEqual((yield* Effect.flip(effect))._tag, "RequestError")
            assert.strictEqual(total(), 2)
          }
          for (
            const effect of [client.post("/"), client.patch("/"), client.put("/"), client.del("/"), withPut.get("/")]
          ) {
            assert.strictEqual((yield* Effect.flip(effect))._tag, "RequestError")
            assert.strictEqual(total(), 1)
          }
          for (const id of ["a", "b"]) network.answer(id, ok)
          yield* TestClock.adjust("1 second")
          yield* times(30, get(client))
          assert.strictEqual(network.counts()["c"], 1)
        })
      ))

    it.effect("what says nothing about the connection is passed on, and a body that may be half read", () =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const client = yield* make()
          for (const id of ["a", "b"]) yield* register(id)
          yield* known("a", "b")
          const failAll = (error: Error) => ["a", "b"].forEach((id) => network.fail(id, error))
          for (
            const error of [new Error("?"), socketError("ERR_TLS_CERT_ALTNAME_INVALID"), socketError("EBADF", "read")]
          ) {
            failAll(error)
            assert.strictEqual(String((yield* Effect.flip(client.get("/"))).cause), String(error))
            assert.strictEqual(network.sent.splice(0).length, 1)
          }
          failAll(refused)
          yield* Effect.flip(client.post("/", { body: HttpBody.stream(Stream.empty) }))
          assert.strictEqual(network.sent.splice(0).length, 1)
          ;["a", "b"].forEach((id) => network.answer(id, () => Effect.sync(() => new Response("", { status: 503 }))))
          assert.strictEqual((yield* client.get("/")).status, 503)
          assert.strictEqual(network.sent.splice(0).length, 1)
        })
      ))

    it.effect("it is avoided for longer and longer, tried by one request, and as good as new after an answer", () =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const client = yield* make({ pause: "1 second", maxPause: "3 seconds" })
          yield* register("a")
          yield* register("b")
          yield* known("a", "b")
          network.fail("a", refused)
          const attempts = Effect.map(times(10, get(client)), () => network.counts()["a"] ?? 0)
          assert.strictEqual(yield* attempts, 1)
          for (const seconds of [1, 2, 3, 3]) {
            yield* TestClock.adjust(`${seconds * 1_000 - 1} millis`)
            assert.strictEqual(yield* attempts, 0, `within ${seconds} s`)
            yield* TestClock.adjust("1 millis")
            assert.strictEqual(yield* attempts, 1, `after ${seconds} s`)
          }
          const latch = hold(network, "a")
          yield* TestClock.adjust("3 seconds")
          const probes = yield* times(2, Effect.fork(get(client)))
          yield* eventually(
            "one of them tries it",
            Effect.sync(() => network.sent.some(({ url }) => url.hostname === "a"))
          )
          network.counts()
          assert.strictEqual(yield* attempts, 0)
          yield* latch.open
          yield* Fiber.joinAll(probes)
          assert.strictEqual(yield* attempts, 5)
          network.fail("a", refused)
          assert.strictEqual(yield* attempts, 1)
          yield* TestClock.adjust("1 second")
          assert.strictEqual(yield* attempts, 1)
        })
      ))

    it.effect("many requests that fail at once are one failure, and a probe that is interrupted is none", () =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const client = yield* make()
          yield* register("a")
          yield* register("b")
          yield* known("a", "b")
          const latch = Effect.unsafeMakeLatch()
          network.answer("a", () => latch.whenOpen(Effect.fail(refused)))
          const fibers = yield* begin(network, client, 20)
          yield* latch.open
          yield* Fiber.joinAll(fibers)
          yield* Effect.asVoid(Effect.sync(() => hold(network, "a")))
          network.counts()
          yield* TestClock.adjust("1 second")
          const probe = Effect.gen(function*() {
            const probes = yield* times(2, Effect.fork(get(client)))
            yield* eventually(
              "one of them tries it",
              Effect.sync(() => network.sent.some(({ url }) => url.hostname === "a"))
            )
            network.counts()
            yield* Fiber.interruptAll(probes)
          })
          yield* probe
          yield* probe
        })
      ))

    it.effect("it is forgiven when its entry is written anew, or when it comes back elsewhere", () =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const client = yield* make()
          const a = yield* register("a")
          yield* register("b")
          yield* known("a", "b")
          network.fail("a", refused)
          yield* times(10, get(client))
          network.answer("a", ok)
          network.counts()
          yield* times(10, get(client))
          assert.deepStrictEqual(network.counts(), { b: 10 })
          const etcd = yield* EtcdClient.EtcdClient
          const entry = Option.getOrThrow(yield* etcd.get(a.key))
          yield* etcd.put({ key: a.key, value: entry.value, lease: entry.lease })
          yield* eventually("it gets requests", Effect.map(get(client), () => "a" in network.counts()))
          network.fail("a", refused)
          yield* times(10, get(client))
          network.counts()
          const scope = yield* Scope.make()
          yield* a.unregister
          yield* Scope.extend(register("a", { port: 81 }), scope)
          network.answer("a", ({ url }) =>
            url.port === "81" ? ok({ request: HttpClientRequest.get(""), url }) : Effect.fail(refused))
          yield* eventually(
            "it gets requests",
            Effect.map(get(client), () =>
              "a" in network.counts())
          )
          yield* Scope.close(scope, Exit.void)
        })
      ))

    it.effect("a body that breaks off counts as well", () =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const client = yield* make()
          yield* register("a")
          yield* register("b")
          yield* known("a", "b")
          network.answer(
            "a",
            () => Effect.sync(() => new Response(new ReadableStream({ pull: (controller) => controller.error(reset) })))
          )
          yield* times(10, Effect.exit(get(client)))
          assert.strictEqual(network.counts()["a"], 1)
          yield* TestClock.adjust("1 second")
          yield* times(10, Effect.exit(Effect.flatMap(client.get("/"), ({ stream }) => Stream.runDrain(stream))))
          assert.strictEqual(network.counts()["a"], 1)
        })
      ))
  })

  describe("the list", () => {
    it.effect("zone: the own one, others when it is short", () =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const client = yield* make({ zone: "near" })
          for (const id of ["a", "b"]) yield* register(id, { zone: "near" })
          yield* register("c", { zone: "far" })
          yield* register("d")
          yield* known("a", "b", "c", "d")
          yield* times(8, get(client))
          assert.deepStrictEqual(network.counts(), { a: 4, b: 4 })
          network.fail("a", refused)
          network.fail("b", refused)
          yield* times(12, get(client))
          network.counts()
          yield* times(12, get(client))
          assert.deepStrictEqual(network.counts(), { c: 6, d: 6 })
        })
      ))

    it.effect("drain: no requests, unless nobody else is there", () =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const client = yield* make()
          const a = yield* register("a")
          const b = yield* register("b")
          yield* known("a", "b")
          const drained = (...left: ReadonlyArray<string>) =>
            eventually(
              "it is known",
              Effect.map(times(4, get(client)), () => Object.keys(network.counts()).sort().join() === left.join())
            )
          yield* a.drain
          yield* drained("b")
          yield* times(10, get(client))
          assert.deepStrictEqual(network.counts(), { b: 10 })
          yield* b.drain
          yield* drained("a", "b")
          yield* a.resume
          yield* drained("a")
          network.fail("a", refused)
          yield* get(client)
          assert.deepStrictEqual(network.counts(), { a: 1, b: 1 })
        })
      ))

    it.effect("nobody registered: NoInstance", () =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const client = yield* make()
          const failure = Effect.map(Effect.flip(client.get("/")), (error) => {
            assert.strictEqual(error._tag === "RequestError" && error.reason, "Transport")
            const found = Option.getOrThrow(noInstance(error))
            assert.include(error.message, found.message)
            return found
          })
          const none = yield* failure
          assert.deepInclude(none, { _tag: "NoInstance", service: name, ageMillis: 0 })
          assert.include(none.message, `"${name}" is registered`)
          const etcd = yield* TestEtcd.TestEtcd
          yield* etcd.down
          yield* eventually("known", Effect.map(failure, ({ ageMillis }) => (ageMillis ?? 0) > 0))
          yield* TestClock.adjust("7 seconds")
          assert.isAtLeast((yield* failure).ageMillis ?? 0, 7_000)
          assert.deepStrictEqual(network.sent, [])
        })
      ))

    it.effect("while etcd is away the last list stands", () =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const client = yield* make()
          yield* register("a")
          yield* known("a")
          yield* get(client)
          const etcd = yield* TestEtcd.TestEtcd
          yield* etcd.down
          yield* TestClock.adjust("20 seconds")
          yield* get(client)
          assert.deepStrictEqual(network.counts(), { a: 2 })
        })
      ))

    it.effect("never read: waits for it, and not for ever", () =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const etcd = yield* TestEtcd.TestEtcd
          yield* register("a")
          yield* etcd.down
          const client = yield* make({ listTimeout: "3 seconds" })
          const waiting = yield* Effect.fork(Effect.flip(client.get("/")))
          yield* TestClock.adjust("2999 millis")
          assert.isTrue(Option.isNone(yield* Fiber.poll(waiting)))
          yield* TestClock.adjust("1 millis")
          const none = Option.getOrThrow(noInstance(yield* Fiber.join(waiting)))
          assert.strictEqual(none.ageMillis, undefined)
          assert.include(none.message, "not known")
          const later = yield* Effect.fork(get(client))
          yield* etcd.up
          yield* Effect.raceFirst(Fiber.join(later), Effect.forever(TestClock.adjust("100 millis")))
          assert.deepStrictEqual(network.counts(), { a: 1 })
        })
      ))

    it.effect("refused by etcd: NoInstance says why", () =>
      scenario((_, make) =>
        Effect.gen(function*() {
          const etcd = yield* TestEtcd.TestEtcd
          yield* etcd.refuse(TestEtcd.refusals.permissionDenied, {
            match: ({ operation }) => operation === "range",
            times: Infinity
          })
          const client = yield* make()
          const none = Option.getOrThrow(noInstance(yield* Effect.flip(client.get("/"))))
          assert.include(none.message, "PermissionDenied")
        })
      ))
  })

  describe("URLs", () => {
    const urls = (
      options: Options,
      service: Partial<Parameters<typeof register>[1]>,
      ...paths: ReadonlyArray<string>
    ) =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const client = yield* make(options)
          yield* register("a", service)
          yield* known("a")
          yield* Effect.forEach(paths, (path) => client.get(path))
          return network.sent.map(({ url }) => url.href)
        })
      )

    it.effect("are paths on the instance, whatever they look like", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(
          yield* urls({}, {}, "/users/1?x=1#y", "users", "", "?x=1", "//evil/x", "@evil/x", ":1@evil", "\\\\evil/x"),
          [
            "http://a/users/1?x=1#y",
            "http://a/users",
            "http://a/",
            "http://a/?x=1",
            "http://a//evil/x",
            "http://a/@evil/x",
            "http://a/:1@evil",
            "http://a///evil/x"
          ]
        )
      }))

    it.effect("by https, at IPv6 addresses, below a base path", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* urls({ protocol: "https" }, { address: "::1", port: 8443 }, "/x"), [
          "https://[::1]:8443/x"
        ])
        assert.deepStrictEqual(yield* urls({ basePath: "/api/" }, {}, "/x", "x", "", "?y"), [
          "http://a/api/x",
          "http://a/api/x",
          "http://a/api",
          "http://a/api?y"
        ])
        assert.deepStrictEqual(
          yield* urls({ basePath: ({ metadata }) => metadata["path"] }, { metadata: { path: "v2" } }, "/x"),
          ["http://a/v2/x"]
        )
      }))

    it.effect("absolute: an instance's own, as after a redirect, and no other", () =>
      scenario((network, make) =>
        Effect.gen(function*() {
          const client = yield* make()
          yield* register("a")
          yield* register("b")
          yield* known("a", "b")
          const redirect = ({ url }: { readonly url: URL }) =>
            Effect.sync(() =>
              url.pathname === "/old"
                ? new Response(null, { status: 302, headers: { location: "/new" } })
                : new Response("new")
            )
          network.answer("a", redirect)
          network.answer("b", redirect)
          const response = yield* HttpClient.followRedirects(client).get("/old")
          assert.strictEqual(yield* response.text, "new")
          const [from, to] = network.sent.splice(0).map(({ url }) => url)
          assert.strictEqual(to.href, `http://${from.hostname}/new`)
          for (const url of ["http://evil/x", "https://a/x", "http://a:81/x"]) {
            const error = yield* Effect.flip(client.get(url))
            assert.strictEqual(error._tag === "RequestError" && error.reason, "InvalidUrl")
          }
          assert.deepStrictEqual(network.sent, [])
        })
      ))
  })

  it.effect("passes on headers, parameters, bodies and the trace", () =>
    scenario((network, make) =>
      Effect.gen(function*() {
        const client = (yield* make()).pipe(HttpClient.mapRequest(HttpClientRequest.setHeader("x-app", "1")))
        yield* register("a")
        yield* known("a")
        const span = yield* Effect.makeSpan("caller")
        yield* HttpClientRequest.post("/x", { urlParams: { q: "1" }, headers: { "x-one": "2" } }).pipe(
          HttpClientRequest.bodyText("order"),
          client.execute,
          Effect.withParentSpan(span)
        )
        const [{ request, url }] = network.sent
        assert.strictEqual(url.href, "http://a/x?q=1")
        assert.deepInclude(request.headers, { "x-app": "1", "x-one": "2" })
        assert.strictEqual(request.body._tag, "Uint8Array")
        assert.include(request.headers["traceparent"], span.traceId)
      })
    ))

  it.effect("refuses what cannot work", () =>
    scenario((_, make) =>
      Effect.gen(function*() {
        const argument = (options: object) =>
          Effect.map(
            Effect.flip(make(options)),
            (error) => typeof error === "object" && error !== null && "argument" in error ? error.argument : error
          )
        assert.strictEqual(yield* argument({ policy: "best" }), "policy")
        assert.strictEqual(yield* argument({ protocol: "ftp" }), "protocol")
        assert.strictEqual(yield* argument({ repeatMethods: ["GIVE"] }), "repeatMethods")
        assert.strictEqual(yield* argument({ zone: "" }), "zone")
        assert.strictEqual(yield* argument({ pause: 0 }), "pause")
        assert.strictEqual(yield* argument({ maxPause: Infinity }), "maxPause")
        assert.strictEqual(yield* argument({ listTimeout: "soon" }), "listTimeout")
        assert.strictEqual(yield* argument({ basePath: "/x?y" }), "basePath")
        const error = yield* Effect.flip(Effect.provide(httpClient("a//b"), new Network().layer))
        assert.strictEqual(error.argument, "name")
      })
    ))
})
