/** A server of gRPC under the names of etcd's services, for what only the other side of a call can see. */
import * as grpc from "@grpc/grpc-js"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"

/** A server of gRPC that answers no call, or only reads, with this status; and that tells of those that come and go. */
export const stubServer = (status?: { readonly code: grpc.status; readonly details: string }) =>
  Effect.gen(function*() {
    const come = yield* Queue.unbounded<string>()
    const gone = yield* Queue.unbounded<string>()
    const first = yield* Deferred.make<{ readonly deadline: grpc.Deadline; readonly metadata: grpc.Metadata }>()
    const bytes = (value: Buffer) => value
    const method = (path: string, stream: boolean) => ({
      path: `/etcdserverpb.${path}`,
      requestStream: stream,
      responseStream: stream,
      requestSerialize: bytes,
      requestDeserialize: bytes,
      responseSerialize: bytes,
      responseDeserialize: bytes
    })
    const silent = (call: grpc.ServerUnaryCall<Buffer, Buffer> | grpc.ServerDuplexStream<Buffer, Buffer>) => {
      const path = call.getPath().replace(/^.*\//, "")
      Queue.unsafeOffer(come, path)
      Deferred.unsafeDone(first, Effect.succeed({ deadline: call.getDeadline(), metadata: call.metadata }))
      call.on("error", () => {})
      call.on("cancelled", () => Queue.unsafeOffer(gone, path))
    }
    const range = (call: grpc.ServerUnaryCall<Buffer, Buffer>, answer: grpc.sendUnaryData<Buffer>) => {
      silent(call)
      if (status?.code === grpc.status.OK) answer(null, Buffer.alloc(0))
      else if (status !== undefined) answer(status)
    }
    /** Gives out `token-1`, `token-2` and so on; the first one is good for nothing but asking for the next. */
    let tokens = 0
    const authenticate = (_: grpc.ServerUnaryCall<Buffer, Buffer>, answer: grpc.sendUnaryData<Buffer>) => {
      const token = Buffer.from(`token-${++tokens}`)
      answer(null, Buffer.concat([Buffer.from([0x12, token.length]), token]))
    }
    const watch = (call: grpc.ServerDuplexStream<Buffer, Buffer>) => {
      silent(call)
      if (call.metadata.get("token")[0] === "token-1") {
        call.emit("error", { code: grpc.status.UNAUTHENTICATED, details: "etcdserver: invalid auth token" })
      }
    }
    const server = new grpc.Server()
    server.addService({
      range: method("KV/Range", false),
      put: method("KV/Put", false),
      watch: method("Watch/Watch", true),
      lease: method("Lease/LeaseKeepAlive", true),
      authenticate: method("Auth/Authenticate", false)
    }, { range, put: silent, watch, lease: silent, authenticate })
    const port = yield* Effect.acquireRelease(
      Effect.async<number, Error>((resume) =>
        server.bindAsync(
          "127.0.0.1:0",
          grpc.ServerCredentials.createInsecure(),
          (error, port) => resume(error === null ? Effect.succeed(port) : Effect.fail(error))
        )
      ),
      () => Effect.sync(() => server.forceShutdown())
    )
    return {
      endpoint: `127.0.0.1:${port}`,
      come: Queue.take(come),
      gone: Queue.take(gone),
      first: Deferred.await(first)
    }
  })
