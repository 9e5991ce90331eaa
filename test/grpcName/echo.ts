/** A small gRPC service. */
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Grpc from "../../src/Grpc.js"

const text = {
  requestSerialize: (value: string) => Buffer.from(value),
  requestDeserialize: (bytes: Buffer) => bytes.toString(),
  responseSerialize: (value: string) => Buffer.from(value),
  responseDeserialize: (bytes: Buffer) => bytes.toString()
}

const definition = {
  /** Answers with the instance's id. */
  who: { path: "/test.Echo/Who", requestStream: false, responseStream: false, ...text },
  /** Answers when it is told to. */
  wait: { path: "/test.Echo/Wait", requestStream: false, responseStream: false, ...text }
} satisfies grpc.ServiceDefinition

type Method = (
  request: string,
  metadata: grpc.Metadata,
  options: grpc.CallOptions,
  callback: grpc.requestCallback<string>
) => grpc.ClientUnaryCall

export interface Echo extends grpc.Client {
  readonly who: Method
  readonly wait: Method
}

export const Echo = grpc.makeClientConstructor(definition, "Echo") as unknown as Grpc.ClientConstructor<Echo>

export interface ServerOptions {
  readonly credentials?: grpc.ServerCredentials | undefined
  readonly port?: number | undefined
  /** Answers `who`, instead of the id. */
  readonly who?: ((respond: (error: { code: grpc.status } | null, id?: string) => void) => void) | undefined
}

export interface Server {
  readonly id: string
  readonly port: number
  /** How many calls it has got. */
  readonly calls: () => number
  /** How many connections these came over. */
  readonly connections: () => number
  /** Calls of `wait` under way: answers them all. */
  readonly answer: Effect.Effect<void>
  readonly waiting: () => number
  /** Ends once the calls under way have ended. */
  readonly stop: Effect.Effect<void>
  /** Cuts all connections. */
  readonly kill: Effect.Effect<void>
}

export const server = (id: string, options: ServerOptions = {}): Effect.Effect<Server, never, Scope.Scope> =>
  Effect.gen(function*() {
    const own = new grpc.Server()
    const peers = new Set<string>()
    const waiting: Array<() => void> = []
    let calls = 0
    const count = (call: grpc.ServerUnaryCall<string, string>) => {
      calls++
      peers.add(call.getPeer())
    }
    own.addService(definition, {
      who: (call: grpc.ServerUnaryCall<string, string>, respond: grpc.sendUnaryData<string>) => {
        count(call)
        if (options.who === undefined) respond(null, id)
        else options.who(respond)
      },
      wait: (call: grpc.ServerUnaryCall<string, string>, respond: grpc.sendUnaryData<string>) => {
        count(call)
        waiting.push(() => respond(null, id))
      }
    })
    const port = yield* Effect.async<number>((resume) =>
      own.bindAsync(
        `127.0.0.1:${options.port ?? 0}`,
        options.credentials ?? grpc.ServerCredentials.createInsecure(),
        (error, port) => resume(error === null ? Effect.succeed(port) : Effect.die(error))
      )
    )
    const kill = Effect.sync(() => own.forceShutdown())
    yield* Effect.addFinalizer(() => kill)
    return {
      id,
      port,
      calls: () => calls,
      connections: () => peers.size,
      answer: Effect.sync(() => waiting.splice(0).forEach((respond) => respond())),
      waiting: () => waiting.length,
      stop: Effect.async<void>((resume) =>
        own.tryShutdown((error) => resume(error === undefined ? Effect.void : Effect.die(error)))
      ),
      kill
    }
  })
