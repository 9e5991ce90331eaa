import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as EtcdServer from "../support/EtcdServer.js"
import { server } from "./backend.js"
import { behaviours } from "./behaviours.js"

const quiet = Logger.remove(Logger.defaultLogger)

/** They mostly wait for time to pass, each with an etcd of its own: so they do it together. */
const together = [
  "registers until the scope closes, on one lease for all",
  "comes back after an outage longer than its time to live, and readers keep the last list",
  "comes back when etcd was away for three times to live and has lost its data",
  "closes in bounded time while etcd is away, and leaves no ghost on a lease that lives on",
  "fails in bounded time when etcd is away from the beginning"
]

const test = (name: string) =>
  it.live(
    name,
    () => Effect.provide(Effect.scoped(behaviours[name]), [Layer.provide(server, EtcdServer.layer()), quiet]),
    60_000
  )

describe("a registry on a real etcd", () => {
  const names = Object.keys(behaviours)
  assert.includeMembers(names, together)

  for (const name of names.filter((name) => !together.includes(name))) test(name)

  describe.concurrent("for some time", () => {
    for (const name of together) test(name)
  })
})
