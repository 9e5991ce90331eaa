/**
 * How large a request is on the wire. etcd measures what it proposes to the cluster, so reads are only bounded by the
 * limit of its gRPC server.
 */
import type { Bytes, Compare, DeleteRequest, Op, PutRequest, RangeRequest, TxnRequest } from "../../Txn.js"
import { byteLength } from "../bytes.js"

const varint = (value: bigint | number): number => {
  let rest = BigInt.asUintN(64, BigInt(value))
  let size = 1
  while (rest > 127n) {
    rest >>= 7n
    size++
  }
  return size
}

const bytes = (value: Bytes | undefined): number => {
  const length = value === undefined ? 0 : byteLength(value)
  return length === 0 ? 0 : 1 + varint(length) + length
}

const int = (value: bigint | number | undefined): number =>
  value === undefined || BigInt(value) === 0n ? 0 : 1 + varint(value)

const flag = (value: boolean | undefined): number => value === true ? 2 : 0

const message = (size: number): number => 1 + varint(size) + size

export const rangeSize = (request: RangeRequest): number =>
  bytes(request.key) +
  bytes(request.rangeEnd) +
  int(request.limit) +
  int(request.revision) +
  (request.sort === undefined ? 0 : 2 + (request.sort.by === "key" ? 0 : 2)) +
  flag(request.serializable) +
  flag(request.keysOnly) +
  flag(request.countOnly) +
  int(request.minModRevision) +
  int(request.maxModRevision) +
  int(request.minCreateRevision) +
  int(request.maxCreateRevision)

export const putSize = (request: PutRequest): number =>
  bytes(request.key) +
  bytes(request.value) +
  int(request.lease) +
  flag(request.prevKv) +
  flag(request.ignoreValue) +
  flag(request.ignoreLease)

export const deleteSize = (request: DeleteRequest): number =>
  bytes(request.key) + bytes(request.rangeEnd) + flag(request.prevKv)

const compareSize = (compare: Compare): number => {
  const rangeEnd = bytes(compare.rangeEnd)
  const operand = compare.target === "value"
    ? 1 + varint(byteLength(compare.operand)) + byteLength(compare.operand)
    : 1 + varint(compare.operand)
  return (compare.result === "=" ? 0 : 2) +
    (compare.target === "version" ? 0 : 2) +
    bytes(compare.key) +
    operand +
    // the tag of field 64 takes two bytes
    (rangeEnd === 0 ? 0 : rangeEnd + 1)
}

const opSize = (op: Op): number => {
  switch (op._tag) {
    case "Range":
      return message(rangeSize(op.request))
    case "Put":
      return message(putSize(op.request))
    case "Delete":
      return message(deleteSize(op.request))
    case "Txn":
      return message(txnSize(op.request))
  }
}

const sum = <A>(items: ReadonlyArray<A> | undefined, size: (item: A) => number): number =>
  (items ?? []).reduce((total, item) => total + message(size(item)), 0)

export const txnSize = (request: TxnRequest): number =>
  sum(request.compare, compareSize) + sum(request.success, opSize) + sum(request.failure, opSize)

/** The request inside its proposal: a header with a 64-bit ID, and the tags around both. */
export const proposalSize = (size: number): number => message(size) + 14
