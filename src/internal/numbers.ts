/**
 * Numbers that the protocol cannot carry, found before anything is sent: a message that cannot be written would end the
 * stream of everybody else.
 */
import type { Compare, Op, RangeRequest, TxnRequest } from "../Txn.js"

const fits = (value: unknown): boolean =>
  value === undefined || typeof value === "bigint" && BigInt.asIntN(64, value) === value

const problemOf = (name: string, value: bigint | undefined): string | undefined =>
  fits(value) ? undefined : `${name} ${value} is no bigint that fits into 64 bits`

/** Of a lease id, a revision: whether it can be sent. */
export const ofNumber = problemOf

/** Of a watch: etcd takes revisions below zero for something else on every version. */
export const ofStart = (revision: bigint | undefined): string | undefined =>
  revision !== undefined && revision < 0n
    ? `startRevision ${revision} is below zero`
    : problemOf("startRevision", revision)

export const ofRange = (request: RangeRequest): string | undefined => {
  const { limit } = request
  if (limit !== undefined && !Number.isSafeInteger(limit)) return `limit ${limit} is not a whole number`
  return problemOf("revision", request.revision) ??
    problemOf("minModRevision", request.minModRevision) ??
    problemOf("maxModRevision", request.maxModRevision) ??
    problemOf("minCreateRevision", request.minCreateRevision) ??
    problemOf("maxCreateRevision", request.maxCreateRevision)
}

const first = <A>(
  all: ReadonlyArray<A> | undefined,
  problem: (one: A) => string | undefined
): string | undefined => {
  for (const one of all ?? []) {
    const found = problem(one)
    if (found !== undefined) return found
  }
  return undefined
}

const ofCompare = (compare: Compare): string | undefined =>
  compare.target === "value" ? undefined : problemOf(`${compare.target} compare`, compare.operand)

const ofOp = (op: Op): string | undefined => {
  switch (op._tag) {
    case "Range":
      return ofRange(op.request)
    case "Put":
      return problemOf("lease", op.request.lease)
    case "Delete":
      return undefined
    case "Txn":
      return ofTxn(op.request)
  }
}

export const ofTxn = (request: TxnRequest): string | undefined =>
  first(request.compare, ofCompare) ?? first(request.success, ofOp) ?? first(request.failure, ofOp)
