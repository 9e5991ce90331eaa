/** The compiled library in this process, and fibres that use it. */
import { Effect, ManagedRuntime } from "effect"
import * as Path from "node:path"
import { pathToFileURL } from "node:url"
import type * as Coord from "../../src/Coord.js"
import type * as Modules from "../../src/index.js"
import type { Meter } from "./meter.js"
import type { Workload } from "./peer.js"
import type { Settings, Slice } from "./protocol.js"

export type Services = Coord.Coord

export interface Library {
  readonly modules: typeof Modules
  /** A workload: what it returns is run after it was prepared. */
  readonly workload: <E>(
    make: (slice: Slice, meter: Meter) => Effect.Effect<Effect.Effect<void, E, Services>, E, Services>
  ) => Workload
  readonly close: () => Promise<void>
}

export const open = async (settings: Settings): Promise<Library> => {
  const modules = await import(pathToFileURL(Path.join(settings.library, "index.js")).href) as typeof Modules
  const runtime = ManagedRuntime.make(modules.Coord.layer({ endpoints: settings.endpoint, ...settings.options }))
  return {
    modules,
    workload: (make) => async (slice, meter) => {
      const work = await runtime.runPromise(make(slice, meter))
      return () => runtime.runPromise(work)
    },
    close: () => runtime.dispose()
  }
}

/** One call of a fibre, made over and over. */
export interface Repeated<A, E, R> {
  /** Makes the call. */
  readonly body: () => Effect.Effect<A, E, R>
  /** Is given its result, and when it began. */
  readonly step: (result: A, begin: number) => void
}

/** As many fibres as operations are to be in flight, each with its calls one after the other. */
export const fibres = <A, E, R>(
  { inFlight }: Slice,
  meter: Meter,
  make: (index: number) => Repeated<A, E, R>
): Effect.Effect<void, E, R> =>
  Effect.forEach(
    Array.from({ length: inFlight }, (_, index) => make(index)),
    ({ body, step }) => {
      let begin = 0
      return Effect.whileLoop({
        while: meter.running,
        body: () => {
          begin = meter.now()
          return body()
        },
        step: (result: A) => step(result, begin)
      })
    },
    { concurrency: "unbounded", discard: true }
  )
