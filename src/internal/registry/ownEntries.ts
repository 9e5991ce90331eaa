/**
 * Follows the entries that are registered here: what somebody deletes, or writes over, is noticed at once.
 *
 * A few instances of a service have a mirror each, of their key alone, and hear of nothing else. Where there are more, they
 * share one of all the service's instances, most of which are theirs: ten thousand take a hundred watches, and not as many
 * fibres.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import type { Snapshot } from "../../Mirror.js"
import * as Mirror from "../../Mirror.js"
import type { KeyRange } from "../../Txn.js"
import { inBackground } from "../background.js"
import { toText } from "../bytes.js"

/** What a mirror shows. */
export interface Seen {
  /** Which mirror it is: epochs of different ones cannot be compared. */
  readonly mirror: object
  readonly snapshot: Snapshot
}

export interface OwnEntry {
  /** `undefined` until something was read. */
  readonly seen: () => Seen | undefined
  /** Ends it. */
  readonly leave: () => void
}

export interface OwnEntries {
  /** Calls `onChange` when the entry may have changed. The range has all entries of the service. */
  readonly join: (key: string, service: KeyRange, onChange: () => void) => Effect.Effect<OwnEntry>
}

/** So many of one service have a mirror each. */
const maxAlone = 4

interface Member {
  readonly key: string
  readonly onChange: () => void
  source: Source | undefined
  left: boolean
}

interface Source {
  readonly members: Map<string, Set<Member>>
  seen: Seen | undefined
  fiber: Fiber.RuntimeFiber<void, never> | undefined
  closed: boolean
}

interface Group {
  readonly service: KeyRange
  readonly members: Set<Member>
  together: Source | undefined
  /** This user may read single keys only. */
  refused: boolean
}

const keyOf = (change: Mirror.Change): string => toText(change._tag === "Put" ? change.kv.key : change.key)

export const make: Effect.Effect<OwnEntries, never, EtcdClient | Scope.Scope> = Effect.gen(function*() {
  const context = yield* Effect.context<EtcdClient>()
  const scope = yield* Effect.scope
  const groups = new Map<string, Group>()

  const show = (
    source: Source,
    mirror: Mirror.Mirror,
    changed: () => ReadonlyArray<string>
  ): Effect.Effect<void, EtcdError> =>
    Effect.map(mirror.snapshot, (snapshot) => {
      source.seen = { mirror, snapshot }
      for (const key of changed()) source.members.get(key)?.forEach(({ onChange }) => onChange())
    })

  const follow = (source: Source, range: KeyRange, onRefused: Effect.Effect<void>): Effect.Effect<void> =>
    Mirror.make(range).pipe(
      Effect.flatMap((mirror) =>
        // First the reader: what changes after that is told, and what changed before it is shown.
        Effect.flatMap(mirror.reader, (next) =>
          Effect.zipRight(
            // Whatever is there, or is not.
            show(source, mirror, () => Array.from(source.members.keys())),
            Effect.forever(Effect.flatMap(next, (changes) => show(source, mirror, () => changes.map(keyOf))))
          ))
      ),
      Effect.scoped,
      // Refused, for want of a permission perhaps: the lease is kept all the same.
      Effect.tapError((error) =>
        Effect.zipRight(Effect.logDebug(`cannot follow the own entries: ${error.message}`), onRefused)
      ),
      Effect.retry(Schedule.spaced("2 seconds")),
      Effect.orDie,
      inBackground("registrations"),
      Effect.provide(context)
    )

  const open = (range: KeyRange, onRefused: Effect.Effect<void>): Effect.Effect<Source> =>
    Effect.suspend(() => {
      const source: Source = { members: new Map(), seen: undefined, fiber: undefined, closed: false }
      return Effect.map(
        Effect.forkIn(Effect.interruptible(follow(source, range, onRefused)), scope),
        (fiber) => {
          source.fiber = fiber
          if (source.closed) fiber.unsafeInterruptAsFork(fiber.id())
          return source
        }
      )
    })

  const close = (source: Source): void => {
    source.closed = true
    source.fiber?.unsafeInterruptAsFork(source.fiber.id())
  }

  const detach = (member: Member): void => {
    const { source } = member
    if (source === undefined) return
    member.source = undefined
    const same = source.members.get(member.key)
    same?.delete(member)
    if (same?.size === 0) source.members.delete(member.key)
    if (source.members.size === 0) close(source)
  }

  const attach = (member: Member, source: Source): void => {
    detach(member)
    member.source = source
    const same = source.members.get(member.key)
    if (same === undefined) source.members.set(member.key, new Set([member]))
    else same.add(member)
    // It may know already.
    if (source.seen !== undefined) member.onChange()
  }

  const attachAlone = (member: Member): Effect.Effect<void> =>
    Effect.map(open({ key: member.key }, Effect.void), (source) => member.left ? close(source) : attach(member, source))

  const separate = (group: Group): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (group.refused) return Effect.void
      group.refused = true
      group.together = undefined
      return Effect.forEach(Array.from(group.members), attachAlone, { discard: true })
    })

  const attachTogether = (group: Group): Effect.Effect<void> =>
    Effect.map(
      // In a fibre of its own: the mirror that is refused is about to be closed.
      open(group.service, Effect.asVoid(Effect.forkIn(separate(group), scope))),
      (source) => {
        group.together = source
        for (const member of group.members) attach(member, source)
      }
    )

  const place = (group: Group, member: Member): Effect.Effect<void> => {
    if (group.refused) return attachAlone(member)
    if (group.together !== undefined && !group.together.closed) {
      return Effect.sync(() => group.together === undefined ? undefined : attach(member, group.together))
    }
    return group.members.size <= maxAlone ? attachAlone(member) : attachTogether(group)
  }

  return {
    join: (key, service, onChange) =>
      Effect.suspend(() => {
        const name = toText(service.key)
        const group = groups.get(name) ?? { service, members: new Set(), together: undefined, refused: false }
        groups.set(name, group)
        const member: Member = { key, onChange, source: undefined, left: false }
        group.members.add(member)
        return Effect.as(place(group, member), {
          seen: () => member.source?.seen,
          leave: () => {
            member.left = true
            detach(member)
            group.members.delete(member)
            if (group.members.size === 0 && groups.get(name) === group) groups.delete(name)
          }
        })
      }).pipe(Effect.uninterruptible)
  }
})
