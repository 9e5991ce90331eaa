/**
 * What requests read and write, to tell whether two of them are independent of each other.
 *
 * Everything in one transaction gets the same revision, and etcd evaluates the conditions of nested transactions before
 * it applies any of them. So only requests may share a transaction none of which writes what another one reads or writes:
 * two that enter the queue of one lock, for example, must not.
 *
 * With one exception: what reads keys, and not as a condition, may stand behind what only removes them. It sees them gone,
 * as it would by itself at that revision. So whoever leaves a queue and whoever enters it share a call.
 */
import type { KeyRange, Op, TxnRequest } from "../../Txn.js"
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
  readonly conditions: ReadonlyArray<Interval>
  readonly reads: ReadonlyArray<Interval>
  readonly writes: ReadonlyArray<Interval>
  /** What is deleted by something that reads nothing, except as a condition. */
  readonly removals: ReadonlyArray<Interval>
}

const none: ReadonlyArray<Interval> = []

export const nothing: Footprint = { conditions: none, reads: none, writes: none, removals: none }

export const ofPut = (range: KeyRange): Footprint => ({ ...nothing, writes: [interval(range)] })

export const ofDelete = (range: KeyRange): Footprint => ({ ...nothing, removals: [interval(range)] })

/** What a transaction may do, on either branch. */
class Traces {
  readonly conditions: Array<Interval> = []
  readonly reads: Array<Interval> = []
  readonly puts: Array<Interval> = []
  readonly deletes: Array<Interval> = []

  add({ compare, failure, success }: TxnRequest): void {
    if (compare !== undefined) { for (const condition of compare) this.conditions.push(interval(condition)) }
    this.#addOps(success)
    this.#addOps(failure)
  }

  #addOps(ops: ReadonlyArray<Op> | undefined): void {
    if (ops === undefined) return
    for (const op of ops) {
      switch (op._tag) {
        case "Range":
          this.reads.push(interval(op.request))
          break
        case "Put":
          this.puts.push(interval(op.request))
          break
        case "Delete":
          this.deletes.push(interval(op.request))
          break
        case "Txn":
          this.add(op.request)
      }
    }
  }
}

export const ofTxn = (request: TxnRequest): Footprint => {
  const traces = new Traces()
  traces.add(request)
  const { conditions, deletes, puts, reads } = traces
  return reads.length === 0
    ? { conditions, reads, writes: puts, removals: deletes }
    : { conditions, reads, writes: deletes.length === 0 ? puts : [...puts, ...deletes], removals: none }
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
  readonly #conditions = new KeySet()
  readonly #reads = new KeySet()
  readonly #writes = new KeySet()
  readonly #removals = new KeySet()

  add({ conditions, reads, removals, writes }: Footprint): void {
    this.#conditions.add(conditions)
    this.#reads.add(reads)
    this.#writes.add(writes)
    this.#removals.add(removals)
  }

  /** Whether the other one writes what one of these writes: then their order matters to whoever sent them. */
  writeSame({ removals, writes }: Footprint): boolean {
    return this.#change(writes) || this.#change(removals)
  }

  /** Whether the other one could share a transaction with these, removals first. */
  areIndependentOf(other: Footprint): boolean {
    const { conditions, reads, removals, writes } = other
    return !this.writeSame(other) && !this.#change(conditions) && !this.#writes.overlapsAny(reads) &&
      !this.#conditions.overlapsAny(writes) && !this.#conditions.overlapsAny(removals) &&
      !this.#reads.overlapsAny(writes)
  }

  #change(intervals: ReadonlyArray<Interval>): boolean {
    return this.#writes.overlapsAny(intervals) || this.#removals.overlapsAny(intervals)
  }
}
