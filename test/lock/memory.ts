/** What the test of many locks and its process say to each other. */
import type { Usage } from "../support/memoryUsage.js"

/** Each is carried out and then told of. */
export type Order = "warm up" | "acquire" | "release" | "measure"

export type Report =
  | { readonly _tag: "Done" }
  | { readonly _tag: "Measured"; readonly usage: Usage }
