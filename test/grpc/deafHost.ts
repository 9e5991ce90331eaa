/** A host that answers no attempt to connect, as behind a firewall that drops packets. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as Net from "node:net"
import { fileURLToPath } from "node:url"
import { until } from "./support.js"

const fixture = fileURLToPath(new URL("./fixtures/deafHost.ts", import.meta.url))

export interface DeafHost {
  readonly endpoint: string
  /** It hears from now on, and forwards everything to its target. */
  readonly hear: Effect.Effect<void>
}

/** More than its queue has places. */
const callers = 8

export const make = (targetPort: number): Effect.Effect<DeafHost, never, Scope.Scope> =>
  Effect.gen(function*() {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, ["--import", "tsx", fixture, String(targetPort)], {
          stdio: ["pipe", "pipe", "inherit"]
        })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    const [output] = yield* Effect.promise(() => once(child.stdout, "data"))
    const port = Number(output)
    const sockets = yield* Effect.acquireRelease(
      Effect.sync(() => Array.from({ length: callers }, () => Net.connect(port, "127.0.0.1").on("error", () => {}))),
      (sockets) => Effect.sync(() => sockets.forEach((socket) => socket.destroy()))
    )
    // Those that find a place do so at once.
    yield* until("somebody in the queue", Effect.sync(() => sockets.some(({ connecting }) => !connecting)))
    return {
      endpoint: `127.0.0.1:${port}`,
      hear: Effect.sync(() => {
        sockets.forEach((socket) => socket.destroy())
        child.stdin.write(".")
      })
    }
  })
