/** Writes that depend on something that is held: what is asked before, and what it means when etcd refuses. */
import * as Effect from "effect/Effect"
import { GuardFailed } from "../../ConfigError.js"
import type { Guard } from "../../Lock.js"
import type { LockExpired } from "../../LockError.js"
import type { Compare, Op, OpResponse } from "../../Txn.js"
import * as Txn from "../../Txn.js"
import { toText } from "../bytes.js"

/** One condition, or several of which all must hold. */
export type Guards = Compare | ReadonlyArray<Compare>

const isGuard = (compare: Compare): compare is Guard => "refused" in compare

const isSeveral = (guards: Guards): guards is ReadonlyArray<Compare> => Array.isArray(guards)

export const comparesOf = (guards: Guards | undefined): ReadonlyArray<Compare> =>
  guards === undefined ? [] : isSeveral(guards) ? guards : [guards]

/** A holder that knows of the loss sends nothing. */
export const check = (compares: ReadonlyArray<Compare>): Effect.Effect<void, LockExpired> =>
  Effect.forEach(compares.filter(isGuard), ({ check }) => check, { discard: true })

/** What goes along when a write is refused, to say whether it was for a guard that is a holder's. */
export const reads = (compares: ReadonlyArray<Compare>): ReadonlyArray<Op> =>
  compares.filter(isGuard).map(({ key }) => Txn.range({ key, keysOnly: true }))

/** Fails if one of the holders' guards did not hold, by the answers to {@link reads}. */
export const checkReads = (
  compares: ReadonlyArray<Compare>,
  answers: ReadonlyArray<OpResponse>
): Effect.Effect<void, LockExpired> => {
  const failed = compares.filter(isGuard).find(({ operand }, index) => {
    const answer = answers[index]
    return answer?._tag === "Range" && answer.response.kvs[0]?.createRevision !== operand
  })
  return failed === undefined ? Effect.void : failed.refused
}

/** The write was refused for one of these, and for no holder's. */
export const failed = (key: string, compares: ReadonlyArray<Compare>): GuardFailed =>
  new GuardFailed({ key, guard: toText((compares.find((compare) => !isGuard(compare)) ?? compares[0]).key) })
