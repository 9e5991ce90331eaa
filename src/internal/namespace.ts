/**
 * A client that sees only the keys under a prefix, as if they were all there is: keys, range ends, compares, nested
 * operations, answers and events are rewritten. Leases and revisions are the cluster's own.
 */
import type { WatchEvent } from "../EtcdClient.js"
import type { KeyRange, KeyValue, Op, OpResponse, RangeResponse, TxnRequest, TxnResponse } from "../Txn.js"
import { empty, toBinary, toBytes } from "./bytes.js"
import { prefixEnd } from "./keyRange.js"

export interface Namespace {
  readonly range: <A extends KeyRange>(request: A) => A
  readonly key: <A extends { readonly key: KeyRange["key"] }>(request: A) => A
  readonly txn: (request: TxnRequest) => TxnRequest
  readonly contains: (key: Uint8Array) => boolean
  readonly bareKey: (key: Uint8Array) => Uint8Array
  readonly bareKv: (kv: KeyValue) => KeyValue
  readonly bareRange: (response: RangeResponse) => RangeResponse
  readonly bareTxn: (response: TxnResponse) => TxnResponse
  readonly bareEvent: (event: WatchEvent) => WatchEvent
}

const isOpenEnd = (end: Uint8Array): boolean => end.length === 1 && end[0] === 0

export const make = (prefix: string): Namespace => {
  const prefixBytes = toBytes(prefix)
  const end = prefixEnd(prefixBytes)
  // An empty key stays empty, and is refused as it would be without the namespace.
  const within = (key: KeyRange["key"]): Uint8Array =>
    key.length === 0 ? empty : Buffer.concat([prefixBytes, toBytes(key)])

  const rangeEnd = (given: KeyRange["rangeEnd"]): Uint8Array | undefined => {
    if (given === undefined || given.length === 0) return undefined
    const bytes = toBytes(given)
    return isOpenEnd(bytes) ? end : within(bytes)
  }

  const range: Namespace["range"] = (request) => ({
    ...request,
    key: within(request.key),
    rangeEnd: rangeEnd(request.rangeEnd)
  })

  const key: Namespace["key"] = (request) => ({ ...request, key: within(request.key) })

  const op = (self: Op): Op => {
    switch (self._tag) {
      case "Range":
        return { _tag: "Range", request: range(self.request) }
      case "Put":
        return { _tag: "Put", request: key(self.request) }
      case "Delete":
        return { _tag: "Delete", request: range(self.request) }
      case "Txn":
        return { _tag: "Txn", request: txn(self.request) }
    }
  }

  const txn: Namespace["txn"] = (request) => ({
    compare: request.compare?.map(range),
    success: request.success?.map(op),
    failure: request.failure?.map(op)
  })

  const contains: Namespace["contains"] = (full) => toBinary(full).startsWith(toBinary(prefixBytes))
  const bareKey: Namespace["bareKey"] = (full) => full.subarray(prefixBytes.length)
  const bareKv: Namespace["bareKv"] = (kv) => ({ ...kv, key: bareKey(kv.key) })
  const bareRange: Namespace["bareRange"] = (response) => ({ ...response, kvs: response.kvs.map(bareKv) })

  const bareOp = (self: OpResponse): OpResponse => {
    switch (self._tag) {
      case "Range":
        return { _tag: "Range", response: bareRange(self.response) }
      case "Put": {
        const { header, prevKv } = self.response
        return { _tag: "Put", response: { header, prevKv: prevKv === undefined ? undefined : bareKv(prevKv) } }
      }
      case "Delete":
        return { _tag: "Delete", response: { ...self.response, prevKvs: self.response.prevKvs.map(bareKv) } }
      case "Txn":
        return { _tag: "Txn", response: bareTxn(self.response) }
    }
  }

  const bareTxn: Namespace["bareTxn"] = (response) => ({ ...response, responses: response.responses.map(bareOp) })

  const bareEvent: Namespace["bareEvent"] = ({ _tag, kv, prevKv }) => ({
    _tag,
    kv: bareKv(kv),
    prevKv: prevKv === undefined ? undefined : bareKv(prevKv)
  })

  return { range, key, txn, contains, bareKey, bareKv, bareRange, bareTxn, bareEvent }
}
