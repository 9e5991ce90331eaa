/**
 * What the registry's behaviours are tested on: the embedded engine, where time passes as the test says, and a real etcd.
 */
import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as EtcdClient from "../../src/EtcdClient.js"
import type { InvalidArgument } from "../../src/EtcdError.js"
import * as Registry from "../../src/Registry.js"
import * as Session from "../../src/Session.js"
import * as TestEtcd from "../../src/testing.js"
import * as EtcdServer from "../support/EtcdServer.js"

export class Backend extends Context.Tag("effect-coord/test/registry/Backend")<Backend, {
  /** A client of its own: another process, as far as etcd can tell. */
  readonly client: Layer.Layer<EtcdClient.EtcdClient, InvalidArgument>
  readonly stop: Effect.Effect<void>
  readonly start: Effect.Effect<void>
  /** Only while it is stopped. */
  readonly startWithoutData: Effect.Effect<void>
  /** Lets time pass. */
  readonly pass: (duration: Duration.DurationInput) => Effect.Effect<void>
}>() {}

/** Lets the engine's turns pass, without time passing. */
export const settle = Effect.forEach(Array.from({ length: 50 }), () => Effect.yieldNow(), { discard: true })

export const engine = (options: TestEtcd.ClientOptions = {}): Layer.Layer<Backend | TestEtcd.TestEtcd> =>
  Layer.effect(
    Backend,
    Effect.map(TestEtcd.TestEtcd, (etcd) => ({
      client: TestEtcd.client(options).pipe(Layer.provide(Layer.succeed(TestEtcd.TestEtcd, etcd))),
      stop: etcd.down,
      start: etcd.up,
      startWithoutData: Effect.zipRight(etcd.restartWithoutData, etcd.up),
      pass: (duration) => Effect.zipRight(TestClock.adjust(duration), settle)
    }))
  ).pipe(Layer.provideMerge(TestEtcd.layer()))

/** A test on the engine, which closes whatever the faults are that it leaves. */
export const onEngine = (
  name: string,
  body: Effect.Effect<void, unknown, Backend | TestEtcd.TestEtcd | Scope.Scope>
): void =>
  it.effect(name, () =>
    body.pipe(
      Effect.ensuring(
        Effect.flatMap(TestEtcd.TestEtcd, (etcd) => Effect.all([etcd.up, etcd.resume, etcd.clear], { discard: true }))
      ),
      Effect.scoped,
      Effect.provide(engine())
    ))

export const server: Layer.Layer<Backend, never, EtcdServer.EtcdServer> = Layer.effect(
  Backend,
  Effect.map(EtcdServer.EtcdServer, (server) => ({
    client: EtcdClient.layer({ endpoints: server.endpoint }),
    stop: server.kill,
    start: Effect.orDie(server.start),
    startWithoutData: Effect.orDie(server.startWithoutData),
    pass: Effect.sleep
  }))
)

export type Process = Context.Context<Registry.Registry | Session.Sessions | EtcdClient.EtcdClient>

/** A process with a registry, until the scope closes. */
export const process: Effect.Effect<Process, InvalidArgument, Backend | Scope.Scope> = Effect.flatMap(
  Backend,
  ({ client }) => Layer.build(Registry.layer().pipe(Layer.provideMerge(Session.layer), Layer.provideMerge(client)))
)

export interface Running<A> {
  readonly value: A
  readonly close: Effect.Effect<void>
}

/** Runs something scoped, which is closed by hand, or at the end of the test. */
export const running = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<Running<A>, E, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope, exit) => Scope.close(scope, exit))
    const value = yield* Scope.extend(effect, scope)
    return { value, close: Scope.close(scope, Exit.void) }
  })

/** Waits for a condition, in steps of time, for at most `within`. */
export const until = <E, R>(
  what: string,
  condition: Effect.Effect<boolean, E, R>,
  within: Duration.DurationInput = "10 seconds"
): Effect.Effect<void, never, R | Backend> =>
  Effect.gen(function*() {
    const { pass } = yield* Backend
    const step = Duration.millis(20)
    const steps = Math.ceil(Duration.toMillis(within) / Duration.toMillis(step))
    for (let index = 0; index <= steps; index++) {
      if (yield* Effect.orElseSucceed(condition, () => false)) return
      yield* pass(step)
    }
    assert.fail(`within ${Duration.format(within)} it did not come to be: ${what}`)
  })

/** Runs an effect to its end while time passes. */
export const passing = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  within: Duration.DurationInput = "30 seconds"
): Effect.Effect<A, E, R | Backend> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(effect)
    yield* until("an end", Effect.map(fiber.poll, ({ _tag }) => _tag === "Some"), within)
    return yield* fiber.await.pipe(Effect.flatten)
  })

export const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8")
