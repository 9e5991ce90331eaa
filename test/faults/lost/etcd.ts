/** The stage for the scenarios on real servers: answers are lost on their way through a proxy. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as Coord from "../../../src/Coord.js"
import * as EtcdClient from "../../../src/EtcdClient.js"
import type { EtcdServerService } from "../../support/EtcdServer.js"
import { leasesOf } from "../../support/leases.js"
import * as TcpProxy from "../../support/TcpProxy.js"
import { play, type Scenario, servicesOver, type Trouble } from "./World.js"

/** Servers of one etcd, with a proxy before each. */
export interface Stage {
  readonly play: (scenario: Scenario, index: number) => Effect.Effect<boolean, unknown>
}

const processOf = (
  endpoints: ReadonlyArray<string>
): Effect.Effect<Context.Context<Coord.Coord>, never, Scope.Scope> =>
  Effect.orDie(Layer.build(servicesOver(EtcdClient.layer({ endpoints }))))

/** Loses the answer to the call of this number, on whichever connection it is. */
const losing = (proxies: ReadonlyArray<TcpProxy.TcpProxy>, index: number): Effect.Effect<Trouble, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => {
    let losses: ReadonlyArray<Fiber.RuntimeFiber<void>> = []
    return {
      passes: true,
      begin: Effect.flatMap(
        Effect.forEach(proxies, ({ loseResponse }) => loseResponse({ after: index - 1 })),
        (all) =>
          Effect.map(Effect.forEach(all, ({ lost }) => Effect.forkIn(lost, scope)), (fibers) => {
            losses = fibers
          })
      ),
      outcome: Effect.void,
      heal: Effect.forEach(proxies, ({ resume }) => resume, { discard: true }),
      wasHit: Effect.map(
        Effect.suspend(() => Effect.forEach(losses, Fiber.poll)),
        (polled) => polled.some(Option.isSome)
      )
    }
  })

export const make = (
  servers: ReadonlyArray<EtcdServerService>
): Effect.Effect<Stage, TcpProxy.TcpProxyError, Scope.Scope> =>
  Effect.gen(function*() {
    const endpoints = servers.map(({ endpoint }) => endpoint)
    const observer = yield* Effect.orDie(EtcdClient.make({ endpoints }))
    const proxies = yield* Effect.forEach(endpoints, TcpProxy.make)
    return {
      play: (scenario, index) =>
        Effect.gen(function*() {
          yield* observer.delete({ key: "\0", rangeEnd: "\0" })
          const trouble = yield* losing(proxies, index)
          return yield* play(scenario, {
            process: yield* processOf(proxies.map(({ endpoint }) => endpoint)),
            trouble,
            outside: {
              stored: Effect.map(Effect.orDie(observer.range({ key: "\0", rangeEnd: "\0" })), ({ kvs }) => kvs),
              leases: Effect.orDie(leasesOf(servers[0])),
              newProcess: processOf(endpoints)
            }
          })
        }).pipe(Effect.scoped)
    }
  })
