/** The lock of the npm package etcd3: each has a lease of its own, and nobody waits for one. */
import { Etcd3 } from "etcd3"
import type { Peer, Workload } from "./peer.js"
import { loops, ownLock } from "./peer.js"
import type { Settings } from "./protocol.js"

export const open = async (settings: Settings): Promise<Peer> => {
  const client = new Etcd3({ hosts: `http://${settings.endpoint}` })

  const lock: Workload = async (slice, meter) => {
    const acquired = meter.part("acquire")
    const done = meter.operation("cycle")
    return loops(slice, meter, async (worker) => {
      const lock = client.lock(`/locks/${ownLock(slice, worker)}`).ttl(60)
      const begin = meter.now()
      await lock.acquire()
      acquired(begin)
      await lock.release()
      done(begin)
    })
  }

  return {
    workloads: { lock, acquire: lock },
    close: async () => client.close()
  }
}
