/** Reads by the quorum: of what is there now, and of what was there at a revision. */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { NotFound } from "../../ConfigError.js"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError, InvalidArgument } from "../../EtcdError.js"
import type { KeyValue } from "../../Txn.js"
import * as Codec from "./codec.js"
import * as Entries from "./entries.js"
import type { ListError, Listing, ReadError, RevisionError, Version, Versioned } from "./model.js"
import type { Names } from "./names.js"
import * as Revisions from "./revisions.js"

type Client = EtcdClient["Type"]

export interface Reads {
  /** @param answer what is told of the value, of `undefined` where there is none */
  readonly get: <A, I, R, B, E = never>(
    key: string,
    schema: Schema.Schema<A, I, R>,
    answer: (found: Versioned<A> | undefined) => Either.Either<B, E>
  ) => Effect.Effect<B, E | ReadError, R>
  readonly getAt: <A, I, R>(
    key: string,
    schema: Schema.Schema<A, I, R>,
    revision: Version
  ) => Effect.Effect<Versioned<A>, NotFound | ReadError | RevisionError, R>
  /** The bytes that stood at a revision. */
  readonly storedAt: (
    key: string,
    argument: string,
    revision: Version
  ) => Effect.Effect<KeyValue, NotFound | InvalidArgument | EtcdError | RevisionError>
  readonly list: <A, I, R>(
    prefix: string,
    schema: Schema.Schema<A, I, R>,
    revision: Version | undefined
  ) => Effect.Effect<Listing<A>, ListError | RevisionError, R>
}

export const make = (client: Client, names: Names): Reads => {
  const storedAt: Reads["storedAt"] = (key, argument, revision) =>
    Effect.gen(function*() {
      const name = yield* names.key(key)
      yield* Revisions.validate(argument, revision)
      const { kvs } = yield* client.range({ key: name, revision }).pipe(
        Revisions.explained(client, key, { key: name }, revision)
      )
      return kvs.length === 0 ? yield* new NotFound({ key, revision }) : kvs[0]
    })

  return {
    get: (key, schema, answer) => {
      const name = names.key(key)
      if (Either.isLeft(name)) return Either.left(name.left)
      const codec = Entries.codecFor(key, schema)
      if (Either.isLeft(codec)) return Either.left(codec.left)
      return Effect.flatMap(client.range({ key: name.right }), ({ kvs }) => {
        if (kvs.length === 0) return answer(undefined)
        const found = Entries.read(key, codec.right, kvs[0])
        return Codec.isDone(found) ? answer(found.right) : Effect.flatMap(found, answer)
      })
    },
    getAt: (key, schema, revision) =>
      Effect.gen(function*() {
        const codec = yield* Entries.codecFor(key, schema)
        return yield* Entries.read(key, codec, yield* storedAt(key, "revision", revision))
      }),
    storedAt,
    list: (prefix, schema, revision) =>
      Effect.gen(function*() {
        const range = yield* names.below(prefix)
        const codec = yield* Entries.codecFor(prefix, schema)
        if (revision !== undefined) yield* Revisions.validate("revision", revision)
        const read = Stream.runCollect(client.pages({ ...range, revision }))
        const pages = yield* revision === undefined
          ? read
          : Revisions.explained(client, prefix, range, revision)(read)
        const [invalid, entries] = yield* Effect.partition(
          Chunk.toReadonlyArray(pages).flatMap(({ kvs }) => kvs),
          (kv) => Entries.decode(names.of(kv.key), codec, kv)
        )
        return { entries, invalid }
      })
  }
}
