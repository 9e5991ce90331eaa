/** What can be told of a transaction by looking at it. */
import type { Op, TxnRequest } from "../Txn.js"
import { toText } from "./bytes.js"

const onlyReads = (ops: ReadonlyArray<Op> | undefined): boolean =>
  ops === undefined || ops.every((op) => op._tag === "Range" || (op._tag === "Txn" && isReadOnly(op.request)))

/** Whether no branch of the transaction can write. */
export const isReadOnly = (request: TxnRequest): boolean => onlyReads(request.success) && onlyReads(request.failure)

const keyOf = (op: Op): string | undefined => op._tag === "Txn" ? firstKey(op.request) : toText(op.request.key)

/** The key that stands for the transaction in errors: the first one that it would write, as conditions may be about others. */
export const firstKey = ({ compare = [], failure = [], success = [] }: TxnRequest): string | undefined => {
  const written = success.find(({ _tag }) => _tag === "Put" || _tag === "Delete")
  if (written !== undefined) return keyOf(written)
  if (compare.length > 0) return toText(compare[0].key)
  const [first] = [...success, ...failure]
  return first === undefined ? undefined : keyOf(first)
}
