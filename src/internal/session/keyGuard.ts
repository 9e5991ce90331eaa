/**
 * Notices when somebody else deletes a key that a session holds: by hand (`etcdctl del`), or as Go's recipes do, by name.
 *
 * A key is watched once it has been held for longer than most are, so that short critical sections pay nothing for it. The
 * first few have a watch each and hear of nothing else; where there are more, the rest share one, so that ten thousand cost
 * little more than a list of their names.
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import type { EtcdClient } from "../../EtcdClient.js"
import { inBackground } from "../background.js"
import { Bag } from "../bag.js"
import * as KeyWatch from "../keyWatch.js"
import type { KeyHolder } from "./folderWatch.js"
import { Guarded } from "./folderWatch.js"
import * as FolderWatch from "./folderWatch.js"

export interface KeyGuard {
  /** Costs next to nothing, until it is told to end. */
  readonly add: (holder: KeyHolder) => Guarded
}

const watchAfterMillis = 200
/** So many have a watch of their own. */
const maxAlone = 64

/** The first segment of a key, as all services have one of their own: what is watched together is not far apart. */
const rootOf = (key: string): string => key.slice(0, key.indexOf("/", 1) + 1)

export const make = (client: EtcdClient["Type"]): Effect.Effect<KeyGuard, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const clock = yield* Effect.clock
    /** Those that are not watched yet. */
    const recent = new Bag<Guarded>()
    const some = yield* Effect.makeLatch(false)
    let alone = 0
    const together = new Map<string, FolderWatch.FolderWatch>()
    /** Roots below which this user may watch single keys only. */
    const refused = new Set<string>()

    const awaitDeleted = ({ createRevision, holder, key }: Guarded): Effect.Effect<void> =>
      KeyWatch.awaitDeleted(client, key, createRevision).pipe(
        Effect.matchEffect({
          onFailure: (error) => Effect.logWarning(`cannot watch the own key ${key}: ${error.message}`),
          onSuccess: () => Effect.sync(() => holder.onDeleted())
        }),
        inBackground("session/keys")
      )

    const watchAlone = (entry: Guarded): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (entry.isOver) return Effect.void
        let interrupt: (() => void) | undefined
        alone++
        entry.place = {
          leave: () => {
            entry.place = undefined
            alone--
            interrupt?.()
          }
        }
        return Effect.map(Effect.forkIn(Effect.interruptible(awaitDeleted(entry)), scope), (fiber) => {
          interrupt = () => fiber.unsafeInterruptAsFork(fiber.id())
          if (entry.isOver) interrupt()
        })
      })

    const folderWatch = (root: string): Effect.Effect<FolderWatch.FolderWatch> =>
      Effect.suspend(() => {
        const present = together.get(root)
        if (present !== undefined) return Effect.succeed(present)
        const onRefused = (entries: ReadonlyArray<Guarded>): Effect.Effect<void> => {
          refused.add(root)
          return Effect.forEach(entries, watchAlone, { discard: true })
        }
        return FolderWatch.make(client, onRefused).pipe(
          Effect.tap((made) => Effect.sync(() => together.set(root, made))),
          Effect.provideService(Scope.Scope, scope)
        )
      })

    const watchTogether = (root: string, entries: ReadonlyArray<Guarded>): Effect.Effect<void> =>
      root === "" || refused.has(root)
        ? Effect.forEach(entries, watchAlone, { discard: true })
        : Effect.flatMap(folderWatch(root), ({ join }) => join(entries))

    const look = Effect.suspend(() => {
      if (recent.size === 0) return some.close
      const before = clock.unsafeCurrentTimeNanos() - BigInt(watchAfterMillis) * 1_000_000n
      const due = recent.values().filter(({ since }) => since <= before)
      for (const { place } of due) place?.leave()
      const room = Math.max(0, maxAlone - alone)
      const byRoot = Object.entries(Arr.groupBy(due.slice(room), ({ key }) => rootOf(key)))
      return Effect.zipRight(
        Effect.forEach(due.slice(0, room), watchAlone, { discard: true }),
        Effect.forEach(byRoot, ([root, entries]) => watchTogether(root, entries), { discard: true })
      )
    })

    yield* some.await.pipe(
      Effect.zipRight(Effect.sleep(watchAfterMillis)),
      Effect.zipRight(look),
      Effect.forever,
      inBackground("session/keys"),
      Effect.interruptible,
      Effect.forkIn(scope)
    )

    return {
      add: (holder) => {
        const entry = new Guarded(holder, clock.unsafeCurrentTimeNanos())
        entry.place = recent.add(entry)
        some.unsafeOpen()
        return entry
      }
    }
  })
