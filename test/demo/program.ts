import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"

/** A program of `examples/` as a stranger runs it, line by line; on the embedded engine unless `ETCD_ENDPOINTS` is given. */
export const program = (name: string, environment: Record<string, string> = {}) =>
  Effect.acquireRelease(
    Effect.gen(function*() {
      const lines = yield* Queue.unbounded<string>()
      const printed: Array<string> = []
      const child = spawn(process.execPath, ["--import", "tsx", `examples/${name}.ts`], {
        env: { ...process.env, ETCD_ENDPOINTS: "", ...environment },
        stdio: ["ignore", "pipe", "pipe"]
      })
      for (const stream of [child.stdout, child.stderr]) {
        createInterface({ input: stream }).on("line", (line) => {
          printed.push(line)
          Queue.unsafeOffer(lines, line)
        })
      }
      const exit = new Promise<number | null>((resolve) => child.once("close", resolve))
      return {
        printed,
        until: (pattern: RegExp) => Effect.repeat(Queue.take(lines), { until: (line) => pattern.test(line) }),
        exit: Effect.promise(() => exit),
        signal: (signal: "SIGINT" | "SIGKILL") => Effect.sync(() => child.kill(signal))
      }
    }),
    ({ signal }) => signal("SIGKILL")
  )
