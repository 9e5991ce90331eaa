/** The services that are followed: one local copy each, shared by all who follow it. */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as RcMap from "effect/RcMap"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { EtcdClient } from "../../EtcdClient.js"
import type { InvalidArgument } from "../../EtcdError.js"
import * as Key from "../../Key.js"
import * as Mirror from "../../Mirror.js"
import * as Copy from "./copy.js"
import type { Layout } from "./entry.js"

export interface Copies {
  /** The copy of a service, until the scope closes, and a while longer: the next one often comes soon. */
  readonly follow: (name: string) => Effect.Effect<Copy.Copy, InvalidArgument, Scope.Scope>
}

const idleTimeToLive = Duration.seconds(30)
const freshnessInterval = Duration.seconds(5)

/** @param grace how long what vanished as if by accident is kept */
export const make = (
  client: EtcdClient["Type"],
  layout: Layout,
  grace: Duration.Duration
): Effect.Effect<Copies, never, Scope.Scope> =>
  Effect.gen(function*() {
    const followed = new Set<Copy.Copy>()
    // The breaks of the connection are heard of at once; what only a mirror knows (a refusal) a little later.
    yield* Stream.merge(client.watchConnection.changes, Stream.tick(freshnessInterval)).pipe(
      Stream.runForEach(() => Effect.forEach(Array.from(followed), ({ refresh }) => refresh, { discard: true })),
      Effect.interruptible,
      Effect.forkScoped
    )

    const copies = yield* RcMap.make({
      lookup: (name: string) => {
        const folder = layout.folder(name)
        return Mirror.make(folder.range).pipe(
          Effect.flatMap((mirror) => Copy.make(folder, mirror, grace)),
          Effect.tap((copy) =>
            Effect.acquireRelease(
              Effect.sync(() => followed.add(copy)),
              () => Effect.sync(() => followed.delete(copy))
            )
          ),
          Effect.annotateLogs("service", name),
          Effect.provide(Context.make(EtcdClient, client))
        )
      },
      idleTimeToLive
    })

    return { follow: (name) => Effect.flatMap(Key.validate("name", name), (valid) => RcMap.get(copies, valid)) }
  })
