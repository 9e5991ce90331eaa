/** Live settings over a real etcd that goes and comes back, and under many updates. */
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Supervisor from "effect/Supervisor"
import { mkdtemp, readFile, rm } from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Config from "../../src/Config.js"
import * as ConfigManager from "../../src/ConfigManager.js"
import * as EtcdClient from "../../src/EtcdClient.js"
import { until } from "../faults/lost/World.js"
import * as EtcdServer from "../support/EtcdServer.js"
import { etcdKey, goEtcdKey, json, Limits, limits } from "./support.js"

/** How many updates, at about 1,000 a second: `MANAGER_UPDATES=10000` for the full run. */
const updates = Number(process.env.MANAGER_UPDATES ?? 1_000)
const last = updates + 1

const clientOf = ({ endpoint }: EtcdServer.EtcdServerService) =>
  Layer.provideMerge(Config.layer(), EtcdClient.layer({ endpoints: endpoint, retry: { maxAttempts: 1 } }))

const folder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(Path.join(Os.tmpdir(), "effect-coord-manager-"))),
  (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
)

const becomes = ({ current }: ConfigManager.ConfigManager<Limits>, requests: number) =>
  until(`the limit is ${requests}`, Effect.map(current, (now) => now.requests === requests))

describe("a live setting over etcd", () => {
  it.scopedLive("starts without it, goes on without it, and follows whatever comes back", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.make()
      const snapshotFile = Path.join(yield* folder, "limits.json")
      const seen: Array<number> = []
      const options = {
        ...limits,
        snapshotFile,
        startTimeout: "500 millis" as const,
        onUpdate: ({ requests }: Limits) => Effect.sync(() => seen.push(requests))
      }
      yield* server.kill
      yield* Effect.scoped(
        Effect.gen(function*() {
          const manager = yield* ConfigManager.make(options)
          assert.deepStrictEqual(yield* manager.current, { requests: 1 })
          assert.strictEqual((yield* manager.status).source, "default")

          yield* server.start
          yield* server.etcdctl(["put", goEtcdKey, json(2)])
          yield* becomes(manager, 2)
          yield* server.etcdctl(["put", etcdKey, json(3)])
          yield* becomes(manager, 3)
          yield* server.etcdctl(["put", etcdKey, "{}"])
          yield* until("it is refused", Effect.map(manager.status, ({ rejected }) => Option.isSome(rejected)))
          yield* server.etcdctl(["put", etcdKey, json(4)])
          yield* becomes(manager, 4)

          yield* server.kill
          yield* until("it is stale", Effect.map(manager.status, ({ connection }) => connection._tag === "Stale"))
          assert.deepStrictEqual(yield* manager.current, { requests: 4 })
          yield* server.start
          yield* until("it follows", Effect.map(manager.status, ({ connection }) => connection._tag === "Following"))
          assert.deepStrictEqual(yield* manager.reload, {
            _tag: "Unchanged",
            value: { requests: 4 },
            version: (yield* manager.status).version
          })
          assert.deepStrictEqual(seen, [2, 3, 4])
        }).pipe(Effect.provide(clientOf(server)))
      )

      yield* server.kill
      seen.length = 0
      yield* Effect.gen(function*() {
        const manager = yield* ConfigManager.make(options)
        assert.deepStrictEqual(yield* manager.current, { requests: 4 })
        const { snapshot, source, version } = yield* manager.status
        assert.strictEqual(source, "snapshot")
        const saved = Option.flatMap(snapshot, ({ saved }) => saved)
        assert.isTrue(Option.exists(saved, (saved) => saved.version === version))
        yield* server.start
        yield* until("it is etcd's", Effect.map(manager.status, ({ source }) => source === "etcd"))
        assert.deepStrictEqual(seen, [4])

        yield* server.kill
        yield* server.startWithoutData
        yield* becomes(manager, 1)
        const lower = yield* Config.set(manager.key, Limits, { requests: 5 })
        assert.isTrue(lower < version)
        yield* becomes(manager, 5)
        assert.deepStrictEqual(seen, [4, 1, 5])
      }).pipe(Effect.provide(clientOf(server)))
    }), 60_000)

  it.scopedLive(
    `takes the last of ${updates} updates, whatever onUpdate can keep up with, and leaves nothing behind`,
    () =>
      Effect.gen(function*() {
        const server = yield* EtcdServer.make()
        const snapshotFile = Path.join(yield* folder, "limits.json")
        const client = yield* Layer.build(clientOf(server))
        const supervisor = yield* Supervisor.track
        const scope = yield* Scope.make()
        const seen: Array<number> = []
        let running = 0
        const fibers = Effect.map(supervisor.value, (all) => Chunk.size(Chunk.fromIterable(all)))

        const manager = yield* ConfigManager.make({
          ...limits,
          snapshotFile,
          onUpdate: ({ requests }) =>
            Effect.gen(function*() {
              assert.strictEqual(++running, 1)
              seen.push(requests)
              yield* Effect.sleep("20 millis")
              running--
            })
        }).pipe(Scope.extend(scope), Effect.supervised(supervisor), Effect.provide(client))
        const told: Array<number> = []
        const versions: Array<bigint> = []
        const reading = yield* Effect.fork(
          Stream.runForEach(manager.changes, ({ requests }) =>
            Effect.gen(function*() {
              told.push(requests)
              versions.push((yield* manager.status).version)
              yield* Effect.sleep("100 millis")
            }))
        )
        const set = (requests: number) => Config.set(manager.key, Limits, { requests })
        const writing = Effect.forEach(
          Array.from({ length: updates - 1 }, (_, index) => index + 2),
          (requests) => Effect.zipRight(set(requests), Effect.sleep("25 millis")),
          { concurrency: 32, discard: true }
        ).pipe(Effect.zipRight(set(last)), Effect.provide(client))
        const [took] = yield* Effect.timed(writing)
        yield* becomes(manager, last)

        assert.isTrue(versions.every((version, index) => index === 0 || versions[index - 1] < version))
        assert.isBelow(seen.length, updates)
        assert.strictEqual(seen[seen.length - 1], last)
        // About twenty belong to a manager, however many updates it has seen.
        yield* until("nothing more goes on", Effect.map(fibers, (now) => now < 40))
        yield* Scope.close(scope, Exit.void)
        yield* Fiber.join(reading)
        assert.strictEqual(told[told.length - 1], last)
        yield* until("no fibre is left", Effect.map(fibers, (now) => now === 0))
        const snapshot: unknown = JSON.parse(yield* Effect.promise(() => readFile(snapshotFile, "utf8")))
        assert.strictEqual(Reflect.get(Object(snapshot), "value"), json(last))
        if (process.env.MANAGER_UPDATES !== undefined) {
          yield* Effect.log({ updates, took: took.toString(), onUpdate: seen.length, told: told.length })
        }
      }),
    120_000
  )
})
