/** A channel that knows its calls, so that it can be closed once they are over, or be rid of them. */
import * as grpc from "@grpc/grpc-js"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { firstOf } from "../firstOf.js"
import type { SocketsOpening } from "../socketsOpening.js"

type Call = grpc.experimental.CallStream

export class ServiceChannel extends grpc.Channel {
  private readonly calls = new Set<Call>()
  private readonly listeners = new Set<() => void>()

  override createCall(...args: Parameters<grpc.Channel["createCall"]>): Call {
    const call = super.createCall(...args)
    const start = call.start.bind(call)
    call.start = (metadata, listener) => {
      this.calls.add(call)
      start(metadata, {
        onReceiveMetadata: (received) => listener.onReceiveMetadata(received),
        onReceiveMessage: (message) => listener.onReceiveMessage(message),
        onReceiveStatus: (status) => {
          this.calls.delete(call)
          listener.onReceiveStatus(status)
          if (this.calls.size > 0) return
          for (const tell of Array.from(this.listeners)) tell()
        }
      })
    }
    return call
  }

  /** Waits until no call is under way. */
  get quiet(): Effect.Effect<void> {
    return Effect.async((resume) => {
      if (this.calls.size === 0) return resume(Effect.void)
      const tell = (): void => resume(Effect.void)
      this.listeners.add(tell)
      return Effect.sync(() => void this.listeners.delete(tell))
    })
  }

  /** Ends the calls that are under way. */
  endCalls(details: string): void {
    for (const call of Array.from(this.calls)) call.cancelWithStatus(grpc.status.UNAVAILABLE, details)
  }
}

/** Takes no more calls, gives those under way the time to end, and then ends them. */
export const close = (
  channel: ServiceChannel,
  sockets: SocketsOpening,
  timeout: Duration.Duration
): Effect.Effect<void> =>
  Effect.suspend(() => {
    channel.close()
    sockets.end()
    return firstOf(channel.quiet, Effect.sleep(timeout))
  }).pipe(
    Effect.ensuring(Effect.sync(() => channel.endCalls("the channel was closed")))
  )
