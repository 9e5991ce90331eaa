/** What the test of many locks and its process say to each other. */

export type Order = "release"

/** In MiB: what is in use without garbage, before the locks and with them; and what the process occupies. */
export interface Usage {
  readonly used: number
  readonly resident: number
}

export type Report =
  | { readonly _tag: "Held"; readonly count: number; readonly idle: Usage; readonly held: Usage }
  | { readonly _tag: "Released"; readonly after: Usage }
