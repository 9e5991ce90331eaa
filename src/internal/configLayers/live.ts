/** Settings that follow their layers: the last that could be used count. */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { isDeepStrictEqual } from "node:util"
import { LayersInvalid } from "../../ConfigError.js"
import { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import * as Mirror from "../../Mirror.js"
import { inBackground } from "../background.js"
import * as Bounded from "../bounded.js"
import * as Latest from "../latest.js"
import * as First from "../mirror/first.js"
import type { ConfigLayers, LayersEvent } from "./model.js"
import type { LayerKey, Reading } from "./reading.js"
import { readings } from "./reading.js"
import type { Decoder, Resolved } from "./settings.js"
import { resolve } from "./settings.js"

interface State<A> {
  /** What counts. */
  readonly applied: Resolved<A> | undefined
  /** What became of the newest reading. */
  readonly event: LayersEvent<A> | undefined
}

export interface Times {
  /** How long those who ask wait for the first reading. */
  readonly timeout: Duration.Duration
  /** How long the decoding of a reading may take. */
  readonly updateTimeout: Duration.Duration
}

/** What is wrong with a reading whose decoding failed with nothing that a schema says. */
const undecoded = ({ layers, revision }: Reading, problem: string): LayersInvalid =>
  new LayersInvalid({ layers, revision, problems: [{ path: [], problem }] })

export const make = <A, R>(
  keys: Arr.NonEmptyReadonlyArray<LayerKey>,
  decoder: Decoder<A, R>,
  { timeout, updateTimeout }: Times
): Effect.Effect<ConfigLayers<A>, never, R | EtcdClient | Scope.Scope> =>
  Effect.gen(function*() {
    const client = yield* EtcdClient
    const [only, ...others] = keys
    const mirror = yield* others.length === 0
      ? Mirror.make({ key: only.etcdKey })
      : Mirror.makeKeys(keys.map(({ etcdKey }) => etcdKey))
    const latest = Latest.make<State<A>>({ applied: undefined, event: undefined })
    yield* Effect.addFinalizer(() => Effect.sync(latest.end))

    const reject = (error: LayersInvalid): Effect.Effect<void> =>
      Effect.zipRight(
        Effect.sync(() => latest.set({ ...latest.get(), event: { _tag: "Invalid", error } })),
        Effect.logWarning(`${error.message}; what counted before still does`)
      )

    const apply = (applied: Resolved<A>): Effect.Effect<void> =>
      Effect.sync(() => latest.set({ applied, event: { _tag: "Applied", settings: applied.settings } }))

    const take = (reading: Reading): Effect.Effect<void, never, R> =>
      Effect.flatMap(Bounded.run(resolve(decoder, reading), updateTimeout), ({ ended, exit }) =>
        Effect.zipRight(
          Option.match(exit, {
            onNone: () => reject(undecoded(reading, `it was not decoded within ${Duration.format(updateTimeout)}`)),
            onSome: Exit.matchEffect({
              onFailure: (cause) =>
                reject(Option.getOrElse(
                  Cause.failureOption(cause),
                  () => undecoded(reading, "its decoding ended with a defect, or was interrupted")
                )),
              onSuccess: apply
            })
          }),
          // There is never more than one under way.
          ended
        ))

    // Refused at first: the mirror tries again, with pauses.
    yield* Stream.runForEach(Stream.retry(readings(mirror, keys), Schedule.forever), take).pipe(
      Effect.ignore,
      Effect.interruptible,
      inBackground("config/layers"),
      Effect.forkScoped
    )

    const outcome = ({ applied, event }: State<A>): Effect.Effect<Resolved<A>, LayersInvalid> | undefined =>
      applied !== undefined
        ? Effect.succeed(applied)
        : event?._tag === "Invalid"
        ? Effect.fail(event.error)
        : undefined

    const resolved = Effect.suspend((): Effect.Effect<Resolved<A>, LayersInvalid | EtcdError> =>
      outcome(latest.get()) ?? Effect.zipRight(
        First.within(client, mirror, mirror.ready, timeout, only.etcdKey),
        // What was read is decoded within its time.
        Effect.flatMap(latest.await(outcome), Option.getOrElse(() => Effect.interrupt))
      )
    )

    const settings = Effect.map(resolved, ({ settings }) => settings)

    return {
      get: Effect.map(resolved, ({ settings }) => settings.value),
      settings,
      explain: Effect.flatMap(settings, ({ explain }) => explain),
      changes: Stream.map(
        latest.stream(({ applied }) => applied, (a, b) => isDeepStrictEqual(a.json, b.json)),
        ({ settings }) => settings.value
      ),
      events: latest.stream(({ event }) => event, (a, b) => a === b),
      status: Effect.map(mirror.state, (connection) => {
        const { applied, event } = latest.get()
        return {
          connection,
          revision: Option.map(Option.fromNullable(applied), ({ settings }) => settings.revision),
          rejected: event?._tag === "Invalid" ? Option.some(event.error) : Option.none()
        }
      })
    }
  })
