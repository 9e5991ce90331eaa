/**
 * Random operations, as plain data that says nothing of absolute revisions or lease ids: the same sequence means the
 * same on any etcd.
 */
import * as FastCheck from "effect/FastCheck"
import type { CompareResult, SortTarget } from "../../../src/Txn.js"

export interface Span {
  readonly key: string
  /** `end` is everything from the key on. */
  readonly to: { readonly _tag: "One" } | { readonly _tag: "Key"; readonly key: string } | { readonly _tag: "End" }
}

/** So many revisions before the newest one (after it, when negative), or a number as it stands. */
export type Revision = { readonly ago: number } | { readonly literal: bigint }

export interface Range extends Span {
  readonly limit?: number | undefined
  readonly revision?: Revision | undefined
  readonly sort?: { readonly by: SortTarget; readonly order: "ascend" | "descend" } | undefined
  readonly serializable?: boolean | undefined
  readonly keysOnly?: boolean | undefined
  readonly countOnly?: boolean | undefined
  readonly minModRevision?: Revision | undefined
  readonly maxModRevision?: Revision | undefined
  readonly minCreateRevision?: Revision | undefined
  readonly maxCreateRevision?: Revision | undefined
}

export interface Put {
  readonly key: string
  readonly value: string
  /** The number of a lease; that lease may exist or not. */
  readonly lease?: number | undefined
  readonly prevKv?: boolean | undefined
  readonly ignoreValue?: boolean | undefined
  readonly ignoreLease?: boolean | undefined
}

export interface Delete extends Span {
  readonly prevKv?: boolean | undefined
}

export type Compare =
  & Span
  & { readonly result: CompareResult }
  & (
    | { readonly target: "create" | "mod"; readonly operand: Revision }
    | { readonly target: "version"; readonly operand: number }
    | { readonly target: "lease"; readonly operand: number | undefined }
    | { readonly target: "value"; readonly operand: string }
  )

export type Op =
  | { readonly _tag: "Range"; readonly range: Range }
  | { readonly _tag: "Put"; readonly put: Put }
  | { readonly _tag: "Delete"; readonly del: Delete }
  | { readonly _tag: "Txn"; readonly txn: Txn }

export interface Txn {
  readonly compare: ReadonlyArray<Compare>
  readonly success: ReadonlyArray<Op>
  readonly failure: ReadonlyArray<Op>
}

export type Operation =
  | Op
  | { readonly _tag: "Grant" | "Revoke" | "TimeToLive" | "KeepAlive"; readonly lease: number; readonly ttl: number }
  | { readonly _tag: "Compact"; readonly revision: Revision; readonly physical: boolean }
  /** Watches from a revision to the newest one. */
  | Span & {
    readonly _tag: "Watch"
    readonly revision: Revision
    readonly filter: "noPut" | "noDelete" | undefined
    readonly prevKv: boolean
  }

/** Without what is left out. */
export const defined = <A extends object>(record: A): A =>
  Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as A

const { boolean, constant, constantFrom, integer, oneof, record } = FastCheck

const names = ["a", "b", "c", "d", "a/", "a/b", "é"]
const key = oneof({ weight: 200, arbitrary: constantFrom(...names) }, { weight: 1, arbitrary: constant("") })
const value = constantFrom("", "1", "2", "10", "é")
const leaseNumber = integer({ min: 0, max: 3 })

const rarely = <A>(arbitrary: FastCheck.Arbitrary<A>, of = 4): FastCheck.Arbitrary<A | undefined> =>
  oneof({ weight: of - 1, arbitrary: constant(undefined) }, { weight: 1, arbitrary })

const revision: FastCheck.Arbitrary<Revision> = oneof(
  { weight: 12, arbitrary: record({ ago: integer({ min: 0, max: 12 }) }) },
  { weight: 1, arbitrary: record({ ago: integer({ min: -2, max: -1 }) }) },
  { weight: 1, arbitrary: record({ literal: constantFrom(0n, -1n) }) }
)

const to: FastCheck.Arbitrary<Span["to"]> = oneof(
  { weight: 4, arbitrary: constant<Span["to"]>({ _tag: "One" }) },
  { weight: 3, arbitrary: record({ _tag: constant("Key" as const), key: constantFrom(...names) }) },
  { weight: 2, arbitrary: constant<Span["to"]>({ _tag: "End" }) }
)

const sort = record({
  by: constantFrom<SortTarget>("key", "version", "create", "mod", "value"),
  order: constantFrom<"ascend" | "descend">("ascend", "descend")
})

const range: FastCheck.Arbitrary<Range> = record({
  key,
  to,
  limit: rarely(integer({ min: -1, max: 4 }), 2),
  revision: rarely(revision, 3),
  sort: rarely(sort, 2),
  serializable: rarely(boolean()),
  keysOnly: rarely(boolean()),
  countOnly: rarely(boolean(), 6),
  minModRevision: rarely(revision, 6),
  maxModRevision: rarely(revision, 6),
  minCreateRevision: rarely(revision, 6),
  maxCreateRevision: rarely(revision, 6)
}).map(defined)

const put: FastCheck.Arbitrary<Put> = record({
  key,
  value,
  lease: rarely(leaseNumber, 3),
  prevKv: boolean(),
  ignoreValue: rarely(boolean(), 16),
  ignoreLease: rarely(boolean(), 16)
}).map(defined)

const del: FastCheck.Arbitrary<Delete> = record({ key, to, prevKv: boolean() })

const result = constantFrom<CompareResult>("=", "!=", "<", ">")

const compare: FastCheck.Arbitrary<Compare> = oneof(
  record({ key, to, result, target: constantFrom("create" as const, "mod" as const), operand: revision }),
  record({ key, to, result, target: constant("version" as const), operand: integer({ min: -1, max: 3 }) }),
  record({ key, to, result, target: constant("lease" as const), operand: rarely(leaseNumber, 2) }),
  record({ key, to, result, target: constant("value" as const), operand: value })
)

const { txn } = FastCheck.letrec<{ readonly op: Op; readonly txn: Txn }>((tie) => ({
  op: oneof(
    { depthSize: "small", withCrossShrink: true },
    { weight: 4, arbitrary: record({ _tag: constant("Put" as const), put }) },
    { weight: 4, arbitrary: record({ _tag: constant("Range" as const), range }) },
    { weight: 2, arbitrary: record({ _tag: constant("Delete" as const), del }) },
    { weight: 2, arbitrary: record({ _tag: constant("Txn" as const), txn: tie("txn") }) }
  ),
  txn: record({
    compare: FastCheck.array(compare, { maxLength: 2 }),
    success: FastCheck.array(tie("op"), { maxLength: 4 }),
    failure: FastCheck.array(tie("op"), { maxLength: 3 })
  })
}))

const opsOf = ({ failure, success }: Txn): ReadonlyArray<Op> =>
  [...success, ...failure].flatMap((op) => op._tag === "Txn" ? opsOf(op.txn) : [op])

const withoutIgnores = (txn: Txn): Txn => {
  const op = (op: Op): Op =>
    op._tag === "Put"
      ? { _tag: "Put", put: defined({ ...op.put, ignoreLease: undefined, ignoreValue: undefined }) }
      : op._tag === "Txn"
      ? { _tag: "Txn", txn: withoutIgnores(op.txn) }
      : op
  return { ...txn, success: txn.success.map(op), failure: txn.failure.map(op) }
}

/**
 * A put that keeps what a delete without an upper end has deleted before it, in the same transaction, is not refused: it
 * ends the process of etcd (3.4.23 and 3.5.16), which would take the comparison with it.
 */
const harmless = (txn: Txn): Txn =>
  opsOf(txn).some((op) => op._tag === "Delete" && op.del.to._tag === "End") ? withoutIgnores(txn) : txn

/** Times that do not end while a sequence runs, and one that etcd refuses. */
const ttl = oneof(
  { weight: 9, arbitrary: integer({ min: 60, max: 62 }) },
  { weight: 1, arbitrary: constant(9_000_000_001) }
)

const onLease = (tag: "Grant" | "Revoke" | "TimeToLive" | "KeepAlive") =>
  record({ _tag: constant(tag), lease: leaseNumber, ttl })

const operation: FastCheck.Arbitrary<Operation> = oneof(
  { weight: 16, arbitrary: record({ _tag: constant("Put" as const), put }) },
  { weight: 16, arbitrary: record({ _tag: constant("Range" as const), range }) },
  { weight: 4, arbitrary: record({ _tag: constant("Delete" as const), del }) },
  { weight: 20, arbitrary: record({ _tag: constant("Txn" as const), txn: txn.map(harmless) }) },
  { weight: 5, arbitrary: onLease("Grant") },
  { weight: 1, arbitrary: onLease("Revoke") },
  { weight: 2, arbitrary: onLease("TimeToLive") },
  { weight: 1, arbitrary: onLease("KeepAlive") },
  {
    weight: 2,
    arbitrary: record({ _tag: constant("Compact" as const), revision, physical: boolean() })
  },
  {
    weight: 2,
    arbitrary: record({
      _tag: constant("Watch" as const),
      key: constantFrom(...names),
      to,
      revision,
      filter: constantFrom("noPut" as const, "noDelete" as const, undefined),
      prevKv: boolean()
    })
  }
)

/** The operations of one run. */
export const operations = (count: number): FastCheck.Arbitrary<ReadonlyArray<Operation>> =>
  FastCheck.array(operation, { minLength: 1, maxLength: count, size: "max" })
