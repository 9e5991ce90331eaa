/**
 * Numbers in etcd: one key for each that is taken, and one transaction that takes the lowest of some that were free.
 *
 * The transaction tries its candidates in order, as an else-chain of nested transactions; whoever comes at the same moment
 * gets the next one by the same call, and only when all candidates are gone there is another round, with the list that the
 * last "else" brings along.
 *
 * Next to the number's key a marker is put, of this attempt alone, with the number as its value. An attempt whose answer
 * was lost is sent once more: if the marker is there, it tells what the first sending took. And an attempt that was given up
 * is barred by the same marker: while it exists, no copy that arrives late does anything.
 */
import type { KeyValue, Op, TxnRequest, TxnResponse } from "../../Txn.js"
import * as Txn from "../../Txn.js"
import { toBinary, toText } from "../bytes.js"
import { leaseHex, randomSuffix } from "../ids.js"
import * as KeyRange from "../keyRange.js"

/**
 * How many numbers one transaction tries. Each takes three of the 128 operations that etcd allows, and two levels of nested
 * messages, of which decoders take 100.
 */
const maxCandidates = 16

/** A number that is taken, with its key. */
export interface Numbered {
  readonly id: number
  readonly kv: KeyValue
}

/** The numbers below a folder, in their order. Other keys that stand there are nobody's. */
export const numbered = (folder: string, kvs: ReadonlyArray<KeyValue>): ReadonlyArray<Numbered> => {
  const start = toBinary(folder).length
  const found: Array<Numbered> = []
  for (const kv of kvs) {
    const name = toBinary(kv.key).slice(start)
    const id = /^[1-9]\d{0,15}$/.test(name) ? Number(name) : NaN
    if (Number.isSafeInteger(id)) found.push({ id, kv })
  }
  return found.sort((one, other) => one.id - other.id)
}

/** Reads all that stands in the folder. */
export const listing = (folder: string) => ({ ...KeyRange.prefix(folder), keysOnly: true })

/** The lowest numbers that are free, as many as one transaction tries, and how many are in use. */
export const survey = (
  folder: string,
  kvs: ReadonlyArray<KeyValue>,
  maxId: number
): { readonly free: ReadonlyArray<number>; readonly inUse: number } => {
  const taken = new Set<number>()
  for (const { id } of numbered(folder, kvs)) if (id <= maxId) taken.add(id)
  const free: Array<number> = []
  for (let id = 1; id <= maxId && free.length < maxCandidates; id++) if (!taken.has(id)) free.push(id)
  return { free, inUse: taken.size }
}

/** One attempt to take one of the candidates. */
export interface Attempt {
  readonly folder: string
  readonly lease: bigint
  readonly candidates: ReadonlyArray<number>
  readonly marker: string
}

export const attempt = (folder: string, lease: bigint, candidates: ReadonlyArray<number>): Attempt => ({
  folder,
  lease,
  candidates,
  marker: `/coord/attempts/${leaseHex(lease)}-${randomSuffix()}`
})

export const keyOf = ({ folder }: Attempt, id: number): string => `${folder}${id}`

const putNumber = (attempt: Attempt, id: number): Op =>
  Txn.put({ key: keyOf(attempt, id), value: String(id), lease: attempt.lease })

const putMarker = ({ lease, marker }: Attempt, value: string): Op => Txn.put({ key: marker, value, lease })

const chain = (attempt: Attempt): Op =>
  attempt.candidates.reduceRight<Op>(
    (otherwise, id) =>
      Txn.txn({
        compare: [Txn.absent(keyOf(attempt, id)), Txn.absent(attempt.marker)],
        success: [putNumber(attempt, id), putMarker(attempt, String(id))],
        failure: [otherwise]
      }),
    Txn.range(listing(attempt.folder))
  )

/**
 * What the attempt sends; harmless to repeat.
 *
 * Servers before etcd 3.4.42, 3.5.28 and 3.6.9 do not look for a user's permissions inside of nested transactions
 * (CVE-2026-33343). So whatever the chain may write or read is named once more where all versions look: in a branch that
 * is never taken.
 */
export const request = (attempt: Attempt): TxnRequest => ({
  compare: [Txn.createRevision(attempt.marker, "<", 0n)],
  success: [
    Txn.range(listing(attempt.folder)),
    ...attempt.candidates.map((id) => putNumber(attempt, id)),
    putMarker(attempt, "")
  ],
  failure: [Txn.range({ key: attempt.marker }), chain(attempt)]
})

/** A number that the attempt has taken. */
export interface Taken {
  readonly id: number
  readonly createRevision: bigint
}

export type Outcome =
  | { readonly _tag: "Taken"; readonly taken: Taken }
  /** Others were faster: what stands in the folder now. */
  | { readonly _tag: "TooLate"; readonly kvs: ReadonlyArray<KeyValue> }

export const outcomeOf = (attempt: Attempt, { header, responses }: TxnResponse): Outcome => {
  const [marker, first] = responses
  const mark = marker?._tag === "Range" ? marker.response.kvs[0] : undefined
  const earlier = mark === undefined ? undefined : attempt.candidates.find((id) => String(id) === toText(mark.value))
  if (mark !== undefined && earlier !== undefined) {
    return { _tag: "Taken", taken: { id: earlier, createRevision: mark.createRevision } }
  }
  let answer = first
  for (const id of attempt.candidates) {
    if (answer?._tag !== "Txn") break
    if (answer.response.succeeded) return { _tag: "Taken", taken: { id, createRevision: header.revision } }
    answer = answer.response.responses[0]
  }
  if (answer?._tag !== "Range") throw new Error(`etcd answered the attempt to take a number with ${answer?._tag}`)
  return { _tag: "TooLate", kvs: answer.response.kvs }
}

/**
 * Gives back what the attempt took; harmless to repeat.
 *
 * @param taken unless it is not known
 * @param isDoubtful whether a copy of the attempt may still arrive: then its marker stays, and bars it
 */
export const removal = (attempt: Attempt, taken: Taken | undefined, isDoubtful: boolean): TxnRequest => {
  const marking = isDoubtful ? putMarker(attempt, "") : Txn.del({ key: attempt.marker })
  if (taken !== undefined) {
    const key = keyOf(attempt, taken.id)
    return {
      compare: [Txn.createRevision(key, "=", taken.createRevision)],
      success: [Txn.del({ key }), marking],
      failure: [marking]
    }
  }
  // Conditions of nested transactions see what was there before: the marker still says which one it was.
  const removing = (id: number): Op => {
    const key = keyOf(attempt, id)
    return Txn.txn({
      compare: [Txn.value(attempt.marker, "=", String(id)), Txn.lease(key, "=", attempt.lease)],
      success: [Txn.del({ key })]
    })
  }
  return { success: [marking, ...attempt.candidates.map(removing)] }
}
