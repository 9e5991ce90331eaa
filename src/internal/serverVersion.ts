/** What is known of released versions of etcd. */

const parse = (version: string): readonly [major: number, minor: number, patch: number] | undefined => {
  const match = /^(\d+)\.(\d+)\.(\d+)/.exec(version)
  return match === null ? undefined : [Number(match[1]), Number(match[2]), Number(match[3])]
}

/**
 * The first patch of each minor version that no longer loses watch events around a compaction without an error
 * (etcd-io/etcd#18089, #19179).
 */
const eventsKept: Record<string, number> = { "3.4": 36, "3.5": 18 }

export const losesEvents = (version: string): boolean => {
  const parsed = parse(version)
  if (parsed === undefined) return false
  const [major, minor, patch] = parsed
  const fixed = eventsKept[`${major}.${minor}`]
  return fixed === undefined ? major < 3 || (major === 3 && minor < 4) : patch < fixed
}

/** The first patch of each minor version that checks a user's roles inside nested transactions too (CVE-2026-33343). */
const nestedChecked: Record<string, number> = { "3.4": 42, "3.5": 28, "3.6": 9 }

export const checksNested = (version: string): boolean => {
  const parsed = parse(version)
  if (parsed === undefined) return false
  const [major, minor, patch] = parsed
  const fixed = nestedChecked[`${major}.${minor}`]
  return fixed === undefined ? major > 3 || (major === 3 && minor > 6) : patch >= fixed
}
