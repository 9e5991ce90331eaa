/**
 * Many who want one, some or several of a few locks, in any order, in three processes, while connections break and some give
 * up: never two at once, and everybody gets through.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Layer from "effect/Layer"
import * as Lock from "../../src/Lock.js"
import * as TestEtcd from "../../src/testing.js"
import { until } from "../faults/lost/World.js"
import { process } from "../support/memory.js"
import { inVirtualTime } from "../support/virtualTime.js"
import * as Wishes from "./wishes.js"

/** Names that continue each other are different locks, whose queues lie within each other's. */
const names = ["a", "a/b", "a/b/c", "b", "c", "d"]

interface Wish extends Wishes.Wish {
  readonly keys: ReadonlyArray<string>
  readonly how: "all" | "single" | "try" | "if available"
}

interface Trouble {
  readonly process: number
  readonly after: number
  readonly what: "disconnect" | "lose a response" | "delete a key"
}

const millis = (max: number) => FastCheck.integer({ min: 0, max })

const wish: FastCheck.Arbitrary<Wish> = FastCheck.record({
  process: millis(2),
  keys: FastCheck.shuffledSubarray(names, { minLength: 1, maxLength: 4 }),
  how: FastCheck.constantFrom("all", "all", "all", "single", "try", "if available"),
  after: millis(300),
  holds: millis(20),
  timeout: FastCheck.option(millis(300).map((time) => time + 1), { nil: undefined, freq: 4 }),
  patience: FastCheck.option(millis(300), { nil: undefined, freq: 4 })
})

const trouble: FastCheck.Arbitrary<Trouble> = FastCheck.record({
  process: millis(2),
  after: millis(400),
  what: FastCheck.constantFrom("disconnect", "lose a response", "delete a key")
})

const run = (wishes: ReadonlyArray<Wish>, troubles: ReadonlyArray<Trouble>) =>
  Effect.gen(function*() {
    const etcd = yield* TestEtcd.TestEtcd
    const processes = yield* Effect.forEach(
      ["0", "1", "2"],
      (connection) => Effect.map(Layer.build(process({ connection })), Context.get(Lock.Lock))
    )
    const inside = new Map<string, Set<Lock.LockHandle | Lock.LocksHandle>>()
    /** Whose key was deleted by hand: they hear of it afterwards, and may overlap with the next one until then. */
    const lost = new Set<bigint>()
    let served = 0

    const occupy = (keys: ReadonlyArray<string>, lock: Lock.LockHandle | Lock.LocksHandle, time: number) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          for (const key of keys) {
            const others = inside.get(key) ?? new Set()
            inside.set(key, others)
            for (const other of others) {
              assert.isTrue(lost.has(other.fencingToken), `two hold ${key}`)
              assert.isTrue(lock.fencingToken > other.fencingToken, `tokens of ${key} do not grow`)
            }
            others.add(lock)
          }
        }),
        () => Effect.sleep(time),
        () =>
          Effect.sync(() => {
            for (const key of keys) inside.get(key)?.delete(lock)
            served++
          })
      )

    const fulfil = (wish: Wish) => {
      const { holds, how, keys, process, timeout } = wish
      const lock = processes[process]
      const [key] = keys
      const ways = {
        all: lock.withLocks(keys, { ttl: "10 seconds", timeout })((held) => occupy(keys, held, holds)),
        single: lock.withLock(key, { ttl: "10 seconds", timeout })((held) => occupy([key], held, holds)),
        try: Effect.scoped(
          Effect.flatMap(lock.tryAcquire(key, { ttl: "10 seconds" }), (held) =>
            Effect.raceFirst(occupy([key], held, holds), held.lost))
        ),
        "if available": lock.withLockIfAvailable(key, { ttl: "10 seconds" })((held) =>
          occupy([key], held, holds)
        )
      }
      const attempt = Effect.asVoid<unknown, unknown, never>(ways[how]).pipe(
        Effect.catchAll((error) =>
          error instanceof Lock.LockTimeout || error instanceof Lock.LockConflict || error instanceof Lock.LockExpired
            ? Effect.void
            : Effect.fail(error)
        )
      )
      return Wishes.inItsTime(wish, attempt)
    }

    const hurt = ({ after, process, what }: Trouble) =>
      Effect.zipRight(
        Effect.sleep(after),
        Effect.suspend(() => {
          const connection = etcd.connection(String(process))
          switch (what) {
            case "disconnect":
              return connection.disconnect
            case "lose a response":
              return connection.loseResponse({ match: ({ operation }) => operation === "txn" })
            case "delete a key":
              return Effect.flatMap(etcd.snapshot, (kvs) => {
                const found = kvs.find(({ key }) => Buffer.from(key).toString().startsWith("/locks/"))
                if (found === undefined) return Effect.void
                lost.add(found.createRevision)
                return Effect.asVoid(etcd.deleteKey(found.key))
              })
          }
        })
      )

    yield* Effect.all([...wishes.map(fulfil), ...troubles.map(hurt)], { concurrency: "unbounded", discard: true })
    // Nobody is left, in the end.
    yield* etcd.clear
    for (const lock of processes) {
      yield* lock.withLocks(names, { timeout: "1 minute" })((held) => occupy(names, held, 1))
    }
    yield* until(
      "no entry is left",
      Effect.map(etcd.snapshot, (kvs) => !kvs.some(({ key }) => Buffer.from(key).toString().startsWith("/locks/")))
    )
    return served
  }).pipe(Effect.scoped, Effect.provide(TestEtcd.layer()), inVirtualTime)

describe("several locks, at random", () => {
  it.effect.each(Array.from({ length: 60 }, (_, index) => index + 1))(
    "exclude each other and lock nobody out (seed %i)",
    (seed) =>
      Effect.gen(function*() {
        const [wishes, troubles] = FastCheck.sample(
          FastCheck.tuple(
            FastCheck.array(wish, { minLength: 30, maxLength: 60 }),
            FastCheck.array(trouble, { maxLength: seed % 2 === 0 ? 0 : 12 })
          ),
          { seed, numRuns: 1 }
        )[0]
        assert.isAbove(yield* run(wishes, troubles), 15)
      })
  )
})
