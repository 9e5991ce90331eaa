/**
 * What etcd still keeps of a key, read from the newest version to the oldest.
 *
 * Within one life of a key each version is a read away from the one after it. Where the key is missing, the revisions
 * before are asked one by one, a hundred in a call: a key may have lived between any two of them. A watch from the past would
 * find the same with less traffic, but has etcd read everything that was written since, by everybody, into its memory at
 * once; and nothing says when it has told all of a key that is no more.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import type { KeyValue, OpResponse } from "../../Txn.js"
import * as Txn from "../../Txn.js"
import * as Revisions from "./revisions.js"

type Client = EtcdClient["Type"]

export type Kept =
  | { readonly _tag: "Put"; readonly kv: KeyValue }
  | { readonly _tag: "Delete"; readonly version: bigint }
  | { readonly _tag: "Compacted"; readonly before: bigint }

/** Where a walk through the past stands. */
type Place =
  | { readonly _tag: "Newest" }
  /** The version after the next one to be told was written here. */
  | { readonly _tag: "Before"; readonly version: bigint }
  /** There is nothing at this revision, and nothing older than `floor` can be read. */
  | { readonly _tag: "Missing"; readonly revision: bigint; readonly floor: bigint; readonly windows: number }

type Step = readonly [ReadonlyArray<Kept>, Option.Option<Place>]

/** How many revisions are asked in one call; etcd takes 128 by default. */
const window = 100n
/** How many calls are made at once in the end. */
const maxWindows = 16

const ifCompacted =
  <A>(otherwise: () => Effect.Effect<A, EtcdError>) =>
  (read: Effect.Effect<A, EtcdError>): Effect.Effect<A, EtcdError> =>
    Effect.catchIf(read, ({ reason }) => reason === "Compacted", otherwise)

const isThere = (answer: OpResponse): boolean => answer._tag === "Range" && answer.response.kvs.length > 0

export const walk = (client: Client, key: string): Stream.Stream<Kept, EtcdError> => {
  const before = (version: bigint): Effect.Effect<Step, EtcdError> => {
    const revision = version - 1n
    if (revision === 0n) return Effect.succeed([[], Option.none()])
    return Effect.map(client.range({ key, revision }), ({ kvs }): Step =>
      kvs.length === 0
        ? [[], Option.some({ _tag: "Missing", revision, floor: 1n, windows: 1 })]
        : [[{ _tag: "Put", kv: kvs[0] }], Option.some({ _tag: "Before", version: kvs[0].modRevision })]).pipe(
        ifCompacted((): Effect.Effect<Step> =>
          Effect.succeed([[{ _tag: "Compacted", before: version }], Option.none()])
        )
      )
  }

  /** The newest of some revisions, told from the newest on, at which the key is there. */
  const probe = (from: bigint, down: bigint): Effect.Effect<bigint | undefined, EtcdError> => {
    const revisions = Array.from({ length: Number(from - down) + 1 }, (_, index) => from - BigInt(index))
    return Effect.map(
      client.txn({ success: revisions.map((revision) => Txn.range({ key, revision, keysOnly: true })) }),
      ({ responses }) => revisions[responses.findIndex(isThere)]
    )
  }

  const missing = (
    { floor, revision, windows }: Place & { readonly _tag: "Missing" }
  ): Effect.Effect<Step, EtcdError> => {
    if (revision === floor) {
      return Effect.succeed([floor === 1n ? [] : [{ _tag: "Compacted", before: floor }], Option.none()])
    }
    const starts = Array.from({ length: windows }, (_, index) => revision - 1n - BigInt(index) * window)
      .filter((start) => start >= floor)
    const lowest = starts[starts.length - 1] - window + 1n
    const down = lowest < floor ? floor : lowest
    return Effect.forEach(starts, (start) => {
      const end = start - window + 1n
      return probe(start, end < floor ? floor : end)
    }, { concurrency: "unbounded" }).pipe(
      Effect.flatMap((found): Effect.Effect<Step, EtcdError> => {
        const last = found.find((revision) => revision !== undefined)
        if (last === undefined) {
          const next: Place = { _tag: "Missing", revision: down, floor, windows: Math.min(maxWindows, windows * 2) }
          return Effect.succeed([[], Option.some(next)])
        }
        // What was there at one revision and not at the next was deleted then.
        return Effect.map(before(last + 1n), ([put, next]): Step => [
          [{ _tag: "Delete", version: last + 1n }, ...put],
          next
        ])
      }),
      ifCompacted(() =>
        Effect.map(Revisions.oldest(client, { key }, down, revision), (floor): Step => [
          [],
          Option.some({ _tag: "Missing", revision, floor, windows })
        ])
      )
    )
  }

  const step = (place: Place): Effect.Effect<Step, EtcdError> => {
    switch (place._tag) {
      case "Newest":
        return Effect.map(client.range({ key }), ({ header: { revision }, kvs }): Step =>
          kvs.length === 0
            ? [[], Option.some({ _tag: "Missing", revision, floor: 1n, windows: 1 })]
            : [[{ _tag: "Put", kv: kvs[0] }], Option.some({ _tag: "Before", version: kvs[0].modRevision })])
      case "Before":
        return before(place.version)
      case "Missing":
        return missing(place)
    }
  }

  return Stream.mapConcat(
    Stream.paginateEffect<Place, ReadonlyArray<Kept>, EtcdError, never>({ _tag: "Newest" }, step),
    (kept) => kept
  )
}
