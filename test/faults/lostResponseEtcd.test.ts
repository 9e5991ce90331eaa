/** An answer lost at every call of what the library does, on real servers: the connection ends in place of the answer. */
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as EtcdCluster from "../support/EtcdCluster.js"
import * as EtcdServer from "../support/EtcdServer.js"
import * as LostOnEtcd from "./lost/etcd.js"
import { scenarios } from "./lost/scenarios.js"
import type { Scenario } from "./lost/World.js"

class Stage extends Context.Tag("effect-coord/test/faults/Stage")<Stage, LostOnEtcd.Stage>() {}

const version = "3.5"
const one = Effect.flatMap(EtcdServer.make({ version }), (server) => LostOnEtcd.make([server]))
const three = Effect.flatMap(EtcdCluster.make({ version }), ({ members }) => LostOnEtcd.make(members))

const named = (...names: ReadonlyArray<string>): ReadonlyArray<Scenario> =>
  names.map((name) => {
    const found = Object.values(scenarios).flat().find((scenario) => scenario.name === name)
    return found ?? assert.fail(`there is no scenario "${name}"`)
  })

const suite = <E>(name: string, stage: Layer.Layer<Stage, E>, played: ReadonlyArray<Scenario>) =>
  layer(stage, { excludeTestServices: true, timeout: "60 seconds" })(name, (it) => {
    for (const scenario of played) {
      it.effect(`${scenario.name}: whichever answer is lost`, () =>
        Effect.gen(function*() {
          const { play } = yield* Stage
          let index = 1
          while (yield* play(scenario, index)) index++
          assert.isAbove(index, 1)
        }), 60_000)
    }
  })

suite("one server", Layer.scoped(Stage, one), [
  ...named(
    "acquire, and the end of the scope",
    "acquire, release, and acquire again under the name that is free again",
    "acquire between one that holds the lock and one that waits",
    "tryAcquire of a free lock",
    "withLock",
    "acquireAll behind one that holds, and before one that waits",
    "leaseGrant and leaseRevoke",
    "register, and the end of the scope",
    "update of a registration"
  ),
  ...scenarios.configuration,
  ...scenarios.client,
  ...scenarios.together
])

suite(
  "three servers",
  Layer.scoped(Stage, three),
  named("acquire, and the end of the scope", "compareAndSet that creates", "compareAndSet that changes")
)
