import type { Op, TxnRequest } from "../../Txn.js"
import { toText } from "../bytes.js"

const opKeys = (op: Op): ReadonlyArray<string> => op._tag === "Txn" ? txnKeys(op.request) : [toText(op.request.key)]

/** Every key that a transaction's operations name. */
export const txnKeys = (request: TxnRequest): ReadonlyArray<string> =>
  [...request.success ?? [], ...request.failure ?? []].flatMap(opKeys)
