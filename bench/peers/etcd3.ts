/** The npm package etcd3, as its users use it. */
import { Schema } from "effect"
import { Etcd3 } from "etcd3"
import type { Peer, Workload } from "./peer.js"
import {
  calls,
  loops,
  ownLock,
  readKey,
  Setting,
  settingKey,
  settingsFolder,
  value,
  valueLength,
  writeKey
} from "./peer.js"
import type { Settings } from "./protocol.js"

export const open = async (settings: Settings): Promise<Peer> => {
  const client = new Etcd3({ hosts: `http://${settings.endpoint}` })

  const get = calls(async () => {
    const found = await client.get(readKey()).buffer()
    if (found?.length !== valueLength) throw new Error("a key is missing")
  })

  const decodeSetting = Schema.decodeUnknownSync(Setting)
  const configGet = calls(async () => {
    decodeSetting(await client.get(settingsFolder + settingKey()).json())
  })

  const watch: Workload = async (slice, meter) => {
    const heard = meter.part("event")
    const done = meter.operation("call")
    const workers = await Promise.all(Array.from({ length: slice.inFlight }, async (_, index) => {
      const key = `/config/bench/${slice.name}/${index}`
      const worker = { key, begin: 0, next: () => {}, watcher: await client.watch().key(key).create() }
      worker.watcher.on("put", () => {
        heard(worker.begin)
        worker.next()
      })
      return worker
    }))
    const run = loops(slice, meter, async (index) => {
      const worker = workers[index]
      const next = new Promise<void>((resolve) => {
        worker.next = resolve
      })
      const begin = worker.begin = meter.now()
      await client.put(worker.key).value("1")
      await next
      done(begin)
    })
    return async () => {
      await run()
      await Promise.all(workers.map(({ watcher }) => watcher.cancel()))
    }
  }

  const put = calls(async () => {
    await client.put(writeKey()).value(value)
  })

  /** The least that makes a lock: one lease for all, a compare and a put, and a delete. It fails where it had to wait. */
  const lock: Workload = async (slice, meter) => {
    const lease = client.lease(60)
    const id = await lease.grant()
    const acquired = meter.part("acquire")
    const done = meter.operation("cycle")
    const run = loops(slice, meter, async (worker) => {
      const key = `/locks/${ownLock(slice, worker)}`
      const begin = meter.now()
      const { succeeded } = await client.if(key, "Create", "==", 0).then(client.put(key).value("").lease(id)).commit()
      if (!succeeded) throw new Error("an own key was there already")
      acquired(begin)
      await client.delete().key(key)
      done(begin)
    })
    return async () => {
      await run()
      await lease.revoke()
    }
  }

  return {
    workloads: { get, "config-get": configGet, put, watch, lock, acquire: lock },
    close: async () => client.close()
  }
}
