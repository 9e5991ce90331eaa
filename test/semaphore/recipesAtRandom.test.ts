/**
 * Everything that is held under a name, in three processes, at random: connections break and stall, answers are lost, leases
 * end, keys are deleted by hand, and many give up or are interrupted on the way. Never do more hold than may, everybody who is
 * left gets through, and nothing stays behind.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import type * as Scope from "effect/Scope"
import * as Election from "../../src/Election.js"
import * as InstanceId from "../../src/InstanceId.js"
import * as Lock from "../../src/Lock.js"
import * as ReadWriteLock from "../../src/ReadWriteLock.js"
import * as Semaphore from "../../src/Semaphore.js"
import * as TestEtcd from "../../src/testing.js"
import { until } from "../faults/lost/World.js"
import * as Wishes from "../lock/wishes.js"
import { process, text } from "../support/memory.js"
import { inVirtualTime } from "../support/virtualTime.js"

const services = Layer.mergeAll(Election.layer(), InstanceId.layer(), ReadWriteLock.layer(), Semaphore.layer())

type Services = Layer.Layer.Success<typeof services> | Lock.Lock

interface Wish extends Wishes.Wish {
  readonly recipe: keyof typeof recipes
  readonly name: string
  readonly permits: number
  readonly ttl: "5 seconds" | "9 seconds"
}

interface Trouble {
  /** The last one is that of all. */
  readonly process: number
  readonly after: number
  readonly lasts: number
  readonly what: keyof typeof troubles
}

/** Does what the wish is about: so much of a resource that has so much. */
type Occupy = (resource: string, share: number, capacity: number, token: bigint) => Effect.Effect<void>

type Recipe = (
  wish: Wish,
  occupy: Occupy
) => Effect.Effect<unknown, { readonly _tag: string }, Services | Scope.Scope>

const limit = 4
const readers = 100
const maxId = 3

const recipes = {
  withPermits: ({ name, permits, timeout, ttl }, occupy) =>
    Semaphore.withPermits(name, { limit, permits, timeout, ttl })(({ fencingToken }) =>
      occupy(`permits of ${name}`, permits, limit, fencingToken)
    ),
  withPermitsIfAvailable: ({ name, permits, ttl }, occupy) =>
    Semaphore.withPermitsIfAvailable(name, { limit, permits, ttl })(({ fencingToken }) =>
      occupy(`permits of ${name}`, permits, limit, fencingToken)
    ),
  tryPermits: ({ name, permits, ttl }, occupy) =>
    Effect.flatMap(
      Semaphore.tryAcquire(name, { limit, permits, ttl }),
      ({ fencingToken, lost }) => Effect.raceFirst(occupy(`permits of ${name}`, permits, limit, fencingToken), lost)
    ),
  withRead: ({ name, timeout, ttl }, occupy) =>
    ReadWriteLock.withRead(name, { timeout, ttl })(({ fencingToken }) => occupy(name, 1, readers, fencingToken)),
  withWrite: ({ name, timeout, ttl }, occupy) =>
    ReadWriteLock.withWrite(name, { timeout, ttl })(({ fencingToken }) => occupy(name, readers, readers, fencingToken)),
  read: ({ name, timeout, ttl }, occupy) =>
    Effect.flatMap(
      ReadWriteLock.read(name, { timeout, ttl }),
      ({ fencingToken, lost, release }) =>
        Effect.zipRight(Effect.raceFirst(occupy(name, 1, readers, fencingToken), lost), release)
    ),
  tryWrite: ({ name, ttl }, occupy) =>
    Effect.flatMap(
      ReadWriteLock.tryWrite(name, { ttl }),
      ({ fencingToken, lost }) => Effect.raceFirst(occupy(name, readers, readers, fencingToken), lost)
    ),
  campaign: ({ name, timeout, ttl }, occupy) =>
    Effect.flatMap(
      Election.campaign(name, { timeout, ttl }),
      ({ lost, proclaim, resign, term }) =>
        Effect.raceFirst(occupy(`lead of ${name}`, 1, 1, term), lost).pipe(
          Effect.zipRight(proclaim("done")),
          Effect.zipRight(resign)
        )
    ),
  withLeadership: ({ name, ttl }, occupy) =>
    Election.withLeadership(name, { ttl })(({ term }) => occupy(`lead of ${name}`, 1, 1, term)),
  withLocks: ({ name, timeout, ttl }, occupy) =>
    Lock.withLocks(["both", name], { timeout, ttl })(({ fencingToken }) => occupy("both", 1, 1, fencingToken)),
  allocate: ({ name, ttl }, occupy) =>
    Effect.flatMap(
      InstanceId.allocate(name, { maxId, ttl }),
      ({ fencingToken, id, lost, release }) =>
        Effect.zipRight(Effect.raceFirst(occupy(`${id} of ${name}`, 1, 1, fencingToken), lost), release)
    )
} satisfies Record<string, Recipe>

const isOurs = ({ key }: { readonly key: Uint8Array }): boolean => !text(key).startsWith("/coord/attempts/")

/** @param lost whose holders hear of it afterwards only, and may overlap with the next ones until then */
type Hurt = (etcd: TestEtcd.Engine, faults: TestEtcd.Faults, lasts: number, lost: Set<bigint>) => Effect.Effect<void>

const forAWhile = (begin: Effect.Effect<void>, lasts: number, end: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.zipRight(begin, Effect.delay(end, lasts))

const ofTransactions: TestEtcd.FaultOptions = { match: ({ operation }) => operation === "txn" }

const troubles = {
  "the connection breaks": (_, { disconnect }) => disconnect,
  "a response is lost": (_, { loseResponse }) => loseResponse(ofTransactions),
  "a request is lost": (_, { loseRequest }) => loseRequest(ofTransactions),
  "nothing arrives": (_, { resume, stall }, lasts) => forAWhile(stall(), lasts, resume),
  "no answer arrives": (_, { resume, stall }, lasts) => forAWhile(stall({ applied: true }), lasts, resume),
  "etcd is away": (_, { down, up }, lasts) => forAWhile(down, lasts, up),
  "etcd restarts": ({ restart }) => restart,
  "the leader changes": ({ failOver }) => failOver,
  "history is compacted": ({ compact }) => compact(),
  "a key is deleted": (etcd, _, lasts, lost) =>
    Effect.flatMap(etcd.snapshot, (kvs) => {
      const ours = kvs.filter(isOurs)
      if (ours.length === 0) return Effect.void
      const { createRevision, key } = ours[lasts % ours.length]
      lost.add(createRevision)
      return Effect.asVoid(etcd.deleteKey(key))
    }),
  "a lease is revoked": (etcd, _, lasts, lost) =>
    Effect.gen(function*() {
      const leases = yield* etcd.leases
      if (leases.length === 0) return
      const { id } = leases[lasts % leases.length]
      for (const { createRevision, lease } of yield* etcd.snapshot) if (lease === id) lost.add(createRevision)
      yield* etcd.expireLease(id)
    })
} satisfies Record<string, Hurt>

const millis = (max: number) => FastCheck.integer({ min: 0, max })
/** Many things at the same moment, and others in the course of time. */
const soonOrLater = FastCheck.oneof(millis(50), millis(20_000))

const wish: FastCheck.Arbitrary<Wish> = FastCheck.record({
  process: millis(2),
  recipe: FastCheck.constantFrom(...Object.keys(recipes) as ReadonlyArray<keyof typeof recipes>),
  name: FastCheck.constantFrom("a", "a/b"),
  permits: FastCheck.integer({ min: 1, max: 3 }),
  ttl: FastCheck.constantFrom("5 seconds", "5 seconds", "9 seconds"),
  after: soonOrLater,
  holds: FastCheck.oneof(millis(20), millis(3_000)),
  timeout: FastCheck.option(FastCheck.integer({ min: 1, max: 4_000 }), { nil: undefined }),
  patience: FastCheck.option(FastCheck.oneof(millis(10), millis(4_000)), { nil: undefined })
})

const trouble: FastCheck.Arbitrary<Trouble> = FastCheck.record({
  process: millis(3),
  after: soonOrLater,
  lasts: FastCheck.integer({ min: 10, max: 9_000 }),
  what: FastCheck.constantFrom(...Object.keys(troubles) as ReadonlyArray<keyof typeof troubles>)
})

const expected = new Set(["LockTimeout", "LockConflict", "LockExpired", "LockNotHeld", "EtcdError", "IdsExhausted"])

const run = (wishes: ReadonlyArray<Wish>, hurts: ReadonlyArray<Trouble>) =>
  Effect.gen(function*() {
    const etcd = yield* TestEtcd.TestEtcd
    const processes = yield* Effect.forEach(["0", "1", "2"], (connection) =>
      Layer.build(Layer.provideMerge(services, process({ connection, requestTimeout: "3 seconds" }))))
    const inside = new Map<string, Map<bigint, { readonly share: number; readonly token: bigint }>>()
    const lost = new Set<bigint>()
    let served = 0

    /** What it does while it holds takes virtual time, and nothing else. */
    const occupyFor = (holds: number): Occupy => (resource, share, capacity, token) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          const present = inside.get(resource) ?? new Map<bigint, { readonly share: number; readonly token: bigint }>()
          inside.set(resource, present.set(token, { share, token }))
          let sum = 0
          for (const other of present.values()) {
            if (!lost.has(other.token)) {
              sum += other.share
            }
          }
          assert.isAtMost(sum, capacity, resource)
          return present
        }),
        () =>
          Effect.sleep(holds),
        (present) =>
          Effect.sync(() => {
            present.delete(token)
            served++
          })
      )

    const fulfil = (wish: Wish) => {
      const { holds, process, recipe } = wish
      const way: Recipe = recipes[recipe]
      const attempt = Effect.scoped(way(wish, occupyFor(holds))).pipe(
        Effect.provide(processes[process]),
        Effect.catchIf(({ _tag }) => expected.has(_tag), () => Effect.void)
      )
      return Wishes.inItsTime(wish, attempt)
    }

    const hurt = ({ after, lasts, process, what }: Trouble) => {
      const way: Hurt = troubles[what]
      const faults = process < processes.length ? etcd.connection(String(process)) : etcd
      return Effect.delay(Effect.suspend(() => way(etcd, faults, lasts, lost)), after)
    }

    yield* Effect.all([...wishes.map(fulfil), ...hurts.map(hurt)], { concurrency: "unbounded", discard: true })
    // Nobody is left, in the end: each can have all of it.
    yield* etcd.clear
    const timeout = "30 seconds"
    const all = Effect.forEach(["a", "a/b"], (name) =>
      Effect.scoped(Effect.gen(function*() {
        yield* Semaphore.acquire(name, { limit, permits: limit, timeout })
        yield* ReadWriteLock.write(name, { timeout })
        yield* Election.campaign(name, { timeout })
        yield* Lock.acquireAll(["both", name], { timeout })
        yield* Effect.replicateEffect(InstanceId.allocate(name, { maxId }), maxId)
      })))
    for (const services of processes) yield* Effect.provide(all, services)
    yield* until("nothing is left", Effect.map(etcd.snapshot, (kvs) => !kvs.some(isOurs)))
    return served
  }).pipe(
    Effect.scoped,
    Effect.provide(TestEtcd.layer()),
    Logger.withMinimumLogLevel(LogLevel.None),
    (effect) => inVirtualTime(effect, "10 minutes")
  )

describe("all recipes, at random", () => {
  it.effect.each(Array.from({ length: 30 }, (_, index) => index + 1))(
    "give out no more than there is, and leave nothing behind (seed %i)",
    (seed) =>
      Effect.gen(function*() {
        const [wishes, hurts] = FastCheck.sample(
          FastCheck.tuple(
            FastCheck.array(wish, { minLength: 30, maxLength: 60, size: "max" }),
            FastCheck.array(trouble, { maxLength: seed % 4 === 0 ? 0 : 12, size: "max" })
          ),
          { seed, numRuns: 1 }
        )[0]
        assert.isAbove(yield* run(wishes, hurts), 5)
      })
  )
})
