/** What the tests of losses and their processes say to each other. Times are of the clock that all processes share. */
import type { Stall } from "../support/child.js"

/** How the holder of a run goes about it. */
export type Way = "interruptible" | "uninterruptible" | "abandoned" | "scoped" | "several"

/** To the process of the holders: on the first one bodies end that go on whatever happens to their locks. */
export type HolderOrder = "come to an end" | "tell of stalls"

/** One holder with a connection of its own. */
export interface Run {
  readonly id: number
  readonly way: Way
  readonly endpoint: string
}

export type HolderReport =
  | { readonly _tag: "Held"; readonly id: number; readonly etcdKeys: ReadonlyArray<string> }
  /**
   * - `lost`: who waits for `lost` has heard of it
   * - `interrupted`: the body was interrupted
   * - `over`: the body has ended
   * - `result`: whoever called has the error
   */
  | {
    readonly _tag: "Event"
    readonly id: number
    readonly what: "lost" | "interrupted" | "over" | "result"
    readonly reason?: string
    readonly time: string
  }
  | {
    readonly _tag: "End"
    /** How late the event loop was, in milliseconds. */
    readonly delay: { readonly p99: number; readonly max: number }
    readonly stalls: ReadonlyArray<Stall>
  }

export type ObserverReport =
  | { readonly _tag: "Watching" }
  | { readonly _tag: "Gone"; readonly etcdKey: string; readonly time: string }

/** To a process that is stopped in the midst of its work. */
export type WorkerOrder = "write" | "end"

export type WorkerReport =
  | { readonly _tag: "Held"; readonly etcdKey: string; readonly fencingToken: string }
  | { readonly _tag: "Lost"; readonly reason: string }
  /** The outcome of a write under the guard of the lock, by `Config.set`, and whether anything was sent for it. */
  | { readonly _tag: "Written"; readonly wasSent: boolean; readonly error?: string; readonly reason?: string }
  /** Whether etcd carried out the same write when it was sent without asking anybody. */
  | { readonly _tag: "Sent"; readonly succeeded: boolean }
  | { readonly _tag: "Ended"; readonly error: string }
