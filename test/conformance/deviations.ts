/**
 * Where a version of etcd differs from what the suite states, which is what etcd 3.5 does. The tests concerned state both,
 * so that a deviation that is gone shows as well.
 */
interface DeviationSpec {
  readonly line: "3.4" | "3.5"
  /** The first patch release of the line without it. */
  readonly fixedIn?: number | undefined
  readonly reason: string
}

export const deviations = {
  /** A watch from the compacted revision on does not hear of the deletes of that revision. */
  lostDeleteAtCompaction: {
    line: "3.4",
    fixedIn: 36,
    reason: "compaction also removes the tombstones of the very revision it keeps (fixed in 3.4.36)"
  }
} as const satisfies Record<string, DeviationSpec>

export type Deviation = keyof typeof deviations

/** Those of a version such as `3.4.23`. */
export const deviationsOf = (version: string): ReadonlySet<Deviation> => {
  const [major, minor, patch] = version.split(".")
  return new Set(
    (Object.entries(deviations) as Array<[Deviation, DeviationSpec]>).flatMap(([name, { fixedIn, line }]) =>
      line === `${major}.${minor}` && Number(patch) < (fixedIn ?? Infinity) ? [name] : []
    )
  )
}
