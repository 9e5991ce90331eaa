import { assert, layer } from "@effect/vitest"
import type { ServiceError } from "@grpc/grpc-js"
import { Client, credentials } from "@grpc/grpc-js"
import { Effect } from "effect"
import { Event_EventType } from "../../src/internal/proto/kv.js"
import {
  Compare_CompareResult,
  Compare_CompareTarget,
  KVDefinition,
  RangeRequest,
  TxnRequest,
  WatchDefinition,
  WatchRequest,
  WatchResponse
} from "../../src/internal/proto/rpc.js"
import * as EtcdServer from "../support/EtcdServer.js"

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (content: Uint8Array) => new TextDecoder().decode(content)

interface Method<Request, Response> {
  readonly name: string
  readonly requestType: { readonly encode: (request: Request) => { readonly finish: () => Uint8Array } }
  readonly responseType: { readonly decode: (content: Uint8Array) => Response }
}

const client = Effect.acquireRelease(
  Effect.map(EtcdServer.EtcdServer, ({ endpoint }) => new Client(endpoint, credentials.createInsecure())),
  (client) => Effect.sync(() => client.close())
)

const call = <Request, Response>(client: Client, method: Method<Request, Response>, request: Request) =>
  Effect.async<Response, ServiceError>((resume) => {
    client.makeUnaryRequest(
      `/etcdserverpb.KV/${method.name}`,
      (request: Request) => Buffer.from(method.requestType.encode(request).finish()),
      method.responseType.decode,
      request,
      (error, response) => resume(error === null ? Effect.succeed(response as Response) : Effect.fail(error))
    )
  })

layer(EtcdServer.layer())("the generated codec", (it) => {
  it.scoped("speaks with a server: nested transactions, bytes, 64-bit numbers, absent fields", () =>
    Effect.gen(function*() {
      const grpc = yield* client
      const key = bytes("codec/\u{1F511}")
      const put = (value: string) => ({ $case: "requestPut", value: { key, value: bytes(value) } }) as const
      const request = TxnRequest.fromPartial({
        compare: [{
          key,
          target: Compare_CompareTarget.Create,
          result: Compare_CompareResult.Equal,
          targetUnion: { $case: "createRevision", value: 0n }
        }],
        success: [{ request: { $case: "requestTxn", value: { success: [{ request: put("inner") }] } } }],
        failure: [{ request: put("outer") }]
      })
      const first = yield* call(grpc, KVDefinition.methods.txn, request)
      assert.isTrue(first.succeeded)
      assert.strictEqual(first.responses[0].response?.$case, "responseTxn")
      assert.isFalse((yield* call(grpc, KVDefinition.methods.txn, request)).succeeded)

      const range = RangeRequest.fromPartial({ key, limit: undefined })
      const { count, header, kvs } = yield* call(grpc, KVDefinition.methods.range, range)
      assert.strictEqual(count, 1n)
      assert.strictEqual(text(kvs[0].key), "codec/\u{1F511}")
      assert.strictEqual(text(kvs[0].value), "outer")
      assert.strictEqual(kvs[0].version, 2n)
      assert.strictEqual(kvs[0].lease, 0n)
      assert.isTrue((header?.clusterId ?? 0n) > 0n)
    }))

  it.scoped("speaks with a server: a stream of watches", () =>
    Effect.gen(function*() {
      const grpc = yield* client
      const server = yield* EtcdServer.EtcdServer
      const stream = grpc.makeBidiStreamRequest(
        `/${WatchDefinition.fullName}/${WatchDefinition.methods.watch.name}`,
        (request: WatchRequest) => Buffer.from(WatchRequest.encode(request).finish()),
        WatchResponse.decode
      )
      yield* Effect.addFinalizer(() => Effect.sync(() => stream.on("error", () => {}).cancel()))
      const responses = stream[Symbol.asyncIterator]() as AsyncIterator<WatchResponse, never>
      const next = Effect.map(Effect.promise(() => responses.next()), ({ value }) => value)
      stream.write(WatchRequest.fromPartial({
        requestUnion: { $case: "createRequest", value: { key: bytes("watched"), fragment: true } }
      }))
      assert.isTrue((yield* next).created)
      yield* server.etcdctl(["put", "watched", "yes"])
      const { events } = yield* next
      assert.strictEqual(events[0].type, Event_EventType.Put)
      assert.strictEqual(text(events[0].kv?.value ?? bytes("")), "yes")
      assert.isUndefined(events[0].prevKv)
    }))
})
