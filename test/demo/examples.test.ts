import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readdirSync } from "node:fs"
import * as EtcdServer from "../support/EtcdServer.js"
import { program } from "./program.js"

const names = readdirSync("examples").map((file) => file.replace(/\.ts$/, "")).filter((name) =>
  name !== "support" && name !== "demo"
)

describe("on the embedded engine", () => {
  for (const name of names) {
    it.scopedLive(`${name} does what it shows, and ends by itself`, () =>
      Effect.gen(function*() {
        const { exit, printed } = yield* program(name)
        assert.strictEqual(yield* exit, 0, printed.join("\n"))
        assert.notMatch(printed.join("\n"), /ERROR/)
      }))
  }
})

describe("on a real etcd", () => {
  it.scopedLive("what an example has set is gone when it is ended by Ctrl-C", () =>
    Effect.gen(function*() {
      const etcd = yield* EtcdServer.make()
      const running = yield* program("typedSettings", { ETCD_ENDPOINTS: etcd.endpoint })
      yield* running.until(/within 30s/)
      yield* running.signal("SIGINT")
      assert.strictEqual(yield* running.exit, 0, running.printed.join("\n"))
      assert.strictEqual(yield* etcd.etcdctl(["get", "", "--prefix", "--keys-only"]), "")
    }))

  it.scopedLive("the suspended machine of `fencing` does not keep it from ending when etcd goes away", () =>
    Effect.gen(function*() {
      const etcd = yield* EtcdServer.make()
      const running = yield* program("fencing", { ETCD_ENDPOINTS: etcd.endpoint })
      yield* running.until(/is suspended/)
      yield* etcd.kill
      assert.strictEqual(yield* running.exit, 1, running.printed.join("\n"))
      assert.match(running.printed.join("\n"), /ERROR: etcd .* failed with Unavailable/)
    }))
})
