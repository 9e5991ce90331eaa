/**
 * The server's end of one watch stream. Synchronous: requests and commits go in, responses come out through `emit` in
 * the order in which the client is to see them.
 */
import type { WatchEvent } from "../../EtcdClient.js"
import { byteLength } from "../bytes.js"
import type { WatchCreate, WatchRequest, WatchResponse } from "../transport.js"
import { inSpan, type Span, spanOf } from "./bytes.js"
import type { Member } from "./Member.js"
import { type Commit, toKeyValue, type Version } from "./Store.js"

interface Watcher {
  readonly id: bigint
  readonly span: Span
  readonly request: WatchCreate
  /** The first revision that the watcher has not seen. */
  next: bigint
  /** Past revisions are being sent; commits wait until they are. */
  synced: boolean
  compacted: boolean
}

export interface WatchServerOptions {
  readonly emit: (response: WatchResponse) => void
  /** Runs later, in order: past revisions are read after the creation was answered. */
  readonly later: (job: () => void) => void
  /** At most this many events in a response; the others follow as fragments. */
  readonly fragmentEvents: number | undefined
}

/** etcd sends at most this many past revisions in one response. */
const maxRevisions = 1000

const invalidId = -1n

export class WatchServer {
  readonly #member: Member
  readonly #options: WatchServerOptions
  readonly #watchers = new Map<bigint, Watcher>()
  #nextId = 0n

  constructor(member: Member, options: WatchServerOptions) {
    this.#member = member
    this.#options = options
  }

  /** The watchers that can still send events. */
  get size(): number {
    return [...this.#watchers.values()].filter(({ compacted }) => !compacted).length
  }

  handle(request: WatchRequest): void {
    switch (request._tag) {
      case "Create":
        return this.#create(request)
      case "Cancel":
        return this.#cancel(request.watchId)
      case "Progress":
        return this.#progress()
    }
  }

  /** Answers a creation with a refusal: no ID, created and cancelled at once. */
  refuse(reason: string): void {
    this.#emit({ watchId: invalidId, created: true, canceled: true, cancelReason: reason })
  }

  commit(commit: Commit): void {
    for (const watcher of this.#watchers.values()) {
      if (watcher.synced && commit.revision >= watcher.next) {
        this.#sendEvents(watcher, this.#matching(watcher, [commit]), commit.revision)
        watcher.next = commit.revision + 1n
      }
    }
  }

  #create(request: WatchCreate): void {
    const span = byteLength(request.key) === 0
      // "\0" is the smallest key
      ? { start: "\0", end: spanOf(request).end }
      : spanOf(request)
    if (span.end !== undefined && span.end !== "" && span.start >= span.end) {
      return this.refuse("mvcc: watcher range is empty")
    }
    if (request.startRevision < 0n) {
      return this.refuse("etcdserver: mvcc: required revision has been compacted")
    }
    const current = this.#member.store.revision
    const synced = request.startRevision === 0n || request.startRevision > current
    const watcher: Watcher = {
      id: this.#nextId++,
      span,
      request,
      next: request.startRevision === 0n ? current + 1n : request.startRevision,
      synced,
      compacted: false
    }
    this.#watchers.set(watcher.id, watcher)
    this.#emit({ watchId: watcher.id, created: true })
    if (!synced) {
      this.#options.later(() => this.#sync(watcher))
    }
  }

  #cancel(id: bigint): void {
    if (this.#watchers.delete(id)) {
      this.#emit({ watchId: id, canceled: true })
    }
  }

  /**
   * One answer for the whole stream, and only if every watcher has seen everything: a stream without watchers, with one
   * that waits for a future revision, or with one that ended by compaction and was not cancelled, gets none.
   */
  #progress(): void {
    const watchers = [...this.#watchers.values()]
    const revision = this.#member.store.revision
    if (
      watchers.length > 0 &&
      watchers.every(({ request, synced }) => synced && request.startRevision <= revision)
    ) {
      this.#emit({ watchId: invalidId })
    }
  }

  /** Sends past revisions until the watcher is in step, or ends it where they are gone. */
  #sync(watcher: Watcher): void {
    if (this.#watchers.get(watcher.id) !== watcher || watcher.synced) {
      return
    }
    const { compactRevision, revision } = this.#member.store
    if (watcher.next < compactRevision) {
      // it stays known until the client cancels it, but it never sends again
      watcher.compacted = true
      return this.#emit({ watchId: watcher.id, canceled: true, compactRevision }, 0n)
    }
    const matching = this.#matching(watcher, this.#member.store.commitsSince(watcher.next))
    const batch = matching.slice(0, maxRevisions)
    this.#sendEvents(watcher, batch, revision)
    const more = matching[maxRevisions]
    if (more === undefined) {
      watcher.synced = true
      watcher.next = revision + 1n
    } else {
      watcher.next = more.revision
      this.#options.later(() => this.#sync(watcher))
    }
  }

  #matching(watcher: Watcher, commits: ReadonlyArray<Commit>): ReadonlyArray<Commit> {
    return commits.flatMap(({ changes, revision }) => {
      const matching = changes.filter(({ key }) => inSpan(watcher.span, key))
      return matching.length === 0 ? [] : [{ revision, changes: matching }]
    })
  }

  /** Sends nothing when the filters leave nothing. */
  #sendEvents(watcher: Watcher, commits: ReadonlyArray<Commit>, revision: bigint): void {
    const { noDelete, noPut } = watcher.request
    const events = commits
      .flatMap(({ changes }) => changes)
      .filter(({ deleted }) => deleted ? !noDelete : !noPut)
      .map((version) => this.#event(watcher, version))
    const size = this.#options.fragmentEvents ?? events.length
    for (let index = 0; index < events.length; index += size) {
      this.#emit({
        watchId: watcher.id,
        events: events.slice(index, index + size),
        fragment: index + size < events.length
      }, revision)
    }
  }

  /** The value before is read from the store, so it is missing when that revision was compacted. */
  #event(watcher: Watcher, version: Version): WatchEvent {
    const created = !version.deleted && version.createRevision === version.modRevision
    const before = version.modRevision - 1n
    const previous = !watcher.request.prevKv || created || before < this.#member.store.compactRevision
      ? undefined
      : this.#member.store.get(version.key, before)
    return {
      _tag: version.deleted ? "Delete" : "Put",
      kv: toKeyValue(version),
      prevKv: previous === undefined ? undefined : toKeyValue(previous)
    }
  }

  #emit(response: Partial<WatchResponse>, revision?: bigint): void {
    this.#options.emit({
      header: this.#member.header(revision),
      watchId: invalidId,
      created: false,
      canceled: false,
      compactRevision: 0n,
      cancelReason: "",
      fragment: false,
      events: [],
      ...response
    })
  }
}
