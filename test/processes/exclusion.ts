/** What the test of exclusion and its processes say to each other. */
import type { Report } from "./history.js"

export type Order = "linger" | "go on" | "end"

export type Told =
  | Report
  /** A section was not protected to its end. */
  | { readonly _tag: "Lost"; readonly token: string }
  /** A section does not end before its lock is lost or the order comes. */
  | { readonly _tag: "Lingers" }
  /** Nothing is held or waited for any more. */
  | { readonly _tag: "Stopped" }
