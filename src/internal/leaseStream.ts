/**
 * The keep-alives of all leases of a client over one stream. A keep-alive that is not answered in its time gives the
 * stream up and has the next one opened at another endpoint.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Scope from "effect/Scope"
import { EtcdError } from "../EtcdError.js"
import * as InTurn from "./inTurn.js"
import type { DuplexStream, KeepAliveResponse, Transport } from "./transport.js"

export interface LeaseStream {
  /** One keep-alive. Fails with `LeaseNotFound` when the server does not know the lease (any more). */
  readonly keepAlive: (id: bigint, timeoutMillis: number) => Effect.Effect<KeepAliveResponse, EtcdError>
}

type Answer = Deferred.Deferred<KeepAliveResponse, EtcdError>

interface Connection {
  readonly stream: DuplexStream<bigint>
  readonly scope: Scope.CloseableScope
}

const failure = (
  reason: "LeaseNotFound" | "DeadlineExceeded",
  code: number,
  endpoint: string | undefined,
  detail: string
): EtcdError =>
  new EtcdError({
    operation: "leaseKeepAlive",
    reason,
    code,
    ...(endpoint === undefined ? {} : { endpoint }),
    mayBeApplied: false,
    detail
  })

export const make = (transport: Transport): Effect.Effect<LeaseStream, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const inTurn = InTurn.make()
    /** Answers carry the lease's id: those of one lease come in the order of its keep-alives. */
    const waiting = new Map<bigint, Array<Answer>>()
    let connection: Connection | undefined

    const onMessage = (message: KeepAliveResponse): void => {
      const answers = waiting.get(message.id)
      const answer = answers?.shift()
      if (answers?.length === 0) waiting.delete(message.id)
      if (answer !== undefined) Deferred.unsafeDone(answer, Effect.succeed(message))
    }

    const onEnd = (error: EtcdError): void => {
      connection = undefined
      const answers = Array.from(waiting.values()).flat()
      waiting.clear()
      for (const answer of answers) Deferred.unsafeDone(answer, Effect.fail(error))
    }

    /** The scope of the last stream: closed before the next one is opened, as the end of a stream is only a message. */
    let last: Scope.CloseableScope | undefined

    const open: Effect.Effect<Connection, EtcdError> = inTurn(Effect.suspend(() => {
      if (connection !== undefined) return Effect.succeed(connection)
      return Effect.uninterruptibleMask((restore) =>
        Effect.gen(function*() {
          if (last !== undefined) yield* Scope.close(last, Exit.void)
          const own = yield* Scope.fork(scope, ExecutionStrategy.sequential)
          last = own
          let ended: EtcdError | undefined
          const stream = yield* restore(Scope.extend(
            transport.openLease({
              onMessage,
              onEnd: (error) => {
                ended = error
                onEnd(error)
              }
            }),
            own
          ))
          if (ended !== undefined) return yield* Effect.fail(ended)
          connection = { stream, scope: own }
          return connection
        })
      )
    }))

    const giveUp = (from: Connection, error: EtcdError): Effect.Effect<void> =>
      Effect.suspend(() => {
        from.stream.suspect("silent")
        if (connection === from) onEnd(error)
        return Scope.close(from.scope, Exit.void)
      })

    const keepAlive: LeaseStream["keepAlive"] = (id, timeoutMillis) =>
      Effect.suspend(() => {
        let from: Connection | undefined
        const exchange = Effect.flatMap(open, (opened) => {
          from = opened
          const answer: Answer = Deferred.unsafeMake(FiberId.none)
          const queue = waiting.get(id)
          if (queue === undefined) waiting.set(id, [answer])
          else queue.push(answer)
          opened.stream.send(id)
          return Deferred.await(answer)
        })
        return exchange.pipe(
          Effect.timeoutTo({
            duration: Duration.millis(timeoutMillis),
            onSuccess: Effect.succeed,
            onTimeout: () => {
              const endpoint = from?.stream.endpoint
              const error = failure("DeadlineExceeded", 4, endpoint, `not acknowledged within ${timeoutMillis} ms`)
              return Effect.zipRight(from === undefined ? Effect.void : giveUp(from, error), Effect.fail(error))
            }
          }),
          Effect.flatten,
          Effect.filterOrFail(
            ({ ttl }) => ttl > 0n,
            () => failure("LeaseNotFound", 5, from?.stream.endpoint, "the server does not know the lease")
          )
        )
      })

    return { keepAlive }
  })
