/** From etcd's keys and values to those of a schema, and back. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { DecodeError, EncodeError, UnsupportedSchema } from "../../ConfigError.js"
import type { Change } from "../../Mirror.js"
import type { KeyValue } from "../../Txn.js"
import * as Codec from "./codec.js"
import type { Kept } from "./history.js"
import type { NotJson } from "./json.js"
import { notJson } from "./json.js"
import type { ConfigEvent, Entry, HistoryEntry, InvalidEntry, Version, Versioned } from "./model.js"

/** To make a codec costs more than to decode a small value by it. */
const codecs = new WeakMap<object, unknown>()

const codecOf = <A, I, R>(schema: Schema.Schema<A, I, R>): Either.Either<Codec.Codec<A, R>, NotJson> => {
  if (!Schema.isSchema(schema)) return Either.left(notJson([], "nothing: this is no schema of effect"))
  // What is kept under a schema was made from it.
  const known = codecs.get(schema) as Either.Either<Codec.Codec<A, R>, NotJson> | undefined
  if (known !== undefined) return known
  const codec = Codec.make(schema)
  codecs.set(schema, codec)
  return codec
}

/** @param key the key or prefix that the error names */
export const codecFor = <A, I, R>(
  key: string,
  schema: Schema.Schema<A, I, R>
): Either.Either<Codec.Codec<A, R>, UnsupportedSchema> =>
  Either.mapLeft(codecOf(schema), ({ path, problem }) => new UnsupportedSchema({ key, path, problem }))

export const encode = <A, R>(
  key: string,
  codec: Codec.Codec<A, R>,
  value: A
): Effect.Effect<string, UnsupportedSchema | EncodeError, R> =>
  Effect.mapError(codec.encode(value), (error) =>
    error._tag === "NotJson"
      ? new UnsupportedSchema({ key, path: error.path, problem: error.problem })
      : new EncodeError({ key, cause: error }))

/** What counts of a value in etcd, whoever told it. */
export interface Stored {
  readonly value: Uint8Array
  readonly modRevision: Version
}

/** A single value, which fails when it does not decode. */
export const read = <A, R>(
  key: string,
  codec: Codec.Codec<A, R>,
  { modRevision: version, value }: Stored
): Effect.Effect<Versioned<A>, DecodeError, R> => {
  const decoded = codec.decode(value)
  return Codec.isDone(decoded)
    ? Either.right({ value: decoded.right, version })
    : Effect.mapBoth(decoded, {
      onSuccess: (value) => ({ value, version }),
      onFailure: (cause) => new DecodeError({ key, version, cause })
    })
}

/** One of several values: what does not decode is told, and takes no other down. */
export const decode = <A, R>(
  key: string,
  codec: Codec.Codec<A, R>,
  kv: KeyValue
): Effect.Effect<Entry<A>, InvalidEntry, R> =>
  Effect.mapBoth(codec.decode(kv.value), {
    onSuccess: (value) => ({ key, value, version: kv.modRevision }),
    onFailure: (error) => ({ key, version: kv.modRevision, raw: Redacted.make(kv.value), error })
  })

export const event = <A, R>(
  nameOf: (key: Uint8Array) => string,
  codec: Codec.Codec<A, R>,
  change: Change
): Effect.Effect<ConfigEvent<A>, never, R> =>
  Effect.flatMap(
    change.previous === undefined ? Effect.succeedNone : Effect.option(codec.decode(change.previous.value)),
    (previous): Effect.Effect<ConfigEvent<A>, never, R> =>
      change._tag === "Delete"
        ? Effect.succeed({ _tag: "Delete", key: nameOf(change.key), version: change.modRevision, previous })
        : Effect.match(decode(nameOf(change.kv.key), codec, change.kv), {
          onSuccess: (entry): ConfigEvent<A> => ({ _tag: "Put", ...entry, previous }),
          onFailure: (invalid): ConfigEvent<A> => ({ _tag: "Invalid", ...invalid, previous })
        })
  )

/** What etcd still keeps of a key. */
export const past = <A, R>(
  key: string,
  codec: Codec.Codec<A, R>,
  kept: Kept
): Effect.Effect<HistoryEntry<A>, never, R> =>
  kept._tag === "Put"
    ? Effect.match(decode(key, codec, kept.kv), {
      onSuccess: (entry): HistoryEntry<A> => ({ _tag: "Put", ...entry }),
      onFailure: (invalid): HistoryEntry<A> => ({ _tag: "Invalid", ...invalid })
    })
    : Effect.succeed({ ...kept, key })
