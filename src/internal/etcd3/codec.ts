/**
 * Our records and those of etcd3's service clients, translated. They write 64-bit numbers as strings, name fields as the
 * protocol does, and put `null` where a message is absent, though their types do not say so.
 */
import type * as rpc from "etcd3"
import type { WatchEvent } from "../../EtcdClient.js"
import type * as Txn from "../../Txn.js"
import { toBytes } from "../bytes.js"
import { noHeader, noKeyValue } from "../emptyRecords.js"
import type * as Transport from "../transport.js"

type Absent = null | undefined

export const header = (message: rpc.IResponseHeader | Absent): Txn.Header =>
  message === null || message === undefined ? noHeader : {
    clusterId: BigInt(message.cluster_id),
    memberId: BigInt(message.member_id),
    revision: BigInt(message.revision),
    raftTerm: BigInt(message.raft_term)
  }

/** A view, not a copy. */
const bytes = (value: Txn.Bytes): Buffer => {
  const array = toBytes(value)
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength)
}

/**
 * The end of a range is left out where there is none: etcd3 sends an empty field as one that is there, and etcd takes that
 * for "no upper end".
 */
const rangeEnd = (value: Txn.Bytes | undefined): { readonly range_end?: Buffer } =>
  value === undefined || value.length === 0 ? {} : { range_end: bytes(value) }

const keyValue = (message: rpc.IKeyValue): Txn.KeyValue => ({
  key: message.key,
  value: message.value,
  createRevision: BigInt(message.create_revision),
  modRevision: BigInt(message.mod_revision),
  version: BigInt(message.version),
  lease: BigInt(message.lease)
})

const optionalKeyValue = (message: rpc.IKeyValue | Absent): Txn.KeyValue | undefined =>
  message === null || message === undefined ? undefined : keyValue(message)

const sortTargets = { key: "Key", version: "Version", create: "Create", mod: "Mod", value: "Value" } as const

const sortOrders = { ascend: "Ascend", descend: "Descend" } as const

const revision = (value: bigint | undefined): string => String(value ?? 0n)

export const rangeRequest = (request: Txn.RangeRequest): rpc.IRangeRequest => ({
  key: bytes(request.key),
  ...rangeEnd(request.rangeEnd),
  limit: String(request.limit ?? 0),
  revision: revision(request.revision),
  sort_order: request.sort === undefined ? "None" : sortOrders[request.sort.order],
  sort_target: request.sort === undefined ? "Key" : sortTargets[request.sort.by],
  serializable: request.serializable ?? false,
  keys_only: request.keysOnly ?? false,
  count_only: request.countOnly ?? false,
  min_mod_revision: revision(request.minModRevision),
  max_mod_revision: revision(request.maxModRevision),
  min_create_revision: revision(request.minCreateRevision),
  max_create_revision: revision(request.maxCreateRevision)
})

export const rangeResponse = (message: rpc.IRangeResponse): Txn.RangeResponse => ({
  header: header(message.header),
  kvs: message.kvs.map(keyValue),
  more: message.more,
  count: BigInt(message.count)
})

export const putRequest = (request: Txn.PutRequest): rpc.IPutRequest => ({
  key: bytes(request.key),
  value: bytes(request.value),
  lease: String(request.lease ?? 0n),
  prev_kv: request.prevKv ?? false,
  ignore_value: request.ignoreValue ?? false,
  ignore_lease: request.ignoreLease ?? false
})

export const putResponse = (message: rpc.IPutResponse): Txn.PutResponse => ({
  header: header(message.header),
  prevKv: optionalKeyValue(message.prev_kv)
})

export const deleteRequest = (request: Txn.DeleteRequest): rpc.IDeleteRangeRequest => ({
  key: bytes(request.key),
  ...rangeEnd(request.rangeEnd),
  prev_kv: request.prevKv ?? false
})

export const deleteResponse = (message: rpc.IDeleteRangeResponse): Txn.DeleteResponse => ({
  header: header(message.header),
  deleted: BigInt(message.deleted),
  prevKvs: message.prev_kvs.map(keyValue)
})

const compareResults = { "=": "Equal", "!=": "NotEqual", ">": "Greater", "<": "Less" } as const

const compareOperand = (compare: Txn.Compare): rpc.ICompare => {
  switch (compare.target) {
    case "create":
      return { target: "Create", create_revision: String(compare.operand) }
    case "mod":
      return { target: "Mod", mod_revision: String(compare.operand) }
    case "version":
      return { target: "Version", version: String(compare.operand) }
    case "lease":
      return { target: "Lease", lease: String(compare.operand) }
    case "value":
      return { target: "Value", value: bytes(compare.operand) }
  }
}

const compare = (self: Txn.Compare): rpc.ICompare => ({
  ...compareOperand(self),
  result: compareResults[self.result],
  key: bytes(self.key),
  ...rangeEnd(self.rangeEnd)
})

const op = (self: Txn.Op): rpc.IRequestOp => {
  switch (self._tag) {
    case "Range":
      return { request_range: rangeRequest(self.request) }
    case "Put":
      return { request_put: putRequest(self.request) }
    case "Delete":
      return { request_delete_range: deleteRequest(self.request) }
    case "Txn":
      return { request_txn: txnRequest(self.request) }
  }
}

export const txnRequest = (request: Txn.TxnRequest): rpc.ITxnRequest => ({
  compare: request.compare?.map(compare) ?? [],
  success: request.success?.map(op) ?? [],
  failure: request.failure?.map(op) ?? []
})

/** Of the four fields one is there, whatever their types say. */
const opResponse = (message: Partial<rpc.IResponseOp>): Txn.OpResponse => {
  if (message.response_range) return { _tag: "Range", response: rangeResponse(message.response_range) }
  if (message.response_put) return { _tag: "Put", response: putResponse(message.response_put) }
  if (message.response_delete_range) return { _tag: "Delete", response: deleteResponse(message.response_delete_range) }
  if (message.response_txn) return { _tag: "Txn", response: txnResponse(message.response_txn) }
  throw new Error("etcd answered a transaction with an operation of unknown kind")
}

export const txnResponse = (message: rpc.ITxnResponse): Txn.TxnResponse => ({
  header: header(message.header),
  succeeded: message.succeeded,
  responses: message.responses.map(opResponse)
})

export const leaseGrantResponse = (message: rpc.ILeaseGrantResponse): Transport.LeaseGrantResponse => ({
  header: header(message.header),
  id: BigInt(message.ID),
  ttl: BigInt(message.TTL)
})

export const leaseTimeToLiveResponse = (message: rpc.ILeaseTimeToLiveResponse): Transport.LeaseTimeToLiveResponse => ({
  header: header(message.header),
  id: BigInt(message.ID),
  ttl: BigInt(message.TTL),
  grantedTtl: BigInt(message.grantedTTL),
  keys: message.keys
})

export const statusResponse = (message: rpc.IStatusResponse): Transport.StatusResponse => ({
  header: header(message.header),
  version: message.version,
  dbSize: BigInt(message.dbSize),
  leader: BigInt(message.leader),
  raftIndex: BigInt(message.raftIndex),
  raftTerm: BigInt(message.raftTerm)
})

export const watchRequest = (request: Transport.WatchRequest): rpc.IWatchRequest => {
  switch (request._tag) {
    case "Create": {
      const filters: Array<keyof typeof rpc.FilterType> = []
      if (request.noPut) filters.push("Noput")
      if (request.noDelete) filters.push("Nodelete")
      return {
        create_request: {
          key: bytes(request.key),
          ...rangeEnd(request.rangeEnd),
          start_revision: String(request.startRevision),
          prev_kv: request.prevKv,
          filters,
          fragment: true
        }
      }
    }
    case "Cancel":
      return { cancel_request: { watch_id: String(request.watchId) } }
    case "Progress":
      return { progress_request: {} }
  }
}

const watchEvent = (event: rpc.IEvent): WatchEvent => ({
  _tag: event.type === "Delete" ? "Delete" : "Put",
  kv: optionalKeyValue(event.kv) ?? noKeyValue,
  prevKv: optionalKeyValue(event.prev_kv)
})

export const watchResponse = (message: rpc.IWatchResponse): Transport.WatchResponse => ({
  header: header(message.header),
  watchId: BigInt(message.watch_id),
  created: message.created,
  canceled: message.canceled,
  compactRevision: BigInt(message.compact_revision),
  cancelReason: message.cancel_reason,
  fragment: message.fragment,
  events: message.events.map(watchEvent)
})

export const keepAliveResponse = (message: rpc.ILeaseKeepAliveResponse): Transport.KeepAliveResponse => ({
  header: header(message.header),
  id: BigInt(message.ID),
  ttl: BigInt(message.TTL)
})
