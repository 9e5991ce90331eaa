/**
 * Entries of a semaphore, and how many of them hold: the longest row of first ones whose permits together are within the
 * limit. Whoever wants many is not overtaken by those who want few, so nobody starves; and as permits are taken all at once,
 * nobody waits with some for others.
 *
 * The value of an entry is a JSON object: who it is (`host`, `pid`, `name`, `since`, see `owner.ts`), and
 *
 *     "kind":"semaphore", "permits":2, "limit":5
 *
 * None of these changes while the entry stands. Never more than the limit are given out, whatever stands in the queue: one
 * with another limit waits until all before it are gone, and so does one that cannot be read, as nobody knows how much it
 * takes; all behind such a one wait until it is gone.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { toText } from "../bytes.js"
import type { Recipe } from "./recipe.js"

const count = Schema.Int.pipe(Schema.positive())

const Permits = Schema.Struct({
  kind: Schema.Literal("semaphore"),
  permits: count,
  limit: count
}).pipe(Schema.filter(({ limit, permits }) => permits <= limit))

export interface Permits {
  readonly permits: number
  readonly limit: number
}

const decode = Schema.decodeOption(Schema.parseJson(Permits))

/** None for what is no entry of a semaphore. */
export const parse = (value: Uint8Array): Option.Option<Permits> =>
  value.length === 0
    ? Option.none()
    : Option.map(decode(toText(value)), ({ limit, permits }) => ({ limit, permits }))

/** What an entry says beside who it is. */
export const encode = ({ limit, permits }: Permits) => ({ kind: "semaphore", permits, limit }) as const

interface Held {
  readonly entries: number
  readonly taken: number
  /** Of all of them; `undefined` when one that cannot be read holds, alone. */
  readonly limit: number | undefined
}

const none: Held = { entries: 0, taken: 0, limit: undefined }

export const semaphore: Recipe<Permits | undefined, Held> = {
  read: (value) => Option.getOrUndefined(parse(value)),
  none,
  admit: ({ entries, limit, taken }, next) => {
    if (entries === 0) return { entries: 1, taken: next?.permits ?? 0, limit: next?.limit }
    if (next === undefined || next.limit !== limit || taken + next.permits > limit) return undefined
    return { entries: entries + 1, taken: taken + next.permits, limit }
  },
  leave: ({ entries, limit, taken }, gone) =>
    entries === 1 ? none : { entries: entries - 1, taken: taken - (gone?.permits ?? 0), limit },
  isShared: true
}
