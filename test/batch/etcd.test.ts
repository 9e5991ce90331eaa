import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as EtcdClient from "../../src/EtcdClient.js"
import type { EtcdError } from "../../src/EtcdError.js"
import * as Lock from "../../src/Lock.js"
import * as Session from "../../src/Session.js"
import * as Txn from "../../src/Txn.js"
import { connect, text } from "../grpc/support.js"
import * as EtcdServer from "../support/EtcdServer.js"

const rounds = 4_000
/** So many locks are fought for at once: enough for full batches. */
const atOnce = 64

const versions = [{ version: undefined }, { version: "3.5" }] as const

describe("two acquirers of one lock, in the same instant", () => {
  it.scopedLive(`never hold it together and never have equal tokens (${rounds} times)`, () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.make({ version: "3.5" })
      const services = Lock.layer().pipe(
        Layer.provideMerge(Session.layer),
        Layer.provideMerge(EtcdClient.layer({ endpoints: server.endpoint }))
      )
      yield* Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const client = yield* EtcdClient.EtcdClient
        let overlaps = 0
        let equal = 0
        let done = 0
        const revisionBefore = (yield* client.put({ key: "/before", value: "" })).header.revision
        const fight = (key: string) =>
          Effect.gen(function*() {
            let holders = 0
            const tokens: Array<bigint> = []
            const acquirer = lock.withLock(key)(({ fencingToken }) =>
              Effect.gen(function*() {
                tokens.push(fencingToken)
                if (++holders > 1) overlaps++
                yield* Effect.yieldNow()
                holders--
              })
            )
            yield* Effect.all([acquirer, acquirer], { concurrency: 2, discard: true })
            if (tokens.length !== 2 || tokens[0] === tokens[1]) equal++
            done++
          })
        yield* Effect.forEach(
          Array.from({ length: rounds }, (_, i) => `lock-${i % (2 * atOnce)}-${i}`),
          fight,
          { concurrency: atOnce, discard: true }
        )
        assert.deepStrictEqual({ done, equal, overlaps }, { done: rounds, equal: 0, overlaps: 0 })
        // Batches there were: without them each of the writes has a revision of its own, and these are 4 a round.
        const revisionAfter = (yield* client.put({ key: "/after", value: "" })).header.revision
        assert.isBelow(Number(revisionAfter - revisionBefore), 2 * rounds)
        assert.strictEqual((yield* client.range({ key: "/locks/", rangeEnd: "/locks0", countOnly: true })).count, 0n)
      }).pipe(Effect.provide(services))
    }), 240_000)
})

describe.each(versions)("a restricted user (version $version)", ({ version }) => {
  it.scopedLive("is refused inside a batch exactly as alone", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.make({ version, flags: ["--bcrypt-cost=4"] })
      for (
        const command of [
          ["user", "add", "root:secret"],
          ["role", "add", "root"],
          ["user", "grant-role", "root", "root"],
          ["user", "add", "app:secret"],
          ["role", "add", "app"],
          ["role", "grant-permission", "--prefix=true", "app", "readwrite", "/app/"],
          ["user", "grant-role", "app", "app"],
          ["auth", "enable"]
        ]
      ) {
        yield* server.etcdctl(command)
      }
      const auth = (username: string) => ({ username, password: Redacted.make("secret") })
      const root = yield* connect({ endpoints: server.endpoint, auth: auth("root") })
      const client = yield* connect({ endpoints: server.endpoint, auth: auth("app") })

      // What the batcher must not do here: this server does not look into nested transactions.
      yield* client.txn({
        success: [Txn.txn({ success: [Txn.put({ key: "/foreign/nested", value: "" })] })]
      })
      assert.strictEqual((yield* root.get("/foreign/nested"))._tag, "Some")
      yield* root.delete({ key: "/foreign/nested" })

      const created = (key: string) =>
        client.txn({ compare: [Txn.absent(key)], success: [Txn.put({ key, value: "" })] })
      const kinds: Record<string, (key: string) => Effect.Effect<unknown, EtcdError>> = {
        put: (key) => client.put({ key, value: "" }),
        txn: created,
        delete: (key) => client.delete({ key: `${key}-gone` }),
        get: (key) => client.get(key)
      }
      // Each kind by itself, as a refused put takes its whole batch apart; and all together. More than once: the batcher
      // asks for the server's version in between.
      for (const round of [...Object.keys(kinds), "all", ...Object.keys(kinds).map((kind) => `${kind} again`)]) {
        const chosen = Object.entries(kinds).filter(([kind]) => round === "all" || round.startsWith(kind))
        const requests = Array.from({ length: 20 }, (_, i) =>
          chosen.flatMap(([kind, request]) =>
            ["/app/", "/foreign/"].map((prefix) => {
              const key = `${prefix}${round}-${kind}-${i}`
              return Effect.map(Effect.either(request(key)), (answer) => ({ key, answer }))
            })
          )).flat()
        for (const { answer, key } of yield* Effect.all(requests, { concurrency: "unbounded" })) {
          if (key.startsWith("/app/")) {
            assert.strictEqual(answer._tag, "Right", key)
          } else if (answer._tag === "Right") {
            assert.fail(`${key} was not refused`)
          } else {
            assert.deepStrictEqual([answer.left.reason, answer.left.mayBeApplied], ["PermissionDenied", false])
            assert.isTrue(answer.left.key?.startsWith(key), `${answer.left.key} instead of ${key}`)
          }
        }
      }
      const foreign = yield* root.range({ key: "/foreign/", rangeEnd: "/foreign0" })
      assert.deepStrictEqual(
        foreign.kvs.map(({ key }) =>
          text(key)
        ),
        []
      )
      // 20 of each round, of puts and of transactions.
      assert.strictEqual((yield* root.range({ key: "/app/", rangeEnd: "/app0" })).kvs.length, 120)
    }), 60_000)
})
