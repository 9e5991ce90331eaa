/**
 * Which instance is next: the choice alone, for all who send requests to the instances of a service. Free of Effect and
 * of any transport.
 */

/** What the choice knows of an instance. */
export interface Candidate {
  /** How many requests it is to get, in proportion to others. */
  readonly weight: number
  readonly zone: string | undefined
  readonly draining: boolean
  /** What {@link next} owes it: {@link initialCredit} to begin with, and then left alone. */
  credit: number
}

export interface Zone {
  /** The caller's own; `undefined` when all are equally near. */
  readonly zone: string | undefined
  /** From how many ready instances on the own zone does without the others. Default: half of those that take requests. */
  readonly minReadyInZone?: number | undefined
}

/** A place for a newcomer, by a number from 0 to 1: clients that start together do not all begin with the same instance. */
export const initialCredit = (weight: number, random: number): number => -random * weight

const takesRequests = ({ draining, weight }: Candidate): boolean => !draining && weight > 0

/**
 * Of those that are ready, those to choose from: without those that drain or weigh nothing, unless nobody else is there;
 * those of the own zone, unless they are too few.
 */
export const choose = <A extends Candidate>(
  all: ReadonlyArray<A>,
  ready: ReadonlyArray<A>,
  { minReadyInZone, zone }: Zone
): ReadonlyArray<A> => {
  const active = ready.filter(takesRequests)
  if (active.length === 0) return ready
  if (zone === undefined) return active
  const isNear = (candidate: A): boolean => candidate.zone === zone
  const own = active.filter(isNear)
  const enough = minReadyInZone ?? all.filter((candidate) => takesRequests(candidate) && isNear(candidate)).length / 2
  return own.length > 0 && own.length >= enough ? own : active
}

/** Candidates that were chosen together have a weight all, or none has. */
const shareOf = ({ weight }: Candidate): number => weight > 0 ? weight : 1

/** Those with the least load for their share, the request that is about to be sent included. */
export const leastLoaded = <A extends Candidate>(
  candidates: ReadonlyArray<A>,
  inFlight: (candidate: A) => number
): ReadonlyArray<A> => {
  let least = Infinity
  let chosen: Array<A> = []
  for (const candidate of candidates) {
    const load = (inFlight(candidate) + 1) / shareOf(candidate)
    if (load > least) continue
    if (load < least) chosen = []
    least = load
    chosen.push(candidate)
  }
  return chosen
}

/**
 * Smooth weighted round robin, as in nginx: each candidate earns its share, the one that is owed most is next and pays
 * what all have earned. Weights of 5, 1, 1 become A A B A C A A, not A A A A A B C.
 *
 * As long as candidates and weights stay, nobody is ever owed more than all earn in one turn, nor owes more. What goes
 * beyond is of a time when others were there, or weighed more, and is forgotten: else one that was light beside a heavy one
 * might get nothing for as many calls as that weighed.
 */
export const next = <A extends Candidate>(
  candidates: ReadonlyArray<A>,
  share: (candidate: A) => number = shareOf
): A | undefined => {
  let total = 0
  for (const candidate of candidates) total += share(candidate)
  let best: A | undefined
  for (const candidate of candidates) {
    candidate.credit = Math.max(-total, Math.min(total, candidate.credit)) + share(candidate)
    if (best === undefined || candidate.credit > best.credit) best = candidate
  }
  if (best !== undefined) best.credit -= total
  return best
}
