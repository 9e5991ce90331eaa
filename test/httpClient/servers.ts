/** HTTP servers of Node, and load on them. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"

export interface Server {
  readonly port: number
  /** How many requests it got. */
  readonly requests: () => number
}

const close = (server: Http.Server): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    server.close(() => resume(Effect.void))
    server.closeIdleConnections()
  })

/** Listens on a port of the loopback address, until the scope closes and what is under way has ended. */
export const serve = (
  handler: Http.RequestListener = (_, response) => response.end("ok")
): Effect.Effect<Server, never, Scope.Scope> =>
  Effect.gen(function*() {
    let requests = 0
    const server = yield* Effect.acquireRelease(
      Effect.sync(() =>
        Http.createServer((request, response) => {
          requests++
          handler(request, response)
        })
      ),
      close
    )
    yield* Effect.async<void>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.void))
    })
    return { port: (server.address() as AddressInfo).port, requests: () => requests }
  })

export interface Load {
  readonly sent: () => number
  readonly failures: ReadonlyArray<unknown>
  /** Waits for the next `count` requests. */
  readonly more: (count: number) => Effect.Effect<void>
  /** Ends it after the requests that are under way. */
  readonly stop: Effect.Effect<void>
}

/** Requests without a pause, `concurrency` at a time. */
export const load = (
  request: Effect.Effect<unknown, unknown>,
  concurrency: number
): Effect.Effect<Load, never, Scope.Scope> =>
  Effect.gen(function*() {
    let sent = 0
    let stopped = false
    const failures: Array<unknown> = []
    const one = request.pipe(
      Effect.catchAllCause((cause) => Effect.sync(() => failures.push(cause))),
      Effect.zipRight(Effect.sync(() => sent++))
    )
    const fiber = yield* Effect.forkScoped(
      Effect.forEach(
        Array.from({ length: concurrency }),
        () => Effect.whileLoop({ while: () => !stopped, body: () => one, step: () => {} }),
        { concurrency: "unbounded", discard: true }
      )
    )
    return {
      sent: () => sent,
      failures,
      more: (count) =>
        Effect.suspend(() => {
          const goal = sent + count
          return until(Effect.sync(() => sent >= goal))
        }),
      stop: Effect.suspend(() => {
        stopped = true
        return Fiber.join(fiber)
      })
    }
  })

/** Waits for a condition; the test's own limit bounds it. */
export const until = <E, R>(condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.asVoid(Effect.repeat(Effect.delay(condition, "5 millis"), { until: (holds) => holds }))
