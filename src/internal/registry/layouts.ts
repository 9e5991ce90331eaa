/** The layout of a format. */
import * as Effect from "effect/Effect"
import { InvalidArgument } from "../../EtcdError.js"
import * as validate from "../validate.js"
import type { Layout } from "./entry.js"
import * as Entry from "./entry.js"
import * as Naming from "./naming.js"

const formats = { coord: (prefix = "/services") => Entry.layout(prefix), "etcd-naming": Naming.layout } as const

export const make = (
  format: keyof typeof formats,
  prefix: string | undefined
): Effect.Effect<Layout, InvalidArgument> =>
  typeof format === "string" && Object.hasOwn(formats, format)
    ? formats[format](prefix)
    : Effect.fail(
      new InvalidArgument({
        argument: "format",
        value: validate.render(format),
        problem: "must be coord or etcd-naming"
      })
    )
