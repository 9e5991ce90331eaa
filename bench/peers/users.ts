/**
 * The library as applications use it, for the promises in numbers: single operations with others going on beside them, a
 * mixture at full speed, and a great many of everything open at once.
 */
import { Data, Effect, Exit, Fiber, Schedule, Schema, Scope, Stream } from "effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Copies from "./copies.js"
import * as Library from "./library.js"
import type { Meter } from "./meter.js"
import type { Peer } from "./peer.js"
import { ownLock } from "./peer.js"
import type { Settings, Slice } from "./protocol.js"

class Lost extends Data.TaggedError("Lost")<{}> {
  override readonly message = "a lock was lost"
}

const Limits = Schema.Struct({ requests: Schema.Int, burst: Schema.Int, tags: Schema.Array(Schema.String) })
const limits = { requests: 100, burst: 20, tags: ["a", "b"] }

const instanceCount = 10
/** How many of the great many are opened at the same time. */
const openingAtOnce = 256
/** How many calls per second the background makes. */
const backgroundRate = 100

export const open = async (settings: Settings): Promise<Peer> => {
  const library = await Library.open(settings)
  const { close, modules, workload } = library
  const { Config, Lock, Registry } = modules
  type Call<A = unknown> = () => Effect.Effect<A, unknown, Library.Services>

  /** A service, a setting and a lock that belong to the slice, for as long as `use` runs. */
  const equipped = (
    slice: Slice,
    use: (calls: {
      readonly lock: (index: number, acquired: () => void) => Effect.Effect<void, unknown, Library.Services>
      readonly discover: Call
      readonly read: Call
      readonly write: (index: number) => Effect.Effect<unknown, unknown, Library.Services>
    }) => Effect.Effect<void, unknown, Library.Services>
  ): Effect.Effect<void, unknown, Library.Services> =>
    Effect.scoped(Effect.gen(function*() {
      const service = `bench-${slice.name}`
      const key = `bench/${slice.name}`
      yield* Effect.forEach(
        Array.from({ length: instanceCount }, (_, index) => `instance-${index}`),
        (id, index) => Registry.register({ id, name: service, address: "10.0.0.1", port: 8_000 + index })
      )
      yield* Config.set(key, Limits, limits)
      yield* use({
        lock: (index, acquired) => Lock.withLock(ownLock(slice, index))(Effect.sync(acquired)),
        discover: () =>
          Effect.filterOrDieMessage(
            Effect.flatMap(Registry.Registry, (registry) => registry.discover(service)),
            (found) => found.length === instanceCount,
            "an instance is missing"
          ),
        read: () => Config.get(key, Limits),
        write: (index) => Config.set(`${key}/${index}`, Limits, limits)
      })
    }))

  const single = (kind: "discover" | "read") =>
    workload((slice, meter) =>
      Effect.succeed(equipped(slice, (calls) => {
        const done = meter.operation("call")
        return Library.fibres(slice, meter, () => ({ body: calls[kind], step: (_, begin) => done(begin) }))
      }))
    )

  const lock = workload((slice, meter) =>
    Effect.succeed(equipped(slice, (calls) => {
      const acquired = meter.part("acquire")
      const done = meter.operation("cycle")
      return Library.fibres(slice, meter, (index) => ({
        body: () => {
          const begin = meter.now()
          return calls.lock(index, () => acquired(begin))
        },
        step: (_, begin) => done(begin)
      }))
    }))
  )

  /** In turn: a cycle of an own lock, a discovery, a read of a setting that all have, and a write of an own one. */
  const mixed = workload((slice, meter) =>
    Effect.succeed(equipped(slice, (calls) => {
      const done = meter.operation("call")
      return Library.fibres(slice, meter, (index) => {
        const turns: ReadonlyArray<Call> = [
          () => calls.lock(index, () => {}),
          calls.discover,
          calls.read,
          () => calls.write(index)
        ]
        let turn = index
        return { body: () => turns[turn++ % turns.length](), step: (_, begin) => done(begin) }
      })
    }))
  )

  /** The same mixture at a fixed rate, whatever the answers take. */
  const background = workload((slice, meter) =>
    Effect.succeed(equipped(slice, (calls) => {
      const done = meter.operation("call")
      const turns: ReadonlyArray<(index: number) => Effect.Effect<unknown, unknown, Library.Services>> = [
        (index) => calls.lock(index % backgroundRate, () => {}),
        calls.discover,
        calls.read,
        (index) => calls.write(index % backgroundRate)
      ]
      let index = 0
      const tick = Effect.suspend(() => {
        const begin = meter.now()
        const call = turns[index % turns.length](index++)
        return Effect.fork(Effect.map(call, () => done(begin)))
      })
      return Effect.scoped(Effect.zipRight(
        Effect.forkScoped(Effect.repeat(tick, Schedule.fixed(1_000 / backgroundRate))),
        Effect.promise(() => meter.ended)
      ))
    }))
  )

  return {
    workloads: {
      lock,
      discover: single("discover"),
      read: single("read"),
      mixed,
      background,
      open: workload(openMany(modules)),
      ...Copies.workloads(library)
    },
    close
  }
}

const seconds = <A, E, R>(meter: Meter, name: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const begin = meter.now()
    return Effect.tap(effect, () => Effect.sync(() => meter.figure(name, (meter.now() - begin) / 1_000)))
  })

setFlagsFromString("--expose-gc")
const collectGarbage = runInNewContext("gc") as () => void

/** What is in use, without garbage. */
const memoryMiB = Effect.sync(() => {
  collectGarbage()
  const { external, heapUsed } = process.memoryUsage()
  return (heapUsed + external) / 1024 ** 2
})

/** So many locks, registrations and watchers, all open at once; every watcher then hears of a change of its own key. */
const openMany =
  ({ Config, Lock, Registry }: Library.Library["modules"]) =>
  (slice: Slice, meter: Meter): Effect.Effect<Effect.Effect<void, unknown, Library.Services>> =>
    Effect.succeed(Effect.gen(function*() {
      const all = Array.from({ length: slice.inFlight }, (_, index) => index)
      const setting = (index: number): string => `bench/${slice.name}/${index}`
      const atOnce = { concurrency: openingAtOnce, discard: true } as const
      const scope = yield* Scope.make()
      const opening = Effect.gen(function*() {
        let memory = yield* memoryMiB
        const grown = (name: string) =>
          Effect.map(memoryMiB, (now) => {
            meter.figure(name, now - memory)
            memory = now
          })
        const locks = yield* seconds(
          meter,
          "lockSeconds",
          Effect.forEach(all, (index) => Lock.acquire(ownLock(slice, index)), { concurrency: openingAtOnce })
        )
        yield* grown("lockMiB")
        yield* seconds(
          meter,
          "registerSeconds",
          Effect.forEach(all, (index) =>
            Registry.register({
              id: `${slice.name}-${index}`,
              name: `bench-open-${index % 100}`,
              address: "10.0.0.1",
              port: 8_000
            }), atOnce)
        )
        yield* grown("registerMiB")
        let watching = 0
        let heard = 0
        const ready = yield* Effect.makeLatch(false)
        const complete = yield* Effect.makeLatch(false)
        yield* Effect.forEach(all, (index) => Config.set(setting(index), Schema.Int, 0), atOnce)
        const watcher = (index: number) =>
          Stream.runForEach(Config.watch(setting(index), Schema.Int), (event) => {
            if (event._tag !== "Put") return Effect.void
            if (event.value === 0) return ++watching === all.length ? ready.open : Effect.void
            return ++heard === all.length ? complete.open : Effect.void
          })
        const watchers = yield* Effect.forkScoped(
          Effect.forEach(all, watcher, { concurrency: "unbounded", discard: true })
        )
        const whileWatching = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          Effect.raceFirst(effect, Fiber.join(watchers))
        yield* seconds(meter, "watchSeconds", whileWatching(ready.await))
        yield* grown("watchMiB")
        const change = Effect.forEach(all, (index) => Config.set(setting(index), Schema.Int, 1), atOnce)
        yield* seconds(meter, "changeSeconds", whileWatching(Effect.zipRight(change, complete.await)))
        yield* Effect.forEach(locks, (lock) =>
          Effect.filterOrFail(
            lock.isExpired,
            (expired) => !expired,
            () => new Lost()
          ), atOnce)
      })
      yield* Effect.ensuring(
        Scope.extend(opening, scope),
        seconds(meter, "closeSeconds", Scope.close(scope, Exit.void))
      )
    }))
