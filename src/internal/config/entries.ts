/** From etcd's keys and values to those of a schema, and back. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Schema from "effect/Schema"
import { EncodeError, UnsupportedSchema } from "../../ConfigError.js"
import type { Change } from "../../Mirror.js"
import type { KeyValue } from "../../Txn.js"
import * as Codec from "./codec.js"
import type { ConfigEvent, Entry, InvalidEntry } from "./model.js"

/** @param key the key or prefix that the error names */
export const codecFor = <A, I, R>(
  key: string,
  schema: Schema.Schema<A, I, R>
): Effect.Effect<Codec.Codec<A, R>, UnsupportedSchema> =>
  Effect.mapError(Codec.make(schema), ({ path, problem }) => new UnsupportedSchema({ key, path, problem }))

export const encode = <A, R>(
  key: string,
  codec: Codec.Codec<A, R>,
  value: A
): Effect.Effect<string, UnsupportedSchema | EncodeError, R> =>
  Effect.mapError(codec.encode(value), (error) =>
    error._tag === "NotJson"
      ? new UnsupportedSchema({ key, path: error.path, problem: error.problem })
      : new EncodeError({ key, cause: error }))

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
  Effect.gen(function*() {
    const previous: Option.Option<A> = change.previous === undefined
      ? Option.none()
      : yield* Effect.option(codec.decode(change.previous.value))
    if (change._tag === "Delete") {
      return { _tag: "Delete", key: nameOf(change.key), version: change.modRevision, previous }
    }
    return yield* Effect.match(decode(nameOf(change.kv.key), codec, change.kv), {
      onSuccess: (entry): ConfigEvent<A> => ({ _tag: "Put", ...entry, previous }),
      onFailure: (invalid): ConfigEvent<A> => ({ _tag: "Invalid", ...invalid, previous })
    })
  })
