/** The process of one peer: runs the slices that it is told to, one after the other. */
import * as Meter from "./meter.js"
import type { Peer } from "./peer.js"
import type { Reply, Request, Settings, Slice, SliceResult } from "./protocol.js"

const settings = JSON.parse(process.argv[2]) as Settings

const reply = (message: Reply): Promise<void> =>
  new Promise((resolve) => {
    process.send?.(message, undefined, undefined, () => resolve())
  })

const describe = (error: unknown): string => error instanceof Error ? error.message : String(error)

const run = async (peer: Peer, slice: Slice): Promise<SliceResult> => {
  const meter = Meter.make()
  const work = await peer.workloads[slice.workload](slice, meter)
  const working = work()
  // A failure of the work is what the slice ends with, even before its time.
  await Promise.race([meter.measure(slice), working.then(() => new Promise<never>(() => {}))])
  await working
  return meter.result()
}

const answer = async (peer: Peer, request: Request): Promise<void> => {
  if (request._tag === "Run") {
    const message = await run(peer, request.slice).then(
      (result): Reply => ({ _tag: "Done", result }),
      (error: unknown): Reply => ({ _tag: "Failed", message: describe(error) })
    )
    return reply(message)
  }
  await peer.close()
  await reply({ _tag: "Ended" })
  process.exit(0)
}

const main = async (): Promise<void> => {
  const { open } = await import(`./${settings.peer}.js`) as { readonly open: (settings: Settings) => Promise<Peer> }
  const peer = await open(settings)
  process.on("message", (request: Request) => void answer(peer, request))
  await reply({ _tag: "Ready", workloads: Object.keys(peer.workloads) })
}

// The benchmark decides about the end, also at Ctrl-C; when it is gone, so is this.
process.on("SIGINT", () => {})
process.on("disconnect", () => process.exit(1))
main().catch(async (error: unknown) => {
  await reply({ _tag: "Failed", message: describe(error) })
  process.exit(1)
})
