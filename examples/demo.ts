/**
 * The main job, end to end: an application made of layers that takes a lock, registers and discovers a service, and sets,
 * watches and compare-and-sets a typed setting, and says what happens as it happens.
 *
 *     npm run demo                                        over the embedded engine: no server needed
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npm run demo          over a real cluster
 *     DEMO_SECONDS=30 ETCD_ENDPOINTS=… npm run demo       long enough to stop etcd in the middle, and start it again
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import {
  Cause,
  Config as EffectConfig,
  Context,
  Effect,
  Layer,
  Logger,
  LogLevel,
  Option,
  Schedule,
  Schema,
  Stream
} from "effect"
import { Config, Coord, Lock, Registry } from "effect-coord"

const Limits = Schema.Struct({ requestsPerSecond: Schema.Int, burst: Schema.optional(Schema.Int) })

const say = (who: string, what: string) => Effect.log(`${who.padEnd(9)}  ${what}`)

const plainLines = Logger.replace(
  Logger.defaultLogger,
  Logger.make(({ date, logLevel, message }) => {
    const level = logLevel === LogLevel.Info ? "" : logLevel.label.padEnd(11)
    globalThis.console.log(`${date.toISOString().slice(11, 23)}  ${level}${String(message)}`)
  })
)

/** A name of this run's own, so that several demos may run on one cluster. */
const run = `demo-${process.pid}`

/** An application's service: registered for as long as its layer lives. */
class Shop extends Context.Tag("demo/Shop")<Shop, { readonly registration: Registry.Registration }>() {
  static readonly layer = Layer.scoped(
    Shop,
    Effect.gen(function*() {
      const registration = yield* Registry.register(
        { id: "shop-1", name: `${run}/shop`, address: "127.0.0.1", port: 8080, metadata: { version: "1.0.0" } },
        { ttl: "5 seconds" }
      )
      yield* Effect.forkScoped(Stream.runForEach(registration.statuses, (status) => {
        switch (status._tag) {
          case "Registered":
            return say("registry", `shop-1 is registered under lease ${status.lease.toString(16)}`)
          case "Reconnecting":
            return say("registry", `shop-1 may be gone: ${status.reason}`)
          case "Replaced":
            return say("registry", "somebody else registered as shop-1")
          case "Unregistered":
            return say("registry", "shop-1 left")
        }
      }))
      return { registration }
    })
  )
}

/** Discovers the instances of the shop, and prints the list whenever it changes. */
const followShop = Registry.instances(`${run}/shop`).pipe(
  Stream.runForEach((instances) =>
    say(
      "discovery",
      instances.length === 0
        ? "no instance"
        : instances.map(({ address, id, port }) => `${id} at ${address}:${port}`).join(", ")
    )
  )
)

/** Follows the setting; a value that does not decode is told, and does not end it. */
const followLimits = Config.watch(`${run}/limits`, Limits).pipe(
  Stream.runForEach((event) => {
    switch (event._tag) {
      case "Put":
        return say("config", `version ${event.version}: ${JSON.stringify(event.value)}`)
      case "Delete":
        return say("config", "deleted")
      case "Invalid":
        return say("config", `version ${event.version} does not decode`)
    }
  })
)

/** Sets a setting, and changes it only if nobody else has in between. */
const changeLimits = Effect.gen(function*() {
  const version = yield* Config.set(`${run}/limits`, Limits, { requestsPerSecond: 100 })
  const next = yield* Config.compareAndSet(`${run}/limits`, Limits, { requestsPerSecond: 200, burst: 20 }, version)
  yield* say("cas", `version ${version} became ${next}`)
  const conflict = yield* Effect.flip(
    Config.compareAndSet(`${run}/limits`, Limits, { requestsPerSecond: 1 }, version)
  )
  yield* say("cas", conflict.message)
})

/** The work that only one may do. It goes on until the time is up, or the lock is lost and it is interrupted. */
const guarded = (seconds: number) =>
  Lock.withLock(`${run}/nightly`, { ttl: "5 seconds" })((lock) =>
    Effect.gen(function*() {
      yield* say("lock", `held with fencing token ${lock.fencingToken}`)
      yield* Effect.scoped(Lock.tryAcquire(`${run}/nightly`)).pipe(
        Effect.zipRight(say("lock", "two holders: this cannot happen")),
        Effect.catchTag("LockConflict", (conflict) => say("lock", conflict.message))
      )
      const tick = (step: number) =>
        Config.set(`${run}/limits`, Limits, { requestsPerSecond: 200 + step }, { guard: lock.guard }).pipe(
          Effect.catchAll((error) => say("lock", `step ${step} failed: ${error.message}`))
        )
      yield* Effect.iterate(1, {
        while: (step) => step <= seconds,
        body: (step) => tick(step).pipe(Effect.delay("1 second"), Effect.as(step + 1))
      })
    })
  ).pipe(
    Effect.matchEffect({
      onSuccess: () => say("lock", "kept to the end, and released"),
      onFailure: (error) => Effect.zipRight(say("lock", error.message), Effect.fail(error))
    }),
    // Lost: queue up again, with a new and larger token.
    Effect.retry({
      while: (error) => error._tag === "LockExpired" || error._tag === "EtcdError",
      schedule: Schedule.spaced("1 second")
    })
  )

const program = Effect.gen(function*() {
  const seconds = yield* EffectConfig.integer("DEMO_SECONDS").pipe(EffectConfig.withDefault(2))
  yield* Effect.forkScoped(followShop)
  yield* Effect.forkScoped(followLimits)
  yield* Shop
  yield* changeLimits
  yield* guarded(seconds)
  const found = yield* Registry.discover(`${run}/shop`)
  yield* say("discovery", `the quorum knows ${found.length} instance`)
  const { endpoints, healthy } = yield* Coord.health()
  for (const member of endpoints) {
    yield* say(
      "health",
      member._tag === "Up"
        ? `${member.endpoint} answers, etcd ${member.version}, revision ${member.revision}`
        : member.error.message
    )
  }
  yield* say("health", healthy ? "all is well" : "something is wrong")
  // A setting outlives who has set it.
}).pipe(Effect.ensuring(Effect.ignore(Config.delete(`${run}/limits`))))

const coord = Layer.unwrapEffect(
  Effect.gen(function*() {
    const endpoints = Option.filter(
      yield* EffectConfig.option(EffectConfig.string("ETCD_ENDPOINTS")),
      (text) => text !== ""
    )
    yield* say(
      "demo",
      Option.match(endpoints, {
        onNone: () => "over the embedded engine",
        onSome: (where) => `over etcd at ${where}`
      })
    )
    return Option.match(endpoints, {
      onNone: (): ReturnType<typeof Coord.layer> => Coord.layerMemory,
      onSome: (endpoints) => Coord.layer({ endpoints })
    })
  })
)

program.pipe(
  Effect.scoped,
  Effect.provide(Layer.provideMerge(Shop.layer, coord)),
  Effect.zipRight(say("demo", "done: the layers are closed, nothing is left behind")),
  Effect.tapErrorCause((cause) => say("demo", `failed: ${Cause.prettyErrors(cause).map(String).join("; ")}`)),
  Effect.provide(plainLines),
  NodeRuntime.runMain({ disableErrorReporting: true, disablePrettyLogger: true })
)
