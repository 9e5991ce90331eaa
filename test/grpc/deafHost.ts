/** A host that answers no attempt to connect, as behind a firewall that drops packets. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import * as Processes from "../support/processes.js"
import { until } from "./support.js"

export interface DeafHost {
  readonly endpoint: string
  /** It hears from now on, and forwards everything to its target. */
  readonly hear: Effect.Effect<void>
}

/** More than its queue has places. */
const callers = 8

export const make = (targetPort: number): Effect.Effect<DeafHost, never, Scope.Scope> =>
  Effect.gen(function*() {
    const program = yield* Processes.compile<string, number>(new URL("./fixtures/deafHost.ts", import.meta.url))
    const host = yield* program.start(String(targetPort))
    const port = yield* Effect.orDie(host.next)
    const sockets = yield* Effect.acquireRelease(
      Effect.sync(() => Array.from({ length: callers }, () => Net.connect(port, "127.0.0.1").on("error", () => {}))),
      (sockets) => Effect.sync(() => sockets.forEach((socket) => socket.destroy()))
    )
    // Those that find a place do so at once.
    yield* until("somebody in the queue", Effect.sync(() => sockets.some(({ connecting }) => !connecting)))
    return {
      endpoint: `127.0.0.1:${port}`,
      hear: Effect.zipRight(
        Effect.sync(() => sockets.forEach((socket) => socket.destroy())),
        host.send("hear")
      )
    }
  })
