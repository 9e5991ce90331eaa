/** The workloads and the peers, as far as the benchmark has to know them; what they do is in the modules of the peers. */

export interface Workload {
  readonly what: string
  /** Which latency the table shows; the JSON has all. */
  readonly latency: string
  /** How many have to want it at once for it to make sense. Default 1. */
  readonly least?: number
  /** How many may at most. Default: any number. */
  readonly most?: number
  /** Done by so many processes of ours together, if there is enough in flight. Default 1. */
  readonly processes?: number
  /** Runs only when it is asked for. */
  readonly onRequest?: true
}

export const workloads: Readonly<Record<string, Workload>> = {
  get: { what: "quorum get of one of 1,000 keys of 256 bytes", latency: "call" },
  "config-get": {
    what: "the same, typed: quorum read of a setting of 256 bytes, decoded by its schema (Go: the bytes)",
    latency: "call",
    least: 512
  },
  put: { what: "put of 256 bytes to one of 1,000 keys", latency: "call" },
  watch: {
    what: "put to a watched key; the latency is from the call to the watcher's hearing of it",
    latency: "event",
    most: 1
  },
  lock: { what: "lock and unlock, everybody a lock of its own", latency: "cycle" },
  acquire: {
    what: "the same with a scope; the latency is that of the acquire alone",
    latency: "acquire",
    onRequest: true
  },
  contended: {
    what: "lock and unlock, all the same lock; the latency is the hand-over",
    latency: "hand-over",
    least: 2
  },
  "contended-apart": {
    what: "the same, by up to four processes (Go: one, with a session for everybody)",
    latency: "hand-over",
    least: 2,
    processes: 4
  }
}

/** A peer whose process is one of ours. */
export interface NodePeer {
  readonly _tag: "Node"
  readonly what: string
  readonly module: string
  /** For the library's layer. */
  readonly options?: Readonly<Record<string, unknown>>
  /** An earlier build of the library. */
  readonly before?: true
  readonly onRequest?: true
}

/** A program in Go that runs one slice and ends. */
export interface GoPeer {
  readonly _tag: "Go"
  readonly what: string
  /** Its names of the workloads. */
  readonly modes: Readonly<Record<string, string>>
  readonly onRequest?: true
}

export type PeerKind = NodePeer | GoPeer

/** The library itself: what the others are compared with. */
export const us = "coord"

export const peers: Readonly<Record<string, PeerKind>> = {
  coord: { _tag: "Node", what: "effect-coord with its default options", module: "coord" },
  "coord-flat": {
    _tag: "Node",
    what: "the same, every operation a call of its own",
    module: "coord",
    options: { batch: false },
    onRequest: true
  },
  before: { _tag: "Node", what: "the build that --before names", module: "coord", before: true, onRequest: true },
  bare: { _tag: "Node", what: "calls of grpc-js by hand", module: "bare" },
  etcd3: { _tag: "Node", what: "the npm package etcd3; locks by transactions, on one lease", module: "etcd3" },
  "etcd3-lock": { _tag: "Node", what: "etcd3's own lock, which has a lease each", module: "etcd3Lock" },
  go: {
    _tag: "Go",
    what: "Go's clientv3 and concurrency.Mutex",
    modes: {
      get: "get",
      "config-get": "get",
      put: "put",
      watch: "watch",
      lock: "mutex-uncontended",
      acquire: "mutex-uncontended",
      contended: "mutex-contended",
      "contended-apart": "mutex-contended"
    }
  },
  "go-queue": {
    _tag: "Go",
    what: "Go, a lock queue on a watch that is in step: about what etcd allows",
    modes: { contended: "mutex-queue", "contended-apart": "mutex-queue" }
  },
  "go-try": {
    _tag: "Go",
    what: "Go, a lock of a compare, a put and a delete",
    modes: { lock: "mutex-try", acquire: "mutex-try" },
    onRequest: true
  }
}

const byDefault = (all: Readonly<Record<string, { readonly onRequest?: true }>>): ReadonlyArray<string> =>
  Object.entries(all).filter(([, { onRequest }]) => onRequest === undefined).map(([name]) => name)

export const defaultWorkloads = byDefault(workloads)
export const defaultPeers = byDefault(peers)
