/**
 * etcd's Go recipe (`concurrency.Session` and `concurrency.Mutex`, with the `TryLock` of its later versions), step by step over
 * bare calls: another party in tests, where Go itself is not at hand.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as EtcdClient from "../../src/EtcdClient.js"
import type { EtcdError, InvalidArgument } from "../../src/EtcdError.js"
import * as Key from "../../src/Key.js"
import type { KeyValue, OpResponse, RangeRequest } from "../../src/Txn.js"
import * as Txn from "../../src/Txn.js"

/** `concurrency.ErrLocked`. */
export class ErrLocked extends Data.TaggedError("ErrLocked")<{}> {}

/** `concurrency.ErrSessionExpired`: the own key is gone. */
export class ErrSessionExpired extends Data.TaggedError("ErrSessionExpired")<{}> {}

export interface GoMutex {
  /** Its key in etcd. */
  readonly key: string
  /** Waits for the lock; returns the create revision of its key. */
  readonly lock: Effect.Effect<bigint, EtcdClient.WatchError | ErrSessionExpired>
  readonly tryLock: Effect.Effect<bigint, EtcdError | ErrLocked>
  readonly unlock: Effect.Effect<void, EtcdError>
  /** The process dies: its lease ends. */
  readonly die: Effect.Effect<void, EtcdError>
}

const firstCreate = (prefix: string): RangeRequest => ({
  ...Key.prefix(prefix),
  sort: { by: "create", order: "ascend" },
  limit: 1
})

const kvsOf = (response: OpResponse): ReadonlyArray<KeyValue> => response._tag === "Range" ? response.response.kvs : []

/**
 * A mutex of a session of its own.
 *
 * @param name as in Go: `/locks/a` for our lock `a`
 */
export const make = (
  endpoint: string,
  name: string
): Effect.Effect<GoMutex, InvalidArgument | EtcdError, Scope.Scope> =>
  Effect.gen(function*() {
    const client = yield* EtcdClient.make({ endpoints: endpoint })
    const lease = yield* Effect.acquireRelease(
      client.leaseGrant({ ttl: "60 seconds" }),
      ({ id }) => Effect.ignore(client.leaseRevoke(id))
    )
    const prefix = `${name}/`
    const key = `${prefix}${lease.id.toString(16)}`

    /** Enters the queue; none when it is not the first. */
    const tryAcquire = Effect.gen(function*() {
      const { header, responses: [own, owner], succeeded } = yield* client.txn({
        compare: [Txn.absent(key)],
        success: [Txn.put({ key, value: "", lease: lease.id }), Txn.range(firstCreate(prefix))],
        failure: [Txn.range({ key }), Txn.range(firstCreate(prefix))]
      })
      const revision = succeeded ? header.revision : kvsOf(own)[0].createRevision
      const [first] = kvsOf(owner)
      return { revision, isFirst: first === undefined || first.createRevision === revision }
    })

    /** Waits until the key is deleted, beginning with a revision of the past. */
    const waitDelete = (key: Uint8Array, startRevision: bigint): Effect.Effect<void, EtcdClient.WatchError> =>
      Stream.runDrain(Stream.takeUntil(client.watch({ key, startRevision }), ({ _tag }) => _tag === "Delete"))

    const waitDeletes = (maxCreateRevision: bigint): Effect.Effect<void, EtcdClient.WatchError> =>
      Effect.flatMap(
        client.range({
          ...Key.prefix(prefix),
          sort: { by: "create", order: "descend" },
          limit: 1,
          maxCreateRevision
        }),
        ({ header, kvs: [last] }) =>
          last === undefined
            ? Effect.void
            : Effect.zipRight(waitDelete(last.key, header.revision), waitDeletes(maxCreateRevision))
      )

    const unlock = Effect.asVoid(client.delete({ key }))

    return {
      key,
      lock: Effect.gen(function*() {
        const { isFirst, revision } = yield* tryAcquire
        if (isFirst) return revision
        yield* Effect.onError(waitDeletes(revision - 1n), () => Effect.ignore(unlock))
        const own = yield* client.get(key)
        return Option.isSome(own) ? revision : yield* new ErrSessionExpired()
      }),
      tryLock: Effect.gen(function*() {
        const { isFirst, revision } = yield* tryAcquire
        if (isFirst) return revision
        yield* unlock
        return yield* new ErrLocked()
      }),
      unlock,
      die: client.leaseRevoke(lease.id)
    }
  })
