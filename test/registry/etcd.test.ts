import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as EtcdServer from "../support/EtcdServer.js"
import { server } from "./backend.js"
import { behaviours } from "./behaviours.js"

const quiet = Logger.remove(Logger.defaultLogger)

describe("a registry on a real etcd", () => {
  for (const [name, behaviour] of Object.entries(behaviours)) {
    it.live(
      name,
      () => Effect.provide(Effect.scoped(behaviour), [Layer.provide(server, EtcdServer.layer()), quiet]),
      60_000
    )
  }
})
