/**
 * An end for TCP connections that are being opened. grpc-js cannot give one up: to a host that drops the packets, as some
 * firewalls do, it would keep the process alive for minutes after the client was closed.
 *
 * It does not show its sockets either, but it hands an address as it came from the name resolver to `net.connect`, as the
 * options of the socket, and one of these, `construct`, is called with the socket.
 */
import type { Socket } from "node:net"

/** An option of a socket. */
export type Construct = (this: Socket, done: () => void) => void

export interface SocketsOpening {
  /** To be put beside host and port. */
  readonly construct: Construct
  /** Ends the connections that are being opened, now and later. */
  readonly end: () => void
}

export const make = (): SocketsOpening => {
  const opening = new Set<Socket>()
  let closed = false
  return {
    construct(done) {
      const over = (): void => void opening.delete(this)
      opening.add(this.once("connect", over).once("close", over))
      if (closed) this.destroy()
      done()
    },
    end: () => {
      closed = true
      for (const socket of Array.from(opening)) socket.destroy()
    }
  }
}
