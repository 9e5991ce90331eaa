/** What the test of abandonment and its processes say to each other. */
export type Order = "end" | "exit"

export type Told =
  | { readonly _tag: "Started" }
  /** Nothing is held or waited for any more. */
  | { readonly _tag: "Stopped"; readonly served: number; readonly abandoned: number }
