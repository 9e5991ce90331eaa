/**
 * One watch for many keys: the deletes of the folder that has them all in it, handed on to those who hold the keys.
 *
 * What others delete there arrives as well, and is passed over; but a watch of the server, and a fibre, for each of
 * thousands of keys take far more.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { EtcdClient, WatchError, WatchEvent } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import * as Key from "../../Key.js"
import { inBackground } from "../background.js"
import type { Place } from "../bag.js"
import { toText } from "../bytes.js"
import * as KeyWatch from "../keyWatch.js"

/** Who holds a key of a session's. */
export interface KeyHolder {
  readonly entry: { readonly key: string; readonly createRevision: bigint }
  /** Called at most once, when somebody else has deleted the key. */
  readonly onDeleted: () => void
}

/** A key that is held, with what its watching has come to. */
export class Guarded {
  readonly holder: KeyHolder
  /** On the monotonic clock. */
  readonly since: bigint
  /** Nobody wants to know any more. */
  isOver = false
  /** Where it is now. */
  place: Place | undefined = undefined

  constructor(holder: KeyHolder, since: bigint) {
    this.holder = holder
    this.since = since
  }

  get key(): string {
    return this.holder.entry.key
  }

  get createRevision(): bigint {
    return this.holder.entry.createRevision
  }

  end(): void {
    this.isOver = true
    this.place?.leave()
  }
}

export interface FolderWatch {
  /** Watches these as well, except those that are over. They may have been deleted before. */
  readonly join: (newcomers: ReadonlyArray<Guarded>) => Effect.Effect<void>
}

/** How many keys are read at the same time. */
const readsAtOnce = 64

/** The folder of all that begin with `folder` and of `key`: both up to the last slash that they share. */
const widened = (folder: string | undefined, key: string): string => {
  let end = folder === undefined ? key.length : 0
  while (folder !== undefined && end < folder.length && folder[end] === key[end]) end++
  return key.slice(0, key.slice(0, end).lastIndexOf("/") + 1)
}

/** @param onRefused called with all members, which are no longer watched, when etcd does not let the folder be watched */
export const make = (
  client: EtcdClient["Type"],
  onRefused: (members: ReadonlyArray<Guarded>) => Effect.Effect<void>
): Effect.Effect<FolderWatch, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => {
    const members = new Map<string, Guarded>()
    /** What is watched, and by whom. */
    let folder: string | undefined
    let following: Fiber.RuntimeFiber<void> | undefined

    const stop = (): void => {
      following?.unsafeInterruptAsFork(following.id())
      following = undefined
      folder = undefined
    }

    const isMember = (member: Guarded): boolean => members.get(member.key) === member

    const leave = (member: Guarded): void => {
      if (!isMember(member)) return
      members.delete(member.key)
      if (members.size === 0) stop()
    }

    const lose = (member: Guarded): void => {
      leave(member)
      member.holder.onDeleted()
    }

    const route = (events: ReadonlyArray<WatchEvent>): void => {
      for (const { kv } of events) {
        const member = members.get(toText(kv.key))
        if (member !== undefined && kv.modRevision > member.createRevision) lose(member)
      }
    }

    const check = (some: ReadonlyArray<Guarded>): Effect.Effect<void, EtcdError> =>
      Effect.forEach(some, (member) =>
        Effect.suspend(() =>
          isMember(member)
            ? Effect.map(KeyWatch.isGone(client, member.key, member.createRevision), (gone) => {
              if (gone && isMember(member)) lose(member)
            })
            : Effect.void
        ), { concurrency: readsAtOnce, discard: true })

    /** Ends only when etcd refuses. */
    const follow = (range: string): Effect.Effect<void> =>
      // From now on, and then a read of each: so nothing is missed, whatever history etcd still has.
      Effect.scoped(
        Effect.flatMap(
          client.openWatch({ ...Key.prefix(range), noPut: true }),
          ({ next }): Effect.Effect<never, WatchError> =>
            Effect.zipRight(check(Array.from(members.values())), Effect.forever(Effect.map(next, route)))
        )
      ).pipe(
        Effect.retry({ while: KeyWatch.isPassing, schedule: KeyWatch.pauses }),
        Effect.catchAll((error) => {
          const left = Array.from(members.values())
          members.clear()
          following = undefined
          folder = undefined
          return Effect.zipRight(
            Effect.logDebug(`cannot watch the keys below ${range} together: ${error.message}`),
            onRefused(left)
          )
        }),
        inBackground("session/keys")
      )

    /** For newcomers to a watch that stands. */
    const lookAt = (newcomers: ReadonlyArray<Guarded>): Effect.Effect<void> =>
      check(newcomers).pipe(
        Effect.retry({ while: KeyWatch.isPassing, schedule: KeyWatch.pauses }),
        Effect.catchAll((error) => Effect.logWarning(`cannot read the own keys: ${error.message}`)),
        inBackground("session/keys")
      )

    const join: FolderWatch["join"] = (newcomers) =>
      Effect.suspend(() => {
        let wide = folder
        for (const member of newcomers) {
          if (member.isOver) continue
          members.set(member.key, member)
          member.place = { leave: () => leave(member) }
          wide = widened(wide, member.key)
        }
        if (wide === undefined) return Effect.void
        if (wide === folder) return Effect.asVoid(Effect.forkIn(Effect.interruptible(lookAt(newcomers)), scope))
        stop()
        folder = wide
        return Effect.map(Effect.forkIn(Effect.interruptible(follow(wide)), scope), (fiber) => {
          if (folder === wide) following = fiber
          // All have left meanwhile.
          else fiber.unsafeInterruptAsFork(fiber.id())
        })
      })

    return { join }
  })
