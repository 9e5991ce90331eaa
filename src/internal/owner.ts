/** Who stands behind a queue entry: written into the value of the key, for people. Go's recipes ignore it. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { hostname } from "node:os"
import { basename } from "node:path"
import { InvalidArgument } from "../EtcdError.js"
import { toText } from "./bytes.js"
import { render } from "./validate.js"

export const Owner = Schema.Struct({
  host: Schema.String,
  pid: Schema.Number,
  name: Schema.String,
  /** When the entry was made, by the owner's clock (ISO 8601). */
  since: Schema.String
})

export type Owner = typeof Owner.Type

const decode = Schema.decodeOption(Schema.parseJson(Owner))

/** Makes the values for entries that are made now, with what else an entry says. */
export const values = (
  name: string = basename(process.argv[1] ?? process.title)
): Effect.Effect<(more?: Readonly<Record<string, string | number>>) => string, InvalidArgument> =>
  Effect.gen(function*() {
    // Of a caller without types: nobody could read such entries, or they could not even be written.
    if (typeof name !== "string") {
      return yield* new InvalidArgument({ argument: "name", value: render(name), problem: "must be a text" })
    }
    const clock = yield* Effect.clock
    const host = hostname()
    const pid = process.pid
    /** The last one: many are made in the same millisecond. */
    let millis: number | undefined
    let last: Owner
    let text: string
    return (more) => {
      const now = clock.unsafeCurrentTimeMillis()
      if (now !== millis) {
        millis = now
        last = { host, pid, name, since: new Date(now).toISOString() }
        text = JSON.stringify(last)
      }
      return more === undefined ? text : JSON.stringify({ ...last, ...more })
    }
  })

/** None for entries of others, which may hold anything. */
export const parse = (value: Uint8Array): Option.Option<Owner> =>
  value.length === 0 ? Option.none() : decode(toText(value))
