/**
 * All layers at one revision, and what they come to. Whatever follows layers (settings here, a manager elsewhere) takes it
 * from here: a stream of merged JSON, or of what is wrong.
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { LayersInvalid } from "../../ConfigError.js"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import type { Mirror } from "../../Mirror.js"
import type { KeyValue } from "../../Txn.js"
import * as Txn from "../../Txn.js"
import { toBinary } from "../bytes.js"
import type { Content } from "./explain.js"
import type { JsonObject } from "./merge.js"
import { merge, parse } from "./merge.js"
import type { LayerVersion } from "./model.js"

/** A key as users know it, and as etcd does. */
export interface LayerKey {
  readonly key: string
  readonly etcdKey: string
}

export interface Merged {
  readonly json: JsonObject
  /** The layers that are there, the lowest first. */
  readonly contents: ReadonlyArray<Content>
}

export interface Reading {
  readonly revision: bigint
  /** All layers, the lowest first. */
  readonly layers: ReadonlyArray<LayerVersion>
  readonly merged: Either.Either<Merged, LayersInvalid>
}

/** @param find what stands under a key */
const readingOf = (
  keys: ReadonlyArray<LayerKey>,
  revision: bigint,
  find: (etcdKey: string, index: number) => KeyValue | undefined
): Reading => {
  const found = keys.map(({ etcdKey, key }, index) => ({ key, kv: find(etcdKey, index) }))
  const layers = found.map(({ key, kv }): LayerVersion => ({ key, version: kv?.modRevision ?? 0n }))
  const parsed = found.flatMap(({ key, kv }) =>
    kv === undefined ? [] : [Either.mapBoth(parse(kv.value), {
      onLeft: (problem) => ({ key, version: kv.modRevision, ...problem }),
      onRight: (json): Content => ({ key, version: kv.modRevision, json })
    })]
  )
  const problems = Arr.getLefts(parsed)
  const contents = Arr.getRights(parsed)
  return {
    revision,
    layers,
    merged: problems.length === 0
      ? Either.right({ json: merge(contents.map(({ json }) => json)), contents })
      : Either.left(new LayersInvalid({ layers, revision, problems }))
  }
}

/** From the quorum, at one revision. */
export const read = (
  client: EtcdClient["Type"],
  keys: ReadonlyArray<LayerKey>
): Effect.Effect<Reading, EtcdError> =>
  Effect.map(
    client.txn({ success: keys.map(({ etcdKey }) => Txn.range({ key: etcdKey })) }),
    ({ header, responses }) =>
      readingOf(keys, header.revision, (_, index) => {
        const answer = responses[index]
        return answer?._tag === "Range" ? answer.response.kvs[0] : undefined
      })
  )

/** The present reading, then the newest whenever there is another. */
export const readings = (mirror: Mirror, keys: ReadonlyArray<LayerKey>): Stream.Stream<Reading, EtcdError> =>
  Stream.map(
    mirror.snapshots,
    ({ entries, revision }) =>
      readingOf(keys, revision, (etcdKey) => Option.getOrUndefined(HashMap.get(entries, toBinary(etcdKey))))
  )
