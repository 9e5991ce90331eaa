/**
 * etcd's data model as slowly and plainly as it can be written: a whole copy of all keys for every revision. What the
 * engine's store answers is held against it.
 */
import type {
  Compare,
  DeleteRequest,
  KeyRange,
  KeyValue,
  Op,
  PutRequest,
  RangeRequest,
  TxnRequest
} from "../../src/Txn.js"

/** Keys are of one-byte characters here, so that strings order as bytes do. */
type State = ReadonlyMap<string, KeyValue>

const bytes = (value: string | Uint8Array): Uint8Array =>
  typeof value === "string" ? new Uint8Array([...value].map((char) => char.charCodeAt(0))) : value

const name = (value: string | Uint8Array): string => typeof value === "string" ? value : String.fromCharCode(...value)

const inRange = ({ key, rangeEnd }: KeyRange) => (candidate: string): boolean => {
  const end = rangeEnd === undefined ? "" : name(rangeEnd)
  if (end === "") {
    return candidate === name(key)
  }
  return candidate >= name(key) && (end === "\0" || candidate < end)
}

const select = (state: State, range: KeyRange): ReadonlyArray<KeyValue> =>
  [...state.keys()].sort().filter(inRange(range)).flatMap((key) => state.get(key) ?? [])

const order = (left: bigint | string, right: bigint | string): number => left < right ? -1 : left > right ? 1 : 0

const field = (by: "key" | "version" | "create" | "mod" | "value" | "lease") => (kv: KeyValue): bigint | string =>
  by === "key"
    ? name(kv.key)
    : by === "value"
    ? name(kv.value)
    : by === "create"
    ? kv.createRevision
    : by === "mod"
    ? kv.modRevision
    : kv[by]

const nothing: KeyValue = {
  key: bytes(""),
  value: bytes(""),
  createRevision: 0n,
  modRevision: 0n,
  version: 0n,
  lease: 0n
}

const holds = (state: State) => (compare: Compare): boolean => {
  const found = select(state, compare)
  if (found.length === 0 && compare.target === "value") {
    return false
  }
  const operand = typeof compare.operand === "bigint" ? compare.operand : name(compare.operand)
  return (found.length === 0 ? [nothing] : found).every((kv) => {
    const result = order(field(compare.target)(kv), operand)
    return { "=": result === 0, "!=": result !== 0, "<": result < 0, ">": result > 0 }[compare.result]
  })
}

export class NaiveStore {
  revision = 1n
  readonly states = new Map<bigint, State>([[1n, new Map()]])

  /** What a range answers, apart from its header; the revision must be readable. */
  range(request: RangeRequest, state = this.at(request.revision ?? 0n)) {
    const { limit = 0, maxCreateRevision, maxModRevision, minCreateRevision, minModRevision, sort } = request
    const all = select(state, request)
    const count = BigInt(all.length)
    if (request.countOnly === true) {
      return { kvs: [], more: false, count }
    }
    const within = (value: bigint, low = 0n, high = 0n) => value >= low && (high === 0n || value <= high)
    let kvs = all.filter((kv) =>
      within(kv.modRevision, minModRevision, maxModRevision) &&
      within(kv.createRevision, minCreateRevision, maxCreateRevision)
    )
    if (sort !== undefined) {
      const value = field(sort.by)
      const sign = sort.order === "ascend" ? 1 : -1
      kvs = [...kvs].sort((left, right) => sign * order(value(left), value(right)))
    }
    const more = limit > 0 && kvs.length > limit
    kvs = more ? kvs.slice(0, limit) : kvs
    return { kvs: request.keysOnly === true ? kvs.map((kv) => ({ ...kv, value: bytes("") })) : kvs, more, count }
  }

  put(request: PutRequest) {
    return this.#write((state, revision) => this.#put(state, revision, request))
  }

  del(request: DeleteRequest) {
    return this.#write((state) => this.#del(state, request))
  }

  txn(request: TxnRequest) {
    const before = this.at(0n)
    return this.#write((state, revision) => this.#txn(before, state, revision, request))
  }

  at(revision: bigint): State {
    return this.states.get(revision <= 0n ? this.revision : revision) ?? new Map()
  }

  #write<A>(body: (state: Map<string, KeyValue>, revision: bigint) => { answer: A; wrote: boolean }): A {
    const state = new Map(this.at(0n))
    const { answer, wrote } = body(state, this.revision + 1n)
    if (wrote) {
      this.revision++
      this.states.set(this.revision, state)
    }
    return answer
  }

  #put(state: Map<string, KeyValue>, revision: bigint, { key, lease = 0n, prevKv, value }: PutRequest) {
    const before = state.get(name(key))
    state.set(name(key), {
      key: bytes(key),
      value: bytes(value),
      createRevision: before?.createRevision ?? revision,
      modRevision: revision,
      version: (before?.version ?? 0n) + 1n,
      lease
    })
    return { answer: { prevKv: prevKv === true ? before : undefined } as object, wrote: true }
  }

  #del(state: Map<string, KeyValue>, request: DeleteRequest) {
    const found = select(state, request)
    found.forEach(({ key }) => state.delete(name(key)))
    return {
      answer: { deleted: BigInt(found.length), prevKvs: request.prevKv === true ? found : [] } as object,
      wrote: found.length > 0
    }
  }

  #txn(before: State, state: Map<string, KeyValue>, revision: bigint, request: TxnRequest): {
    answer: object
    wrote: boolean
  } {
    const succeeded = (request.compare ?? []).every(holds(before))
    let wrote = false
    const one = (op: Op): object => {
      if (op._tag === "Range") {
        return this.range(op.request, (op.request.revision ?? 0n) > 0n ? this.at(op.request.revision ?? 0n) : state)
      }
      const result = op._tag === "Put"
        ? this.#put(state, revision, op.request)
        : op._tag === "Delete"
        ? this.#del(state, op.request)
        : this.#txn(before, state, revision, op.request)
      wrote = wrote || result.wrote
      return result.answer
    }
    const responses = ((succeeded ? request.success : request.failure) ?? []).map(one)
    return { answer: { succeeded, responses }, wrote }
  }
}
