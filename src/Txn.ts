/**
 * Requests and answers of etcd's key-value service, transactions included, as plain records.
 *
 * A transaction is data: {@link Compare}s and {@link Op}s that can be built anywhere, handed around, nested, and given to
 * `EtcdClient.txn`. A lock's `guard` is such a compare.
 *
 * @since 0.1.0
 */

/**
 * Keys and values are bytes; a string stands for its UTF-8 form.
 *
 * @since 0.1.0
 * @category models
 */
export type Bytes = string | Uint8Array

/**
 * One version of a key.
 *
 * @since 0.1.0
 * @category models
 */
export interface KeyValue {
  readonly key: Uint8Array
  readonly value: Uint8Array
  /** The revision that created the key. */
  readonly createRevision: bigint
  /** The revision of this version. */
  readonly modRevision: bigint
  /** How many times the key was written since it was created; 1 for the first. */
  readonly version: bigint
  /** The lease the key ends with; `0n` for none. */
  readonly lease: bigint
}

/**
 * Which keys: one key, or all from `key` up to and without `rangeEnd` (see `Key.prefixEnd`; `"\0"` is "no upper end").
 *
 * @since 0.1.0
 * @category models
 */
export interface KeyRange {
  readonly key: Bytes
  readonly rangeEnd?: Bytes | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface RangeRequest extends KeyRange {
  /** At most this many; `0` (the default) is no limit. */
  readonly limit?: number | undefined
  /** The state at this revision; the newest by default. */
  readonly revision?: bigint | undefined
  readonly sort?: { readonly by: SortTarget; readonly order: "ascend" | "descend" } | undefined
  /** Answer from the member's own copy: faster, and possibly stale. Default `false`: a quorum read. */
  readonly serializable?: boolean | undefined
  /** Leave the values out. */
  readonly keysOnly?: boolean | undefined
  /** Only count. */
  readonly countOnly?: boolean | undefined
  readonly minModRevision?: bigint | undefined
  readonly maxModRevision?: bigint | undefined
  readonly minCreateRevision?: bigint | undefined
  readonly maxCreateRevision?: bigint | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export type SortTarget = "key" | "version" | "create" | "mod" | "value"

/**
 * @since 0.1.0
 * @category models
 */
export interface RangeResponse {
  readonly header: Header
  readonly kvs: ReadonlyArray<KeyValue>
  /** Whether the limit left keys out. */
  readonly more: boolean
  /** How many keys the range holds, limit aside. */
  readonly count: bigint
}

/**
 * @since 0.1.0
 * @category models
 */
export interface PutRequest {
  readonly key: Bytes
  readonly value: Bytes
  /** The key ends with this lease; none by default. */
  readonly lease?: bigint | undefined
  /** Answer with what stood there before. */
  readonly prevKv?: boolean | undefined
  /** Keep the present value; `value` must be empty, and the key must exist. */
  readonly ignoreValue?: boolean | undefined
  /** Keep the present lease; `lease` must be left out, and the key must exist. */
  readonly ignoreLease?: boolean | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface PutResponse {
  readonly header: Header
  readonly prevKv: KeyValue | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface DeleteRequest extends KeyRange {
  /** Answer with what was deleted. */
  readonly prevKv?: boolean | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface DeleteResponse {
  readonly header: Header
  readonly deleted: bigint
  readonly prevKvs: ReadonlyArray<KeyValue>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Header {
  readonly clusterId: bigint
  readonly memberId: bigint
  /** The store's revision when the request was answered. Zero for single answers inside a transaction of some servers. */
  readonly revision: bigint
  readonly raftTerm: bigint
}

/**
 * @since 0.1.0
 * @category models
 */
export type CompareResult = "=" | "!=" | ">" | "<"

/**
 * A condition on a key, or on every key of a range. A key that does not exist compares as zero (revisions, version,
 * lease); a compare of its value never holds, `!=` included.
 *
 * @since 0.1.0
 * @category models
 */
export type Compare =
  & KeyRange
  & { readonly result: CompareResult }
  & (
    | { readonly target: "create" | "mod" | "version" | "lease"; readonly operand: bigint }
    | { readonly target: "value"; readonly operand: Bytes }
  )

/**
 * One operation of a transaction.
 *
 * @since 0.1.0
 * @category models
 */
export type Op =
  | { readonly _tag: "Range"; readonly request: RangeRequest }
  | { readonly _tag: "Put"; readonly request: PutRequest }
  | { readonly _tag: "Delete"; readonly request: DeleteRequest }
  | { readonly _tag: "Txn"; readonly request: TxnRequest }

/**
 * "If all compares hold, then `success`, else `failure`", as one atomic step.
 *
 * @since 0.1.0
 * @category models
 */
export interface TxnRequest {
  readonly compare?: ReadonlyArray<Compare> | undefined
  readonly success?: ReadonlyArray<Op> | undefined
  readonly failure?: ReadonlyArray<Op> | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export type OpResponse =
  | { readonly _tag: "Range"; readonly response: RangeResponse }
  | { readonly _tag: "Put"; readonly response: PutResponse }
  | { readonly _tag: "Delete"; readonly response: DeleteResponse }
  | { readonly _tag: "Txn"; readonly response: TxnResponse }

/**
 * @since 0.1.0
 * @category models
 */
export interface TxnResponse {
  readonly header: Header
  /** Whether the compares held. */
  readonly succeeded: boolean
  /** The answers of the branch that ran, in order. */
  readonly responses: ReadonlyArray<OpResponse>
}

/**
 * @since 0.1.0
 * @category constructors
 */
export const range = (request: RangeRequest): Op => ({ _tag: "Range", request })

/**
 * @since 0.1.0
 * @category constructors
 */
export const put = (request: PutRequest): Op => ({ _tag: "Put", request })

/**
 * @since 0.1.0
 * @category constructors
 */
export const del = (request: DeleteRequest): Op => ({ _tag: "Delete", request })

/**
 * @since 0.1.0
 * @category constructors
 */
export const txn = (request: TxnRequest): Op => ({ _tag: "Txn", request })

/**
 * "The key does not exist."
 *
 * @since 0.1.0
 * @category compares
 */
export const absent = (key: Bytes): Compare => createRevision(key, "=", 0n)

/**
 * "The key exists."
 *
 * @since 0.1.0
 * @category compares
 */
export const exists = (key: Bytes): Compare => createRevision(key, "!=", 0n)

/**
 * @since 0.1.0
 * @category compares
 */
export const createRevision = (key: Bytes, result: CompareResult, operand: bigint): Compare => ({
  key,
  target: "create",
  result,
  operand
})

/**
 * @since 0.1.0
 * @category compares
 */
export const modRevision = (key: Bytes, result: CompareResult, operand: bigint): Compare => ({
  key,
  target: "mod",
  result,
  operand
})

/**
 * @since 0.1.0
 * @category compares
 */
export const version = (key: Bytes, result: CompareResult, operand: bigint): Compare => ({
  key,
  target: "version",
  result,
  operand
})

/**
 * @since 0.1.0
 * @category compares
 */
export const lease = (key: Bytes, result: CompareResult, operand: bigint): Compare => ({
  key,
  target: "lease",
  result,
  operand
})

/**
 * @since 0.1.0
 * @category compares
 */
export const value = (key: Bytes, result: CompareResult, operand: Bytes): Compare => ({
  key,
  target: "value",
  result,
  operand
})
