import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, readFileSync } from "node:fs"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import * as Processes from "./processes.js"

interface Echo {
  readonly order: string
  readonly args: ReadonlyArray<string>
  readonly time: string
}

const compile = Processes.compile<string, Echo>(new URL("./fixtures/echo.ts", import.meta.url))

/** One that has ended and was not waited for by its parent is still there by name, as a zombie. */
const isZombie = (pid: number): boolean => {
  const stat = `/proc/${pid}/stat`
  return existsSync(stat) && /\) Z /.test(readFileSync(stat, "latin1"))
}

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0) && !isZombie(pid)
  } catch {
    return false
  }
}

describe("processes", () => {
  it.scopedLive("take orders and tell reports, by one clock", () =>
    Effect.gen(function*() {
      const program = yield* compile
      const [one, other] = yield* Effect.all([program.start("a", "b"), program.start()])
      yield* one.send("first")
      const first = yield* one.next
      yield* other.send("second")
      const second = yield* other.next
      assert.deepStrictEqual([first.order, first.args, second.order], ["first", ["a", "b"], "second"])
      assert.isTrue(BigInt(first.time) < BigInt(second.time))
      assert.isTrue(BigInt(second.time) < process.hrtime.bigint())
      assert.deepStrictEqual(yield* one.reports, [first])
    }))

  it.scopedLive("are stopped, go on and are killed on their own, and what they told before arrives", () =>
    Effect.gen(function*() {
      const program = yield* compile
      const [one, other] = yield* Effect.all([program.start(), program.start()])
      yield* one.signal("SIGSTOP")
      yield* one.send("1")
      yield* other.send("2")
      assert.strictEqual((yield* other.next).order, "2")
      assert.deepStrictEqual(yield* one.reports, [])
      yield* one.signal("SIGCONT")
      assert.strictEqual((yield* one.next).order, "1")
      yield* one.send("3")
      yield* one.next
      assert.deepStrictEqual(yield* one.kill, { code: null, signal: "SIGKILL" })
      assert.deepStrictEqual((yield* one.reports).map(({ order }) => order), ["1", "3"])
      assert.match((yield* Effect.flip(one.next)).message, /SIGKILL/)
      assert.isTrue(isAlive(other.pid))
    }))

  it.scopedLive("say why they failed", () =>
    Effect.gen(function*() {
      const one = yield* (yield* compile).start()
      yield* one.send("fail")
      assert.match((yield* Effect.flip(one.next)).message, /ended with 1[^]*as it was told[^]*echo\.ts/)
    }))

  it.live("end with their scope", () =>
    Effect.gen(function*() {
      const { pid } = yield* Effect.scoped(Effect.gen(function*() {
        const one = yield* (yield* compile).start()
        yield* one.signal("SIGSTOP")
        return one
      }))
      assert.isFalse(isAlive(pid))
    }))

  it("do not outlive a test process that is killed, stopped or not", async () => {
    const script = fileURLToPath(new URL("./fixtures/leaveProcessesBehind.ts", import.meta.url))
    const child = spawn(process.execPath, ["--import", "tsx", script], { stdio: ["ignore", "pipe", "inherit"] })
    const [line] = await Promise.race([
      once(createInterface({ input: child.stdout }), "line"),
      once(child, "exit").then(() => Promise.reject(new Error("it ended before it had started the others")))
    ]) as [string]
    const pids = JSON.parse(line) as ReadonlyArray<number>
    assert.deepStrictEqual(pids.map(isAlive), [true, true])
    child.kill("SIGKILL")
    while (pids.some(isAlive)) await new Promise((resolve) => setImmediate(resolve))
  })
})
