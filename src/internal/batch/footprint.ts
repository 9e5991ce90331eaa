/**
 * What requests read and write, to tell whether two of them are independent of each other.
 *
 * Everything in one transaction gets the same revision, and etcd evaluates the conditions of nested transactions before
 * it applies any of them. So only requests may share a transaction none of which writes what another one reads or writes:
 * two that enter the queue of one lock, for example, must not.
 */
import type { Compare, KeyRange, Op, TxnRequest } from "../../Txn.js"
import { toBinary } from "../bytes.js"

/** Keys from `from` up to, but not including, `to`; without `to`, the one key. In binary strings, as etcd orders keys. */
interface Interval {
  readonly from: string
  readonly to: string | undefined
}

/** Above every key: keys are binary strings, so no character of theirs is as large. */
const unbounded = "\uffff"

const interval = ({ key, rangeEnd }: KeyRange): Interval => {
  const from = toBinary(key)
  if (rangeEnd === undefined || rangeEnd.length === 0) return { from, to: undefined }
  const to = toBinary(rangeEnd)
  return { from, to: to === "\0" ? unbounded : to }
}

export interface Footprint {
  readonly reads: ReadonlyArray<Interval>
  readonly writes: ReadonlyArray<Interval>
}

export const nothing: Footprint = { reads: [], writes: [] }

export const ofWrite = (range: KeyRange): Footprint => ({ reads: [], writes: [interval(range)] })

const addOps = (ops: ReadonlyArray<Op> | undefined, reads: Array<Interval>, writes: Array<Interval>): void => {
  if (ops === undefined) return
  for (const op of ops) {
    switch (op._tag) {
      case "Range":
        reads.push(interval(op.request))
        break
      case "Put":
      case "Delete":
        writes.push(interval(op.request))
        break
      case "Txn":
        addTxn(op.request, reads, writes)
    }
  }
}

const addCompares = (compares: ReadonlyArray<Compare> | undefined, reads: Array<Interval>): void => {
  if (compares === undefined) return
  for (const compare of compares) reads.push(interval(compare))
}

const addTxn = (request: TxnRequest, reads: Array<Interval>, writes: Array<Interval>): void => {
  addCompares(request.compare, reads)
  addOps(request.success, reads, writes)
  addOps(request.failure, reads, writes)
}

export const ofTxn = (request: TxnRequest): Footprint => {
  const reads: Array<Interval> = []
  const writes: Array<Interval> = []
  addTxn(request, reads, writes)
  return { reads, writes }
}

/** The union of many intervals. */
class KeySet {
  readonly #points = new Set<string>()
  readonly #ranges: Array<{ readonly from: string; readonly to: string }> = []

  add(intervals: ReadonlyArray<Interval>): void {
    for (const { from, to } of intervals) {
      if (to === undefined) this.#points.add(from)
      else this.#ranges.push({ from, to })
    }
  }

  overlaps({ from, to }: Interval): boolean {
    if (to === undefined) {
      if (this.#points.has(from)) return true
      for (const range of this.#ranges) {
        if (range.from <= from && from < range.to) return true
      }
      return false
    }
    for (const point of this.#points) {
      if (from <= point && point < to) return true
    }
    for (const range of this.#ranges) {
      if (range.from < to && from < range.to) return true
    }
    return false
  }

  overlapsAny(intervals: ReadonlyArray<Interval>): boolean {
    for (const one of intervals) {
      if (this.overlaps(one)) return true
    }
    return false
  }
}

/** The footprints of several requests together. */
export class Footprints {
  readonly #reads = new KeySet()
  readonly #writes = new KeySet()

  add({ reads, writes }: Footprint): void {
    this.#reads.add(reads)
    this.#writes.add(writes)
  }

  /** Whether the other one writes what one of these writes: then their order matters to whoever sent them. */
  writeSame({ writes }: Footprint): boolean {
    return this.#writes.overlapsAny(writes)
  }

  /** Whether the other one could share a transaction with these. */
  areIndependentOf({ reads, writes }: Footprint): boolean {
    return !this.#writes.overlapsAny(writes) && !this.#writes.overlapsAny(reads) && !this.#reads.overlapsAny(writes)
  }
}
