/** The registry, put together from its parts. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import * as Key from "../../Key.js"
import type { Registry } from "../../Registry.js"
import type { Sessions } from "../../Session.js"
import * as Txn from "../../Txn.js"
import { isDebugging, traced } from "../traced.js"
import * as Copies from "./copies.js"
import * as Copy from "./copy.js"
import type { Layout } from "./entry.js"
import { NotFound } from "./model.js"
import * as Pulled from "./pulled.js"
import * as Registrations from "./registrations.js"

/** @param grace how long what vanished as if by accident is kept */
export const make = (
  layout: Layout,
  grace: Duration.Duration
): Effect.Effect<Registry["Type"], never, EtcdClient | Sessions | Scope.Scope> =>
  Effect.gen(function*() {
    const client = yield* EtcdClient
    const { follow } = yield* Copies.make(client, layout, grace)
    const registrations = yield* Registrations.make(layout)

    /** Deletes the entry that is there now; one that comes later is not touched, however often this is sent. */
    const removeEntry = (key: string | Uint8Array): Effect.Effect<boolean, EtcdError> =>
      Effect.flatMap(
        client.get(key),
        Option.match({
          onNone: () => Effect.succeed(false),
          onSome: ({ createRevision }) =>
            Effect.as(
              client.txn(
                { compare: [Txn.createRevision(key, "=", createRevision)], success: [Txn.del({ key })] },
                { idempotent: true }
              ),
              true
            )
        })
      )

    const allKeys = Effect.map(
      Stream.runCollect(client.pages(layout.all)),
      (pages) =>
        Array.from(pages).flatMap(({ kvs }) =>
          kvs.flatMap((kv) => {
            const parsed = layout.parse(kv)
            return parsed === undefined ? [] : [{ ...parsed, key: kv.key }]
          })
        )
    )

    const unregister: Registry["Type"]["unregister"] = (id, name) =>
      Effect.gen(function*() {
        yield* Key.validateSegment("id", id)
        if (name !== undefined) yield* Key.validate("name", name)
        if (yield* registrations.unregister(id, name)) return
        const keys = name === undefined
          ? (yield* allKeys).filter((entry) => entry.id === id).map(({ key }) => key)
          : [layout.key(name, id)]
        const removed = yield* Effect.forEach(keys, removeEntry, { concurrency: 16 })
        if (!removed.includes(true)) return yield* new NotFound({ what: "service", id, name })
        yield* Effect.logDebug("unregistered")
      }).pipe(
        Effect.annotateLogs({ service: name ?? "*", id }),
        Effect.withSpan("Registry.unregister", { attributes: { name, id }, captureStackTrace: false })
      )

    const discover: Registry["Type"]["discover"] = (name) =>
      Effect.withFiberRuntime((fiber) =>
        traced(
          fiber,
          "Registry.discover",
          { name },
          Effect.gen(function*() {
            yield* Key.validate("name", name)
            const folder = layout.folder(name)
            const { kvs } = yield* client.range(folder.range)
            const services = yield* Copy.decodeAll(folder, kvs)
            if (isDebugging(fiber)) yield* Effect.logDebug(`discovered ${services.length} instances of ${name}`)
            return services
          })
        )
      )

    return {
      register: registrations.register,
      unregister,
      discover,
      services: Effect.map(allKeys, (entries) => Array.from(new Set(entries.map(({ name }) => name))).sort()).pipe(
        Effect.withSpan("Registry.services", { captureStackTrace: false })
      ),
      follow,
      watch: (name) => Pulled.stream(Effect.flatMap(follow(name), ({ reader }) => reader)),
      instances: (name) => Pulled.stream(Effect.flatMap(follow(name), ({ listReader }) => listReader)),
      instancesState: (name) => Effect.scoped(Effect.flatMap(follow(name), ({ latest }) => latest))
    }
  })
