/**
 * Free ports on the loopback address.
 *
 * They are drawn from below the range that systems take ports of outgoing connections from: a server that is stopped
 * keeps its port then, and a client that goes on connecting to it cannot end up connected to itself.
 */
import * as Net from "node:net"

const lowest = 10_000
const highest = 32_000
const drawn = new Set<number>()

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = Net.createServer()
    server.once("error", () => resolve(false))
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)))
  })

/** A port that nobody listens on, a different one at every call. */
export const freePort = async (): Promise<number> => {
  for (;;) {
    const port = lowest + Math.floor(Math.random() * (highest - lowest))
    if (!drawn.has(port)) {
      drawn.add(port)
      if (await isFree(port)) {
        return port
      }
    }
  }
}
