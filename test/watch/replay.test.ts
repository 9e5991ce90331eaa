/**
 * What a watch hands over of the past when its connection is cut on the way: after every frame of HTTP/2, at seeded
 * places inside frames, and again while it makes up for the first cut. `REPLAY_SEED` repeats an earlier run's places.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { WatchError, WatchEvent } from "../../src/EtcdClient.js"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as grpc from "../../src/internal/grpc/make.js"
import * as clientOptions from "../../src/internal/options.js"
import type { WatchResponse } from "../../src/internal/transport.js"
import * as Mirror from "../../src/Mirror.js"
import type { KeyRange, KeyValue } from "../../src/Txn.js"
import type { Client } from "../grpc/support.js"
import { below, connect, text, until } from "../grpc/support.js"
import * as EtcdServer from "../support/EtcdServer.js"
import type { Frame } from "../support/http2Frames.js"
import * as TcpProxy from "../support/TcpProxy.js"

const seed = Number(process.env.REPLAY_SEED ?? Math.floor(Math.random() * 2 ** 31))

/** Numbers from 0 to below 1 that a seed determines (mulberry32). */
const randomOf = (seed: number) => (): number => {
  seed = (seed + 0x6d2b79f5) | 0
  let bits = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits
  return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32
}

const prefix = "/replay/"
const everything = { ...below(prefix), startRevision: 1n }

/** What has to be the same of a change: kind, key, revision, and how its value begins and how long it is. */
interface Entry {
  readonly revision: bigint
  readonly shown: string
  /** The bytes of its key and its value. */
  readonly size: number
}

const entry = (tag: WatchEvent["_tag"], key: string, value: Uint8Array, revision: bigint): Entry => ({
  revision,
  size: key.length + value.length,
  shown: `${tag} ${key} ${text(value.subarray(0, 12))} (${value.length})@${revision}`
})

const ofEvent = ({ _tag, kv }: WatchEvent): Entry => entry(_tag, text(kv.key), kv.value, kv.modRevision)

/** One revision: puts of a key with a value of so many bytes, or deletes where there is none. */
type Step = ReadonlyArray<readonly [key: string, size: number | undefined]>

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index)

/** Fewer bytes than the server's limit for one request, and more changes than fit into one frame. */
const transaction = (round: number): Step =>
  numbers(120).map((index) => [`many${(index * 7 + round) % 150}`, index % 10 === 9 ? undefined : 1_100])

/** Some of everything, in two messages of the server; the first one ends within a transaction. */
const shortHistory: ReadonlyArray<Step> = [
  ...numbers(60).map((index): Step => [[`few${index % 7}`, index % 5 === 4 ? undefined : index]]),
  numbers(120).flatMap((index): Step => [[`many${index}`, 10]]),
  ...numbers(10).flatMap((round): ReadonlyArray<Step> => [
    ...round % 3 === 0 ? [[[`large${round}`, 60_000]] as Step] : [],
    transaction(round),
    [[`few${round % 7}`, round]]
  ])
]

/** etcd replays a thousand revisions at a time: the end of this comes apart. */
const longHistory = [...shortHistory, ...numbers(1_000).map((index): Step => [[`few${index % 7}`, index % 50]])]

/** Makes the changes below the prefix. A delete of a key that is not there is none. */
const write = (client: Client, prefix: string, steps: ReadonlyArray<Step>) =>
  Effect.gen(function*() {
    const present = new Set<string>()
    const entries: Array<Entry> = []
    let sequence = 0
    for (const step of steps) {
      const changes = step.filter(([key, size]) => size !== undefined || present.has(key))
      const values = changes.map(([, size]) =>
        Buffer.from(size === undefined ? "" : `${sequence++}:${"x".repeat(size)}`)
      )
      if (changes.length === 0) continue
      const { header } = yield* client.txn({
        success: changes.map(([key, size], index) =>
          size === undefined
            ? { _tag: "Delete", request: { key: prefix + key } }
            : { _tag: "Put", request: { key: prefix + key, value: values[index] } }
        )
      })
      changes.forEach(([key, size], index) => {
        if (size === undefined) present.delete(key)
        else present.add(key)
        const tag = size === undefined ? "Delete" : "Put"
        entries.push(entry(tag, prefix + key, values[index], header.revision))
      })
    }
    return entries
  })

const setup = (version: string) =>
  Effect.gen(function*() {
    const server = yield* EtcdServer.make({ version, flags: ["--max-request-bytes=150000"] })
    const direct = yield* connect({ endpoints: server.endpoint })
    return { server, direct }
  })

/** Everything that ever happens below the prefix, in a list that grows: from a watch that nobody disturbs. */
const observed = (client: Client) =>
  Effect.gen(function*() {
    const truth: Array<Entry> = []
    yield* client.watch(everything).pipe(
      Stream.runForEach((event) => Effect.sync(() => truth.push(ofEvent(event)))),
      Effect.forkScoped
    )
    return truth
  })

/** The messages of a replay, as they come from the server. */
const messagesOf = (endpoint: string, isLast: (event: WatchEvent) => boolean) =>
  Effect.gen(function*() {
    const transport = yield* grpc.make({ endpoints: endpoint }, yield* clientOptions.parse({}))
    const messages: Array<WatchResponse> = []
    const stream = yield* transport.openWatch({
      onMessage: (message) => void messages.push(message),
      onEnd: () => {}
    })
    const { key, rangeEnd, startRevision } = everything
    stream.send({ _tag: "Create", key, rangeEnd, startRevision, prevKv: false, noPut: false, noDelete: false })
    yield* until("the last message", Effect.sync(() => messages.at(-1)?.events.some(isLast) === true))
    return messages
  })

/** Far more time than anything here takes. */
const inTime = (message: () => string) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.timeoutFailCause(effect, { duration: "25 seconds", onTimeout: () => Cause.die(new Error(message())) })

/** Compares what was handed over with what happened, as far as that is known, and adds it to what was seen. */
const follow = (
  seen: Array<Entry>,
  batch: ReadonlyArray<Entry>,
  truth: ReadonlyArray<Entry>,
  place: string
): void => {
  for (const one of batch) {
    const expected = truth.at(seen.length)
    if (expected !== undefined) assert.strictEqual(one.shown, expected.shown, `${place}: change ${seen.length}`)
    seen.push(one)
  }
}

const levels = ["openWatch", "watch"] as const

/** A watch at either level of the client: one batch after the other. */
const batches = (
  client: Client,
  level: typeof levels[number]
): Effect.Effect<Effect.Effect<ReadonlyArray<WatchEvent>, WatchError>, WatchError, Scope.Scope> =>
  level === "openWatch"
    ? Effect.map(client.openWatch(everything, { timeout: "20 seconds" }), ({ next }) => next)
    : Effect.map(Stream.toPull(client.watch(everything)), (pull) =>
      pull.pipe(
        Effect.map(Chunk.toReadonlyArray),
        Effect.mapError((end) => end._tag === "Some" ? end.value : assert.fail("the stream of a watch ended"))
      ))

type Place = (proxy: TcpProxy.TcpProxy) => Effect.Effect<void>

interface Watched {
  readonly server: EtcdServer.EtcdServerService
  readonly direct: Client
  readonly history: ReadonlyArray<Entry>
  readonly truth: ReadonlyArray<Entry>
}

/**
 * Lets a new client watch from the first revision through a proxy that cuts at these places, one after the other, and
 * compares every change with what happened. Gives the number of cuts and the frames of the first connection.
 */
const replay = (
  { direct, history, server, truth }: Watched,
  level: typeof levels[number],
  name: string,
  [first, ...others]: readonly [Place, ...ReadonlyArray<Place>]
) =>
  Effect.suspend(() => {
    const seen: Array<Entry> = []
    return Effect.gen(function*() {
      const proxy = yield* TcpProxy.make(server.endpoint)
      const { frames } = yield* proxy.recordFrames
      yield* first(proxy)
      const client = yield* connect({ endpoints: proxy.endpoint })
      if (others.length > 0) {
        yield* Effect.forkScoped(Effect.gen(function*() {
          yield* until("a connection", Effect.map(proxy.accepted, (count) => count === 1))
          for (const place of others) {
            // The next connection has to wait until its cut is prepared.
            yield* proxy.refuse
            yield* until("the cut", Effect.map(proxy.open, (count) => count === 0))
            yield* place(proxy)
            const before = yield* proxy.accepted
            yield* Effect.orDie(proxy.accept)
            yield* until("the next connection", Effect.map(proxy.accepted, (count) => count > before))
          }
        }))
      }
      const next = yield* batches(client, level)
      while (seen.length < history.length) {
        follow(seen, (yield* next).map(ofEvent), truth, name)
        const { revision } = seen[seen.length - 1]
        assert.notStrictEqual(truth.at(seen.length)?.revision, revision, `${name}: revision ${revision} in parts`)
      }
      const cuts = (yield* proxy.accepted) - 1
      const replayed = (yield* frames).filter(({ connection, way }) => connection === 1 && way === "down")

      // After the past comes the present: nothing of the past again.
      const { header } = yield* direct.put({ key: `${prefix}present`, value: "" })
      while (seen[seen.length - 1].revision < header.revision) {
        follow(seen, (yield* next).map(ofEvent), [], name)
      }
      yield* until("what the others wrote", Effect.sync(() => truth.length >= seen.length))
      follow([], seen, truth, name)
      return { cuts, frames: replayed }
    }).pipe(
      Effect.scoped,
      inTime(() => `${name}: nothing comes after ${seen.length} of ${history.length} changes`)
    )
  })

/** A mirror of an empty range, with a reader, whose connection is cut and cannot be made again. */
const cutOffMirror = (server: EtcdServer.EtcdServerService, range: KeyRange) =>
  Effect.gen(function*() {
    const proxy = yield* TcpProxy.make(server.endpoint)
    const client = yield* connect({ endpoints: proxy.endpoint })
    const mirror = yield* Effect.provideService(Mirror.make(range), EtcdClient, client)
    yield* mirror.ready
    const told = yield* Stream.toPull(mirror.changes)
    yield* until("its watch", Effect.map(client.watchConnection.get, ({ _tag }) => _tag === "Connected"))
    yield* proxy.refuse
    yield* proxy.cut()
    return { mirror, proxy, told }
  })

type CutOffMirror = Effect.Effect.Success<ReturnType<typeof cutOffMirror>>

/**
 * Lets a mirror make up for what it missed, cut off once more on the way, and compares what its reader hears and what the
 * mirror is in the end. Gives the number of cuts.
 */
const catchUp = (
  { mirror, proxy, told }: CutOffMirror,
  name: string,
  offset: number,
  history: ReadonlyArray<Entry>,
  present: ReadonlyArray<KeyValue>
) =>
  Effect.suspend(() => {
    const seen: Array<Entry> = []
    /** The revision of each key that the reader has heard of last. */
    const last = new Map<string, bigint>()
    return Effect.gen(function*() {
      const accepted = yield* proxy.accepted
      yield* proxy.cutAfterBytes(offset, "down")
      yield* Effect.orDie(proxy.accept)
      while (seen.length < history.length) {
        for (const change of Chunk.toReadonlyArray(yield* told)) {
          const { key, modRevision, value } = change._tag === "Put" ? change.kv : { ...change, value: new Uint8Array() }
          follow(seen, [entry(change._tag, text(key), value, modRevision)], history, name)
          assert.strictEqual(change.previous?.modRevision, last.get(text(key)), `${name}: what was there before`)
          if (change._tag === "Put") last.set(text(key), modRevision)
          else last.delete(text(key))
        }
      }
      const legible = (kv: KeyValue) => ({ ...kv, key: text(kv.key), value: text(kv.value) })
      assert.deepStrictEqual((yield* mirror.entries).map(legible), present.map(legible), `${name}: the copy`)
      const { epoch, revision } = yield* mirror.snapshot
      assert.deepStrictEqual([epoch, revision], [0, history[history.length - 1].revision])
      assert.strictEqual((yield* mirror.state)._tag, "Following")
      return (yield* proxy.accepted) - accepted - 1
    }).pipe(inTime(() => `${name}: nothing comes after ${seen.length} of ${history.length} changes`))
  })

/** Most of the time of a replay is waiting: for the server, which looks after late watches ten times a second. */
const atOnce = 8

const cutAfterEveryFrame = (watched: Watched, uncut: ReadonlyArray<Frame>) =>
  Effect.gen(function*() {
    const counts = yield* Effect.forEach(numbers(uncut.length), (count) => {
      const place: Place = (proxy) => proxy.cutAfterFrame(count, "down")
      return Effect.map(
        replay(watched, levels[count % 2], `cut after frame ${count}`, [place]),
        ({ cuts, frames }) => {
          if (cuts > 0) assert.strictEqual(frames.length, count)
          // It had all changes before it came to that frame: the same bytes are divided differently each time.
          else assert.isAtMost(frames.length, count)
          return cuts
        }
      )
    }, { concurrency: atOnce })
    assert.isAtLeast(counts.filter((cuts) => cuts === 1).length, counts.length * 0.8)
    assert.isAtMost(Math.max(...counts), 1)
  })

/** Offsets inside the frames of the uncut replay, in every fourth case inside a header. */
const drawing = (uncut: ReadonlyArray<Frame>, random: () => number) => (): number => {
  const { end, start } = uncut[Math.floor(random() * uncut.length)]
  const length = random() < 0.25 ? 9 : end - start
  return start + 1 + Math.floor(random() * (length - 1))
}

const cutInsideFrames = (watched: Watched, draw: () => number, count: number) =>
  Effect.suspend(() => {
    let inside = 0
    const one = Effect.suspend(() => {
      const offset = draw()
      const place: Place = (proxy) => proxy.cutAfterBytes(offset, "down")
      return Effect.map(
        replay(watched, levels[offset % 2], `cut after byte ${offset}`, [place]),
        ({ cuts, frames }) => {
          // By a little difference before it, the place may have come to lie between two frames.
          if (cuts === 1 && frames.every(({ end }) => end !== offset)) inside++
        }
      )
    })
    const some = Effect.repeat(one, { until: () => inside >= count })
    return Effect.all(numbers(atOnce).map(() => some), { concurrency: "unbounded", discard: true })
  })

const cutTwice = (watched: Watched, draw: () => number, bytes: number, count: number) =>
  Effect.gen(function*() {
    const counts = yield* Effect.forEach(numbers(count), () => {
      const first = draw()
      // What is left to replay is shorter.
      const second = Math.max(1, Math.floor(draw() * (1 - first / bytes)))
      return Effect.map(
        replay(watched, levels[first % 2], `cut after byte ${first}, and again after byte ${second}`, [
          (proxy) => proxy.cutAfterBytes(first, "down"),
          (proxy) => proxy.cutAfterBytes(second, "down")
        ]),
        ({ cuts }) => cuts
      )
    }, { concurrency: atOnce })
    // Unless a place lies after the last change.
    assert.isAtLeast(counts.filter((cuts) => cuts === 2).length, count / 2)
  })

/** It is of the kind that is hard to cut: several messages, and a revision that is split between two of them. */
const assertDifficult = ({ history, server }: Watched) =>
  Effect.gen(function*() {
    const { revision } = history[history.length - 1]
    const messages = (yield* messagesOf(server.endpoint, ({ kv }) => kv.modRevision === revision))
      .filter(({ events }) => events.length > 0)
    assert.isAtLeast(messages.filter(({ fragment }) => !fragment).length, 2)
    assert.isTrue(messages.some(({ events, fragment }, index) =>
      fragment && events[events.length - 1].kv.modRevision === messages[index + 1].events[0].kv.modRevision
    ))
  })

const versions: ReadonlyArray<{ version: string; everyFrame: boolean; inside: number; twice: number }> = [
  { version: "3.5", everyFrame: true, inside: 100, twice: 24 },
  { version: "3.4", everyFrame: false, inside: 30, twice: 10 }
]

describe(`a replay that is cut (REPLAY_SEED=${seed})`, () => {
  for (const { everyFrame, inside, twice, version } of versions) {
    it.scopedLive(
      `loses and repeats nothing, keeps the order, and hands over whole revisions (etcd ${version})`,
      () =>
        Effect.gen(function*() {
          const { direct, server } = yield* setup(version)
          const history = yield* write(direct, prefix, longHistory)
          const truth = yield* observed(direct)
          yield* until("the history", Effect.sync(() => truth.length >= history.length))
          follow([], truth, history, "undisturbed")
          const watched: Watched = { direct, server, history, truth }
          yield* assertDifficult(watched)

          const { cuts, frames } = yield* replay(watched, "openWatch", "uncut", [() => Effect.void])
          const bytes = frames[frames.length - 1].end
          assert.strictEqual(cuts, 0)
          assert.isAtLeast(bytes, 1.4 * 1024 * 1024)
          assert.isAtLeast(frames.length, 60)

          if (everyFrame) yield* cutAfterEveryFrame(watched, frames)
          const draw = drawing(frames, randomOf(seed))
          yield* cutInsideFrames(watched, draw, inside)
          yield* cutTwice(watched, draw, bytes, twice)
        }),
      180_000
    )
  }

  it.scopedLive(
    "leaves mirrors equal to etcd, and tells their readers every change once",
    () =>
      Effect.gen(function*() {
        const random = randomOf(seed)
        const { direct, server } = yield* setup("3.5")
        const round = (range: KeyRange & { readonly key: string }) =>
          Effect.gen(function*() {
            const mirrors = yield* Effect.forEach(numbers(9), () => cutOffMirror(server, range), {
              concurrency: atOnce
            })
            const history = yield* write(direct, range.key, shortHistory)
            const { kvs } = yield* direct.range(range)
            // A replay is longer than this: it consists of more than keys and values.
            const least = history.map(({ size }) => size).reduce((a, b) => a + b)
            assert.isAtLeast(least, 1024 * 1024)
            const cuts = yield* Effect.forEach(mirrors, (mirror) => {
              const offset = 1 + Math.floor(random() * least)
              return catchUp(mirror, `cut after byte ${offset}`, offset, history, kvs)
            }, { concurrency: atOnce })
            assert.deepStrictEqual(cuts, cuts.map(() => 1))
          }).pipe(Effect.scoped)
        yield* Effect.forEach(["/first/", "/second/", "/third/"], (prefix) => round(below(prefix)))
      }),
    120_000
  )
})
