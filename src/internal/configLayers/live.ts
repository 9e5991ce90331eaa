/** Settings that follow their layers: the last that could be used count. */
import type * as Arr from "effect/Array"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { LayersInvalid } from "../../ConfigError.js"
import { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import * as Mirror from "../../Mirror.js"
import { inBackground } from "../background.js"
import * as First from "../mirror/first.js"
import * as Latest from "./latest.js"
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
  /** etcd does not let the layers be read. */
  readonly refused: EtcdError | undefined
}

type Outcome<A> = Either.Either<Resolved<A>, LayersInvalid | EtcdError>

/** @param timeout how long those who ask wait for the first reading */
export const make = <A, R>(
  keys: Arr.NonEmptyReadonlyArray<LayerKey>,
  decoder: Decoder<A, R>,
  timeout: Duration.Duration
): Effect.Effect<ConfigLayers<A>, never, R | EtcdClient | Scope.Scope> =>
  Effect.gen(function*() {
    const client = yield* EtcdClient
    const [only, ...others] = keys
    const mirror = yield* others.length === 0
      ? Mirror.make({ key: only.etcdKey })
      : Mirror.makeKeys(keys.map(({ etcdKey }) => etcdKey))
    const latest = Latest.make<State<A>>({ applied: undefined, event: undefined, refused: undefined })
    yield* Effect.addFinalizer(() => Effect.sync(latest.end))

    const reject = (error: LayersInvalid): Effect.Effect<void> =>
      Effect.zipRight(
        Effect.sync(() => latest.set({ ...latest.get(), event: { _tag: "Invalid", error }, refused: undefined })),
        Effect.logWarning(`${error.message}; what counted before still does`)
      )

    const take = (reading: Reading): Effect.Effect<void, never, R> =>
      Effect.matchEffect(resolve(decoder, reading), {
        onFailure: reject,
        onSuccess: (applied) =>
          Effect.sync(() =>
            latest.set({ applied, event: { _tag: "Applied", settings: applied.settings }, refused: undefined })
          )
      })

    yield* Stream.runForEach(readings(mirror, keys), take).pipe(
      // The mirror tries again; those who wait for the first reading hear of it.
      Effect.catchAll((refused) => Effect.sync(() => latest.set({ ...latest.get(), refused }))),
      Effect.forever,
      Effect.interruptible,
      inBackground("config/layers"),
      Effect.forkScoped
    )

    const outcome = ({ applied, event, refused }: State<A>): Outcome<A> | undefined =>
      applied !== undefined
        ? Either.right(applied)
        : event?._tag === "Invalid"
        ? Either.left(event.error)
        : refused !== undefined
        ? Either.left(refused)
        : undefined

    const resolved = Effect.suspend(() => {
      const present = outcome(latest.get())
      return present ?? Effect.flatMap(
        First.within(client, mirror, latest.await(outcome), timeout, only.etcdKey),
        Option.getOrElse((): Effect.Effect<Resolved<A>, LayersInvalid | EtcdError> => Effect.interrupt)
      )
    })

    const settings = Effect.map(resolved, ({ settings }) => settings)

    return {
      get: Effect.map(resolved, ({ settings }) => settings.value),
      settings,
      explain: Effect.flatMap(settings, ({ explain }) => explain),
      changes: Stream.map(
        latest.stream(({ applied }) => applied, (a, b) => a.text === b.text),
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
