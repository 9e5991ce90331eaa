/** What the benchmark and the processes of the peers say to each other. Times are milliseconds unless the name says more. */

/** One measurement: a workload, by so many at once, for so long. */
export interface Slice {
  readonly workload: string
  /** How many operations are under way at any moment. */
  readonly inFlight: number
  readonly warmUpSeconds: number
  readonly seconds: number
  /** A name that no other slice has, for keys of its own. */
  readonly name: string
}

/** How long something took. */
export interface Latency {
  readonly count: number
  readonly mean: number
  readonly p50: number
  readonly p90: number
  readonly p99: number
  readonly max: number
}

/** One who held what all wanted, in milliseconds of the machine's own clock, which all processes share. */
export interface Turn {
  /** Its place in the order of all. */
  readonly token: number
  readonly begin: number
  readonly end: number
}

/** What a slice came to. */
export interface SliceResult {
  readonly operations: number
  readonly seconds: number
  /** CPU time of the peer's process, user and system. */
  readonly cpuMicros: number
  /** By name: the whole operation, or a part of it. */
  readonly latencies: Readonly<Record<string, Latency>>
  /** Whatever else a workload found out. */
  readonly figures: Readonly<Record<string, number>>
  /** For those who take turns with other processes. */
  readonly turns: ReadonlyArray<Turn>
}

/** What a process of a peer is started with. */
export interface Settings {
  /** The module of the peer. */
  readonly peer: string
  readonly endpoint: string
  /** The folder of the library's build. */
  readonly library: string
  /** For the library's layer. */
  readonly options: Readonly<Record<string, unknown>>
}

export type Request =
  | { readonly _tag: "Run"; readonly slice: Slice }
  | { readonly _tag: "End" }

export type Reply =
  | { readonly _tag: "Ready"; readonly workloads: ReadonlyArray<string> }
  | { readonly _tag: "Done"; readonly result: SliceResult }
  | { readonly _tag: "Failed"; readonly message: string }
  | { readonly _tag: "Ended" }
