/**
 * Answers range requests as etcd does: filters before the sort, the sort before the limit, and a count that knows of
 * neither.
 */
import type { Header, RangeRequest, RangeResponse, SortTarget } from "../../Txn.js"
import { Statuses } from "../etcdErrors.js"
import { compareBytes, spanOf } from "./bytes.js"
import { refuse } from "./refusal.js"
import { type Store, toKeyValue, type Version } from "./Store.js"

const compareWith = <A>(field: (version: Version) => A) => (left: Version, right: Version): number => {
  const a = field(left)
  const b = field(right)
  return a < b ? -1 : a > b ? 1 : 0
}

const comparators: Record<SortTarget, (left: Version, right: Version) => number> = {
  key: compareWith((version) => version.key),
  version: compareWith((version) => version.version),
  create: compareWith((version) => version.createRevision),
  mod: compareWith((version) => version.modRevision),
  value: (left, right) => compareBytes(left.value, right.value)
}

/** A bound of zero is no bound. */
const bounded = (bound: bigint | undefined): bound is bigint => bound !== undefined && bound !== 0n

const matches = (request: RangeRequest) => (version: Version): boolean =>
  !(bounded(request.maxModRevision) && version.modRevision > request.maxModRevision) &&
  !(bounded(request.minModRevision) && version.modRevision < request.minModRevision) &&
  !(bounded(request.maxCreateRevision) && version.createRevision > request.maxCreateRevision) &&
  !(bounded(request.minCreateRevision) && version.createRevision < request.minCreateRevision)

/** Equal elements keep the order of their keys, also when descending: etcd leaves their order open. */
const sorted = (versions: Array<Version>, sort: RangeRequest["sort"]): Array<Version> => {
  if (sort === undefined) {
    return versions
  }
  const compare = comparators[sort.by]
  return versions.sort(sort.order === "descend" ? (left, right) => compare(right, left) : compare)
}

/** `current` is the newest revision that the reader sees: the store's, or the next one inside a transaction. */
export const executeRange = (
  store: Store,
  request: RangeRequest,
  current: bigint,
  header: (revision: bigint) => Header
): RangeResponse => {
  const asked = request.revision ?? 0n
  if (asked > current) {
    return refuse(Statuses.futureRevision)
  }
  const revision = asked <= 0n ? current : asked
  if (revision < store.compactRevision) {
    return refuse(Statuses.compacted)
  }
  const all = store.range(spanOf(request), revision)
  const count = BigInt(all.length)
  if (request.countOnly === true) {
    return { header: header(current), kvs: [], more: false, count }
  }
  const found = sorted(all.filter(matches(request)), request.sort)
  const limit = request.limit ?? 0
  const more = limit > 0 && found.length > limit
  const kvs = (more ? found.slice(0, limit) : found).map((version) =>
    toKeyValue(request.keysOnly === true ? { ...version, value: new Uint8Array(0) } : version)
  )
  return { header: header(current), kvs, more, count }
}
