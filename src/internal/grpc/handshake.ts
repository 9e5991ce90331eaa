/**
 * A time limit for what follows the opening of a TCP connection: the TLS handshake, and the first word of the server. grpc-js
 * has none: against a peer that accepts connections and says nothing (a stopped process, a proxy without a server) it
 * would wait for ever, and keep the socket even after the client was closed.
 */
import * as grpc from "@grpc/grpc-js"
import type { Socket } from "node:net"

type Create = grpc.ChannelCredentials["_createSecureConnector"]
type Connector = ReturnType<Create>

const closed = "the client was closed"

const limited = (inner: Connector, secure: boolean, timeoutMillis: number): Connector => {
  /** Sockets that may still be without an answer. */
  const waiting = new Set<Socket>()
  let destroyed = false
  const giveUp = (socket: Socket, why: string): void => {
    if (!waiting.delete(socket)) return
    // Without TLS the server's first bytes are its settings, with which the connection stands.
    if (secure || socket.bytesRead === 0) socket.destroy(new Error(why))
  }
  return {
    connect: (socket) => {
      waiting.add(socket)
      if (destroyed) giveUp(socket, closed)
      const timer = setTimeout(() => giveUp(socket, `no handshake within ${timeoutMillis} ms`), timeoutMillis)
      socket.once("close", () => {
        waiting.delete(socket)
        clearTimeout(timer)
      })
      const connecting = inner.connect(socket)
      if (secure) {
        connecting.then(() => {
          waiting.delete(socket)
          clearTimeout(timer)
        }, () => {})
      }
      return connecting
    },
    waitForReady: () => inner.waitForReady(),
    getCallCredentials: () => inner.getCallCredentials(),
    destroy: () => {
      destroyed = true
      for (const socket of Array.from(waiting)) giveUp(socket, closed)
      inner.destroy()
    }
  }
}

class LimitedCredentials extends grpc.ChannelCredentials {
  readonly inner: grpc.ChannelCredentials
  readonly timeoutMillis: number

  constructor(inner: grpc.ChannelCredentials, timeoutMillis: number) {
    super()
    this.inner = inner
    this.timeoutMillis = timeoutMillis
  }

  _isSecure(): boolean {
    return this.inner._isSecure()
  }

  _equals(other: grpc.ChannelCredentials): boolean {
    return this === other
  }

  _createSecureConnector(...args: Parameters<Create>): Connector {
    return limited(this.inner._createSecureConnector(...args), this._isSecure(), this.timeoutMillis)
  }
}

/** The same credentials, with at most `timeoutMillis` for the handshake. */
export const withTimeout = (credentials: grpc.ChannelCredentials, timeoutMillis: number): grpc.ChannelCredentials =>
  new LimitedCredentials(credentials, timeoutMillis)
