/**
 * An end for TCP connections that are being opened. grpc-js cannot give one up: to a host that drops the packets, as some
 * firewalls do, it would keep the process alive for minutes after the client was closed.
 *
 * It does not show its sockets either, but it hands the address as it came from the name resolver to `net.connect`, as the
 * options of the socket, and one of these, `construct`, is called with the socket. So a resolver that adds it stands
 * before the one for `dns:`.
 */
import * as grpc from "@grpc/grpc-js"
import type { Socket } from "node:net"

type Construct = (this: Socket, done: () => void) => void

const scheme = "effect-coord-dns"
const option = "effect-coord.construct"

class Resolver implements grpc.experimental.Resolver {
  private readonly inner: grpc.experimental.Resolver

  constructor(
    target: grpc.experimental.GrpcUri,
    listener: grpc.experimental.ResolverListener,
    options: grpc.ChannelOptions
  ) {
    const construct: Construct = options[option]
    const marked = ({ addresses }: grpc.experimental.Endpoint): grpc.experimental.Endpoint => ({
      addresses: addresses.map((address) => Object.assign({ construct }, address))
    })
    this.inner = grpc.experimental.createResolver(
      { ...target, scheme: "dns" },
      (endpoints, ...rest) =>
        listener(
          endpoints.ok ? grpc.experimental.statusOrFromValue(endpoints.value.map(marked)) : endpoints,
          ...rest
        ),
      options
    )
  }

  updateResolution(): void {
    this.inner.updateResolution()
  }

  destroy(): void {
    this.inner.destroy()
  }

  /** As for `dns:`. */
  static getDefaultAuthority(target: grpc.experimental.GrpcUri): string {
    return target.path
  }
}

/** A client for a `dns:` target (or any other, unchanged), whose `close` ends the connections that it is opening. */
export class Client extends grpc.Client {
  private readonly end: () => void

  constructor(target: string, credentials: grpc.ChannelCredentials, options: grpc.ClientOptions) {
    const opening = new Set<Socket>()
    let closed = false
    const construct: Construct = function(done) {
      const over = (): void => void opening.delete(this)
      opening.add(this.once("connect", over).once("close", over))
      if (closed) this.destroy()
      done()
    }
    grpc.experimental.registerResolver(scheme, Resolver)
    super(target.replace(/^dns:/, `${scheme}:`), credentials, { ...options, [option]: construct })
    this.end = () => {
      closed = true
      for (const socket of Array.from(opening)) socket.destroy()
    }
  }

  override close(): void {
    super.close()
    this.end()
  }
}
