import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { existsSync } from "node:fs"
import * as EtcdServer from "./EtcdServer.js"

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

layer(EtcdServer.layer())("EtcdServer", (it) => {
  const put = (key: string, value: string) =>
    Effect.flatMap(EtcdServer.EtcdServer, (server) => server.etcdctl(["put", key, value]))
  const get = (key: string) =>
    Effect.flatMap(EtcdServer.EtcdServer, (server) => server.etcdctl(["get", "--print-value-only", key]))

  it.effect("answers etcdctl", () =>
    Effect.gen(function*() {
      yield* put("answers", "yes")
      assert.strictEqual(yield* get("answers"), "yes\n")
    }))

  it.effect("comes back on the same port with its data after a kill", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.EtcdServer
      yield* put("kept", "yes")
      const before = yield* server.pid
      yield* server.kill
      assert.isFalse(isAlive(before))
      assert.isTrue(Exit.isFailure(yield* Effect.exit(server.pid)))
      yield* server.start
      assert.strictEqual(yield* get("kept"), "yes\n")
    }))

  it.effect("comes back without data when wiped", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.EtcdServer
      yield* put("gone", "no")
      assert.include((yield* Effect.flip(server.wipe)).message, "running")
      yield* server.stop
      yield* server.startWithoutData
      assert.strictEqual(yield* get("gone"), "")
    }))

  it.effect("does not answer while it is paused", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.EtcdServer
      yield* server.pause
      const error = yield* Effect.flip(server.etcdctl(["get", "x", "--command-timeout=200ms", "--dial-timeout=200ms"]))
      assert.strictEqual(error._tag, "EtcdctlError")
      yield* server.resume
      yield* server.ready
      yield* get("x")
    }))

  it.scoped("runs an etcdctl that holds a lock", () =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.EtcdServer
      const holder = yield* server.startEtcdctl(["lock", "name"])
      const key = yield* holder.nextLine
      assert.match(key, /^name\/[0-9a-f]+$/)
      assert.strictEqual(yield* server.etcdctl(["get", "--prefix", "--keys-only", "name/"]), `${key}\n\n`)
      yield* holder.signal("SIGINT")
      yield* holder.exit
      assert.strictEqual(yield* server.etcdctl(["get", "--prefix", "--keys-only", "name/"]), "")
    }))
})

describe("the scope of a server", () => {
  it.live("kills it and removes its data", () =>
    Effect.gen(function*() {
      const [pid, folder] = yield* Effect.scoped(Effect.gen(function*() {
        const server = yield* EtcdServer.make({ flags: ["--max-request-bytes=4096"] })
        const [line] = (yield* server.etcdctl(["put", "x", "y".repeat(8000)]).pipe(Effect.flip)).message.split("\n")
        assert.include(line, "etcdctl")
        const running = yield* server.pid
        assert.isTrue(existsSync(server.folder))
        return [running, server.folder] as const
      }))
      assert.isFalse(isAlive(pid))
      assert.isFalse(existsSync(folder))
    }))

  it.live("reports a server that does not start, with the reason", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.scoped(EtcdServer.make({ flags: ["--no-such-flag"] })))
      assert.include(error.message, "no-such-flag")
    }))
})
