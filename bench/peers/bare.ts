/** Calls of grpc-js by hand, with the library's codec and nothing else: no deadline, no retry, no checks. */
import * as grpc from "@grpc/grpc-js"
import { Schema } from "effect"
import { hostname } from "node:os"
import * as rpc from "../../src/internal/proto/rpc.js"
import type { Peer, Workload } from "./peer.js"
import {
  calls,
  loops,
  ownLock,
  readKey,
  Setting,
  settingKey,
  settingsFolder,
  value,
  valueLength,
  writeKey
} from "./peer.js"
import type { Settings } from "./protocol.js"

interface Codec<A> {
  readonly encode: (message: A) => { readonly finish: () => Uint8Array }
  readonly decode: (input: Uint8Array) => A
  readonly fromPartial: (message: any) => A
}

const bytes = (text: string): Uint8Array => Buffer.from(text)

const serialized = <A>(codec: Codec<A>) => (message: A): Buffer => {
  const { buffer, byteLength, byteOffset } = codec.encode(message).finish()
  return Buffer.from(buffer, byteOffset, byteLength)
}

/** The first key after all that begin with a folder. */
const endOf = (folder: string): Uint8Array => bytes(`${folder.slice(0, -1)}0`)

/** As long as what the library writes into the entry of a lock. */
const owner = bytes(JSON.stringify({
  host: hostname(),
  pid: process.pid,
  name: "worker.js",
  since: new Date().toISOString()
}))

export const open = async (settings: Settings): Promise<Peer> => {
  const client = new grpc.Client(settings.endpoint, grpc.credentials.createInsecure(), {
    "grpc.enable_retries": 0,
    "grpc.enable_channelz": 0,
    "grpc.max_receive_message_length": -1
  })

  const method = <Request, Response>(path: string, request: Codec<Request>, response: Codec<Response>) => {
    const serialize = serialized(request)
    const metadata = new grpc.Metadata()
    return (message: Request): Promise<Response> =>
      new Promise((resolve, reject) => {
        client.makeUnaryRequest(
          `/etcdserverpb.${path}`,
          serialize,
          response.decode,
          message,
          metadata,
          (error, answer) => answer === undefined ? reject(error ?? new Error("no answer")) : resolve(answer)
        )
      })
  }
  const range = method("KV/Range", rpc.RangeRequest, rpc.RangeResponse)
  const put = method("KV/Put", rpc.PutRequest, rpc.PutResponse)
  const txn = method("KV/Txn", rpc.TxnRequest, rpc.TxnResponse)
  const grant = method("Lease/LeaseGrant", rpc.LeaseGrantRequest, rpc.LeaseGrantResponse)
  const revoke = method("Lease/LeaseRevoke", rpc.LeaseRevokeRequest, rpc.LeaseRevokeResponse)

  const get = calls(async () => {
    const { kvs } = await range(rpc.RangeRequest.fromPartial({ key: bytes(readKey()) }))
    if (kvs[0]?.value.length !== valueLength) throw new Error("a key is missing")
  })

  const decodeSetting = Schema.decodeUnknownSync(Setting)
  const configGet = calls(async () => {
    const { kvs } = await range(rpc.RangeRequest.fromPartial({ key: bytes(settingsFolder + settingKey()) }))
    decodeSetting(JSON.parse(Buffer.from(kvs[0].value).toString()))
  })

  /** One stream for all, with a watch for each of them. */
  const watch: Workload = async (slice, meter) => {
    const heard = meter.part("event")
    const done = meter.operation("call")
    const keys = Array.from({ length: slice.inFlight }, (_, index) => bytes(`/config/bench/${slice.name}/${index}`))
    const workers = keys.map(() => ({ begin: 0, next: () => {} }))
    const byWatch = new Map<bigint, typeof workers[number]>()
    const stream = client.makeBidiStreamRequest(
      "/etcdserverpb.Watch/Watch",
      serialized(rpc.WatchRequest),
      rpc.WatchResponse.decode
    )
    await new Promise<void>((resolve, reject) => {
      // Cancelled at the end.
      stream.on("error", reject)
      stream.on("data", ({ created, events, watchId }: rpc.WatchResponse) => {
        if (created) byWatch.set(watchId, workers[byWatch.size])
        if (byWatch.size === workers.length) resolve()
        if (events.length === 0) return
        const worker = byWatch.get(watchId)
        if (worker === undefined) throw new Error("an event of no watch")
        heard(worker.begin)
        worker.next()
      })
      for (const key of keys) {
        stream.write(
          rpc.WatchRequest.fromPartial({ requestUnion: { $case: "createRequest", value: { key } } })
        )
      }
    })
    const run = loops(slice, meter, async (index) => {
      const worker = workers[index]
      const next = new Promise<void>((resolve) => {
        worker.next = resolve
      })
      const begin = worker.begin = meter.now()
      await put(rpc.PutRequest.fromPartial({ key: keys[index], value: bytes("1") }))
      await next
      done(begin)
    })
    return async () => {
      await run()
      stream.cancel()
    }
  }

  const putting = calls(async () => {
    await put(rpc.PutRequest.fromPartial({ key: bytes(writeKey()), value: bytes(value) }))
  })

  const createRevisionIs = (key: Uint8Array, revision: bigint) => ({
    key,
    target: rpc.Compare_CompareTarget.Create,
    result: rpc.Compare_CompareResult.Equal,
    targetUnion: { $case: "createRevision" as const, value: revision }
  })

  const enter = (folder: string, key: Uint8Array, lease: bigint): rpc.TxnRequest => {
    const newest = {
      request: {
        $case: "requestRange" as const,
        value: {
          key: bytes(folder),
          rangeEnd: endOf(folder),
          limit: 2n,
          sortOrder: rpc.RangeRequest_SortOrder.Descend,
          sortTarget: rpc.RangeRequest_SortTarget.Create,
          keysOnly: true
        }
      }
    }
    return rpc.TxnRequest.fromPartial({
      compare: [createRevisionIs(key, 0n)],
      success: [{ request: { $case: "requestPut", value: { key, value: owner, lease } } }, newest],
      failure: [{ request: { $case: "requestRange", value: { key, keysOnly: true } } }, newest]
    })
  }

  const leave = (key: Uint8Array, token: bigint): rpc.TxnRequest =>
    rpc.TxnRequest.fromPartial({
      compare: [createRevisionIs(key, token)],
      success: [{ request: { $case: "requestDeleteRange", value: { key } } }]
    })

  /** Two transactions, as a lock sends them. */
  const lock: Workload = async (slice, meter) => {
    const { ID: lease } = await grant(rpc.LeaseGrantRequest.fromPartial({ TTL: 600n }))
    const acquired = meter.part("acquire")
    const done = meter.operation("cycle")
    const run = loops(slice, meter, async (worker) => {
      const folder = `/locks/${ownLock(slice, worker)}/`
      const key = bytes(folder + lease.toString(16))
      const begin = meter.now()
      const { header, succeeded } = await txn(enter(folder, key, lease))
      if (!succeeded || header === undefined) throw new Error("an own key was there already")
      acquired(begin)
      await txn(leave(key, header.revision))
      done(begin)
    })
    return async () => {
      await run()
      await revoke(rpc.LeaseRevokeRequest.fromPartial({ ID: lease }))
    }
  }

  return {
    workloads: { get, "config-get": configGet, put: putting, watch, lock, acquire: lock },
    close: async () => client.close()
  }
}
