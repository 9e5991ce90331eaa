import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Config from "../../src/Config.js"
import * as Coord from "../../src/Coord.js"
import * as Lock from "../../src/Lock.js"
import * as Registry from "../../src/Registry.js"
import * as EtcdServer from "../support/EtcdServer.js"

const service = { id: "1", name: "s", address: "127.0.0.1", port: 8080 }

interface Problem {
  readonly _tag: string
  readonly argument?: string
  readonly endpoint?: string | undefined
  readonly mayBeApplied?: boolean
}

type Attempt = Effect.Effect<unknown, Problem, Coord.Coord | Scope.Scope>

/** What is tried, and what its error names. */
const refused: ReadonlyArray<readonly [what: string, attempt: Attempt, argument: string]> = [
  ...["", "..", "a/../b", "a\u0007b", "a//b", "/a"].flatMap((key) =>
    [
      [`lock ${JSON.stringify(key)}`, Lock.acquire(key), "key"],
      [`tryAcquire ${JSON.stringify(key)}`, Lock.tryAcquire(key), "key"],
      [`config set ${JSON.stringify(key)}`, Config.set(key, Schema.String, "v"), "key"],
      [`config get ${JSON.stringify(key)}`, Config.get(key, Schema.String), "key"],
      [`service name ${JSON.stringify(key)}`, Registry.register({ ...service, name: key }), "service.name"],
      [`service id ${JSON.stringify(key)}`, Registry.register({ ...service, id: key }), "service.id"]
    ] as const
  ),
  ["an id with a slash", Registry.register({ ...service, id: "a/b" }), "service.id"],
  ["port 0", Registry.register({ ...service, port: 0 }), "service.port"],
  ["port 65536", Registry.register({ ...service, port: 65_536 }), "service.port"],
  ["no address", Registry.register({ ...service, address: "" }), "service.address"],
  ["ttl 0 of a lock", Lock.acquire("a", { ttl: 0 }), "ttl"],
  ["negative ttl of a lock", Lock.acquire("a", { ttl: -1 }), "ttl"],
  ["ttl 0 of a registration", Registry.register(service, { ttl: 0 }), "ttl"],
  ["negative ttl of a registration", Registry.register(service, { ttl: -1 }), "ttl"]
]

describe("bad input", () => {
  it.scopedLive("is refused at once, by name, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const etcd = yield* EtcdServer.make()
      yield* Effect.gen(function*() {
        for (const [what, attempt, argument] of refused) {
          const error = yield* Effect.flip(Effect.scoped(attempt))
          assert.deepEqual([error._tag, error.argument], ["InvalidArgument", argument], what)
        }
        const before = yield* Coord.health()
        const [member] = before.endpoints
        assert.isTrue(member._tag === "Up" && member.revision === 1n, "nothing was written, not even for a moment")

        const large = yield* Effect.flip(Config.set("large", Schema.String, "x".repeat(2 * 1024 * 1024)))
        assert.deepInclude(large, { _tag: "EtcdError", reason: "TooLarge", key: "/config/large", mayBeApplied: false })
        const heavy = yield* Effect.flip(
          Effect.scoped(Registry.register({ ...service, metadata: { m: "x".repeat(2 * 1024 * 1024) } }))
        )
        assert.deepInclude(heavy, { _tag: "EtcdError", reason: "TooLarge" })
        yield* Config.set("small", Schema.String, "still works")
        yield* Config.delete("small")
      }).pipe(Effect.provide(Coord.layer({ endpoints: etcd.endpoint })))
      assert.strictEqual(yield* etcd.etcdctl(["get", "", "--prefix", "--keys-only"]), "")
      assert.match(yield* etcd.etcdctl(["lease", "list"]), /found 0 leases/)
    }))

  it.live("an unknown host and a port where nobody listens fail in bounded time, with the endpoint's name", () =>
    Effect.gen(function*() {
      for (const endpoints of ["no-such-host.invalid:2379", "127.0.0.1:1"]) {
        const attempts: ReadonlyArray<Attempt> = [
          Lock.acquire("a"),
          Registry.register(service),
          Config.get("a", Schema.String),
          Registry.discover("s")
        ]
        const [duration] = yield* Effect.timed(
          Effect.forEach(attempts, (attempt) =>
            Effect.gen(function*() {
              const error = yield* Effect.flip(Effect.scoped(attempt))
              assert.deepEqual([error._tag, error.endpoint, error.mayBeApplied], ["EtcdError", endpoints, false])
            }), { concurrency: "unbounded" }).pipe(Effect.provide(
              Coord.layer({ endpoints, requestTimeout: "2 seconds" })
            ))
        )
        assert.isBelow(Duration.toSeconds(duration), 15)
      }
    }))
})
