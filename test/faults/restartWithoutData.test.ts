/**
 * A real etcd that comes back without its data, and with those of others: under the same addresses, cluster and member
 * ids, at a revision that is lower or higher than before. Everything that follows it ends with what is there now.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Config from "../../src/Config.js"
import * as Coord from "../../src/Coord.js"
import * as EtcdClient from "../../src/EtcdClient.js"
import type { EtcdError } from "../../src/EtcdError.js"
import * as Key from "../../src/Key.js"
import * as Lock from "../../src/Lock.js"
import * as Mirror from "../../src/Mirror.js"
import * as Registry from "../../src/Registry.js"
import type { KeyValue } from "../../src/Txn.js"
import * as Txn from "../../src/Txn.js"
import * as EtcdServer from "../support/EtcdServer.js"
import { text } from "../support/memory.js"
import * as TcpProxy from "../support/TcpProxy.js"
import { until } from "./lost/World.js"

const prefixes = ["/data/a/", "/data/b/", "/data/none/", "/config/", "/services/", "/locks/", "/"]

const show = ({ createRevision, key, modRevision, value, version }: KeyValue): string =>
  `${text(key)}=${text(value)} c${createRevision} m${modRevision} v${version}`

/** A reader that knows only what it is told of changes; it takes them while the latch is open. */
const reader = (mirror: Mirror.Mirror, latch: Effect.Latch) =>
  Effect.gen(function*() {
    const told = new Map<string, KeyValue>()
    yield* mirror.changes.pipe(
      Stream.runForEach((change) =>
        latch.whenOpen(Effect.sync(() => {
          if (change._tag === "Put") told.set(text(change.kv.key), change.kv)
          else told.delete(text(change.key))
        }))
      ),
      Effect.forkScoped
    )
    return Effect.sync(() => Array.from(told.values(), show).sort())
  })

/** A mirror, a reader that keeps up with it, and one that may be held up. */
const followed = (prefix: string, latch: Effect.Latch) =>
  Effect.gen(function*() {
    const mirror = yield* Mirror.make(Key.prefix(prefix))
    const prompt = yield* reader(mirror, yield* Effect.makeLatch(true))
    const late = yield* reader(mirror, latch)
    const copy = Effect.map(mirror.entries, (kvs) => kvs.map(show).sort())
    const epoch = Effect.map(mirror.snapshot, ({ epoch }) => epoch)
    return { prefix, copy, prompt, late, epoch }
  })

/** Makes a number of revisions, one after the other, each of so many keys. */
const write = (client: EtcdClient.EtcdClient["Type"], value: string, revisions: number, keys = 1) =>
  Effect.forEach(
    Array.from({ length: revisions }, (_, i) => i),
    (i) =>
      client.txn({
        success: Array.from({ length: keys }, (_, j) => {
          const n = (i + j) % 111
          return Txn.put({ key: `/data/${n % 2 === 0 ? "a" : "b"}/${n}`, value: `${value} ${i}` })
        })
      }),
    { discard: true }
  )

const isEqual = (
  what: string,
  client: EtcdClient.EtcdClient["Type"],
  prefix: string,
  copy: Effect.Effect<ReadonlyArray<string>, EtcdError>
) =>
  until(
    `${what} is equal to etcd`,
    Effect.map(
      Effect.all([copy, client.range(Key.prefix(prefix))]),
      ([copy, { kvs }]) => JSON.stringify(copy) === JSON.stringify(kvs.map(show).sort())
    )
  )

const service = { id: "u1", name: "user", address: "127.0.0.1", port: 8080 }

const history = (
  name: string,
  { after, before, keys = 1, later }: {
    /** How many revisions the old etcd has. */
    readonly before: number
    /** How many the new one has when the connection to it comes up, */
    readonly after: number
    /** and how many more come then. */
    readonly later: number
    /** How many keys each of the last ones changes: beyond 4,096 changes, a reader that is held up has to be served apart. */
    readonly keys?: number
  }
) =>
  it.scopedLive(
    name,
    () =>
      Effect.gen(function*() {
        const server = yield* EtcdServer.make({ version: "3.5" })
        const proxy = yield* TcpProxy.make(server.endpoint)
        const somebody = yield* EtcdClient.make({ endpoints: server.endpoint })
        const process = Coord.layer({ endpoints: proxy.endpoint })
        const [one, two] = yield* Effect.all([Layer.build(process), Layer.build(Layer.fresh(process))])

        yield* write(somebody, "old", before)
        yield* somebody.put({ key: "/config/gone", value: "1" })
        yield* somebody.put({ key: "/config/limit", value: "1" })
        const latch = yield* Effect.makeLatch(true)
        const mirrors = yield* Effect.provide(Effect.forEach(prefixes, (prefix) => followed(prefix, latch)), one)
        const config = new Map<string, number>()
        yield* Config.watchPrefix("", Schema.Int).pipe(
          Stream.runForEach((event) =>
            Effect.sync(() => {
              if (event._tag === "Put") config.set(event.key, event.value)
              else config.delete(event.key)
            })
          ),
          Effect.provide(one),
          Effect.forkScoped
        )
        const registration = yield* Effect.provide(Registry.register(service, { ttl: "1 minute" }), one)
        const held = yield* Effect.provide(Lock.acquire("a", { ttl: "1 minute" }), one)
        const waiting = yield* Effect.fork(Effect.provide(Lock.acquire("a", { ttl: "1 minute" }), two))
        yield* until(
          "one waits",
          Effect.map(Effect.provide(Lock.inspect("a"), one), ({ waiters }) => waiters.length === 1)
        )
        yield* until("the watch has begun", Effect.sync(() => config.size === 2))
        for (const { copy, late, prefix } of mirrors) {
          const isRead = Effect.map(
            Effect.all([copy, late]),
            ([copy, late]) => JSON.stringify(copy) === JSON.stringify(late)
          )
          yield* until(`${prefix} is read`, isRead)
        }
        yield* latch.close

        yield* proxy.refuse
        yield* proxy.cut()
        yield* server.kill
        yield* server.startWithoutData
        yield* write(somebody, "new", after)
        yield* somebody.put({ key: "/config/limit", value: "2" })
        yield* proxy.accept
        yield* write(somebody, "newer", later, keys)
        yield* somebody.put({ key: "/config/later", value: "3" })

        const lost = yield* Effect.flip(held.lost)
        assert.include(["deleted", "revoked"], lost.reason)
        assert.isTrue(yield* held.isExpired)
        assert.strictEqual((yield* Effect.flip(held.release))._tag, "LockNotHeld")
        const next = yield* Fiber.join(waiting)
        const kv = Option.getOrThrow(yield* somebody.get(next.etcdKey))
        assert.strictEqual(kv.createRevision, next.fencingToken)
        assert.isFalse(yield* next.isExpired)
        yield* until(
          "registered again",
          Effect.map(somebody.get(registration.key), Option.isSome)
        )
        yield* until("status", Effect.map(registration.status, ({ _tag }) => _tag === "Registered"))
        yield* until(
          "the watch has told what there is, and what is gone",
          Effect.sync(() => JSON.stringify([...config].sort()) === JSON.stringify([["later", 3], ["limit", 2]]))
        )

        for (const { copy, prefix, prompt } of mirrors) {
          yield* isEqual(`the mirror of ${prefix}`, somebody, prefix, copy)
          yield* isEqual(`what the mirror of ${prefix} told`, somebody, prefix, prompt)
        }
        yield* latch.open
        for (const { epoch, late, prefix } of mirrors) {
          yield* isEqual(`what the mirror of ${prefix} told one who was late`, somebody, prefix, late)
          // A history that has passed the old one by the time of the connection shows in what it holds, or not at all.
          if (after + later < before) assert.strictEqual(yield* epoch, 1, `the epoch of ${prefix}`)
        }
      }),
    60_000
  )

describe("an etcd that comes back without its data", () => {
  history("at a lower revision", { before: 200, after: 20, later: 0 })
  history("at a lower revision, and then passes the old one", { before: 100, after: 10, later: 300 })
  history("at a higher revision", { before: 20, after: 400, later: 20 })
  history("at a higher revision, and then changes much", { before: 20, after: 100, later: 100, keys: 100 })
})
