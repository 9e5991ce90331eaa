/** The configuration centre, put together from its parts. */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Config } from "../../Config.js"
import { NotFound } from "../../ConfigError.js"
import { EtcdClient } from "../../EtcdClient.js"
import type { InvalidArgument } from "../../EtcdError.js"
import * as Attempts from "../attempts.js"
import { traced } from "../traced.js"
import * as Copies from "./copies.js"
import * as Entries from "./entries.js"
import * as History from "./history.js"
import * as Input from "./input.js"
import type { ConfigEvent, ListError, Versioned } from "./model.js"
import * as Modify from "./modify.js"
import * as Names from "./names.js"
import * as Reads from "./reads.js"
import * as Transaction from "./transaction.js"
import * as Turns from "./turns.js"
import * as Writes from "./writes.js"

/** A span around an operation on a key or a prefix, if somebody looks at spans. */
const spanned = (operation: string, key: string) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withFiberRuntime((fiber) => traced(fiber, `Config.${operation}`, { "config.key": key }, effect))

const changing = (f: unknown) => Input.check("f", f, typeof f === "function", "must be a function")

/** What is told of a value, where there has to be one. */
const existing = <A, B>(key: string, of: (found: Versioned<A>) => B) =>
(
  found: Versioned<A> | undefined
): Either.Either<B, NotFound> => found === undefined ? Either.left(new NotFound({ key })) : Either.right(of(found))

/** @param prefix what all keys in etcd begin with */
export const make = (prefix: string): Effect.Effect<Config["Type"], InvalidArgument, EtcdClient | Scope.Scope> =>
  Effect.gen(function*() {
    const client = yield* EtcdClient
    const names = yield* Names.make(prefix)
    const attempts = yield* Attempts.make
    const turns = yield* Turns.make
    const copies = yield* Copies.make(client, names)
    const reads = Reads.make(client, names)
    const writes = Writes.make(client, attempts, names, copies.wrote)
    const modify = Modify.make(client, names, writes, turns, copies.wrote)
    const transaction = Transaction.make(names, writes, copies.wrote)

    const watch = <A, I, R>(
      key: string,
      schema: Schema.Schema<A, I, R>,
      name: Effect.Effect<string, InvalidArgument>
    ): Stream.Stream<ConfigEvent<A>, ListError, R> =>
      Stream.unwrapScoped(Effect.gen(function*() {
        const valid = yield* name
        const codec = yield* Entries.codecFor(key, schema)
        const { changes } = yield* copies.follow(valid)
        return Stream.mapChunksEffect(changes, (chunk) =>
          Effect.map(
            Effect.forEach(chunk, (change) => Entries.event(names.of, codec, change)),
            Chunk.unsafeFromArray
          ))
      }))

    return {
      prefix,
      get: (key, schema) => reads.get(key, schema, existing(key, ({ value }) => value)).pipe(spanned("get", key)),
      getOption: (key, schema) =>
        reads.get(key, schema, (found) => Either.right(Option.map(Option.fromNullable(found), ({ value }) => value)))
          .pipe(
            spanned("getOption", key)
          ),
      getWithVersion: (key, schema) =>
        reads.get(key, schema, existing(key, identity)).pipe(spanned("getWithVersion", key)),
      getAt: (key, schema, revision) => reads.getAt(key, schema, revision).pipe(spanned("getAt", key)),
      cached: copies.cached,
      set: (key, schema, value, options = {}) => writes.set(key, schema, value, options).pipe(spanned("set", key)),
      compareAndSet: (key, schema, value, version, options = {}) =>
        writes.compareAndSet(key, schema, value, version, options).pipe(spanned("compareAndSet", key)),
      modify: (key, schema, f, options = {}) =>
        Effect.flatMap(
          changing(f),
          () => modify(key, schema, (current) => Effect.sync(() => f(current)), options)
        ).pipe(spanned("modify", key)),
      modifyEffect: (key, schema, f, options = {}) =>
        Effect.flatMap(changing(f), () => modify(key, schema, f, options)).pipe(spanned("modify", key)),
      transaction: (steps, options = {}) =>
        Effect.flatMap(
          Transaction.check(steps),
          (steps) => transaction(steps, options).pipe(spanned("transaction", steps.map(({ key }) => key).join(",")))
        ),
      delete: (key, options = {}) => writes.delete(key, options).pipe(spanned("delete", key)),
      history: (key, schema) =>
        Stream.unwrap(Effect.gen(function*() {
          const name = yield* names.key(key)
          const codec = yield* Entries.codecFor(key, schema)
          return Stream.mapEffect(History.walk(client, name), (kept) => Entries.past(key, codec, kept))
        })),
      rollback: (key, version, options = {}) =>
        Effect.gen(function*() {
          const name = yield* names.key(key)
          const { expected, ...writing } = yield* Input.writing(options)
          if (expected !== undefined) yield* Input.version("expected", expected)
          const { value } = yield* reads.storedAt(key, "version", version)
          const present = expected ??
            (yield* Effect.map(client.range({ key: name, keysOnly: true }), ({ kvs }) => kvs[0]?.modRevision ?? 0n))
          return yield* writes.replace(key, name, value, present, writing)
        }).pipe(spanned("rollback", key)),
      list: (prefix, schema, options = {}) =>
        Effect.flatMap(Input.options(options), ({ revision }) => reads.list(prefix, schema, revision)).pipe(
          spanned("list", prefix)
        ),
      watch: (key, schema) => watch(key, schema, names.key(key)),
      watchPrefix: (prefix, schema) => watch(prefix, schema, Effect.map(names.below(prefix), ({ key }) => key))
    }
  })
