import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as EtcdServer from "../support/EtcdServer.js"
import { program } from "./program.js"

const demo = (environment: Record<string, string>) => program("demo", environment)

const count = (printed: ReadonlyArray<string>, pattern: RegExp) => printed.filter((line) => pattern.test(line)).length

describe("the demo", () => {
  it.scopedLive("does the main job on the embedded engine, and ends by itself", () =>
    Effect.gen(function*() {
      const running = yield* demo({ DEMO_SECONDS: "1" })
      assert.strictEqual(yield* running.exit, 0)
      for (
        const what of [/lock +held/, /registry +shop-1 is registered/, /discovery +shop-1 at/, /cas +version/, /done/]
      ) {
        assert.isAtLeast(count(running.printed, what), 1, `${what} in\n${running.printed.join("\n")}`)
      }
    }))

  it.scopedLive("survives a restart of etcd in the middle, and tells the truth about it", () =>
    Effect.gen(function*() {
      const etcd = yield* EtcdServer.make()
      const running = yield* demo({ DEMO_SECONDS: "8", ETCD_ENDPOINTS: etcd.endpoint })
      // A short absence: the lease outlives it.
      yield* running.until(/requestsPerSecond":202/)
      yield* etcd.kill
      yield* running.until(/may be gone/)
      yield* etcd.start
      yield* running.until(/is registered/)
      yield* running.until(/config +version/)
      assert.strictEqual(count(running.printed, /was lost/), 0, "kept")
      // A long one: the lease does not.
      yield* etcd.kill
      yield* running.until(/\(token \d+\) was lost: expired/)
      yield* etcd.start
      yield* running.until(/lock +held with fencing token/)
      assert.strictEqual(yield* running.exit, 0)
      const all = running.printed.join("\n")
      assert.isAtLeast(count(running.printed, /is registered/), 3, all)
      assert.match(all, /lock +kept to the end, and released/)
      assert.match(all, /the quorum knows 1 instance/)
      assert.match(all, /all is well/)
      const tokens = Array.from(all.matchAll(/fencing token (\d+)/g), ([, token]) => Number(token))
      assert.deepStrictEqual(tokens, [...tokens].sort((a, b) => a - b), "tokens grow")
      assert.strictEqual(yield* etcd.etcdctl(["get", "", "--prefix", "--keys-only"]), "", "nothing is left behind")
    }), 90_000)

  it.scopedLive("leaves nothing behind when it is ended by Ctrl-C", () =>
    Effect.gen(function*() {
      const etcd = yield* EtcdServer.make()
      const running = yield* demo({ DEMO_SECONDS: "60", ETCD_ENDPOINTS: etcd.endpoint })
      yield* running.until(/requestsPerSecond":201/)
      yield* running.signal("SIGINT")
      assert.strictEqual(yield* running.exit, 0, running.printed.join("\n"))
      assert.strictEqual(yield* etcd.etcdctl(["get", "", "--prefix", "--keys-only"]), "")
    }))
})
