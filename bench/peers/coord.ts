/** The library's own runs of the workloads. */
import { Effect, Fiber, Option, Queue, Schema, Stream } from "effect"
import type { Body } from "../../src/Lock.js"
import * as Library from "./library.js"
import type { Meter } from "./meter.js"
import type { Peer, Workload } from "./peer.js"
import { ownLock, readKey, Setting, settingKey, value, valueLength, writeKey } from "./peer.js"
import type { Settings, Slice } from "./protocol.js"

const machineMillis = (): number => Number(process.hrtime.bigint()) / 1e6

export const open = async (settings: Settings): Promise<Peer> => {
  const { close, modules, workload } = await Library.open(settings)
  const { Config, EtcdClient, Lock } = modules

  /** One call after the other. */
  const calling = <A, E>(
    make: (client: typeof EtcdClient.EtcdClient.Service) => () => Effect.Effect<A, E>,
    check: (result: A) => boolean
  ): Workload =>
    workload((slice, meter) =>
      Effect.map(EtcdClient.EtcdClient, (client) => {
        const done = meter.operation("call")
        return Library.fibres(slice, meter, () => ({
          body: make(client),
          step: (result, begin) => {
            done(begin)
            if (!check(result)) throw new Error("a key is missing")
          }
        }))
      })
    )

  const get = calling(
    (client) => () => client.get(readKey()),
    (kv) => Option.isSome(kv) && kv.value.value.length === valueLength
  )

  const put = calling((client) => () => client.put({ key: writeKey(), value }), () => true)

  const configGet = workload((slice, meter) =>
    Effect.map(Config.Config, (config) => {
      const done = meter.operation("call")
      return Library.fibres(slice, meter, () => ({
        body: () => config.get(settingKey(), Setting),
        step: (_, begin) => done(begin)
      }))
    })
  )

  /** Everybody sets a key of their own, and waits until their watch tells. */
  const watch = workload((slice, meter) =>
    Effect.succeed(Effect.scoped(Effect.gen(function*() {
      const config = yield* Config.Config
      const heard = meter.part("event")
      const done = meter.operation("call")
      const workers = yield* Effect.forEach(Array.from({ length: slice.inFlight }), (_, index) =>
        Effect.gen(function*() {
          const key = `bench/${slice.name}/${index}`
          const events = yield* Queue.unbounded<void>()
          const worker = { begin: 0 }
          const following = yield* Effect.forkScoped(Stream.runForEach(config.watch(key, Schema.Int), () => {
            heard(worker.begin)
            return Queue.offer(events, undefined)
          }))
          const set = Effect.suspend(() => {
            worker.begin = meter.now()
            return config.set(key, Schema.Int, 1)
          })
          const setAndHear = Effect.zipRight(set, Effect.raceFirst(Queue.take(events), Fiber.join(following)))
          // The watch stands when it has told of something.
          yield* setAndHear
          return Effect.zipRight(set, Queue.take(events))
        }))
      return yield* Library.fibres(slice, meter, (index) => ({
        body: () => workers[index],
        step: (_, begin) => done(begin)
      }))
    })))
  )

  const lock = workload((slice, meter) =>
    Effect.map(Lock.Lock, (locks) => {
      const acquired = meter.part("acquire")
      const done = meter.operation("cycle")
      return Library.fibres(slice, meter, (index) => {
        const key = ownLock(slice, index)
        return {
          body: () => {
            const begin = meter.now()
            return locks.withLock(key)(Effect.sync(() => acquired(begin)))
          },
          step: (_, begin) => done(begin)
        }
      })
    })
  )

  const acquire = workload((slice, meter) =>
    Effect.map(Lock.Lock, (locks) => {
      const acquired = meter.part("acquire")
      const done = meter.operation("cycle")
      return Library.fibres(slice, meter, (index) => {
        const key = ownLock(slice, index)
        return {
          body: () => {
            const begin = meter.now()
            return Effect.scoped(Effect.map(locks.acquire(key), () => acquired(begin)))
          },
          step: (_, begin) => done(begin)
        }
      })
    })
  )

  /** All want the same lock. */
  const contending = (slice: Slice, meter: Meter, locks: typeof Lock.Lock.Service, body: Body<void, never, never>) => {
    const done = meter.operation("cycle")
    const key = `bench/${slice.name}`
    const taking = Library.fibres(slice, meter, () => ({
      body: () => locks.withLock(key)(body),
      step: (_, begin) => done(begin)
    }))
    // Who still waits at the end does not wait for its turn.
    return Effect.raceFirst(taking, Effect.promise(() => meter.ended))
  }

  /** A hand-over lasts from the end of one body to the begin of the next. */
  const contended = workload((slice, meter) =>
    Effect.map(Lock.Lock, (locks) => {
      const handOver = meter.part("hand-over")
      let releasedAt = 0
      let held = false
      return contending(
        slice,
        meter,
        locks,
        Effect.sync(() => {
          if (held) throw new Error("two hold the lock")
          held = true
          if (releasedAt > 0) handOver(releasedAt)
          held = false
          releasedAt = meter.now()
        })
      )
    })
  )

  /** The share of one process: when it began and ended is known to all by the machine's clock. */
  const apart = workload((slice, meter) =>
    Effect.map(Lock.Lock, (locks) =>
      contending(slice, meter, locks, ({ fencingToken }) =>
        Effect.sync(() => {
          const begin = machineMillis()
          meter.turn({ token: Number(fencingToken), begin, end: machineMillis() })
        })))
  )

  return {
    workloads: { get, "config-get": configGet, put, watch, lock, acquire, contended, "contended-apart": apart },
    close
  }
}
