/**
 * What etcd refuses in a transaction before it looks at the data: too many operations, missing keys, and one key written
 * twice.
 */
import type { DeleteRequest, Op, PutRequest, RangeRequest, TxnRequest } from "../../Txn.js"
import { byteLength, toBinary } from "../bytes.js"
import { Statuses } from "../etcdErrors.js"
import { inSpan, type Span, spanOf } from "./bytes.js"
import { refuse } from "./refusal.js"

export const checkRange = (request: RangeRequest): void => {
  if (byteLength(request.key) === 0) {
    refuse(Statuses.emptyKey)
  }
}

export const checkDelete = (request: DeleteRequest): void => {
  if (byteLength(request.key) === 0) {
    refuse(Statuses.emptyKey)
  }
}

export const checkPut = (request: PutRequest): void => {
  if (byteLength(request.key) === 0) {
    refuse(Statuses.emptyKey)
  }
  if (request.ignoreValue === true && byteLength(request.value) !== 0) {
    refuse(Statuses.valueProvided)
  }
  if (request.ignoreLease === true && (request.lease ?? 0n) !== 0n) {
    refuse(Statuses.leaseProvided)
  }
}

const checkOp = (op: Op, maxOps: number): void => {
  switch (op._tag) {
    case "Range":
      return checkRange(op.request)
    case "Put":
      return checkPut(op.request)
    case "Delete":
      return checkDelete(op.request)
    case "Txn":
      return checkOps(op.request, maxOps)
  }
}

/** A nested transaction may have as many operations as the longest list around it leaves over. */
const checkOps = (request: TxnRequest, maxOps: number): void => {
  const { compare = [], failure = [], success = [] } = request
  const longest = Math.max(compare.length, success.length, failure.length)
  if (longest > maxOps) {
    refuse(Statuses.tooManyOps)
  }
  if (compare.some(({ key }) => byteLength(key) === 0)) {
    refuse(Statuses.emptyKey)
  }
  for (const op of [...success, ...failure]) {
    checkOp(op, maxOps - longest)
  }
}

interface Writes {
  readonly puts: ReadonlySet<string>
  readonly deletes: ReadonlyArray<Span>
}

/**
 * A delete without an upper end takes no part in etcd's check: its interval ends at `"\0"`, before it begins. Such a
 * transaction is carried out in order.
 */
const overlaps = (deletes: ReadonlyArray<Span>, key: string): boolean =>
  deletes.some((span) => span.end !== "" && inSpan(span, key))

/**
 * Follows etcd's order exactly: puts of a nested transaction meet the deletes of this level and of the transactions
 * nested before it, not of those after it; the two branches of one transaction exclude each other.
 */
const checkWrites = (ops: ReadonlyArray<Op>): Writes => {
  const puts = new Set<string>()
  const deletes: Array<Span> = ops.flatMap((op) => op._tag === "Delete" ? [spanOf(op.request)] : [])
  const add = (key: string, allowed?: ReadonlySet<string>) => {
    if ((puts.has(key) && allowed?.has(key) !== true) || overlaps(deletes, key)) {
      refuse(Statuses.duplicateKey)
    }
    puts.add(key)
  }
  for (const op of ops) {
    if (op._tag === "Txn") {
      const success = checkWrites(op.request.success ?? [])
      const failure = checkWrites(op.request.failure ?? [])
      success.puts.forEach((key) => add(key))
      failure.puts.forEach((key) => add(key, success.puts))
      deletes.push(...success.deletes, ...failure.deletes)
    }
  }
  for (const op of ops) {
    if (op._tag === "Put") {
      add(toBinary(op.request.key))
    }
  }
  return { puts, deletes }
}

export const checkTxn = (request: TxnRequest, maxOps: number): void => {
  checkOps(request, maxOps)
  checkWrites(request.success ?? [])
  checkWrites(request.failure ?? [])
}

/** Whether the transaction stays off the cluster's log; one with a nested transaction never does, even if that only reads. */
export const isUnproposed = (request: TxnRequest): boolean =>
  [...request.success ?? [], ...request.failure ?? []].every((op) => op._tag === "Range")
