/**
 * Free ports on the loopback address.
 *
 * They are drawn from below the range that systems take ports of outgoing connections from: a server that is stopped
 * keeps its port then, and a client that goes on connecting to it cannot end up connected to itself.
 *
 * Test files that run at the same time draw from ranges of their own: a port that is free between its draw and its use,
 * while its server is stopped, or on purpose, is not taken by another file meanwhile.
 */
import * as Net from "node:net"

/** As many files may run at the same time; the number of one's own is the same in the processes that a test starts. */
const ranges = 4
const range = Number(process.env.VITEST_POOL_ID ?? 0) % ranges
const size = 5_500
const lowest = 10_000 + range * size
const drawn = new Set<number>()

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = Net.createServer()
    server.once("error", () => resolve(false))
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)))
  })

/** A port that nobody listens on, a different one at every call. */
export const freePort = async (): Promise<number> => {
  while (drawn.size < size) {
    const port = lowest + Math.floor(Math.random() * size)
    if (!drawn.has(port)) {
      drawn.add(port)
      if (await isFree(port)) {
        return port
      }
    }
  }
  throw new Error(`all ports from ${lowest} to ${lowest + size - 1} have been drawn`)
}
