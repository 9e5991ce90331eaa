/** Reads of the past: which revisions etcd still has, and what it means when it has not. */
import * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import * as Option from "effect/Option"
import { FutureRevision, RevisionCompacted } from "../../ConfigError.js"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError, InvalidArgument } from "../../EtcdError.js"
import type { KeyRange } from "../../Txn.js"
import * as Input from "./input.js"
import type { RevisionError } from "./model.js"

type Client = EtcdClient["Type"]

export const validate = (argument: string, revision: bigint): Either.Either<void, InvalidArgument> =>
  Input.check(argument, revision, typeof revision === "bigint" && revision > 0n, "must be a bigint, 1 or above")

const only = ({ key }: KeyRange) => ({ key, countOnly: true })

const isReadable = (client: Client, range: KeyRange, revision: bigint): Effect.Effect<boolean, EtcdError> =>
  client.range({ ...only(range), revision }).pipe(
    Effect.as(true),
    Effect.catchIf(({ reason }) => reason === "Compacted", () => Effect.succeed(false))
  )

/** The oldest revision that can be read; etcd does not say it, so it is looked for between one that cannot and one that can. */
export const oldest = (
  client: Client,
  range: KeyRange,
  gone: bigint,
  readable: bigint
): Effect.Effect<bigint, EtcdError> =>
  Effect.suspend(() => {
    if (readable - gone <= 1n) return Effect.succeed(readable)
    const middle = (gone + readable) / 2n
    return Effect.flatMap(isReadable(client, range, middle), (isThere) =>
      isThere ? oldest(client, range, gone, middle) : oldest(client, range, middle, readable))
  })

const newest = (client: Client, range: KeyRange): Effect.Effect<bigint, EtcdError> =>
  Effect.map(client.range(only(range)), ({ header }) => header.revision)

/** Says in the terms of this service why the past cannot be read. */
export const explained =
  (client: Client, key: string, range: KeyRange, revision: bigint) =>
  <A>(read: Effect.Effect<A, EtcdError>): Effect.Effect<A, EtcdError | RevisionError> =>
    Effect.catchAll(read, (error): Effect.Effect<never, EtcdError | RevisionError> => {
      switch (error.reason) {
        case "Compacted":
          return newest(client, range).pipe(
            Effect.flatMap((newest) => oldest(client, range, revision, newest)),
            Effect.option,
            Effect.flatMap((oldest) => new RevisionCompacted({ key, revision, oldest: Option.getOrUndefined(oldest) }))
          )
        case "FutureRevision":
          return Effect.flatMap(
            Effect.option(newest(client, range)),
            (newest) => new FutureRevision({ key, revision, newest: Option.getOrUndefined(newest) })
          )
        default:
          return Effect.fail(error)
      }
    })
