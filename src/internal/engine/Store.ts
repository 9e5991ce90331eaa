/**
 * The multi-version store: every revision of every key since the last compaction. Free of Effect, of time and of leases.
 */
import * as Order from "effect/Order"
import * as RedBlackTree from "effect/RedBlackTree"
import type { KeyValue } from "../../Txn.js"
import { Statuses } from "../etcdErrors.js"
import { fromBinary, inSpan, type Span } from "./bytes.js"
import { refuse } from "./refusal.js"

/** One version of a key, or the mark that it was deleted. */
export interface Version {
  readonly key: string
  readonly value: Uint8Array
  readonly createRevision: bigint
  readonly modRevision: bigint
  readonly version: bigint
  readonly lease: bigint
  readonly deleted: boolean
}

/** The changes of one revision, in the order in which they were made. */
export interface Commit {
  readonly revision: bigint
  readonly changes: ReadonlyArray<Version>
}

const noBytes = new Uint8Array(0)

export const toKeyValue = (version: Version): KeyValue => ({
  key: fromBinary(version.key),
  value: version.value.slice(),
  createRevision: version.createRevision,
  modRevision: version.modRevision,
  version: version.version,
  lease: version.lease
})

/** The index of the last version at or before a revision; -1 when there is none. */
const lastAt = (history: ReadonlyArray<Version>, revision: bigint): number => {
  let low = 0
  let high = history.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (history[middle]!.modRevision <= revision) {
      low = middle + 1
    } else {
      high = middle
    }
  }
  return low - 1
}

const versionAt = (history: ReadonlyArray<Version> | undefined, revision: bigint): Version | undefined => {
  if (history === undefined) {
    return undefined
  }
  const version = history[lastAt(history, revision)]
  return version === undefined || version.deleted ? undefined : version
}

export class Store {
  /** An empty store is at revision 1, as etcd's is. */
  #revision = 1n
  #compacted = -1n
  /** Each key's versions, oldest first; the tree holds the same arrays in the order of the keys. */
  readonly #histories = new Map<string, Array<Version>>()
  #ordered = RedBlackTree.empty<string, Array<Version>>(Order.string)
  /** The commits that were not compacted; every revision has exactly one, so they are found by position. */
  #log: Array<Commit> = []

  get revision(): bigint {
    return this.#revision
  }

  /** The oldest revision that can be read; -1 before the first compaction. */
  get compactRevision(): bigint {
    return this.#compacted
  }

  /** The key at a revision, which must not be compacted. */
  get(key: string, revision: bigint): Version | undefined {
    return versionAt(this.#histories.get(key), revision)
  }

  /** The keys of a span at a revision, in the order of the keys. */
  range(span: Span, revision: bigint): Array<Version> {
    if (span.end === undefined) {
      const version = this.get(span.start, revision)
      return version === undefined ? [] : [version]
    }
    const found: Array<Version> = []
    for (const [key, history] of RedBlackTree.greaterThanEqual(this.#ordered, span.start)) {
      if (!inSpan(span, key)) {
        break
      }
      const version = versionAt(history, revision)
      if (version !== undefined) {
        found.push(version)
      }
    }
    return found
  }

  /** The commits from a revision on, oldest first. */
  commitsSince(revision: bigint): ReadonlyArray<Commit> {
    const first = this.#log[0]
    if (first === undefined || revision <= first.revision) {
      return this.#log
    }
    return this.#log.slice(Number(revision - first.revision))
  }

  /** Runs a write: all its changes get one revision. When it throws, nothing has changed. */
  write<A>(body: (write: Write) => A): { readonly value: A; readonly commit: Commit | undefined } {
    const changes: Array<Version> = []
    const write = new Write(this, changes, (version) => {
      this.#append(version)
      changes.push(version)
    })
    try {
      const value = body(write)
      if (changes.length === 0) {
        return { value, commit: undefined }
      }
      const commit: Commit = { revision: this.#revision + 1n, changes }
      this.#revision = commit.revision
      this.#log.push(commit)
      return { value, commit }
    } catch (error) {
      for (const version of changes) {
        this.#undo(version.key)
      }
      throw error
    }
  }

  /** Forgets what cannot be seen at `revision` or later. */
  compact(revision: bigint): void {
    if (revision <= this.#compacted) {
      refuse(Statuses.compacted)
    }
    if (revision > this.#revision) {
      refuse(Statuses.futureRevision)
    }
    this.#compacted = revision
    this.#log = this.#log.filter((commit) => commit.revision >= revision)
    for (const [key, history] of this.#histories) {
      const last = lastAt(history, revision)
      if (last >= 0) {
        history.splice(0, history[last]!.deleted ? last + 1 : last)
      }
      if (history.length === 0) {
        this.#forget(key)
      }
    }
  }

  #append(version: Version): void {
    const history = this.#histories.get(version.key)
    if (history === undefined) {
      const created = [version]
      this.#histories.set(version.key, created)
      this.#ordered = RedBlackTree.insert(this.#ordered, version.key, created)
    } else {
      history.push(version)
    }
  }

  #undo(key: string): void {
    const history = this.#histories.get(key)
    history?.pop()
    if (history?.length === 0) {
      this.#forget(key)
    }
  }

  #forget(key: string): void {
    this.#histories.delete(key)
    this.#ordered = RedBlackTree.removeFirst(this.#ordered, key)
  }
}

/** A write in progress. It sees its own changes. */
export class Write {
  readonly #store: Store
  readonly #changes: ReadonlyArray<Version>
  readonly #add: (version: Version) => void

  constructor(store: Store, changes: ReadonlyArray<Version>, add: (version: Version) => void) {
    this.#store = store
    this.#changes = changes
    this.#add = add
  }

  /** The revision that reads inside this write see: the next one as soon as something was written. */
  get revision(): bigint {
    return this.#changes.length === 0 ? this.#store.revision : this.#store.revision + 1n
  }

  get(key: string): Version | undefined {
    return this.#store.get(key, this.revision)
  }

  range(span: Span): Array<Version> {
    return this.#store.range(span, this.revision)
  }

  put(key: string, value: Uint8Array, lease: bigint): void {
    const modRevision = this.#store.revision + 1n
    const before = this.get(key)
    this.#add({
      key,
      value,
      createRevision: before?.createRevision ?? modRevision,
      modRevision,
      version: (before?.version ?? 0n) + 1n,
      lease,
      deleted: false
    })
  }

  /** Deletes what the span holds, and returns it. */
  delete(span: Span): ReadonlyArray<Version> {
    const deleted = this.range(span)
    for (const { key } of deleted) {
      this.#add({
        key,
        value: noBytes,
        createRevision: 0n,
        modRevision: this.#store.revision + 1n,
        version: 0n,
        lease: 0n,
        deleted: true
      })
    }
    return deleted
  }
}
