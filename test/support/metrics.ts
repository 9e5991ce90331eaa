/** What a server counts of itself. */
import * as Effect from "effect/Effect"
import type { EtcdServerService } from "./EtcdServer.js"

type Server = Pick<EtcdServerService, "url">

/** The lines whose name and labels begin like this. */
const lines = ({ url }: Server, beginning: string): Effect.Effect<ReadonlyArray<string>> =>
  Effect.promise(async () =>
    (await (await fetch(`${url}/metrics`)).text()).split("\n").filter((line) => line.startsWith(beginning))
  )

const sum = (all: ReadonlyArray<string>): number =>
  all.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0)

/** How many watches it has. */
export const watchersOf = (server: Server): Effect.Effect<number> =>
  Effect.map(lines(server, "etcd_debugging_mvcc_watcher_total "), sum)

/** How many streams of watches it has. */
export const watchStreamsOf = (server: Server): Effect.Effect<number> =>
  Effect.map(lines(server, "etcd_debugging_mvcc_watch_stream_total "), sum)

/** How many streams of this method are open. */
export const openStreamsOf = (server: Server, method: "LeaseKeepAlive" | "Watch"): Effect.Effect<number> =>
  Effect.map(lines(server, "grpc_server_"), (all) => {
    const of = (what: string) =>
      sum(
        all.filter((line) => line.startsWith(`grpc_server_${what}_total{`) && line.includes(`grpc_method="${method}"`))
      )
    return of("started") - of("handled")
  })
