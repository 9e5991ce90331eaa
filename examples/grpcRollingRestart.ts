/**
 * Three gRPC servers are replaced one after another, while a client goes on calling and loses no call.
 *
 *     npx tsx examples/grpcRollingRestart.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/grpcRollingRestart.ts
 */
import * as grpc from "@grpc/grpc-js"
import { Effect, Exit, Scope } from "effect"
import { Registry } from "effect-coord"
import * as Grpc from "effect-coord/Grpc"
import { run, runName } from "./support.js"

const service = `${runName}/greeter`

// In place of what is generated from a .proto file: a method that takes a text and answers with one.
const path = "/example.Greeter/Greet"
const toBytes = (text: string) => Buffer.from(text)
const toText = (bytes: Buffer) => bytes.toString()
const codec = {
  requestSerialize: toBytes,
  requestDeserialize: toText,
  responseSerialize: toBytes,
  responseDeserialize: toText
}
const definition = { greet: { path, requestStream: false, responseStream: false, ...codec } }

/** A server on a port of its own, until the scope closes: then the calls under way may end. */
const serve = (answer: string) =>
  Effect.acquireRelease(
    Effect.async<{ readonly server: grpc.Server; readonly port: number }, Error>((resume) => {
      const server = new grpc.Server()
      server.addService(definition, {
        greet: (call: grpc.ServerUnaryCall<string, string>, respond: grpc.sendUnaryData<string>) =>
          respond(null, `${answer} greets ${call.request}`)
      })
      server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) =>
        resume(error === null ? Effect.succeed({ server, port }) : Effect.fail(error)))
    }),
    ({ server }) =>
      Effect.async<void>((resume) =>
        server.tryShutdown(() =>
          resume(Effect.void)
        )
      ).pipe(
        Effect.interruptible,
        Effect.timeout("5 seconds"),
        Effect.ignore,
        Effect.ensuring(Effect.sync(() => server.forceShutdown()))
      )
  )

/** What was opened last is closed first: it drains, unregisters, and then the server goes down. */
const instance = (id: string, version: string) =>
  Effect.gen(function*() {
    const { port } = yield* serve(`${id}, version ${version},`)
    yield* Registry.register(
      { id, name: service, address: "127.0.0.1", port, metadata: { version } },
      { ttl: "5 seconds", drain: "300 millis" }
    )
    yield* Effect.log(`${id}, version ${version}, serves on port ${port}`)
  })

/** Something scoped, to be closed by hand. */
const started = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const scope = yield* Effect.acquireRelease(Scope.make(), Scope.close)
    yield* Scope.extend(effect, scope)
    return Scope.close(scope, Exit.void)
  })

const greet = (client: grpc.Client) =>
  Effect.async<string, grpc.ServiceError>((resume) => {
    const deadline = Date.now() + 5_000
    const call = client.makeUnaryRequest(path, toBytes, toText, "you", { deadline }, (error, answer) => {
      resume(error === null ? Effect.succeed(answer ?? "") : Effect.fail(error))
    })
    return Effect.sync(() => call.cancel())
  })

run(Effect.gen(function*() {
  const ids = ["greeter-1", "greeter-2", "greeter-3"]
  const stops = yield* Effect.forEach(ids, (id) => started(instance(id, "1")))

  // With a class that was generated: `Grpc.client(GreeterClient, service)`.
  const client = yield* Grpc.client(grpc.Client, service)
  const answers = new Map<string, number>()
  let failed = 0
  yield* greet(client).pipe(
    Effect.match({
      onFailure: () => void failed++,
      onSuccess: (answer) => void answers.set(answer, (answers.get(answer) ?? 0) + 1)
    }),
    Effect.zipRight(Effect.sleep("2 millis")),
    Effect.forever,
    Effect.forkScoped
  )
  yield* Effect.sleep("300 millis")

  for (const [index, stop] of stops.entries()) {
    yield* stop
    yield* Effect.log(`${ids[index]}, version 1, is gone`)
    stops[index] = yield* started(instance(ids[index], "2"))
  }
  yield* Effect.sleep("300 millis")

  for (const [answer, calls] of Array.from(answers).sort()) yield* Effect.log(`${calls} times: ${answer}`)
  yield* Effect.log(`${failed} calls failed`)
}))
