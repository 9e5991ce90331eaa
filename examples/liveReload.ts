/**
 * An HTTP server whose settings change while it runs. A value that is no good is refused, with the reason to be seen, and
 * the server goes on with the last good one; so it does while etcd is away, and even a restart needs no etcd.
 *
 *     npx tsx examples/liveReload.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/liveReload.ts     (without the part in which etcd is stopped)
 */
import { HttpClient, HttpRouter, HttpServer, HttpServerResponse } from "@effect/platform"
import { NodeHttpClient, NodeHttpServer } from "@effect/platform-node"
import { Context, Effect, Layer, Option, Schedule, Schema, Stream } from "effect"
import { Config, ConfigManager, Coord, EtcdClient } from "effect-coord"
import * as TestEtcd from "effect-coord/testing"
import { mkdtemp, rm } from "node:fs/promises"
import { createServer } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { isReal, run, runName } from "./support.js"

const Settings = Schema.Struct({ greeting: Schema.NonEmptyString, requestsPerSecond: Schema.Int })
type Settings = typeof Settings.Type

class Live extends Context.Tag("example/Live")<Live, ConfigManager.ConfigManager<Settings>>() {}

const live = (snapshotFile: string) =>
  ConfigManager.layer(Live, {
    env: runName,
    service: "greeter",
    component: "http",
    schema: Settings,
    default: { greeting: "Hello", requestsPerSecond: 10 },
    validate: ({ requestsPerSecond }) =>
      requestsPerSecond > 0 || Effect.fail("requestsPerSecond must be above 0, or nobody is served"),
    onUpdate: (settings, previous) =>
      Effect.log(`server     ${JSON.stringify(previous)} becomes ${JSON.stringify(settings)}`),
    startTimeout: "1 second",
    snapshotFile
  })

/** Looks at the settings with each request: there is nothing to be restarted or rebuilt. */
const router = Effect.map(Live, (settings) => {
  let second = 0
  let served = 0
  const greet = Effect.gen(function*() {
    const { greeting, requestsPerSecond } = yield* settings.current
    const now = Math.floor((yield* Effect.clock).unsafeCurrentTimeMillis() / 1_000)
    served = now === second ? served + 1 : 1
    second = now
    return served > requestsPerSecond
      ? HttpServerResponse.text("too many requests", { status: 429 })
      : HttpServerResponse.text(`${greeting}, Ada`)
  })
  return HttpRouter.empty.pipe(HttpRouter.get("/greeting", greet))
})

const server = HttpServer.serve(Effect.flatten(router)).pipe(
  Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
)

/** The address of the server that runs, for its only client. */
const ask = HttpServer.addressFormattedWith((address) =>
  HttpClient.get(`${address}/greeting`).pipe(
    Effect.flatMap(({ status, text }) => Effect.map(text, (body) => `${status} ${body}`)),
    Effect.flatMap((answer) => Effect.log(`client     GET /greeting -> ${answer}`)),
    Effect.scoped
  )
)

const tell = Effect.gen(function*() {
  const { connection, rejected, source, version } = yield* Effect.flatMap(Live, ({ status }) => status)
  yield* Effect.log(`status     ${source}, version ${version}, etcd: ${connection._tag}`)
  if (Option.isSome(rejected)) {
    const { phase, reason, version } = rejected.value
    yield* Effect.log(`status     version ${version} was refused by ${phase}: ${reason.split("\n")[0]}`)
  }
})

const say = (what: string) => Effect.log(`operator   ${what}`)

/** Waits until the server has these settings. */
const until = (greeting: string) =>
  Effect.flatMap(Live, ({ changes }) => Stream.runDrain(Stream.takeUntil(changes, (now) => now.greeting === greeting)))

const change = (settings: Settings) =>
  Effect.gen(function*() {
    const { key } = yield* Live
    yield* say(`sets ${JSON.stringify(settings)}`)
    yield* Config.set(key, Settings, settings)
    yield* until(settings.greeting)
    yield* ask
  })

/** Something that will be refused. */
const spoil = (value: string) =>
  Effect.gen(function*() {
    const { key, status } = yield* Live
    const etcd = yield* EtcdClient.EtcdClient
    yield* say(`writes ${value}`)
    const { header } = yield* etcd.put({ key: `/config/${key}`, value })
    yield* Effect.repeat(status, {
      until: ({ rejected }) => Option.exists(rejected, ({ version }) => version === header.revision),
      schedule: Schedule.spaced("10 millis")
    })
    yield* tell
    yield* ask
  })

const day = Effect.gen(function*() {
  yield* tell
  yield* ask
  yield* change({ greeting: "Good morning", requestsPerSecond: 100 })
  yield* spoil(JSON.stringify({ greeting: "Good night", requestsPerSecond: 0 }))
  yield* spoil("{\"greeting\": \"Good ni")
  yield* change({ greeting: "Good evening", requestsPerSecond: 50 })
})

/** An etcd in this process that can be stopped. */
const stoppable = Layer.provideMerge(
  Coord.layerServices(),
  Layer.provideMerge(TestEtcd.client({ retry: { maxAttempts: 1 } }), TestEtcd.layer())
)

const stop = Effect.gen(function*() {
  yield* say("stops etcd")
  yield* Effect.flatMap(TestEtcd.TestEtcd, ({ down }) => down)
  yield* Effect.sleep("100 millis")
  yield* tell
  yield* ask
})

const restart = Effect.gen(function*() {
  yield* tell
  yield* ask
  yield* say("starts etcd, and deletes the setting")
  yield* Effect.flatMap(TestEtcd.TestEtcd, ({ up }) => up)
  yield* Effect.retry(Config.delete((yield* Live).key), { times: 20 })
  yield* until("Hello")
  yield* tell
  yield* ask
})

const temporaryFolder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "effect-coord-example-"))),
  (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
)

run(
  Effect.gen(function*() {
    const application = Layer.provideMerge(server, live(join(yield* temporaryFolder, "settings.json")))
    if (yield* isReal) return yield* Effect.provide(day, application)
    yield* Effect.provide(Effect.zipRight(day, stop), application).pipe(
      Effect.zipRight(say("starts the server anew, still without etcd")),
      Effect.zipRight(Effect.provide(restart, application)),
      Effect.provide(stoppable)
    )
  }).pipe(Effect.provide(NodeHttpClient.layer))
)
