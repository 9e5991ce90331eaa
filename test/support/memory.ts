/** The services over an embedded etcd that tests can hurt, under `TestClock`. */
import { assert } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import type { EtcdClient } from "../../src/EtcdClient.js"
import type { InvalidArgument } from "../../src/EtcdError.js"
import * as Lock from "../../src/Lock.js"
import * as Session from "../../src/Session.js"
import * as TestEtcd from "../../src/testing.js"

export interface MemoryOptions extends TestEtcd.ClientOptions {
  readonly engine?: TestEtcd.Options | undefined
}

/** One process: a client, its sessions, its locks. */
export const process = (
  options: TestEtcd.ClientOptions = {}
): Layer.Layer<EtcdClient | Session.Sessions | Lock.Lock, InvalidArgument, TestEtcd.TestEtcd> =>
  Lock.layer().pipe(Layer.provideMerge(Session.layer), Layer.provideMerge(TestEtcd.client(options)))

/** One process and its etcd. */
export const memory = (options: MemoryOptions = {}) =>
  Layer.provideMerge(process(options), TestEtcd.layer(options.engine))

/** Lets everything happen that needs no time. */
export const settle = Effect.forEach(Array.from({ length: 100 }), () => Effect.yieldNow(), { discard: true })

/** Lets time pass in small steps, so that what one timer starts can set the next. */
export const pass = (duration: Duration.DurationInput, step: Duration.DurationInput = "100 millis") =>
  Effect.gen(function*() {
    const steps = Math.ceil(Duration.toMillis(duration) / Duration.toMillis(step))
    for (let i = 0; i < steps; i++) {
      yield* TestClock.adjust(step)
      yield* settle
    }
  })

/** Runs an effect to its end while time passes. */
export const whileTimePasses = <A, E, R>(effect: Effect.Effect<A, E, R>, limit: Duration.DurationInput = "1 minute") =>
  Effect.raceFirst(
    effect,
    Effect.zipRight(pass(limit), Effect.dieMessage(`nothing happened within ${Duration.format(limit)}`))
  )

/** Waits, without time passing, until a condition holds. */
export const eventually = <E, R>(
  what: string,
  condition: Effect.Effect<boolean, E, R>
): Effect.Effect<void, E, R> =>
  Effect.gen(function*() {
    for (let i = 0; i < 1_000; i++) {
      if (yield* condition) return
      yield* Effect.yieldNow()
    }
    assert.fail(`never: ${what}`)
  })

export const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8")

/** The keys in etcd, as text. */
export const keys = Effect.flatMap(
  TestEtcd.TestEtcd,
  (etcd) => Effect.map(etcd.snapshot, (kvs) => kvs.map(({ key }) => text(key)))
)

/**
 * Runs a test in one process with its etcd, and closes everything while time passes: closing takes 5 seconds at most,
 * whatever state the test leaves etcd in.
 */
export const scenario = <A, E>(
  body: Effect.Effect<
    A,
    E,
    EtcdClient | Session.Sessions | Lock.Lock | TestEtcd.TestEtcd | Scope.Scope
  >,
  options: MemoryOptions = {}
): Effect.Effect<A, E | InvalidArgument> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const inner = yield* Scope.fork(scope, ExecutionStrategy.sequential)
      const exit = yield* Effect.exit(restore(
        Effect.flatMap(
          Layer.buildWithScope(memory(options), scope),
          (context) => Effect.provide(Scope.extend(body, inner), context)
        )
      ))
      const closing = yield* Effect.forkDaemon(Scope.close(scope, exit))
      yield* restore(Effect.raceFirst(Fiber.join(closing), pass("5 seconds")))
      if (Option.isNone(yield* Fiber.poll(closing))) return yield* Effect.dieMessage("not closed within 5 seconds")
      return yield* exit
    })
  )
