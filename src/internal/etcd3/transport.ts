/** A transport over an instance of etcd3: of all that it offers, only the clients of etcd's services. */
import * as Effect from "effect/Effect"
import type { Etcd3 } from "etcd3"
import { toText } from "../bytes.js"
import type { CallOptions, Transport } from "../transport.js"
import { firstKey, isReadOnly } from "../txnShape.js"
import type { UnaryCall } from "./calls.js"
import * as Calls from "./calls.js"
import * as codec from "./codec.js"

/** What stands for the hosts when it is not said which they are. */
const anyHost = "etcd3"

export interface TransportOptions {
  /** The hosts of the instance, as etcd3 names them to gRPC; none when they are not known. */
  readonly hosts: ReadonlyArray<string>
  readonly requestTimeoutMillis: number
}

export const make = (etcd: Etcd3, options: TransportOptions): Transport => {
  const { kv, leaseClient, maintenance, watchClient } = etcd
  const calls = Calls.make((options) => kv.range({}, options))

  const unary = <Response>(
    operation: string,
    kind: "read" | "write",
    { timeoutMillis }: CallOptions,
    begin: UnaryCall<Response>["begin"],
    details?: Pick<UnaryCall<Response>, "key" | "host">
  ) => calls.unary({ operation, readOnly: kind === "read", timeoutMillis, begin, ...details })

  return {
    endpoints: options.hosts.length === 0 ? [anyHost] : options.hosts,
    // What the instance shows of itself to etcd is its own affair.
    identified: true,
    range: (request, call) => {
      const message = codec.rangeRequest(request)
      return Effect.map(
        unary("range", "read", call, (options) => kv.range(message, options), { key: toText(request.key) }),
        codec.rangeResponse
      )
    },
    put: (request, call) => {
      const message = codec.putRequest(request)
      return Effect.map(
        unary("put", "write", call, (options) => kv.put(message, options), { key: toText(request.key) }),
        codec.putResponse
      )
    },
    del: (request, call) => {
      const message = codec.deleteRequest(request)
      return Effect.map(
        unary("delete", "write", call, (options) => kv.deleteRange(message, options), { key: toText(request.key) }),
        codec.deleteResponse
      )
    },
    txn: (request, call) => {
      const message = codec.txnRequest(request)
      return Effect.map(
        unary("txn", isReadOnly(request) ? "read" : "write", call, (options) => kv.txn(message, options), {
          key: firstKey(request)
        }),
        codec.txnResponse
      )
    },
    leaseGrant: ({ id, ttl }, call) =>
      Effect.map(
        unary("leaseGrant", "write", call, (options) =>
          leaseClient.leaseGrant({ ID: String(id), TTL: String(ttl) }, options)),
        codec.leaseGrantResponse
      ),
    leaseRevoke: (id, call) =>
      Effect.map(
        unary("leaseRevoke", "write", call, (options) => leaseClient.leaseRevoke({ ID: String(id) }, options)),
        ({ header }) => codec.header(header)
      ),
    leaseTimeToLive: ({ id, keys }, call) =>
      Effect.map(
        unary("leaseTimeToLive", "read", call, (options) =>
          leaseClient.leaseTimeToLive({ ID: String(id), keys }, options)),
        codec.leaseTimeToLiveResponse
      ),
    compact: (revision, physical, call) =>
      Effect.map(
        unary("compact", "write", call, (options) => kv.compact({ revision: String(revision), physical }, options)),
        ({ header }) => codec.header(header)
      ),
    status: (endpoint, call) =>
      Effect.map(
        unary("status", "read", call, (options) => maintenance.status(options), {
          host: endpoint === anyHost ? undefined : endpoint
        }),
        codec.statusResponse
      ),
    openWatch: (handlers) =>
      Effect.map(
        calls.duplex(
          {
            operation: "watch",
            timeoutMillis: options.requestTimeoutMillis,
            begin: (options) => watchClient.watch(options)
          },
          { onMessage: (message) => handlers.onMessage(codec.watchResponse(message)), onEnd: handlers.onEnd }
        ),
        ({ send, ...stream }) => ({ ...stream, send: (request) => send(codec.watchRequest(request)) })
      ),
    openLease: (handlers) =>
      Effect.map(
        calls.duplex(
          {
            operation: "leaseKeepAlive",
            timeoutMillis: options.requestTimeoutMillis,
            begin: (options) => leaseClient.leaseKeepAlive(options)
          },
          { onMessage: (message) => handlers.onMessage(codec.keepAliveResponse(message)), onEnd: handlers.onEnd }
        ),
        ({ send, ...stream }) => ({ ...stream, send: (id) => send({ ID: String(id) }) })
      )
  }
}
