/**
 * One of three members is hurt while calls, a watch, a lease and a lock go on. No call takes longer than its deadline, and
 * after the first few none takes longer than while all was well; watches and leases move, and nothing is lost.
 */
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { EtcdClient } from "../../src/EtcdClient.js"
import type { EtcdError } from "../../src/EtcdError.js"
import * as Lock from "../../src/Lock.js"
import * as Session from "../../src/Session.js"
import * as Txn from "../../src/Txn.js"
import type { Client } from "../grpc/support.js"
import { assertSequence, below, connect, show, until } from "../grpc/support.js"
import * as EtcdCluster from "../support/EtcdCluster.js"
import type { EtcdServerService } from "../support/EtcdServer.js"
import * as TcpProxy from "../support/TcpProxy.js"

const fibers = 16
/** The deadline of every call, in milliseconds. */
const deadline = 2_000
/** What a busy machine may add to it. */
const allowance = 1_000
/** Calls that take longer than this count as slow. */
const slow = deadline / 2
/** Shorter ones do not survive every election: see the guarantees. */
const ttl = "10 seconds"

const now = (): number => performance.now()

/** A member, and the way to it that can be cut. */
interface Way {
  readonly member: EtcdServerService
  readonly proxy: TcpProxy.TcpProxy
}

interface Fault {
  readonly name: string
  readonly hurt: (way: Way) => Effect.Effect<void, unknown>
  readonly heal: (way: Way) => Effect.Effect<void, unknown>
}

const killed: Fault = {
  name: "killed",
  hurt: ({ member }) => member.kill,
  heal: ({ member }) => member.start
}
const stopped: Fault = {
  name: "stopped",
  hurt: ({ member }) => member.pause,
  heal: ({ member }) => Effect.zipRight(member.resume, member.ready)
}
const blackHoled: Fault = {
  name: "black-holed",
  hurt: ({ proxy }) => proxy.blackHole,
  heal: ({ proxy }) => proxy.resume
}

interface Span {
  readonly begin: number
  readonly end: number
}

interface Call extends Span {
  readonly outcome: "ok" | EtcdError["reason"]
  /** How long it took of the time in which this process ran. */
  readonly millis: number
}

/** Notes when this process did not run, for tens of milliseconds: that is the machine's doing, and no call's. */
const watchingStalls = Effect.gen(function*() {
  const stalls: Array<Span> = []
  const step = 10
  yield* Effect.suspend(() => {
    const begin = now()
    return Effect.map(Effect.sleep(step), () => {
      const end = now()
      if (end - begin > 5 * step) stalls.push({ begin: begin + step, end })
    })
  }).pipe(Effect.forever, Effect.forkScoped)
  return ({ begin, end }: Span): number =>
    stalls.map((stall) => Math.max(0, Math.min(end, stall.end) - Math.max(begin, stall.begin)))
      .reduce((sum, one) => sum + one, 0)
})

const percentile = (calls: ReadonlyArray<Call>, part: number): number => {
  const sorted = calls.map(({ millis }) => millis).sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]
}

const longest = (calls: ReadonlyArray<Call>): number => Math.max(0, ...calls.map(({ millis }) => millis))

const ms = (millis: number): string => `${millis.toFixed(millis < 10 ? 1 : 0)} ms`

const latencies = (calls: ReadonlyArray<Call>): string =>
  `${calls.length} calls, p50 ${ms(percentile(calls, 0.5))}, p99 ${ms(percentile(calls, 0.99))}, ` +
  `longest ${ms(longest(calls))}`

/** Gets, puts and guarded transactions, one after another in each of many fibers, until told to stop. */
const working = (client: Client, lock: Lock.LockHandle, prefix: string) =>
  Effect.gen(function*() {
    const calls: Array<Omit<Call, "millis">> = []
    const stalled = yield* watchingStalls
    /** When the successful calls of each fiber began. */
    const succeeded = Array.from({ length: fibers }, (): Array<number> => [])
    const acknowledged: Array<string> = []
    let values = 0
    let stopping = false
    const once = (fiber: number, round: number): Effect.Effect<void, EtcdError> => {
      const key = `${prefix}${fiber}`
      const value = String(values++)
      const written = (revision: bigint): void => {
        acknowledged.push(`+${key}=${value}@${revision}`)
      }
      switch ((fiber + round) % 3) {
        case 0:
          return Effect.asVoid(client.get(key))
        case 1:
          return Effect.map(client.put({ key, value }), ({ header }) => written(header.revision))
        default:
          return Effect.map(
            client.txn({ compare: [lock.guard], success: [Txn.put({ key, value })] }),
            ({ header, succeeded }) => {
              assert.isTrue(succeeded, "the lock is held")
              written(header.revision)
            }
          )
      }
    }
    const loop = (fiber: number) =>
      Effect.gen(function*() {
        for (let round = 0; !stopping; round++) {
          const begin = now()
          const outcome = yield* Effect.match(once(fiber, round), {
            onFailure: ({ reason }) => reason,
            onSuccess: () => "ok" as const
          })
          calls.push({ begin, end: now(), outcome })
          if (outcome === "ok") succeeded[fiber].push(begin)
          // A steady load that leaves the machine some air.
          yield* Effect.sleep("10 millis")
        }
      })
    const running = yield* Effect.fork(
      Effect.all(Array.from({ length: fibers }, (_, fiber) => loop(fiber)), { concurrency: "unbounded", discard: true })
    )
    return {
      calls: () => calls.map((call): Call => ({ ...call, millis: call.end - call.begin - stalled(call) })),
      acknowledged,
      /** Waits until every fiber has done so many successful calls that began at `since` or later. */
      each: (count: number, since: number) =>
        Effect.raceFirst(
          until(`${count} calls of each`, Effect.sync(() => succeeded.every((begins) => begins.at(-count)! >= since))),
          Effect.zipRight(Fiber.join(running), Effect.never)
        ),
      stop: Effect.suspend(() => {
        stopping = true
        return Fiber.join(running)
      })
    }
  })

/** All events below the prefix as they arrive. */
const watching = (client: Client, prefix: string) =>
  Effect.gen(function*() {
    const watch = yield* client.openWatch(below(prefix))
    const events: Array<string> = []
    let last = now()
    let pause = 0
    yield* watch.next.pipe(
      Effect.map((batch) => {
        pause = Math.max(pause, now() - last)
        last = now()
        events.push(...batch.map(show))
      }),
      Effect.forever,
      Effect.forkScoped
    )
    return {
      revision: watch.revision,
      events,
      /** The longest time without an event since the last time of asking. */
      pause: () => {
        const longest = pause
        pause = 0
        return longest
      }
    }
  })

/** The same from etcd itself: a watch that nothing disturbs. */
const history = (client: Client, prefix: string, after: bigint) =>
  Effect.gen(function*() {
    const { kvs } = yield* client.range(below(prefix))
    const end = kvs.map(({ modRevision }) => modRevision).reduce((a, b) => a > b ? a : b)
    const watch = yield* client.openWatch({ ...below(prefix), startRevision: after + 1n })
    const events: Array<string> = []
    for (let seen = 0n; seen < end;) {
      const batch = yield* watch.next
      events.push(...batch.map(show))
      seen = batch[batch.length - 1].kv.modRevision
    }
    return events
  })

/** Locks over this client, and how often their lease was renewed. */
const locking = (client: Client): Effect.Effect<
  { readonly lock: Lock.Lock["Type"]; readonly sessions: Session.Sessions["Type"]; readonly renewals: Array<number> },
  unknown,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const renewals: Array<number> = []
    const counting: Client = {
      ...client,
      leaseKeepAliveOnce: (id, options) =>
        Effect.suspend(() => {
          const begin = now()
          return Effect.tap(client.leaseKeepAliveOnce(id, options), () => Effect.sync(() => renewals.push(begin)))
        })
    }
    const services = yield* Layer.build(
      Lock.layer().pipe(Layer.provideMerge(Session.layer), Layer.provide(Layer.succeed(EtcdClient, counting)))
    )
    return { lock: Context.get(services, Lock.Lock), sessions: Context.get(services, Session.Sessions), renewals }
  })

/** A client that is connected to the leader, or to another member. */
const setup = (connectedTo: "leader" | "follower") =>
  Effect.gen(function*() {
    const cluster = yield* EtcdCluster.EtcdCluster
    yield* Effect.forEach(cluster.members, ({ ready }) => ready, { concurrency: "unbounded", discard: true })
    const ways = yield* Effect.forEach(cluster.members, (member): Effect.Effect<Way, unknown, Scope.Scope> =>
      Effect.map(TcpProxy.make(member.endpoint), (proxy) => ({ member, proxy })))
    const leading = yield* cluster.leader
    const [used] = ways.filter(({ member }) =>
      (member === leading) === (connectedTo === "leader")
    )
    const others = ways.filter((way) => way !== used)
    yield* Effect.forEach(others, ({ proxy }) => proxy.refuse)
    const client = yield* connect({ endpoints: ways.map(({ proxy }) => proxy.endpoint), requestTimeout: deadline })
    yield* client.get("first")
    yield* Effect.forEach(others, ({ proxy }) => proxy.accept)
    return { cluster, client, used, others, leading }
  })

type Situation = Effect.Effect.Success<ReturnType<typeof setup>>

/** How many slow calls a fiber may have: until the member is left, and until there is a leader again. */
const slowRounds = { nobody: 0, "the client": 1, everybody: 4 }

let scenarios = 0

/** The whole of it: all well, the fault, the first few calls, the rest of them, and the member is back. */
const scenario = (
  name: string,
  { heal, hurt }: Fault,
  connectedTo: "leader" | "follower",
  choose: (situation: Situation) => Way,
  affects: keyof typeof slowRounds
) =>
  Effect.gen(function*() {
    const situation = yield* setup(connectedTo)
    const { client, cluster } = situation
    const way = choose(situation)
    const prefix = `/endpoints/${++scenarios}/`
    const { lock: locks, renewals, sessions } = yield* locking(client)
    const lock = yield* locks.acquire(`endpoints/${scenarios}`, { ttl })
    const session = yield* sessions.get(ttl)
    const lost = yield* Effect.fork(Effect.flip(lock.lost))
    const watch = yield* watching(client, prefix)
    const load = yield* working(client, lock, prefix)

    yield* load.each(10, 0)
    const warm = now()
    yield* load.each(50, warm)
    watch.pause()

    yield* Effect.addFinalizer(() => Effect.ignore(heal(way)))
    const hurtAt = now()
    yield* hurt(way)
    yield* load.each(1, now())
    const settled = now()
    yield* load.each(50, settled)
    const fresh = load.acknowledged[load.acknowledged.length - 1]
    yield* until("the watch goes on", Effect.sync(() => watch.events.includes(fresh)))
    const pause = watch.pause()
    yield* until("a renewal", Effect.sync(() => renewals.some((begin) => begin >= hurtAt)))
    // New ones have nothing to wait for either.
    yield* Effect.scoped(client.openWatch({ key: prefix }))
    yield* Effect.scoped(locks.acquire(`endpoints/${scenarios}/other`, { ttl }))
    const over = now()

    yield* heal(way)
    const healed = now()
    yield* load.each(25, healed)
    yield* load.stop

    const calls = load.calls()
    const begun = (from: number, to: number) => calls.filter(({ begin }) => begin >= from && begin < to)
    const healthy = begun(warm, hurtAt).filter(({ end }) => end <= hurtAt)
    const first = calls.filter(({ begin, end }) => end >= hurtAt && begin < settled)
    const after = begun(settled, over)
    const back = begun(healed, now())
    const slowOnes = first.filter(({ millis }) => millis > slow)
    const failed = first.filter(({ outcome }) => outcome !== "ok")
    const renewed = renewals.filter((begin) => begin >= hurtAt)[0]
    console.log([
      name,
      `  before:     ${latencies(healthy)}`,
      `  the fault:  ${latencies(first)}; ${slowOnes.length} over ${ms(slow)}, ${failed.length} failed, ` +
      `settled after ${ms(settled - hurtAt)}`,
      `  afterwards: ${latencies(after)}`,
      `  healed:     ${latencies(back)}`,
      `  the watch was silent for ${ms(pause)}; the lease was renewed ${ms(renewed - hurtAt)} after the fault`
    ].join("\n"))

    // Calls.
    assert.isAtMost(longest(calls), deadline + allowance)
    assert.isAtMost(slowOnes.length, slowRounds[affects] * fibers)
    assert.isAtMost(failed.length, slowRounds[affects] * fibers)
    assert.deepStrictEqual([...after, ...back].filter(({ outcome }) => outcome !== "ok"), [])
    const bar = Math.max(250, 10 * percentile(healthy, 0.99))
    assert.isAtMost(percentile(after, 0.99), bar)
    assert.isAtMost(longest(after), Math.max(slow, bar))

    // The watch: all that etcd has, once and in order, and all that was acknowledged is among it.
    const expected = yield* history(yield* connect({ endpoints: cluster.endpoints }), prefix, watch.revision)
    yield* until("all events", Effect.sync(() => watch.events.length >= expected.length))
    assertSequence(watch.events.slice(0, expected.length), expected)
    const all = new Set(expected)
    assert.deepStrictEqual(load.acknowledged.filter((event) => !all.has(event)), [])

    // The lease and the lock.
    assert.isTrue(Option.isNone(yield* Fiber.poll(lost)))
    assert.isFalse(yield* lock.isExpired)
    yield* lock.renew
    assert.strictEqual((yield* session.state)._tag, "Active")
  })

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })("one of three members", (it) => {
  for (const fault of [killed, stopped, blackHoled]) {
    const title = `that the client is connected to is ${fault.name}`
    it.scoped(title, () => scenario(title, fault, "follower", ({ used }) => used, "the client"), 90_000)
  }
  for (const fault of [killed, stopped]) {
    const title = `that leads, and that the client is connected to, is ${fault.name}`
    it.scoped(title, () => scenario(title, fault, "leader", ({ used }) => used, "everybody"), 90_000)
  }
  for (const fault of [killed, stopped]) {
    const title = `that leads is ${fault.name}, the client being connected to another`
    it.scoped(title, () =>
      scenario(
        title,
        fault,
        "follower",
        ({ leading, others, used }) => others.find(({ member }) => member === leading) ?? used,
        "everybody"
      ), 90_000)
  }
  for (const fault of [killed, stopped, blackHoled]) {
    const title = `that neither leads nor is used is ${fault.name}`
    it.scoped(
      title,
      () => scenario(title, fault, "leader", ({ others }) => others[0], "nobody"),
      90_000
    )
  }
})
