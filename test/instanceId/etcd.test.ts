/** Instance IDs on real servers. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Coord from "../../src/Coord.js"
import { layerEtcd3 } from "../../src/etcd3.js"
import { EtcdClient } from "../../src/EtcdClient.js"
import { instance } from "../etcd3/support.js"
import * as EtcdServer from "../support/EtcdServer.js"
import { folder, hold } from "./support.js"

const versions = [{ version: undefined }, { version: "3.5" }] as const

const numbers = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, index) => index + 1)

describe.each(versions)("version $version", ({ version }) => {
  it.scopedLive("shares one range of numbers with Go and etcdctl, and among processes that start together", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.make({ version })
      yield* server.etcdctl(["put", `${folder}3`, "3"])
      const processes = [
        ...yield* Effect.forEach(numbers(38), () => Layer.build(Coord.layer({ endpoints: server.endpoint }))),
        // Another codec has other limits.
        ...yield* Effect.forEach(
          numbers(2),
          () =>
            Effect.flatMap(
              instance(server.endpoint),
              (etcd3) => Layer.build(Layer.provideMerge(Coord.layerServices(), layerEtcd3(etcd3)))
            )
        )
      ]
      const all = yield* Effect.all(processes.map((process) => Effect.provide(hold(), process)), {
        concurrency: "unbounded"
      })
      assert.sameMembers(all.map(({ id }) => id), numbers(41).filter((id) => id !== 3))
      assert.strictEqual(yield* server.etcdctl(["get", all[0].etcdKey, "--print-value-only"]), `${all[0].id}\n`)
      yield* Effect.forEach(all, ({ close }) => close, { concurrency: "unbounded" })
      assert.strictEqual((yield* server.etcdctl(["get", "", "--prefix", "--keys-only"])).trim(), `${folder}3`)
    }))

  it.scopedLive("a user gets no number that its role does not allow", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.make({ version, flags: ["--bcrypt-cost=4"] })
      const permitted = (role: string, kind: string, prefix: string) =>
        ["role", "grant-permission", "--prefix=true", role, kind, prefix] as const
      for (
        const command of [
          ["user", "add", "root:secret"],
          ["role", "add", "root"],
          ["user", "grant-role", "root", "root"],
          ...["reader", "writer"].flatMap((name) => [
            ["user", "add", `${name}:secret`],
            ["role", "add", name],
            permitted(name, "readwrite", "/coord/attempts/"),
            ["user", "grant-role", name, name]
          ]),
          permitted("reader", "read", folder),
          permitted("writer", "readwrite", folder),
          ["auth", "enable"]
        ]
      ) {
        yield* server.etcdctl(command)
      }
      const as = (username: string) =>
        Layer.build(Coord.layer({ endpoints: server.endpoint, auth: { username, password: Redacted.make("secret") } }))
      const error = yield* Effect.flip(Effect.provide(hold(), yield* as("reader")))
      assert.isTrue(error._tag === "EtcdError" && error.reason === "PermissionDenied")
      const allocated = yield* Effect.provide(hold(), yield* as("writer"))
      assert.strictEqual(allocated.id, 1)
      yield* allocated.close
      const { count } = yield* Effect.flatMap(EtcdClient, ({ range }) => range({ key: "\0", rangeEnd: "\0" })).pipe(
        Effect.provide(yield* as("root"))
      )
      assert.strictEqual(count, 0n)
    }))
})
