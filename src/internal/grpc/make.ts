/** The gRPC transport from a user's options. */
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { Options } from "../../EtcdClient.js"
import { InvalidArgument } from "../../EtcdError.js"
import type { ClientOptions } from "../options.js"
import type { Transport } from "../transport.js"
import { makeCredentials } from "./credentials.js"
import { parseEndpoints } from "./endpoint.js"
import * as GrpcTransport from "./transport.js"

export const make = (
  options: Options,
  parsed: ClientOptions
): Effect.Effect<Transport, InvalidArgument, Scope.Scope> =>
  Effect.gen(function*() {
    const endpoints = yield* parseEndpoints(options.endpoints ?? "localhost:2379", options.tls !== undefined)
    if (options.auth !== undefined && options.auth.username === "") {
      return yield* new InvalidArgument({ argument: "auth.username", value: "", problem: "must not be empty" })
    }
    if (options.auth !== undefined && !Redacted.isRedacted(options.auth.password)) {
      return yield* new InvalidArgument({ argument: "auth.password", problem: "must be a Redacted" })
    }
    const secure = endpoints.some(({ tls }) => tls)
    return yield* GrpcTransport.make({
      ...parsed,
      endpoints,
      credentials: secure ? yield* makeCredentials(options.tls ?? {}) : grpc.credentials.createInsecure(),
      serverName: options.tls?.serverName,
      auth: options.auth,
      certified: secure && options.tls?.cert !== undefined,
      authTimeoutMillis: parsed.requestTimeoutMillis
    })
  })
