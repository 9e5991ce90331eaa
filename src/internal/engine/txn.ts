/**
 * Carries out writes and transactions that passed `checkTxn`. All compares of a transaction, nested ones included, see
 * the state before it; so do the checks of leases and revisions. Only then is the first change made.
 */
import type {
  Compare,
  CompareResult,
  DeleteRequest,
  DeleteResponse,
  Header,
  Op,
  OpResponse,
  PutRequest,
  PutResponse,
  TxnRequest,
  TxnResponse
} from "../../Txn.js"
import { toBinary } from "../bytes.js"
import { Statuses } from "../etcdErrors.js"
import { compareBytes, copyBytes, spanOf } from "./bytes.js"
import { executeRange } from "./range.js"
import { refuse } from "./refusal.js"
import { type Store, toKeyValue, type Version, type Write } from "./Store.js"

/** What a write needs besides the store. */
export interface Context {
  readonly store: Store
  readonly hasLease: (id: bigint) => boolean
  /** The header of a single answer inside a transaction: etcd fills in the revision only. */
  readonly innerHeader: (revision: bigint) => Header
}

const holds = (order: number, result: CompareResult): boolean => {
  switch (result) {
    case "=":
      return order === 0
    case "!=":
      return order !== 0
    case ">":
      return order > 0
    case "<":
      return order < 0
  }
}

const compareOne = (compare: Compare, version: Version | undefined): boolean => {
  if (compare.target === "value") {
    return version !== undefined &&
      holds(compareBytes(version.value, copyBytes(compare.operand)), compare.result)
  }
  const actual = version === undefined
    ? 0n
    : compare.target === "create"
    ? version.createRevision
    : compare.target === "mod"
    ? version.modRevision
    : version[compare.target]
  return holds(actual < compare.operand ? -1 : actual > compare.operand ? 1 : 0, compare.result)
}

/** An empty range compares like an absent key. */
const compareAll = (store: Store, compare: Compare): boolean => {
  const versions = store.range(spanOf(compare), store.revision)
  return versions.length === 0
    ? compareOne(compare, undefined)
    : versions.every((version) => compareOne(compare, version))
}

/** A transaction whose branches are chosen, and with them those of the transactions nested in them. */
interface Chosen {
  readonly succeeded: boolean
  readonly ops: ReadonlyArray<Exclude<Op, { readonly _tag: "Txn" }> | { readonly _tag: "Txn"; readonly chosen: Chosen }>
}

const choose = (store: Store, request: TxnRequest): Chosen => {
  const succeeded = (request.compare ?? []).every((compare) => compareAll(store, compare))
  const ops = (succeeded ? request.success : request.failure) ?? []
  return {
    succeeded,
    ops: ops.map((op) => op._tag === "Txn" ? { _tag: "Txn", chosen: choose(store, op.request) } : op)
  }
}

const checkPuts = (context: Context, chosen: Chosen): void => {
  for (const op of chosen.ops) {
    if (op._tag === "Txn") {
      checkPuts(context, op.chosen)
    } else if (op._tag === "Put") {
      const { ignoreLease, ignoreValue, key, lease = 0n } = op.request
      if (
        (ignoreValue === true || ignoreLease === true) &&
        context.store.get(toBinary(key), context.store.revision) === undefined
      ) {
        refuse(Statuses.keyNotFound)
      }
      if (lease !== 0n && !context.hasLease(lease)) {
        refuse(Statuses.leaseNotFound)
      }
    }
  }
}

const checkRevisions = (store: Store, chosen: Chosen): void => {
  for (const op of chosen.ops) {
    if (op._tag === "Txn") {
      checkRevisions(store, op.chosen)
    } else if (op._tag === "Range") {
      const { revision = 0n } = op.request
      if (revision > store.revision) {
        refuse(Statuses.futureRevision)
      }
      if (revision !== 0n && revision < store.compactRevision) {
        refuse(Statuses.compacted)
      }
    }
  }
}

export const executePut = (
  write: Write,
  request: PutRequest,
  header: (revision: bigint) => Header
): PutResponse => {
  const key = toBinary(request.key)
  const before = write.get(key)
  if (before === undefined && (request.ignoreValue === true || request.ignoreLease === true)) {
    return refuse(Statuses.keyNotFound)
  }
  write.put(
    key,
    before !== undefined && request.ignoreValue === true ? before.value : copyBytes(request.value),
    before !== undefined && request.ignoreLease === true ? before.lease : request.lease ?? 0n
  )
  return {
    header: header(write.revision),
    prevKv: before !== undefined && request.prevKv === true ? toKeyValue(before) : undefined
  }
}

export const executeDelete = (
  write: Write,
  request: DeleteRequest,
  header: (revision: bigint) => Header
): DeleteResponse => {
  const deleted = write.delete(spanOf(request))
  return {
    header: header(write.revision),
    deleted: BigInt(deleted.length),
    prevKvs: request.prevKv === true ? deleted.map(toKeyValue) : []
  }
}

const execute = (context: Context, write: Write, chosen: Chosen, header: Header): TxnResponse => ({
  header,
  succeeded: chosen.succeeded,
  responses: chosen.ops.map((op): OpResponse => {
    switch (op._tag) {
      case "Range":
        return {
          _tag: "Range",
          response: executeRange(context.store, op.request, write.revision, context.innerHeader)
        }
      case "Put":
        return { _tag: "Put", response: executePut(write, op.request, context.innerHeader) }
      case "Delete":
        return { _tag: "Delete", response: executeDelete(write, op.request, context.innerHeader) }
      case "Txn":
        return { _tag: "Txn", response: execute(context, write, op.chosen, context.innerHeader(0n)) }
    }
  })
})

export const executeTxn = (context: Context, request: TxnRequest) => {
  const chosen = choose(context.store, request)
  checkPuts(context, chosen)
  checkRevisions(context.store, chosen)
  return context.store.write((write) => execute(context, write, chosen, context.innerHeader(0n)))
}
