/** gRPC servers that register, clients that find them, and a load of calls. Real servers, so time is real here. */
import { assert } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { EtcdClient } from "../../src/EtcdClient.js"
import * as Registry from "../../src/Registry.js"
import * as Session from "../../src/Session.js"
import * as TestEtcd from "../../src/testing.js"
import type { Echo, Server, ServerOptions } from "./echo.js"
import { server } from "./echo.js"

/** A process with a registry. */
export const registry = <E, R>(client: Layer.Layer<EtcdClient, E, R>) =>
  Registry.layer().pipe(Layer.provideMerge(Session.layer), Layer.provideMerge(client))

export const memory = Layer.provideMerge(registry(TestEtcd.client()), TestEtcd.layer())

export interface Instance extends Server {
  readonly registration: Registry.Registration
  /** Unregisters and ends at once. */
  readonly close: Effect.Effect<void>
}

/** A server that is registered. */
export const instance = (
  name: string,
  id: string,
  options: ServerOptions & { readonly metadata?: Record<string, string> } = {}
) =>
  Effect.gen(function*() {
    const scope = yield* Effect.acquireRelease(Scope.make(), Scope.close)
    return yield* Effect.gen(function*() {
      const own = yield* server(id, options)
      const registration = yield* Registry.register({
        id,
        name,
        address: "127.0.0.1",
        port: own.port,
        metadata: options.metadata ?? {}
      })
      return { ...own, registration, close: Scope.close(scope, Exit.void) } satisfies Instance
    }).pipe(Scope.extend(scope))
  })

/** A call, with a deadline that is far away. */
export const call = (
  client: Echo,
  method: "who" | "wait" = "who",
  options: grpc.CallOptions = {}
): Effect.Effect<string, grpc.ServiceError> =>
  Effect.async((resume) => {
    const own = client[method]("?", new grpc.Metadata(), { deadline: Date.now() + 20_000, ...options }, (error, id) =>
      resume(error === null && id !== undefined ? Effect.succeed(id) : Effect.fail(error as grpc.ServiceError)))
    return Effect.sync(() =>
      own.cancel()
    )
  })

/** Waits for a condition. */
export const until = (what: string, condition: () => boolean): Effect.Effect<void> =>
  untilEffect(what, Effect.sync(condition))

export const untilEffect = <E>(what: string, condition: Effect.Effect<boolean, E>): Effect.Effect<void> =>
  Effect.filterOrFail(condition, (holds) => holds, () => "not yet").pipe(
    Effect.retry(Schedule.spaced("5 millis")),
    Effect.timeoutFail({ duration: "20 seconds", onTimeout: () => new Error(`never: ${what}`) }),
    Effect.orDie
  )

/** Calls until one more has reached an instance. */
export const reaches = (client: Echo, { calls, id }: Server): Effect.Effect<void> =>
  Effect.suspend(() => {
    const before = calls()
    return untilEffect(`${id} takes calls`, Effect.map(call(client), () => calls() > before))
  })

/** The next calls, one after another, counted by who answered. */
export const shares = (client: Echo, calls: number): Effect.Effect<Record<string, number>, grpc.ServiceError> =>
  Effect.map(Effect.replicateEffect(call(client), calls), (ids) => {
    const counts: Record<string, number> = {}
    for (const id of ids) counts[id] = (counts[id] ?? 0) + 1
    return counts
  })

export interface Load {
  readonly calls: Effect.Effect<number>
  readonly failures: Effect.Effect<ReadonlyArray<grpc.ServiceError>>
  /** Waits until so many more calls have ended. */
  readonly more: (calls: number) => Effect.Effect<void>
  readonly stop: Effect.Effect<void>
}

/** Calls without a pause, several at a time, until it is stopped. */
export const load = (client: Echo, atATime = 8): Effect.Effect<Load, never, Scope.Scope> =>
  Effect.gen(function*() {
    const failures = yield* Ref.make<ReadonlyArray<grpc.ServiceError>>([])
    let calls = 0
    let stopped = false
    const worker = call(client).pipe(
      Effect.catchAll((error) => Ref.update(failures, (all) => [...all, error])),
      Effect.tap(Effect.sync(() => void calls++)),
      Effect.repeat({ while: () => !stopped })
    )
    const workers = yield* Effect.forkScoped(
      Effect.all(Array.from({ length: atATime }, () => worker), { concurrency: "unbounded", discard: true })
    )
    return {
      calls: Effect.sync(() => calls),
      failures,
      more: (n) =>
        Effect.suspend(() => {
          const goal = calls + n
          return until(`${goal} calls`, () => calls >= goal)
        }),
      stop: Effect.zipRight(
        Effect.sync(() => {
          stopped = true
        }),
        Effect.asVoid(workers.await)
      )
    }
  })

export const show = (errors: ReadonlyArray<grpc.ServiceError>): string =>
  errors.slice(0, 5).map(({ message }) => message).join("\n")

export const noFailures = (load: Load) =>
  Effect.map(load.failures, (all) => assert.strictEqual(all.length, 0, show(all)))
