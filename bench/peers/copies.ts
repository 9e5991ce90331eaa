/**
 * What applications read from local copies, what a discovery costs beside its parts, and how soon a change is known to a
 * great many.
 */
import { Effect, Exit, Fiber, Schema, Scope, Stream } from "effect"
import type { Library, Services } from "./library.js"
import type { Meter } from "./meter.js"
import type { Workload } from "./peer.js"
import { Setting, settingOf } from "./peer.js"
import type { Slice } from "./protocol.js"

/** How many reads are one operation: each alone is as short as taking the time. */
export const readsAtOnce = 1_000

/** How many settings are read in turn, and how many instances are discovered. */
const settingCount = 10
const instanceCount = 100
/** How many watchers are begun at the same time. */
const beginningAtOnce = 256
/** How many changes each of the watchers hears of. */
const changeCount = 20

const breathe = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))

type Need = Services | Scope.Scope

export const workloads = ({ modules, workload }: Library): Readonly<Record<string, Workload>> => {
  const { Config, ConfigManager, EtcdClient, Key, Registry } = modules

  const scoped = (make: (slice: Slice, meter: Meter) => Effect.Effect<void, unknown, Need>): Workload =>
    workload((slice, meter) => Effect.succeed(Effect.scoped(make(slice, meter))))

  /** One call after the other, and now and then room for others, as there is between the events of an application. */
  const reading = <E>(meter: Meter, call: (index: number) => Effect.Effect<unknown, E, Services>) => {
    const done = meter.operation("thousand")
    let index = 0
    const some = Effect.suspend(() => {
      const begin = meter.now()
      const end = index + readsAtOnce
      return Effect.map(
        Effect.whileLoop({
          while: () => index < end,
          body: () => call(index++),
          step: () => {}
        }),
        () => done(begin)
      )
    })
    return Effect.whileLoop({ while: meter.running, body: () => Effect.zipRight(some, breathe), step: () => {} })
  }

  const cached = scoped((_, meter) =>
    Effect.gen(function*() {
      const config = yield* Config.Config
      const keys = Array.from({ length: settingCount }, (_, index) => settingOf(index))
      // Each begins its copy.
      yield* Effect.forEach(keys, (key) => config.cached(key, Setting))
      yield* reading(meter, (index) => config.cached(keys[index % settingCount], Setting))
    })
  )

  const manager = scoped((slice, meter) =>
    Effect.gen(function*() {
      const settings = yield* ConfigManager.make({
        env: "bench",
        service: slice.name,
        component: "limits",
        schema: Schema.Struct({ requests: Schema.Int }),
        default: { requests: 1 }
      })
      yield* reading(meter, () => settings.current)
    })
  )

  const registered = (slice: Slice) => {
    const name = `bench-${slice.name}`
    return Effect.as(
      Effect.forEach(
        Array.from({ length: instanceCount }, (_, index) => `instance-${index}`),
        (id, index) =>
          Registry.register({ id, name, address: "10.0.0.1", port: 8_000 + index, metadata: { version: "1.0.0" } }),
        { concurrency: "unbounded" }
      ),
      name
    )
  }

  const complete = (found: ReadonlyArray<unknown>): void => {
    if (found.length !== instanceCount) throw new Error("an instance is missing")
  }

  /** The instances, from the copy: of one who follows the service, and of one who only asks now and then. */
  const local = scoped((slice, meter) =>
    Effect.gen(function*() {
      const registry = yield* Registry.Registry
      const name = yield* registered(slice)
      const { events, instances } = yield* registry.follow(name)
      yield* Stream.runDrain(Stream.take(events, instanceCount))
      const followed = meter.operation("followed")
      const asked = meter.part("asked")
      const once = Effect.gen(function*() {
        const begin = meter.now()
        const found = yield* instances
        followed(begin)
        complete(found)
        const since = meter.now()
        const state = yield* registry.instancesState(name)
        asked(since)
        complete(state.instances)
      })
      yield* Effect.whileLoop({
        while: meter.running,
        body: () => Effect.zipRight(Effect.repeatN(once, 9), breathe),
        step: () => {}
      })
    })
  )

  /** A discovery by quorum read, and the parts of one by hand; in turn, so that nothing else differs. */
  const quorum = scoped((slice, meter) =>
    Effect.gen(function*() {
      const registry = yield* Registry.Registry
      const client = yield* EtcdClient.EtcdClient
      const name = yield* registered(slice)
      const decode = Schema.decodeUnknownSync(Registry.ServiceInfo)
      const range = Key.prefix(`/services/${name}/`)
      const parts = Effect.map(client.range(range), ({ kvs }) =>
        kvs.map(({ value }) => decode(JSON.parse(Buffer.from(value).toString()))))
      const discovered = meter.operation("discover")
      const read = meter.part("parts")
      const timed = <A extends ReadonlyArray<unknown>, E>(
        effect: Effect.Effect<A, E>,
        note: (begin: number) => void
      ) =>
        Effect.suspend(() => {
          const begin = meter.now()
          return Effect.map(effect, (found) => {
            note(begin)
            complete(found)
          })
        })
      const both = [timed(registry.discover(name), discovered), timed(parts, read)]
      let turn = 0
      yield* Effect.whileLoop({
        while: meter.running,
        body: () =>
          both[turn++ % 2],
        step: () => {}
      })
    })
  )

  /** As many watchers of one service as `inFlight` says hear of changes of it, one after the other. */
  const reach = scoped((slice, meter) =>
    Effect.gen(function*() {
      const name = `bench-${slice.name}`
      const scope = yield* Scope.make()
      const registration = yield* Registry.register({
        id: "one",
        name,
        address: "10.0.0.1",
        port: 8_000,
        metadata: { version: "0" }
      })
      let begin = 0
      let heard = 0
      const times: { readonly median: Array<number>; readonly last: Array<number> } = { median: [], last: [] }
      const everybody = yield* Effect.makeLatch(false)
      const half = Math.ceil(slice.inFlight / 2)
      const hear = Effect.suspend(() => {
        heard++
        if (heard === half) times.median.push(meter.now() - begin)
        if (heard !== slice.inFlight) return Effect.void
        times.last.push(meter.now() - begin)
        return everybody.open
      })
      const watchers = yield* Effect.forkIn(
        Effect.forEach(
          Array.from({ length: slice.inFlight }),
          () => Effect.forkIn(Stream.runForEach(Registry.watch(name), () => hear), scope),
          { concurrency: beginningAtOnce }
        ),
        scope
      )
      const heardByAll = Effect.raceFirst(
        everybody.await,
        Effect.zipRight(Effect.flatMap(Fiber.join(watchers), Fiber.joinAll), Effect.dieMessage("the watchers ended"))
      )
      // The present instance: all of them watch.
      yield* heardByAll
      times.median.length = times.last.length = 0
      for (let change = 1; change <= changeCount; change++) {
        heard = 0
        yield* everybody.close
        begin = meter.now()
        yield* registration.update({ version: String(change) })
        yield* heardByAll
      }
      const middle = (values: ReadonlyArray<number>) => [...values].sort((a, b) => a - b)[values.length >> 1]
      meter.figure("medianMillis", middle(times.median))
      meter.figure("lastMillis", middle(times.last))
      yield* Scope.close(scope, Exit.void)
    })
  )

  return { cached, manager, local, quorum, reach }
}
