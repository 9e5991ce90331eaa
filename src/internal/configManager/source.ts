/**
 * What etcd has for a setting: under its own key or, where there is nothing, under that of the Go module.
 *
 * Each key has a mirror, which never goes back. The two do not tell of one revision at the same moment: one may have seen
 * that a value moved away from its key when the other has not yet seen where it went. So only what stands under the first
 * key is taken as it comes. Whenever that has nothing, both are read together before anything is told.
 */
import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { WatchConnection } from "../../EtcdClient.js"
import { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import * as Key from "../../Key.js"
import type { MirrorState } from "../../Mirror.js"
import * as Mirror from "../../Mirror.js"
import type { KeyValue } from "../../Txn.js"
import * as Txn from "../../Txn.js"
import * as MirrorCopy from "../mirror/copy.js"

export type Knowledge =
  /** What counts: `kv` is undefined if there is no value under any key. */
  | { readonly _tag: "Known"; readonly key: string; readonly kv: KeyValue | undefined }
  /** The keys have to be read together. */
  | { readonly _tag: "Unsure" }
  | { readonly _tag: "Unknown"; readonly refused: EtcdError | undefined }

export interface Source {
  readonly now: Effect.Effect<Knowledge>
  /** Reads from the quorum. */
  readonly read: Effect.Effect<void, EtcdError>
  readonly connection: Effect.Effect<MirrorState>
}

/** What a mirror has of its key. */
interface Seen {
  readonly kv: KeyValue | undefined
  readonly revision: bigint
}

interface Followed {
  readonly key: string
  readonly etcdKey: string
  readonly seen: () => Seen | undefined
  /** Why there is nothing to be seen yet, if etcd has said so. */
  readonly refused: () => EtcdError | undefined
  readonly state: Effect.Effect<MirrorState>
}

/** All keys at one revision. */
interface Reading {
  readonly revision: bigint
  readonly kvs: ReadonlyArray<KeyValue | undefined>
  /** The connection of the watches when it was asked for. After another one it may be of another history. */
  readonly connection: WatchConnection
}

const worst = (states: ReadonlyArray<MirrorState>): MirrorState => {
  let found: MirrorState = { _tag: "Following" }
  for (const state of states) {
    if (state._tag === "Loading") return state
    if (state._tag === "Stale" && !(found._tag === "Stale" && found.sinceMillis < state.sinceMillis)) found = state
  }
  return found
}

const follow = (
  client: EtcdClient["Type"],
  key: string,
  etcdKey: string,
  onNews: () => void
): Effect.Effect<Followed, never, Scope.Scope> =>
  Effect.gen(function*() {
    const index = Mirror.indexKey(etcdKey)
    let refused: EtcdError | undefined
    // Told in the step in which the mirror hears of it: nothing is faster, and there is nothing to fall behind.
    const { log, ready, state } = yield* MirrorCopy.make(client, Key.single(etcdKey), {
      maxEvents: 1,
      onChanges: onNews
    })
    const firstRead = Effect.tapError(ready, (error) =>
      Effect.sync(() => {
        refused = error
        onNews()
      }))
    yield* firstRead.pipe(Effect.retry(Schedule.forever), Effect.interruptible, Effect.forkScoped)
    const seen = (): Seen | undefined => {
      const present = log.current()
      if (present === undefined) return undefined
      return { kv: Option.getOrUndefined(HashMap.get(present.entries, index)), revision: present.revision }
    }
    return { key, etcdKey, seen, refused: () => refused, state }
  })

/**
 * @param root what all keys in etcd begin with, slash included
 * @param keys the first one counts where it has a value; at most two
 * @param onNews called when there may be something new to know
 */
export const make = (
  root: string,
  keys: readonly [string] | readonly [string, string],
  onNews: () => void
): Effect.Effect<Source, never, EtcdClient | Scope.Scope> =>
  Effect.gen(function*() {
    const client = yield* EtcdClient
    const all = yield* Effect.forEach(keys, (key) => follow(client, key, root + key, onNews))
    const [own, other] = all
    let reading: Reading | undefined

    /** Whether a reading has all that the mirror has. */
    const covers = ({ revision }: Reading, { seen }: Followed): boolean => (seen()?.revision ?? 0n) <= revision

    const knowledge = (connection: WatchConnection): Knowledge => {
      if (reading !== undefined && reading.connection !== connection) return { _tag: "Unsure" }
      const last = reading
      const first = last !== undefined && covers(last, own) ? { kv: last.kvs[0] } : own.seen()
      if (first === undefined) return { _tag: "Unknown", refused: own.refused() }
      if (first.kv !== undefined || other === undefined) return { _tag: "Known", key: own.key, kv: first.kv }
      if (last !== undefined && all.every((followed) => covers(last, followed))) {
        const kv = last.kvs[1]
        return { _tag: "Known", key: kv === undefined ? own.key : other.key, kv }
      }
      return other.seen() === undefined ? { _tag: "Unknown", refused: other.refused() } : { _tag: "Unsure" }
    }

    const read = Effect.flatMap(client.watchConnection.get, (connection) =>
      Effect.map(
        client.txn({ success: all.map(({ etcdKey }) => Txn.range({ key: etcdKey })) }),
        ({ header: { revision }, responses }) => {
          if (reading !== undefined && reading.connection === connection && reading.revision >= revision) return
          const kvs = responses.map((answer) => answer._tag === "Range" ? answer.response.kvs[0] : undefined)
          reading = { revision, kvs, connection }
          onNews()
        }
      ))

    return {
      now: Effect.map(client.watchConnection.get, knowledge),
      read,
      connection: Effect.map(Effect.forEach(all, ({ state }) => state), worst)
    }
  })
