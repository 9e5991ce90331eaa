/**
 * What the conformance suite runs over: the embedded engine, or a real etcd of some version.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { Etcd3 } from "etcd3"
import { fromEtcd3, instanceOptions } from "../../src/etcd3.js"
import * as EtcdClient from "../../src/EtcdClient.js"
import * as client from "../../src/internal/client.js"
import * as clientOptions from "../../src/internal/options.js"
import * as TestEtcd from "../../src/testing.js"
import * as EtcdServer from "../support/EtcdServer.js"
import { type Deviation, deviationsOf } from "./deviations.js"

type Client = EtcdClient.EtcdClient["Type"]

export interface BackendService {
  readonly client: Client
  /** What its version begins with. */
  readonly version: string
  readonly deviations: ReadonlySet<Deviation>
  /** Two clients of one etcd: one that sees everything, and one inside a namespace. */
  readonly pair: (
    namespace: string
  ) => Effect.Effect<{ readonly outside: Client; readonly inside: Client }, never, Scope.Scope>
  /** Runs an effect that waits for time to pass: real time passes by itself, a test's clock has to be moved. */
  readonly passingTime: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

export class Backend extends Context.Tag("effect-coord/test/Backend")<Backend, BackendService>() {}

/** Moves the clock in steps until the effect is done. */
const movingClock = (step: Duration.DurationInput) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(effect)
    while ((yield* Fiber.poll(fiber))._tag === "None") yield* TestClock.adjust(step)
    return yield* Fiber.join(fiber)
  })

/** The engine, under the clock of the tests. */
export const engine: Layer.Layer<Backend> = Layer.effect(
  Backend,
  Effect.map(EtcdClient.EtcdClient, (client_): BackendService => ({
    client: client_,
    version: "3.5.",
    deviations: deviationsOf("3.5"),
    pair: (namespace) =>
      Effect.gen(function*() {
        const etcd = yield* TestEtcd.make()
        return {
          outside: yield* client.make(yield* etcd.transport(), clientOptions.defaults),
          inside: yield* client.make(yield* etcd.transport(), { ...clientOptions.defaults, namespace })
        }
      }),
    passingTime: movingClock("250 millis")
  }))
).pipe(Layer.provide(EtcdClient.layerMemory))

/** Servers of this version, started for the suite, and clients of them. */
const real = (
  version: string,
  makeClients: (
    endpoint: string
  ) => Effect.Effect<(namespace?: string) => Effect.Effect<Client, never, Scope.Scope>, never, Scope.Scope>
): Layer.Layer<Backend, EtcdServer.EtcdServerError> =>
  Layer.scoped(
    Backend,
    Effect.gen(function*() {
      const { endpoint, version: running } = yield* EtcdServer.EtcdServer
      const makeClient = yield* makeClients(endpoint)
      const outside = yield* makeClient()
      return {
        client: outside,
        version: `${version}.`,
        deviations: deviationsOf(running),
        pair: (namespace) => Effect.map(makeClient(namespace), (inside) => ({ outside, inside })),
        passingTime: (effect) => effect
      }
    })
  ).pipe(Layer.provide(EtcdServer.layer({ version })))

/** Clients of our own. */
export const etcd = (version: string): Layer.Layer<Backend, EtcdServer.EtcdServerError> =>
  real(
    version,
    (endpoint) => Effect.succeed((namespace) => Effect.orDie(EtcdClient.make({ endpoints: endpoint, namespace })))
  )

/** Clients over one instance of etcd3. */
export const etcd3 = (version: string): Layer.Layer<Backend, EtcdServer.EtcdServerError> =>
  real(version, (endpoint) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new Etcd3({ hosts: `http://${endpoint}`, ...instanceOptions })),
        (instance) => Effect.sync(() => instance.close())
      ),
      (instance) => (namespace) => Effect.orDie(fromEtcd3(instance, { namespace }))
    ))
