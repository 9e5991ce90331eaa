/**
 * A server of `@effect/platform`, registered for as long as its layer lives, and a client that finds it by its name.
 *
 *     npx tsx examples/platformServer.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/platformServer.ts
 */
import { HttpClient, HttpRouter, HttpServer, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { NodeHttpClient, NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer, Schedule, Stream } from "effect"
import { Registry } from "effect-coord"
import { httpClient } from "effect-coord/HttpClient"
import { createServer } from "node:http"
import { run, runName } from "./support.js"

const service = `${runName}/user`

const router = HttpRouter.empty.pipe(
  HttpRouter.get(
    "/users/:id",
    Effect.gen(function*() {
      const { id } = yield* HttpRouter.params
      const { headers } = yield* HttpServerRequest.HttpServerRequest
      return yield* HttpServerResponse.json({ id, name: "Ada", trace: headers["traceparent"] })
    })
  )
)

/** Registers under the port that the server has got. */
const registered = Layer.unwrapEffect(HttpServer.addressWith((address) =>
  address._tag === "TcpAddress"
    ? Effect.succeed(Registry.layerService(
      { id: "user-1", name: service, address: "127.0.0.1", port: address.port },
      { ttl: "5 seconds", drain: "300 millis" }
    ))
    : Effect.dieMessage("a service is registered under a port")
))

/** The server is up before it registers; it has drained and unregistered before it goes down. */
const server = registered.pipe(
  Layer.provide(HttpServer.serve(router)),
  Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
)

run(
  Effect.gen(function*() {
    const users = yield* httpClient(service)
    // The list may be some milliseconds behind what has just been registered.
    const patient = HttpClient.retryTransient(users, { times: 20, schedule: Schedule.spaced("50 millis") })
    yield* Effect.gen(function*() {
      const response = yield* patient.get("/users/1")
      yield* Effect.log(`${response.request.url} answers ${yield* response.text}`)
    }).pipe(Effect.withSpan("caller"), Effect.provide(server))
    yield* Stream.runDrain(Stream.takeUntil(Registry.instances(service), (instances) => instances.length === 0))
    const error = yield* Effect.flip(users.get("/users/1"))
    yield* Effect.log(error.message)
  }).pipe(Effect.provide(NodeHttpClient.layer))
)
