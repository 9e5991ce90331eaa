/** What the test of many registrations and watchers and its processes say to each other. */
import type { Usage } from "../support/memoryUsage.js"

/** In which way they watch: `watch` of the service, `Registry.watch`, `Registry.instances`, and what is there for thousands. */
export type Form = "ofService" | "watch" | "instances" | "reader"

export type Order = "reached" | "end" | { readonly more: Form; readonly count: number }

export type Report =
  /** What is in use before, and with all of them. */
  | { readonly _tag: "Ready"; readonly count: number; readonly idle: Usage; readonly busy: Usage }
  /** When the change reached all watchers of its service, in milliseconds of the wall clock, earliest first. */
  | { readonly _tag: "Reached"; readonly at: ReadonlyArray<number> }
  /** What others cost, that came and went in between. */
  | { readonly _tag: "More"; readonly idle: Usage; readonly busy: Usage }
  | { readonly _tag: "Ended"; readonly after: Usage }
