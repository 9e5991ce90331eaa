/** Who stands behind a queue entry: written into the value of the key, for people. Go's recipes ignore it. */
import type * as Clock from "effect/Clock"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { hostname } from "node:os"
import { basename } from "node:path"
import { toText } from "./bytes.js"

export const Owner = Schema.Struct({
  host: Schema.String,
  pid: Schema.Number,
  name: Schema.String,
  /** When the entry was made, by the owner's clock (ISO 8601). */
  since: Schema.String
})

export type Owner = typeof Owner.Type

const decode = Schema.decodeOption(Schema.parseJson(Owner))

/** The value for entries made now, with what else an entry says. */
export const valueFor = (
  name: string | undefined,
  clock: Clock.Clock
): (more?: Readonly<Record<string, string | number>>) => string => {
  const host = hostname()
  const pid = process.pid
  const title = name ?? basename(process.argv[1] ?? process.title)
  /** The last one: many are made in the same millisecond. */
  let millis: number | undefined
  let last: Owner
  let text: string
  return (more) => {
    const now = clock.unsafeCurrentTimeMillis()
    if (now !== millis) {
      millis = now
      last = { host, pid, name: title, since: new Date(now).toISOString() }
      text = JSON.stringify(last)
    }
    return more === undefined ? text : JSON.stringify({ ...last, ...more })
  }
}

/** None for entries of others, which may hold anything. */
export const parse = (value: Uint8Array): Option.Option<Owner> =>
  value.length === 0 ? Option.none() : decode(toText(value))
