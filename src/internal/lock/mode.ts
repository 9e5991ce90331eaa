/**
 * Entries of a read-write lock, and how many of them hold: the first one if it is a writer, else the readers before the
 * first writer. A reader waits for every writer before it, however many readers hold, so writers do not starve.
 *
 * The value of an entry is a JSON object: who it is (`host`, `pid`, `name`, `since`, see `owner.ts`), and
 *
 *     "kind":"read"   or   "kind":"write"
 *
 * An entry that cannot be read counts as a writer.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { toText } from "../bytes.js"
import type { Recipe } from "./recipe.js"

export type Mode = "read" | "write"

const decode = Schema.decodeOption(Schema.parseJson(Schema.Struct({ kind: Schema.Literal("read", "write") })))

/** None for what is no entry of a read-write lock. */
export const parse = (value: Uint8Array): Option.Option<Mode> =>
  value.length === 0 ? Option.none() : Option.map(decode(toText(value)), ({ kind }) => kind)

/** What an entry says beside who it is. */
export const encode = (mode: Mode) => ({ kind: mode })

interface Held {
  readonly entries: number
  /** What all of them do. */
  readonly mode: Mode
}

const none: Held = { entries: 0, mode: "read" }

export const readWriteLock: Recipe<Mode, Held> = {
  read: (value) => Option.getOrElse(parse(value), (): Mode => "write"),
  none,
  admit: ({ entries, mode }, next) =>
    entries === 0 || mode === "read" && next === "read" ? { entries: entries + 1, mode: next } : undefined,
  leave: ({ entries, mode }) => entries === 1 ? none : { entries: entries - 1, mode },
  isShared: true
}
