/**
 * Watchers on a real etcd whose connections are cut, refused, stalled and slow, whose history is compacted away, and who are
 * slow themselves: all of it at random. `STREAMS_SEED` repeats a run's plan, `STREAMS_SECONDS` makes it longer.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Config from "../../src/Config.js"
import * as EtcdClient from "../../src/EtcdClient.js"
import * as Key from "../../src/Key.js"
import * as Txn from "../../src/Txn.js"
import * as EtcdServer from "../support/EtcdServer.js"
import * as TcpProxy from "../support/TcpProxy.js"

const seed = Number(process.env.STREAMS_SEED ?? Math.floor(Math.random() * 2 ** 31))
const seconds = Number(process.env.STREAMS_SECONDS ?? 3)

const folder = "/config/"
const Value = Schema.Struct({ n: Schema.Int })

/** What stood under a key from one revision on; `undefined` for nothing. */
interface Version {
  readonly revision: bigint
  readonly stored: string | undefined
}

/** Everything that was ever written, by key and in order, and how far it was compacted away. */
interface Truth {
  readonly versions: Map<string, Array<Version>>
  revision: bigint
  compacted: bigint
}

/** An event as a watcher has told it, and what could have been gone by then. */
interface Heard {
  readonly event: Config.ConfigEvent<typeof Value.Type>
  readonly compacted: bigint
}

interface Watcher {
  readonly name: string
  readonly covers: (key: string) => boolean
  readonly heard: Array<Heard>
  /** What came later than this it has to tell: its first copy was not read after it. */
  since: bigint | undefined
}

const decoded = (stored: string): Option.Option<typeof Value.Type> => {
  const found = /^\{"n":(\d+)\}$/.exec(stored)
  return found === null ? Option.none() : Option.some({ n: Number(found[1]) })
}

/** Every sixth write is nothing that decodes. */
const valueOf = (n: number): string =>
  n % 6 === 5 ? ["{\"n\":", `{"n":"${n}"}`, `text ${n}`, `{"m":${n}}`][(n - 5) / 6 % 4] : `{"n":${n}}`

const keys = [
  ...Array.from({ length: 5 }, (_, index) => `w/${index}`),
  ...Array.from({ length: 40 }, (_, index) => `w/many/${index}`),
  "without/0"
]

/** Writes at random: one key, or a good part of all at one revision. */
const writing = (client: EtcdClient.EtcdClient["Type"], truth: Truth) => {
  let written = 0
  const present = new Set<string>()
  const change = (some: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      const changes = yield* Effect.forEach(some, (key) =>
        Effect.map(Random.nextIntBetween(0, 5), (draw) =>
          [key, draw === 0 && present.has(key) ? undefined : valueOf(written++)] as const))
      const { header } = yield* client.txn({
        success: changes.map(([key, stored]) =>
          stored === undefined ? Txn.del({ key: folder + key }) : Txn.put({ key: folder + key, value: stored })
        )
      })
      for (const [key, stored] of changes) {
        if (stored === undefined) {
          present.delete(key)
        } else present.add(key)
        truth.versions.get(key)!.push({ revision: header.revision, stored })
      }
      truth.revision = header.revision
    })
  const some = Effect.gen(function*() {
    const shuffled = Array.from(yield* Random.shuffle(keys))
    return shuffled.slice(0, (yield* Random.next) < 0.7 ? 1 : yield* Random.nextIntBetween(2, 15))
  })
  return { all: change(keys), some: Effect.uninterruptible(Effect.flatMap(some, change)) }
}

const watching = (
  truth: Truth,
  name: string,
  covers: Watcher["covers"],
  events: Stream.Stream<Config.ConfigEvent<typeof Value.Type>, Config.ListError, Config.Config>,
  pause: Effect.Effect<void>
) =>
  Effect.gen(function*() {
    const watcher: Watcher = { name, covers, heard: [], since: undefined }
    yield* Effect.forkScoped(Stream.runForEach(events, (event) => {
      // One more may have been on its way back.
      watcher.since ??= truth.revision + 1n
      watcher.heard.push({ event, compacted: truth.compacted })
      return pause
    }))
    return watcher
  })

const show = (event: Config.ConfigEvent<unknown>): string => `${event._tag} ${event.key}@${event.version}`

/** Everything that must be true of what one watcher told of one key. */
const assertKey = (
  { heard, name, since = 0n }: Watcher,
  key: string,
  versions: ReadonlyArray<Version>,
  compacted: bigint
) => {
  const told = heard.filter(({ event }) => event.key === key)
  const place = (event: Config.ConfigEvent<unknown>) => `${name}: ${show(event)} (STREAMS_SEED=${seed})`
  let previous: Option.Option<unknown> = Option.none()
  let last = 0n
  for (const { event } of told) {
    assert.isTrue(event.version > last, `${place(event)} after ${last}`)
    last = event.version
    assert.deepStrictEqual(event.previous, previous, place(event))
    if (event._tag === "Delete") {
      // Where only its result was seen, its version is the one at which that was.
      const standing = versions.findLast(({ revision }) => revision <= event.version)
      assert.isTrue(standing !== undefined && standing.stored === undefined, place(event))
      previous = Option.none()
      continue
    }
    const { stored } = versions.find(({ revision }) => revision === event.version) ?? assert.fail(place(event))
    const value = decoded(stored ?? assert.fail(place(event)))
    if (event._tag === "Put") assert.deepStrictEqual(Option.some(event.value), value, place(event))
    else {
      assert.isTrue(Option.isNone(value), place(event))
      assert.strictEqual(Buffer.from(Redacted.value(event.raw)).toString(), stored, place(event))
    }
    previous = value
  }
  // What was never told was gone before the watcher could ask for it.
  let missed = 0
  versions.forEach(({ revision, stored }, index) => {
    if (revision <= since) return
    const next = told.find(({ event }) => event.version >= revision)
    if (
      next !== undefined && (next.event.version === revision || (stored === undefined && next.event._tag === "Delete"))
    ) return
    missed++
    const goneAt = stored === undefined ? revision : versions.at(index + 1)?.revision
    const gone = next?.compacted ?? compacted
    assert.isTrue(
      goneAt !== undefined && goneAt <= gone,
      `${name}: ${key}@${revision} was not told, before ${next === undefined ? "the end" : show(next.event)}; ` +
        `compacted up to ${gone} (STREAMS_SEED=${seed})`
    )
  })
  return { told: told.length, missed, invalid: told.filter(({ event }) => event._tag === "Invalid").length }
}

describe(`watchers that are cut, stalled, compacted away and slow (STREAMS_SEED=${seed})`, () => {
  it.scopedLive(
    "tell every surviving version in order, whatever stands between, and end equal to etcd",
    () =>
      Effect.gen(function*() {
        const server = yield* EtcdServer.make({ version: "3.5" })
        const proxy = yield* TcpProxy.make(server.endpoint)
        const admin = yield* EtcdClient.make({ endpoints: server.endpoint })
        const application = yield* Layer.build(
          Layer.provide(Config.layer(), EtcdClient.layer({ endpoints: proxy.endpoint }))
        )
        const truth: Truth = { versions: new Map(keys.map((key) => [key, []])), revision: 0n, compacted: 0n }
        const write = writing(admin, truth)
        yield* write.all

        const gate = yield* Effect.makeLatch(true)
        let isOver = false
        const slow = Effect.flatMap(
          Random.nextRange(-6, 2),
          (millis) => millis < 0 || isOver ? Effect.void : Effect.sleep(millis)
        )
        const inFolder = (key: string) => key.startsWith("w/")
        const watchers: Array<Watcher> = []
        const join = (name: string, pause: Effect.Effect<void>) =>
          Effect.gen(function*() {
            watchers.push(
              yield* watching(truth, `${name} folder`, inFolder, Config.watchPrefix("w", Value), pause),
              yield* watching(truth, `${name} key`, (key) => key === "w/0", Config.watch("w/0", Value), pause)
            )
          }).pipe(Effect.provide(application))
        yield* join("a quick watcher of a", Effect.void)
        yield* join("a slow watcher of a", slow)
        yield* join("a gated watcher of a", gate.await)

        const writer = yield* Effect.forkScoped(Effect.forever(write.some))
        const pause = (from: number, to: number) => Effect.flatMap(Random.nextRange(from, to), Effect.sleep)
        const compact = Effect.gen(function*() {
          // As of now, or a little before.
          const revision = truth.revision - BigInt(yield* Random.nextIntBetween(0, 30))
          if (revision <= truth.compacted || (yield* Random.nextBoolean)) return
          truth.compacted = revision
          yield* admin.compact(revision)
        })
        const trouble: ReadonlyArray<Effect.Effect<unknown, unknown, Scope.Scope>> = [
          proxy.cut(),
          proxy.cut({ reset: true }),
          Effect.flatMap(Random.nextIntBetween(1, 5_000), (count) => proxy.cutAfterBytes(count, "down")),
          Effect.zipRight(proxy.stall(), pause(20, 400)).pipe(Effect.zipRight(proxy.resume)),
          Effect.zipRight(proxy.slow({ latency: 30, bytesPerSecond: 50_000 }), pause(100, 300)).pipe(
            Effect.zipRight(proxy.resume)
          ),
          // Away, and what it would have needed is gone when it comes back.
          Effect.all([proxy.refuse, proxy.cut(), pause(50, 300), compact, pause(0, 200), proxy.accept]),
          compact,
          Effect.zipRight(gate.close, pause(100, 800)).pipe(Effect.zipRight(compact), Effect.zipRight(gate.open)),
          join("a late watcher of a", Effect.void).pipe(
            Effect.when(() => watchers.length < 20)
          )
        ]
        const hurt = Effect.gen(function*() {
          yield* trouble[yield* Random.nextIntBetween(0, trouble.length)]
          yield* pause(0, 200)
        })
        yield* Effect.forever(hurt).pipe(Effect.timeoutOption(`${seconds} seconds`))
        yield* Fiber.interrupt(writer)
        // On a busy machine the slow would need long for all that they have still to tell.
        isOver = true
        yield* gate.open
        yield* proxy.resume
        yield* proxy.accept
        yield* write.all

        const { kvs } = yield* admin.range(Key.prefix(folder))
        const there = new Map(kvs.map((kv) => [Buffer.from(kv.key).toString().slice(folder.length), kv.modRevision]))
        const isEqual = ({ covers, heard }: Watcher) => {
          const state = new Map<string, bigint>()
          for (const { event } of heard) {
            if (event._tag === "Delete") state.delete(event.key)
            else state.set(event.key, event.version)
          }
          return keys.every((key) => state.get(key) === (covers(key) ? there.get(key) : undefined))
        }
        yield* Effect.sync(() => watchers.filter((watcher) => !isEqual(watcher)).map(({ name }) => name)).pipe(
          Effect.repeat({ until: (different) => different.length === 0, schedule: Schedule.spaced("20 millis") }),
          Effect.timeoutFail({
            duration: "25 seconds",
            onTimeout: () =>
              `${
                watchers.filter((watcher) => !isEqual(watcher)).map(({ heard, name }) =>
                  `${name}, which told of ${heard.length} changes`
                ).join("; ")
              }: not equal to etcd (STREAMS_SEED=${seed})`
          })
        )
        const counts = watchers.flatMap((watcher) =>
          keys.filter(watcher.covers).map((key) => assertKey(watcher, key, truth.versions.get(key)!, truth.compacted))
        )
        const sum = (of: (count: typeof counts[number]) => number) => counts.reduce((total, one) => total + of(one), 0)
        console.log(
          `seed ${seed}: ${truth.revision} revisions, ${watchers.length} watchers told ${
            sum(({ told }) => told)
          } versions, ` +
            `${sum(({ invalid }) => invalid)} of them invalid; ${sum(({ missed }) => missed)} were compacted away`
        )
        assert.isAbove(sum(({ invalid }) => invalid), 0)
      }).pipe(Effect.withRandom(Random.make(seed))),
    60_000 + seconds * 2_000
  )
})
