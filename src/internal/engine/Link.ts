/**
 * The state of the network between etcd and the connections of one name, or of all: what is down, what stalls, which
 * faults wait for a request. The engine's own link is the parent of all others.
 */
import type { Status } from "../etcdErrors.js"
import type { FaultOptions, Operation, Request, StallOptions } from "./model.js"

/** What a link needs of the connections over it. */
export interface Endpoint {
  /** Calls fail and streams end. */
  readonly cut: (calls: Status, streams: Status) => void
  /** A stall ended. */
  readonly resume: () => void
  /** The engine is gone. */
  readonly abandon: () => void
  readonly callsInFlight: () => number
  readonly watchStreams: () => number
  readonly leaseStreams: () => number
  readonly watchers: () => number
}

export type Fault =
  | { readonly _tag: "LoseRequest" }
  | { readonly _tag: "LoseResponse" }
  | { readonly _tag: "Refuse"; readonly status: Status }

interface Rule {
  readonly fault: Fault
  readonly match: (request: Request) => boolean
  left: number
}

const noCalls = (): Record<Operation, number> => ({
  range: 0,
  put: 0,
  delete: 0,
  txn: 0,
  leaseGrant: 0,
  leaseRevoke: 0,
  leaseTimeToLive: 0,
  compact: 0,
  status: 0,
  watch: 0,
  leaseKeepAlive: 0
})

const notStalled: Required<StallOptions> = { calls: false, streams: false, applied: false }

export class Link {
  readonly #parent: Link | undefined
  readonly #children = new Set<Link>()
  readonly #endpoints = new Set<Endpoint>()
  #rules: Array<Rule> = []
  #down = false
  #stall: Required<StallOptions> = notStalled
  #calls = noCalls()

  constructor(parent?: Link) {
    this.#parent = parent
    if (parent !== undefined) {
      parent.#children.add(this)
    }
  }

  /** Nobody will ask for this link again. */
  dispose(): void {
    if (this.#parent !== undefined) {
      this.#parent.#children.delete(this)
    }
  }

  get isDown(): boolean {
    return this.#down || this.#parent?.isDown === true
  }

  /** Whether requests of calls are held before etcd sees them. */
  get holdsRequests(): boolean {
    return (this.#stall.calls === true && this.#stall.applied !== true) || this.#parent?.holdsRequests === true
  }

  /** Whether answers of calls are held. */
  get holdsResponses(): boolean {
    return this.#stall.calls === true || this.#parent?.holdsResponses === true
  }

  get holdsStreamRequests(): boolean {
    return (this.#stall.streams === true && this.#stall.applied !== true) || this.#parent?.holdsStreamRequests === true
  }

  get holdsStreamResponses(): boolean {
    return this.#stall.streams === true || this.#parent?.holdsStreamResponses === true
  }

  get calls(): Readonly<Record<Operation, number>> {
    return { ...this.#calls }
  }

  /** Every connection over this link and the links below it. */
  get endpoints(): ReadonlyArray<Endpoint> {
    return [...this.#endpoints, ...[...this.#children].flatMap((child) => child.endpoints)]
  }

  attach(endpoint: Endpoint): void {
    this.#endpoints.add(endpoint)
  }

  detach(endpoint: Endpoint): void {
    this.#endpoints.delete(endpoint)
  }

  count(operation: Operation): void {
    this.#calls[operation]++
    this.#parent?.count(operation)
  }

  resetCalls(): void {
    this.#calls = noCalls()
  }

  setDown(down: boolean): void {
    this.#down = down
  }

  cut(calls: Status, streams: Status): void {
    this.endpoints.forEach((endpoint) => endpoint.cut(calls, streams))
  }

  stall({ applied = false, calls = true, streams = true }: StallOptions = {}): void {
    this.#stall = { applied, calls, streams }
  }

  resume(): void {
    this.#stall = notStalled
    this.endpoints.forEach((endpoint) => endpoint.resume())
  }

  addFault(fault: Fault, { match = () => true, times = 1 }: FaultOptions = {}): void {
    this.#rules.push({ fault, match, left: times })
  }

  clearFaults(): void {
    this.#rules = []
  }

  /** The first fault that hits the request, which is spent by that. */
  takeFault(request: Request, applicable: (fault: Fault) => boolean = () => true): Fault | undefined {
    const rule = this.#rules.find((rule) => applicable(rule.fault) && rule.match(request))
    if (rule === undefined) {
      return this.#parent?.takeFault(request, applicable)
    }
    rule.left--
    if (rule.left <= 0) {
      this.#rules = this.#rules.filter((other) => other !== rule)
    }
    return rule.fault
  }
}
