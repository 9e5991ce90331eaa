/** Our records and the generated messages, translated. Free of Effect; the only place that knows the wire's names. */
import { absurd } from "effect/Function"
import type { WatchEvent } from "../../EtcdClient.js"
import type * as Txn from "../../Txn.js"
import { empty, toBytes } from "../bytes.js"
import { noHeader, noKeyValue } from "../emptyRecords.js"
import type * as kv from "../proto/kv.js"
import * as rpc from "../proto/rpc.js"
import type * as Transport from "../transport.js"

/** The generated header has our shape already. */
export const header = (message: rpc.ResponseHeader | undefined): Txn.Header => message ?? noHeader

const optional = (value: Txn.Bytes | undefined): Uint8Array => value === undefined ? empty : toBytes(value)

const sortTargets = {
  key: rpc.RangeRequest_SortTarget.Key,
  version: rpc.RangeRequest_SortTarget.Version,
  create: rpc.RangeRequest_SortTarget.Create,
  mod: rpc.RangeRequest_SortTarget.Mod,
  value: rpc.RangeRequest_SortTarget.Value
}

const sortOrders = {
  ascend: rpc.RangeRequest_SortOrder.Ascend,
  descend: rpc.RangeRequest_SortOrder.Descend
}

export const rangeRequest = (request: Txn.RangeRequest): rpc.RangeRequest => ({
  key: toBytes(request.key),
  rangeEnd: optional(request.rangeEnd),
  limit: request.limit === undefined ? 0n : BigInt(request.limit),
  revision: request.revision ?? 0n,
  sortOrder: request.sort === undefined ? rpc.RangeRequest_SortOrder.None : sortOrders[request.sort.order],
  sortTarget: request.sort === undefined ? rpc.RangeRequest_SortTarget.Key : sortTargets[request.sort.by],
  serializable: request.serializable ?? false,
  keysOnly: request.keysOnly ?? false,
  countOnly: request.countOnly ?? false,
  minModRevision: request.minModRevision ?? 0n,
  maxModRevision: request.maxModRevision ?? 0n,
  minCreateRevision: request.minCreateRevision ?? 0n,
  maxCreateRevision: request.maxCreateRevision ?? 0n
})

export const rangeResponse = (message: rpc.RangeResponse): Txn.RangeResponse => ({
  header: header(message.header),
  kvs: message.kvs,
  more: message.more,
  count: message.count
})

export const putRequest = (request: Txn.PutRequest): rpc.PutRequest => ({
  key: toBytes(request.key),
  value: toBytes(request.value),
  lease: request.lease ?? 0n,
  prevKv: request.prevKv ?? false,
  ignoreValue: request.ignoreValue ?? false,
  ignoreLease: request.ignoreLease ?? false
})

export const putResponse = (message: rpc.PutResponse): Txn.PutResponse => ({
  header: header(message.header),
  prevKv: message.prevKv
})

export const deleteRequest = (request: Txn.DeleteRequest): rpc.DeleteRangeRequest => ({
  key: toBytes(request.key),
  rangeEnd: optional(request.rangeEnd),
  prevKv: request.prevKv ?? false
})

export const deleteResponse = (message: rpc.DeleteRangeResponse): Txn.DeleteResponse => ({
  header: header(message.header),
  deleted: message.deleted,
  prevKvs: message.prevKvs
})

const compareResults = {
  "=": rpc.Compare_CompareResult.Equal,
  "!=": rpc.Compare_CompareResult.NotEqual,
  ">": rpc.Compare_CompareResult.Greater,
  "<": rpc.Compare_CompareResult.Less
}

const compareTargets = {
  create: rpc.Compare_CompareTarget.Create,
  mod: rpc.Compare_CompareTarget.Mod,
  version: rpc.Compare_CompareTarget.Version,
  lease: rpc.Compare_CompareTarget.Lease,
  value: rpc.Compare_CompareTarget.Value
}

const compareOperand = (compare: Txn.Compare): rpc.Compare["targetUnion"] => {
  switch (compare.target) {
    case "create":
      return { $case: "createRevision", value: compare.operand }
    case "mod":
      return { $case: "modRevision", value: compare.operand }
    case "version":
      return { $case: "version", value: compare.operand }
    case "lease":
      return { $case: "lease", value: compare.operand }
    case "value":
      return { $case: "value", value: toBytes(compare.operand) }
  }
}

const compare = (self: Txn.Compare): rpc.Compare => ({
  target: compareTargets[self.target],
  targetUnion: compareOperand(self),
  result: compareResults[self.result],
  key: toBytes(self.key),
  rangeEnd: optional(self.rangeEnd)
})

const op = (self: Txn.Op): rpc.RequestOp => {
  switch (self._tag) {
    case "Range":
      return { request: { $case: "requestRange", value: rangeRequest(self.request) } }
    case "Put":
      return { request: { $case: "requestPut", value: putRequest(self.request) } }
    case "Delete":
      return { request: { $case: "requestDeleteRange", value: deleteRequest(self.request) } }
    case "Txn":
      return { request: { $case: "requestTxn", value: txnRequest(self.request) } }
  }
}

export const txnRequest = (request: Txn.TxnRequest): rpc.TxnRequest => ({
  compare: request.compare?.map(compare) ?? [],
  success: request.success?.map(op) ?? [],
  failure: request.failure?.map(op) ?? []
})

const opResponse = ({ response }: rpc.ResponseOp): Txn.OpResponse => {
  switch (response?.$case) {
    case "responseRange":
      return { _tag: "Range", response: rangeResponse(response.value) }
    case "responsePut":
      return { _tag: "Put", response: putResponse(response.value) }
    case "responseDeleteRange":
      return { _tag: "Delete", response: deleteResponse(response.value) }
    case "responseTxn":
      return { _tag: "Txn", response: txnResponse(response.value) }
    case undefined:
      throw new Error("etcd answered a transaction with an operation of unknown kind")
    default:
      return absurd(response)
  }
}

export const txnResponse = (message: rpc.TxnResponse): Txn.TxnResponse => ({
  header: header(message.header),
  succeeded: message.succeeded,
  responses: message.responses.map(opResponse)
})

export const watchRequest = (request: Transport.WatchRequest): rpc.WatchRequest => {
  switch (request._tag) {
    case "Create": {
      const filters: Array<rpc.WatchCreateRequest_FilterType> = []
      if (request.noPut) filters.push(rpc.WatchCreateRequest_FilterType.Noput)
      if (request.noDelete) filters.push(rpc.WatchCreateRequest_FilterType.Nodelete)
      return {
        requestUnion: {
          $case: "createRequest",
          value: {
            key: toBytes(request.key),
            rangeEnd: optional(request.rangeEnd),
            startRevision: request.startRevision,
            prevKv: request.prevKv,
            filters,
            progressNotify: false,
            watchId: 0n,
            fragment: true
          }
        }
      }
    }
    case "Cancel":
      return { requestUnion: { $case: "cancelRequest", value: { watchId: request.watchId } } }
    case "Progress":
      return { requestUnion: { $case: "progressRequest", value: {} } }
  }
}

const deleteEvent = 1

const watchEvent = (event: kv.Event): WatchEvent => ({
  _tag: event.type === deleteEvent ? "Delete" : "Put",
  kv: event.kv ?? noKeyValue,
  prevKv: event.prevKv
})

export const watchResponse = (message: rpc.WatchResponse): Transport.WatchResponse => ({
  header: header(message.header),
  watchId: message.watchId,
  created: message.created,
  canceled: message.canceled,
  compactRevision: message.compactRevision,
  cancelReason: message.cancelReason,
  fragment: message.fragment,
  events: message.events.map(watchEvent)
})
