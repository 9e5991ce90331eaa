/**
 * Which instance is next: the choice alone, for all who send requests to the instances of a service. Free of Effect and
 * of any transport.
 */

/** What the choice knows of an instance. */
export interface Candidate {
  /** Its share compared with the others; one without a share (0, or no number) gets requests only when no other can. */
  readonly weight: number
  readonly zone: string | undefined
  /** About to leave: it gets requests only when no other can. */
  readonly draining: boolean
  /** What {@link next} owes it; whoever makes a candidate sets it by {@link firstCredit}, and then leaves it alone. */
  credit: number
}

const hasShare = (weight: number): boolean => weight > 0 && weight < Infinity

/** Those without a share are never chosen together with those who have one. */
const shareOf = ({ weight }: Candidate): number => hasShare(weight) ? weight : 1

/**
 * A random place in the turn: clients that start at the same moment do not all begin with the same instance. `random` is
 * from 0 to 1.
 */
export const firstCredit = (weight: number, random: number): number => hasShare(weight) ? weight * random : random

/**
 * Those to choose from: of the instances that need not be avoided those that stay, of these the ones in the own zone; the
 * others only when there is none better. Empty only if all are.
 */
export const preferred = <A extends Candidate>(
  all: ReadonlyArray<A>,
  zone: string | undefined,
  avoid: (candidate: A) => boolean = () => false
): ReadonlyArray<A> => {
  let least = Infinity
  let chosen: Array<A> = []
  for (const candidate of all) {
    const leaves = candidate.draining || !hasShare(candidate.weight)
    const elsewhere = zone !== undefined && candidate.zone !== zone
    const rank = (avoid(candidate) ? 4 : 0) + (leaves ? 2 : 0) + (elsewhere ? 1 : 0)
    if (rank > least) continue
    if (rank < least) chosen = []
    least = rank
    chosen.push(candidate)
  }
  return chosen
}

/** Those with the least load for their share, the request that is about to be sent included. */
export const leastLoaded = <A extends Candidate>(
  candidates: ReadonlyArray<A>,
  inFlight: (candidate: A) => number
): ReadonlyArray<A> => {
  const load = (candidate: A): number => (inFlight(candidate) + 1) / shareOf(candidate)
  const least = Math.min(...candidates.map(load))
  return candidates.filter((candidate) => load(candidate) === least)
}

/**
 * Smooth weighted round robin, as in nginx: each candidate earns its share, the one that is owed most is next and pays
 * what all have earned. Weights of 5, 1, 1 become A A B A C A A, not A A A A A B C.
 */
export const next = <A extends Candidate>(
  candidates: ReadonlyArray<A>,
  share: (candidate: A) => number = shareOf
): A | undefined => {
  let total = 0
  let best: A | undefined
  for (const candidate of candidates) {
    const earned = share(candidate)
    total += earned
    candidate.credit += earned
    if (best === undefined || candidate.credit > best.credit) best = candidate
  }
  if (best !== undefined) best.credit -= total
  return best
}
