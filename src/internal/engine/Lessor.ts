/**
 * The leases and the keys attached to them. Free of Effect: whoever calls says what time it is, in nanoseconds.
 */
import { Statuses } from "../etcdErrors.js"
import { refuse } from "./refusal.js"
import type { Version } from "./Store.js"

export interface Lease {
  readonly id: bigint
  /** The granted time to live in seconds. */
  readonly ttl: bigint
  readonly deadline: bigint
  readonly keys: ReadonlySet<string>
}

interface MutableLease extends Lease {
  deadline: bigint
  readonly keys: Set<string>
}

const second = 1_000_000_000n

/** etcd's own bound, in seconds. */
const maxTtl = 9_000_000_000n

export class Lessor {
  readonly #minTtl: bigint
  readonly #leases = new Map<bigint, MutableLease>()
  readonly #leaseOfKey = new Map<string, bigint>()
  /** No lease ends before this; renewals only move deadlines away, so it stays true without looking at every lease. */
  #earliest: bigint | undefined

  constructor(minTtl: bigint) {
    this.#minTtl = minTtl
  }

  /** When to look for leases that ended; `undefined` when there is no lease. */
  get earliest(): bigint | undefined {
    return this.#earliest
  }

  has(id: bigint): boolean {
    return this.#leases.has(id)
  }

  get(id: bigint): Lease | undefined {
    return this.#leases.get(id)
  }

  all(): ReadonlyArray<Lease> {
    return [...this.#leases.values()]
  }

  /** A time to live below the minimum, zero and negative ones included, is raised to it. */
  grant(id: bigint, ttl: bigint, now: bigint): Lease {
    if (ttl > maxTtl) {
      refuse(Statuses.leaseTtlTooLarge)
    }
    if (this.#leases.has(id)) {
      refuse(Statuses.leaseExists)
    }
    const granted = ttl < this.#minTtl ? this.#minTtl : ttl
    const lease: MutableLease = { id, ttl: granted, deadline: now + granted * second, keys: new Set() }
    this.#leases.set(id, lease)
    this.#notBefore(lease.deadline)
    return lease
  }

  /** The lease with a new deadline; `undefined` when there is none. */
  renew(id: bigint, now: bigint): Lease | undefined {
    const lease = this.#leases.get(id)
    if (lease !== undefined) {
      lease.deadline = now + lease.ttl * second
    }
    return lease
  }

  /** What a new leader does: every lease gets its whole time, and the time the election took. */
  promote(now: bigint, extend: bigint): void {
    for (const lease of this.#leases.values()) {
      lease.deadline = now + extend + lease.ttl * second
    }
  }

  /** Forgets the lease, and returns its keys in their order; the caller deletes them. */
  remove(id: bigint): ReadonlyArray<string> {
    const lease = this.#leases.get(id) ?? refuse(Statuses.leaseNotFound)
    this.#leases.delete(id)
    return [...lease.keys].sort()
  }

  /** The leases whose time is over, the earliest first. */
  due(now: bigint): ReadonlyArray<bigint> {
    if (this.#earliest === undefined || now < this.#earliest) {
      return []
    }
    const due: Array<Lease> = []
    this.#earliest = undefined
    for (const lease of this.#leases.values()) {
      if (lease.deadline <= now) {
        due.push(lease)
      } else {
        this.#notBefore(lease.deadline)
      }
    }
    return due
      .sort((left, right) =>
        left.deadline < right.deadline || (left.deadline === right.deadline && left.id < right.id) ? -1 : 1
      )
      .map(({ id }) => id)
  }

  /** Attaches and detaches keys as a commit says. */
  apply(changes: ReadonlyArray<Version>): void {
    for (const { deleted, key, lease } of changes) {
      const before = this.#leaseOfKey.get(key)
      if (before !== undefined) {
        this.#leaseOfKey.delete(key)
        this.#leases.get(before)?.keys.delete(key)
      }
      if (!deleted && lease !== 0n) {
        this.#leaseOfKey.set(key, lease)
        this.#leases.get(lease)?.keys.add(key)
      }
    }
  }

  #notBefore(deadline: bigint): void {
    if (this.#earliest === undefined || deadline < this.#earliest) {
      this.#earliest = deadline
    }
  }
}
