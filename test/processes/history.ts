/**
 * What several processes held, when, and whether that was exclusive: they tell when they enter a section and when they
 * leave it, by one clock, and this finds what overlaps.
 *
 * Exclusion of every kind is one rule: whatever a resource is shared by at the same time weighs no more than its limit
 * together. A lock has sections of weight 1 and the limit 1, a semaphore weighs permits, and a writer weighs all that readers
 * may weigh together.
 */
import type { Stall } from "../support/child.js"

/** What a process tells of itself. Times are nanoseconds, as text; a section has a number within its process. */
export type Report =
  | {
    readonly _tag: "Begin"
    readonly section: number
    readonly resource: string
    readonly token: string
    readonly weight: number
    readonly limit: number
    readonly time: string
  }
  | { readonly _tag: "End"; readonly section: number; readonly outcome: "done" | "interrupted"; readonly time: string }
  | { readonly _tag: "Stalled" } & Stall

export interface Section {
  readonly resource: string
  /** Which process, for messages. */
  readonly holder: string
  readonly token: bigint
  readonly weight: number
  readonly limit: number
  readonly begin: bigint
  readonly end: bigint
  /** `killed`: its process ended in the midst of it. */
  readonly outcome: "done" | "interrupted" | "killed"
}

/**
 * The sections of one process. One that ended in the first turn after its process did not run for a while has ended before
 * that: what it may have lost meanwhile nobody could tell it earlier, and it did nothing.
 *
 * @param died when the process was killed: what it held then it held no longer. A moment too early hides nothing, as its
 * lease lived on for much longer than a moment.
 */
export const sectionsOf = (
  holder: string,
  reports: ReadonlyArray<Report>,
  died: bigint
): ReadonlyArray<Section> => {
  const ends = new Map<number, Extract<Report, { readonly _tag: "End" }>>()
  const stalls: Array<Stall> = []
  for (const report of reports) {
    if (report._tag === "End") ends.set(report.section, report)
    else if (report._tag === "Stalled") stalls.push(report)
  }
  const ran = (time: bigint): bigint => {
    const stall = stalls.find(({ next, to }) => BigInt(to) <= time && time < BigInt(next))
    return stall === undefined ? time : BigInt(stall.from)
  }
  const notBefore = (begin: bigint, end: bigint): bigint => end > begin ? end : begin
  return reports.flatMap((report): ReadonlyArray<Section> => {
    if (report._tag !== "Begin") return []
    const { limit, resource, section, time, token, weight } = report
    const begin = BigInt(time)
    const end = ends.get(section)
    return [{
      resource,
      holder,
      token: BigInt(token),
      weight,
      limit,
      begin,
      end: notBefore(begin, end === undefined ? died : ran(BigInt(end.time))),
      outcome: end?.outcome ?? "killed"
    }]
  })
}

const show = ({ begin, end, holder, outcome, token }: Section): string =>
  `${holder} (token ${token}) ${begin / 1_000n}-${end / 1_000n} µs, ${outcome}`

const byTime = (one: bigint, other: bigint): number => one < other ? -1 : one > other ? 1 : 0

const grouped = (sections: ReadonlyArray<Section>): ReadonlyMap<string, ReadonlyArray<Section>> => {
  const groups = new Map<string, Array<Section>>()
  for (const section of [...sections].sort((one, other) => byTime(one.begin, other.begin))) {
    const group = groups.get(section.resource)
    if (group === undefined) groups.set(section.resource, [section])
    else group.push(section)
  }
  return groups
}

/** Every entry into a section that was one too many, with whom it met there. */
export const overlaps = (sections: ReadonlyArray<Section>): ReadonlyArray<string> => {
  const found: Array<string> = []
  for (const [resource, group] of grouped(sections)) {
    let inside: ReadonlyArray<Section> = []
    for (const section of group) {
      // One that ends in the very moment has ended.
      inside = inside.filter(({ end }) => end > section.begin)
      const weight = inside.reduce((sum, one) => sum + one.weight, section.weight)
      if (weight > section.limit) {
        found.push(`${resource}: ${[...inside, section].map(show).join(" meets ")}`)
      }
      inside = [...inside, section]
    }
  }
  return found
}

/** Every section of an exclusive resource that was entered with a smaller token than an earlier one. */
export const disorder = (sections: ReadonlyArray<Section>): ReadonlyArray<string> => {
  const found: Array<string> = []
  for (const [resource, group] of grouped(sections.filter(({ limit, weight }) => weight === limit))) {
    group.forEach((section, index) => {
      const before = group[index - 1]
      if (before !== undefined && section.token <= before.token) {
        found.push(`${resource}: ${show(before)} is followed by ${show(section)}`)
      }
    })
  }
  return found
}

/** What is wrong with a history, in a few lines; empty when nothing is. */
export const faults = (sections: ReadonlyArray<Section>): string => {
  const found = [...overlaps(sections), ...disorder(sections)]
  return found.length === 0 ? "" : [`${found.length} faults`, ...found.slice(0, 5)].join("\n")
}
