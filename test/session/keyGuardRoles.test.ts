/** Many keys of a user who may not read the folder that has them all in it. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Coord from "../../src/Coord.js"
import * as Lock from "../../src/Lock.js"
import { until } from "../grpc/support.js"
import * as EtcdServer from "../support/EtcdServer.js"
import { watchersOf } from "../support/metrics.js"

const asRoot = (server: EtcdServer.EtcdServerService, ...args: ReadonlyArray<string>) =>
  server.etcdctl(["--user=root:root", ...args])

const protectedServer = (version: string) =>
  Effect.gen(function*() {
    const server = yield* EtcdServer.make({ version, flags: ["--bcrypt-cost=4"] })
    yield* server.etcdctl(["user", "add", "root:root"])
    yield* Effect.ignore(server.etcdctl(["role", "add", "root"]))
    yield* server.etcdctl(["user", "grant-role", "root", "root"])
    yield* server.etcdctl(["user", "add", "app:app"])
    yield* server.etcdctl(["role", "add", "app"])
    for (const prefix of ["/locks/one/", "/locks/other/", "/coord/"]) {
      yield* server.etcdctl(["role", "grant-permission", "--prefix=true", "app", "readwrite", prefix])
    }
    yield* server.etcdctl(["user", "grant-role", "app", "app"])
    yield* server.etcdctl(["auth", "enable"])
    return server
  })

/** Waits until so many watches stand. */
const watched = (server: EtcdServer.EtcdServerService, count: number) =>
  until(`${count} watches`, Effect.map(watchersOf(server), (watchers) => watchers === count))

describe.each(["3.4", "3.5"])("locks of a user with few rights, on etcd %s", (version) => {
  it.scopedLive("are heard of when they are deleted by hand, however many they are", () =>
    Effect.gen(function*() {
      const server = yield* protectedServer(version)
      yield* Effect.gen(function*() {
        const hold = (name: string) =>
          Effect.forEach(
            Array.from({ length: 80 }, (_, index) => `${name}/${index}`),
            (key) => Lock.acquire(key, { ttl: "1 minute" }),
            { concurrency: "unbounded" }
          )
        const isHeard = (lock: Lock.LockHandle) =>
          Effect.gen(function*() {
            yield* asRoot(server, "del", lock.etcdKey)
            assert.strictEqual((yield* Effect.flip(lock.lost)).reason, "deleted")
          })
        // All of these are in a folder that the user may read as a whole, ...
        const one = yield* hold("one")
        yield* watched(server, 65)
        yield* isHeard(one[10])
        yield* isHeard(one[79])
        // ... and these, together with the others, are not.
        const other = yield* hold("other")
        yield* watched(server, 158)
        for (const lock of [one[20], one[78], other[10], other[79]]) yield* isHeard(lock)
      }).pipe(
        Effect.scoped,
        Effect.provide(Coord.layer({
          endpoints: server.endpoint,
          auth: { username: "app", password: Redacted.make("app") }
        }))
      )
    }))
})
