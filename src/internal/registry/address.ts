/** Where an instance listens. */
import type { ServiceInfo } from "./model.js"

/** An IPv6 address may be written in brackets. */
export const host = (address: string): string => address.replace(/^\[(.*)\]$/s, "$1")

/** `10.0.0.7:8080`, `[::1]:8080` */
export const hostAndPort = ({ address, port }: Pick<ServiceInfo, "address" | "port">): string => {
  const bare = host(address)
  return bare.includes(":") ? `[${bare}]:${port}` : `${bare}:${port}`
}
