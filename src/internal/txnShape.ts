/** What can be told of a transaction by looking at it. */
import type { Op, TxnRequest } from "../Txn.js"
import { toText } from "./bytes.js"

const onlyReads = (ops: ReadonlyArray<Op> | undefined): boolean =>
  ops === undefined || ops.every((op) => op._tag === "Range" || (op._tag === "Txn" && isReadOnly(op.request)))

/** Whether no branch of the transaction can write. */
export const isReadOnly = (request: TxnRequest): boolean => onlyReads(request.success) && onlyReads(request.failure)

/** The key that stands for the transaction in errors. */
export const firstKey = (request: TxnRequest): string | undefined => {
  const compare = request.compare?.[0]
  if (compare !== undefined) return toText(compare.key)
  const op = request.success?.[0] ?? request.failure?.[0]
  return op === undefined ? undefined : op._tag === "Txn" ? firstKey(op.request) : toText(op.request.key)
}
