/** Waiting for one key to go: one's own key that somebody deletes by hand. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { EtcdClient, WatchError } from "../EtcdClient.js"
import type { EtcdError } from "../EtcdError.js"
import type { Bytes } from "../Txn.js"

type Client = EtcdClient["Type"]

/** Watches for the delete of `key`; `before` is asked once the watch stands, and may know that it is gone already. */
const untilDeleted = (
  client: Client,
  key: Bytes,
  startRevision: bigint | undefined,
  before: Effect.Effect<boolean, EtcdError>
): Effect.Effect<void, WatchError> =>
  Effect.scoped(
    Effect.flatMap(
      client.openWatch({ key, startRevision, noPut: true }),
      ({ next }) => Effect.flatMap(before, (gone) => gone ? Effect.void : Effect.asVoid(next))
    )
  )

/** Whether `key`, as created at `createRevision`, is gone, by a read of now. */
export const isGone = (client: Client, key: Bytes, createRevision: bigint): Effect.Effect<boolean, EtcdError> =>
  Effect.map(
    client.get(key),
    Option.match({
      onNone: () => true,
      onSome: (kv) => kv.createRevision !== createRevision
    })
  )

/** Whether watching again can help. */
export const isPassing = (error: WatchError): boolean =>
  error._tag !== "EtcdError" || error.reason === "Unavailable" || error.reason === "DeadlineExceeded"

/** Between attempts, for as long as it takes. */
export const pauses = Schedule.exponential("100 millis").pipe(
  Schedule.either(Schedule.spaced("1 second")),
  Schedule.jittered
)

const onlyRefusals = (error: WatchError): Effect.Effect<never, EtcdError> =>
  error._tag === "EtcdError" ? Effect.fail(error) : Effect.die(error)

/**
 * Returns when `key`, as created at `createRevision`, is gone. Watches from now and reads afterwards: a watch from a past
 * revision would wait for etcd's synchronisation loop, up to 100 ms. Outages and compactions are waited out; refusals fail.
 */
export const awaitGone = (client: Client, key: Bytes, createRevision: bigint): Effect.Effect<void, EtcdError> =>
  untilDeleted(client, key, undefined, isGone(client, key, createRevision)).pipe(
    Effect.retry({ while: isPassing, schedule: pauses }),
    Effect.catchAll(onlyRefusals)
  )

/**
 * The same for a key that was just created: from the revision after its creation on, without a read. Latency matters less
 * here than costing nothing while all is well.
 */
export const awaitDeleted = (client: Client, key: Bytes, createRevision: bigint): Effect.Effect<void, EtcdError> =>
  Effect.catchAll(
    untilDeleted(client, key, createRevision + 1n, Effect.succeed(false)),
    (error) => isPassing(error) ? awaitGone(client, key, createRevision) : onlyRefusals(error)
  )
