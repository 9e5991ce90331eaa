/**
 * Three HTTP servers are replaced one after another, while a client goes on sending requests and loses none. Then one of
 * them is gone without a word, and the client goes round it.
 *
 *     npx tsx examples/httpService.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/httpService.ts
 */
import type { HttpClient } from "@effect/platform"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { Effect, Exit, Scope } from "effect"
import { Registry } from "effect-coord"
import { httpClient } from "effect-coord/HttpClient"
import * as Http from "node:http"
import { run, runName } from "./support.js"

const service = `${runName}/greeter`

/** A server on a port of its own, until the scope closes: then the requests under way may end. */
const serve = (answer: string) =>
  Effect.acquireRelease(
    Effect.async<Http.Server, Error>((resume) => {
      const server = Http.createServer((_, response) => response.end(answer))
      server.once("error", (error) => resume(Effect.fail(error)))
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.async<void>((resume) => void server.close(() => resume(Effect.void)))
  )

/** What was opened last is closed first: it drains, unregisters, and then the server goes down. */
const instance = (id: string, version: string) =>
  Effect.gen(function*() {
    const server = yield* serve(`${id}, version ${version}`)
    const address = server.address()
    if (address === null || typeof address === "string") return yield* Effect.dieMessage("no port")
    const { port } = address
    yield* Registry.register(
      { id, name: service, address: "127.0.0.1", port, metadata: { version } },
      { ttl: "5 seconds", drain: "300 millis" }
    )
    yield* Effect.log(`${id}, version ${version}, serves on port ${port}`)
    return server
  })

/** Something scoped, to be closed by hand. */
const started = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const scope = yield* Effect.acquireRelease(Scope.make(), Scope.close)
    const value = yield* Scope.extend(effect, scope)
    return { value, stop: Scope.close(scope, Exit.void) }
  })

/** Requests until the scope closes; counts the answers by who gave them. */
const requests = (client: HttpClient.HttpClient) =>
  Effect.gen(function*() {
    const answers = new Map<string, number>()
    const request = client.get("/greeting").pipe(
      Effect.flatMap(({ text }) => text),
      Effect.catchAll((error) => Effect.succeed(`failed: ${error.message}`)),
      Effect.map((answer) => answers.set(answer, (answers.get(answer) ?? 0) + 1))
    )
    yield* Effect.forkScoped(Effect.forever(Effect.delay(request, "2 millis")))
    return Effect.suspend(() => {
      const told = Array.from(answers).sort().map(([answer, count]) => `${count} by ${answer}`).join("; ")
      answers.clear()
      return Effect.log(told)
    })
  })

run(
  Effect.gen(function*() {
    const ids = ["greeter-1", "greeter-2", "greeter-3"]
    const olds = yield* Effect.forEach(ids, (id) => started(instance(id, "1")))
    const client = yield* httpClient(service, { policy: "least_in_flight" })
    const tell = yield* requests(client)
    yield* Effect.sleep("300 millis")
    yield* tell

    const news = yield* Effect.forEach(
      olds,
      ({ stop }, index) => Effect.zipRight(stop, started(instance(ids[index], "2")))
    )
    yield* tell
    yield* Effect.sleep("300 millis")
    yield* tell

    const { value: server } = news[0]
    server.close()
    server.closeAllConnections()
    yield* Effect.log("greeter-1 is down, and still registered")
    yield* Effect.sleep("300 millis")
    yield* tell
  }).pipe(Effect.provide(NodeHttpClient.layer))
)
