/** What the test of configuration and its processes say to each other. */
export type Order = "go"

export type Told =
  | { readonly _tag: "Ready" }
  | {
    readonly _tag: "Done"
    /** The versions that its changes were told to have. */
    readonly versions: ReadonlyArray<string>
    /** What `modify` failed with, if it did. */
    readonly failures: ReadonlyArray<string>
    readonly slowestMillis: number
  }
