/**
 * One etcd member: its store and leases, and what it answers to each call. Synchronous; what it refuses, it throws as a
 * `Refusal`. Whoever owns it says what time it is, and hears of every commit.
 */
import type {
  DeleteRequest,
  DeleteResponse,
  Header,
  PutRequest,
  PutResponse,
  RangeRequest,
  RangeResponse,
  TxnRequest,
  TxnResponse
} from "../../Txn.js"
import { Code, Statuses } from "../etcdErrors.js"
import type {
  KeepAliveResponse,
  LeaseGrantRequest,
  LeaseGrantResponse,
  LeaseTimeToLiveRequest,
  LeaseTimeToLiveResponse,
  StatusResponse
} from "../transport.js"
import { fromBinary } from "./bytes.js"
import { checkDelete, checkPut, checkRange, checkTxn, isUnproposed } from "./checkTxn.js"
import { Lessor } from "./Lessor.js"
import { executeRange } from "./range.js"
import { refuse } from "./refusal.js"
import { deleteSize, proposalSize, putSize, rangeSize, txnSize } from "./requestSize.js"
import { type Commit, Store, type Write } from "./Store.js"
import { type Context, executeDelete, executePut, executeTxn } from "./txn.js"

export interface MemberOptions {
  /** Nanoseconds of a monotonic clock. */
  readonly now: () => bigint
  readonly onCommit: (commit: Commit) => void
  /** Called when a lease may end sooner than anything before. */
  readonly onDeadline: () => void
  /** In seconds. */
  readonly minLeaseTtl: bigint
  /** In nanoseconds. */
  readonly electionTimeout: bigint
  readonly maxTxnOps: number
  readonly maxRequestBytes: number
  readonly version: string
}

const clusterId = 0xc00_2de7cdn
const memberId = 0xe7cd_0001n

/** What etcd's gRPC server reads beyond the limit on requests. */
const grpcOverhead = 512 * 1024

const innerHeader = (revision: bigint): Header => ({ clusterId: 0n, memberId: 0n, revision, raftTerm: 0n })

export class Member {
  readonly #options: MemberOptions
  #store = new Store()
  #lessor: Lessor
  #term = 2n
  #applied = 4n
  #nextLeaseId = 0x0e7c_d000_0000_0001n

  constructor(options: MemberOptions) {
    this.#options = options
    this.#lessor = new Lessor(options.minLeaseTtl)
  }

  get store(): Store {
    return this.#store
  }

  get lessor(): Lessor {
    return this.#lessor
  }

  header(revision: bigint = this.#store.revision): Header {
    return { clusterId, memberId, revision, raftTerm: this.#term }
  }

  range(request: RangeRequest): RangeResponse {
    this.#checkReceived(rangeSize(request))
    checkRange(request)
    return executeRange(this.#store, request, this.#store.revision, (revision) => this.header(revision))
  }

  put(request: PutRequest): PutResponse {
    const size = putSize(request)
    this.#checkReceived(size)
    checkPut(request)
    this.#checkProposed(size)
    if ((request.lease ?? 0n) !== 0n && !this.#lessor.has(request.lease ?? 0n)) {
      return refuse(Statuses.leaseNotFound)
    }
    return this.#write((write) => executePut(write, request, (revision) => this.header(revision)))
  }

  del(request: DeleteRequest): DeleteResponse {
    const size = deleteSize(request)
    this.#checkReceived(size)
    checkDelete(request)
    this.#checkProposed(size)
    return this.#write((write) => executeDelete(write, request, (revision) => this.header(revision)))
  }

  txn(request: TxnRequest): TxnResponse {
    const size = txnSize(request)
    this.#checkReceived(size)
    checkTxn(request, this.#options.maxTxnOps)
    if (!isUnproposed(request)) {
      this.#checkProposed(size)
    }
    const context: Context = { store: this.#store, hasLease: (id) => this.#lessor.has(id), innerHeader }
    const { commit, value } = executeTxn(context, request)
    this.#committed(commit)
    return { ...value, header: this.header() }
  }

  compact(revision: bigint): Header {
    this.#store.compact(revision)
    this.#applied++
    return this.header()
  }

  status(): StatusResponse {
    return {
      header: this.header(),
      version: this.#options.version,
      dbSize: 20_480n,
      leader: memberId,
      raftIndex: this.#applied,
      raftTerm: this.#term
    }
  }

  leaseGrant(request: LeaseGrantRequest): LeaseGrantResponse {
    const id = request.id === 0n ? this.#generateLeaseId() : request.id
    const lease = this.#lessor.grant(id, request.ttl, this.#options.now())
    this.#applied++
    this.#options.onDeadline()
    return { header: this.header(), id, ttl: lease.ttl }
  }

  /** Deletes the keys of the lease in one revision. */
  leaseRevoke(id: bigint): Header {
    const keys = this.#lessor.remove(id)
    this.#write((write) => keys.forEach((key) => write.delete({ start: key, end: undefined })))
    return this.header()
  }

  leaseTimeToLive(request: LeaseTimeToLiveRequest): LeaseTimeToLiveResponse {
    const lease = this.#lessor.get(request.id)
    if (lease === undefined) {
      return { header: this.header(), id: request.id, ttl: -1n, grantedTtl: 0n, keys: [] }
    }
    return {
      header: this.header(),
      id: request.id,
      ttl: (lease.deadline - this.#options.now()) / 1_000_000_000n,
      grantedTtl: lease.ttl,
      keys: request.keys ? [...lease.keys].sort().map(fromBinary) : []
    }
  }

  keepAlive(id: bigint): KeepAliveResponse {
    const header = this.header()
    return { header, id, ttl: this.#lessor.renew(id, this.#options.now())?.ttl ?? 0n }
  }

  /** Ends the leases whose time is over, each in a revision of its own. */
  expireLeases(): void {
    for (const id of this.#lessor.due(this.#options.now())) {
      this.leaseRevoke(id)
    }
  }

  /** A new leader, be it another member or this one after a restart: the leases start over. */
  elect(): void {
    this.#term++
    this.#lessor.promote(this.#options.now(), this.#options.electionTimeout)
  }

  /** The data directory is gone; the cluster and member IDs are the same, because they follow from the configuration. */
  loseData(): void {
    this.#store = new Store()
    this.#lessor = new Lessor(this.#options.minLeaseTtl)
    this.#term = 2n
    this.#applied = 4n
  }

  #write<A>(body: (write: Write) => A): A {
    const { commit, value } = this.#store.write(body)
    this.#committed(commit)
    return value
  }

  #committed(commit: Commit | undefined): void {
    this.#applied++
    if (commit !== undefined) {
      this.#lessor.apply(commit.changes)
      this.#options.onCommit(commit)
    }
  }

  #generateLeaseId(): bigint {
    while (this.#lessor.has(this.#nextLeaseId)) {
      this.#nextLeaseId++
    }
    return this.#nextLeaseId++
  }

  #checkReceived(size: number): void {
    const limit = this.#options.maxRequestBytes + grpcOverhead
    if (size > limit) {
      refuse({
        code: Code.ResourceExhausted,
        details: `grpc: received message larger than max (${size} vs. ${limit})`
      })
    }
  }

  #checkProposed(size: number): void {
    if (proposalSize(size) > this.#options.maxRequestBytes) {
      refuse(Statuses.requestTooLarge)
    }
  }
}
