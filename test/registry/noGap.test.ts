/** Watchers on a real etcd while services come and go, connections break and the history is compacted away. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Coord from "../../src/Coord.js"
import * as EtcdClient from "../../src/EtcdClient.js"
import * as Registry from "../../src/Registry.js"
import * as EtcdServer from "../support/EtcdServer.js"
import * as TcpProxy from "../support/TcpProxy.js"

const names = ["a", "b"]
const seconds = 8

interface Seen {
  readonly name: string
  readonly services: Map<string, string>
  /** What was told, by the version that each put names: none comes twice to one watcher. */
  readonly told: Array<string>
}

const watching = (name: string) =>
  Effect.gen(function*() {
    const seen: Seen = { name, services: new Map(), told: [] }
    yield* Registry.watch(name).pipe(
      Stream.runForEach(({ _tag, service }) =>
        Effect.sync(() => {
          const version = service.metadata.version
          seen.told.push(`${_tag} ${service.id} ${version}`)
          if (_tag === "Put") seen.services.set(service.id, version)
          else seen.services.delete(service.id)
        })
      ),
      Effect.forkScoped
    )
    return seen
  })

const show = (services: Iterable<readonly [string, string]>) => Array.from(services, ([id, v]) => `${id}=${v}`).sort()

const story = (version: "3.4" | "3.5") =>
  it.scopedLive(
    `end equal to etcd${version === "3.5" ? ", and are told nothing twice" : ""}, on ${version}`,
    () =>
      Effect.gen(function*() {
        const server = yield* EtcdServer.make({ version })
        const proxy = yield* TcpProxy.make(server.endpoint)
        const admin = yield* EtcdClient.make({ endpoints: server.endpoint })
        const registrar = yield* Layer.build(Coord.layer({ endpoints: server.endpoint }))
        const watcher = yield* Layer.build(Coord.layer({ endpoints: proxy.endpoint }))
        let count = 0

        /** One that stays for a while, changes, and goes. */
        const visit = Effect.scoped(Effect.gen(function*() {
          const n = ++count
          const name = names[n % names.length]
          const registration = yield* Registry.register({
            id: `i${n % 40}-${n}`,
            name,
            address: "h",
            port: 1,
            metadata: { version: `${n}.0` }
          })
          yield* Effect.sleep(yield* Random.nextRange(20, 1_000))
          if (n % 2 === 0) yield* registration.update({ version: `${n}.1` })
          // Some of each service stay to the end.
          if (n % 9 === 0) yield* Effect.never
        }))
        let over = false
        const coming = yield* Effect.forkScoped(visit).pipe(
          Effect.zipRight(Effect.sleep("20 millis")),
          // As many as are wanted, also where the machine is slow.
          Effect.repeat({ until: () => over && count > seconds * 25 }),
          Effect.provide(registrar),
          Effect.forkScoped
        )

        const all: Array<Seen> = []
        for (let round = 0; round < seconds; round++) {
          for (const name of names) all.push(yield* Effect.provide(watching(name), watcher))
          yield* Effect.sleep("600 millis")
          yield* proxy.cut()
          if (round % 2 === 1) {
            yield* proxy.refuse
            yield* Effect.sleep("300 millis")
            const { header } = yield* admin.range({ key: "x" })
            yield* admin.compact(header.revision)
            yield* proxy.accept
          }
        }

        over = true
        yield* Fiber.join(coming)

        const standing = (name: string) =>
          Effect.map(
            Effect.provide(Registry.discover(name), registrar),
            (services) => show(services.map(({ id, metadata }) => [id, metadata.version] as const))
          )
        yield* Effect.forEach(names, (name) =>
          Effect.map(standing(name), (there) =>
            there.length > 0 && all.every((seen) => seen.name !== name || show(seen.services).join() === there.join())))
          .pipe(
            Effect.repeat({
              until: (equal) =>
                equal.every(Boolean),
              schedule: Schedule.spaced("200 millis")
            }),
            Effect.timeoutFail({
              duration: "75 seconds",
              onTimeout: () =>
                "a watcher that is not equal to etcd"
            })
          )
        if (version === "3.5") {
          for (const { told } of all) {
            assert.strictEqual(new Set(told).size, told.length)
          }
        }
      }),
    120_000
  )

describe.concurrent("watchers, while many services come and go", () => {
  story("3.5")
  story("3.4")
})
