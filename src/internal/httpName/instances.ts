/** What a client knows of each instance by its own experience: how busy it keeps it, and whether it failed just now. */
import * as Option from "effect/Option"
import type { ServiceInfo } from "../../Registry.js"
import type { Candidate } from "../registry/pick.js"
import * as Pick from "../registry/pick.js"
import * as Traits from "../registry/traits.js"

export type Policy = "round_robin" | "weighted" | "least_in_flight"

export const policies: ReadonlyArray<string> = ["round_robin", "weighted", "least_in_flight"] satisfies Array<Policy>

export interface Options {
  readonly policy: Policy
  readonly zone: string | undefined
  /** The pause after a first failure, in nanoseconds; each further one doubles it, up to the longest. */
  readonly pause: bigint
  readonly maxPause: bigint
  /** From 0 to 1. */
  readonly random: () => number
}

/** How an attempt to reach an instance ended. `Unknown` tells nothing: it was interrupted, say. */
export type Outcome = "Reached" | "Failed" | "Unknown"

export interface Instance extends Candidate {
  readonly service: ServiceInfo
  /** Requests that wait for a response, and bodies that are being read. */
  readonly inFlight: number
}

interface Entry extends Instance {
  service: ServiceInfo
  weight: number
  zone: string | undefined
  draining: boolean
  inFlight: number
  /** In a row. */
  failures: number
  /** On the monotonic clock. */
  pausedUntil: bigint
  /** A request is under way that finds out whether it is back. */
  probed: boolean
}

/** One attempt: it counts as in flight until its end is told, and again while a body is read. */
export interface Attempt {
  readonly instance: Instance
  /** At most once. */
  readonly end: (outcome: Outcome, now: bigint) => void
  readonly beginReading: () => void
  readonly endReading: () => void
  readonly failed: (now: bigint) => void
}

export interface Instances {
  /** Takes the list as it is now; what is known of those that are still there at the same address is kept. */
  readonly update: (services: ReadonlyArray<ServiceInfo>) => void
  readonly all: () => ReadonlyArray<Instance>
  /** Chooses among those that were not tried yet, and begins an attempt; `undefined` when all were. */
  readonly begin: (now: bigint, tried: ReadonlySet<Instance>) => Attempt | undefined
  /** Begins an attempt with the one that is meant, if it is there. */
  readonly beginWith: (now: bigint, isMeant: (instance: Instance) => boolean) => Attempt | undefined
  /** It has registered anew: its failures are of the past. */
  readonly registered: (id: string) => void
}

const traitsOf = (service: ServiceInfo): Pick<Entry, "service" | "weight" | "zone" | "draining"> => ({
  service,
  weight: Traits.weight(service),
  zone: Option.getOrUndefined(Traits.zone(service)),
  draining: Traits.isDraining(service)
})

const isPaused = ({ failures, pausedUntil, probed }: Entry, now: bigint): boolean =>
  failures > 0 && (probed || now < pausedUntil)

const min = (a: bigint, b: bigint): bigint => a < b ? a : b

export const make = ({ maxPause, pause, policy, random, zone }: Options): Instances => {
  let last: ReadonlyArray<ServiceInfo> | undefined
  let entries: ReadonlyArray<Entry> = []
  /** Those to choose from while all goes well: the list may be long, and a request must not go through it many times. */
  let usual: ReadonlyArray<Entry> | undefined
  const failing = new Set<Entry>()

  const entryOf = (service: ServiceInfo, known: Entry | undefined): Entry => {
    const traits = traitsOf(service)
    const moved = known?.service.address !== service.address || known.service.port !== service.port
    if (known !== undefined && !moved) return Object.assign(known, traits)
    // Field by field: reading an object that was made by spreading is many times slower, and each choice reads them all.
    return {
      service,
      weight: traits.weight,
      zone: traits.zone,
      draining: traits.draining,
      credit: Pick.initialCredit(policy === "round_robin" ? 1 : traits.weight, random()),
      inFlight: 0,
      failures: 0,
      pausedUntil: 0n,
      probed: false
    }
  }

  /** Many requests that fail at once are one failure. */
  const fail = (entry: Entry, now: bigint): void => {
    if (entry.failures > 0 && now < entry.pausedUntil) return
    entry.pausedUntil = now + min(maxPause, pause * 2n ** BigInt(Math.min(entry.failures, 32)))
    entry.failures += 1
    failing.add(entry)
  }

  const forgive = (entry: Entry): void => {
    entry.failures = 0
    failing.delete(entry)
  }

  const candidates = (now: bigint, tried: ReadonlySet<Instance>): ReadonlyArray<Entry> => {
    if (tried.size === 0 && failing.size === 0) return usual ??= Pick.choose(entries, entries, { zone })
    const untried = entries.filter((entry) => !tried.has(entry))
    const fit = untried.filter((entry) => !isPaused(entry, now))
    return Pick.choose(entries, fit.length > 0 ? fit : untried, { zone })
  }

  const attempt = (entry: Entry, now: bigint): Attempt => {
    const probes = entry.failures > 0 && !isPaused(entry, now)
    if (probes) entry.probed = true
    entry.inFlight += 1
    return {
      instance: entry,
      end: (outcome, now) => {
        entry.inFlight -= 1
        if (probes) entry.probed = false
        if (outcome === "Reached" && entry.failures > 0) forgive(entry)
        if (outcome === "Failed") fail(entry, now)
      },
      beginReading: () => {
        entry.inFlight += 1
      },
      endReading: () => {
        entry.inFlight -= 1
      },
      failed: (now) => fail(entry, now)
    }
  }

  const next = (candidates: ReadonlyArray<Entry>): Entry | undefined => {
    switch (policy) {
      case "round_robin":
        return Pick.next(candidates, () => 1)
      case "weighted":
        return Pick.next(candidates)
      case "least_in_flight":
        return Pick.next(Pick.leastLoaded(candidates, ({ inFlight }) => inFlight))
    }
  }

  return {
    update: (services) => {
      if (services === last) return
      last = services
      const known = new Map(entries.map((entry) => [entry.service.id, entry]))
      entries = services.map((service) => entryOf(service, known.get(service.id)))
      usual = undefined
      const present = new Set(entries)
      failing.forEach((entry) => present.has(entry) || failing.delete(entry))
    },
    all: () => entries,
    begin: (now, tried) => {
      const chosen = next(candidates(now, tried))
      return chosen === undefined ? undefined : attempt(chosen, now)
    },
    beginWith: (now, isMeant) => {
      const meant = entries.find(isMeant)
      return meant === undefined ? undefined : attempt(meant, now)
    },
    registered: (id) => {
      const entry = entries.find(({ service }) => service.id === id)
      if (entry !== undefined) forgive(entry)
    }
  }
}
