/**
 * A client whose `close` also ends the TCP connections that are being opened. What that needs beside an address comes from
 * the name resolver, so one that adds it stands before the one for `dns:`.
 */
import * as grpc from "@grpc/grpc-js"
import type { Construct } from "../socketsOpening.js"
import * as SocketsOpening from "../socketsOpening.js"

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
    const { construct, end } = SocketsOpening.make()
    grpc.experimental.registerResolver(scheme, Resolver)
    super(target.replace(/^dns:/, `${scheme}:`), credentials, { ...options, [option]: construct })
    this.end = end
  }

  override close(): void {
    super.close()
    this.end()
  }
}
