/** The etcd that is measured, and what has to be known about the machine. */
import { Effect } from "effect"
import type { Scope } from "effect"
import { EtcdClient, Key } from "effect-coord"
import { mkdir, mkdtemp, open, rm, statfs } from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { temporary } from "../scripts/lib/project.js"
import * as EtcdServer from "../test/support/EtcdServer.js"
import { keyCount, setting, settingOf, settingsFolder, value } from "./peers/peer.js"
import { median } from "./stats.js"

/** What figures depend on. */
export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryGiB: number
  readonly system: string
  readonly node: string
  readonly etcd: string
  /** The median of writes of 2 KiB, each followed by fdatasync. */
  readonly fsyncMillis: number
  /** How many cores others used when the run began. */
  readonly load: number
}

export interface Server {
  readonly endpoint: string
  readonly machine: Machine
  /** Drops the history, so that every round begins alike. */
  readonly compact: Effect.Effect<void, Error>
  /** The mean time that etcd waited for its disk. */
  readonly walFsyncMillis: Effect.Effect<number | undefined>
}

/** The magic number of a file system that lives in memory. */
const tmpfs = 0x01021994

/** etcd's data have to be on a disk: fsync costs nothing in memory. */
const useDisk = async (): Promise<void> => {
  const { type } = await statfs(Os.tmpdir())
  if (type !== tmpfs) return
  await mkdir(temporary, { recursive: true })
  process.env.TMPDIR = temporary
}

const fsyncMillis = async (): Promise<number> => {
  const folder = await mkdtemp(Path.join(Os.tmpdir(), "effect-coord-fsync-"))
  const file = await open(Path.join(folder, "file"), "w")
  try {
    const block = Buffer.alloc(2_048, "x")
    const times: Array<number> = []
    for (let index = 0; index < 200; index++) {
      await file.write(block)
      const begin = performance.now()
      await file.datasync()
      times.push(performance.now() - begin)
    }
    return median(times)
  } finally {
    await file.close()
    await rm(folder, { recursive: true, force: true })
  }
}

const fsyncMetric = (metrics: string, part: "sum" | "count"): number =>
  Number(new RegExp(`^etcd_disk_wal_fsync_duration_seconds_${part} (\\S+)`, "m").exec(metrics)?.[1])

export const make = (version: string): Effect.Effect<Server, Error, Scope.Scope> =>
  Effect.gen(function*() {
    yield* Effect.promise(useDisk)
    const [load] = Os.loadavg()
    const server = yield* EtcdServer.make({
      version,
      fsync: true,
      flags: ["--quota-backend-bytes=8589934592"]
    })
    const client = yield* EtcdClient.make({ endpoints: server.endpoint })
    yield* Effect.forEach(
      Array.from({ length: keyCount }, (_, index) => `bench/read/${index}`),
      (key) => client.put({ key, value }),
      { concurrency: 64, discard: true }
    )
    yield* Effect.forEach(
      Array.from({ length: keyCount }, (_, index) => settingsFolder + settingOf(index)),
      (key) => client.put({ key, value: JSON.stringify(setting) }),
      { concurrency: 64, discard: true }
    )
    const machine: Machine = {
      cpu: Os.cpus()[0]?.model.trim() ?? "unknown",
      cores: Os.cpus().length,
      memoryGiB: Math.round(Os.totalmem() / 1024 ** 3),
      system: `${Os.type()} ${Os.release()}`,
      node: process.version,
      etcd: server.version,
      fsyncMillis: yield* Effect.promise(fsyncMillis),
      load
    }
    return {
      endpoint: server.endpoint,
      machine,
      compact: client.range({ ...Key.prefix("bench/"), countOnly: true }).pipe(
        Effect.flatMap(({ header }) => client.compact(header.revision, { physical: true, timeout: "60 seconds" })),
        // Nothing was written since the last time.
        Effect.catchIf((error) => error.detail.includes("compacted"), () => Effect.void),
        Effect.asVoid
      ),
      walFsyncMillis: Effect.promise(async () => {
        const metrics = await fetch(`${server.url}/metrics`).then((response) => response.text(), () => "")
        const mean = fsyncMetric(metrics, "sum") / fsyncMetric(metrics, "count") * 1_000
        return Number.isFinite(mean) ? mean : undefined
      })
    }
  })
