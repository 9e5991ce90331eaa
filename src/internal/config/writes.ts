/** Writes: applied once although answers get lost, and only under the versions and guards that were asked for. */
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import { NotFound, VersionConflict } from "../../ConfigError.js"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError, InvalidArgument } from "../../EtcdError.js"
import type { LockExpired } from "../../LockError.js"
import type { Bytes, Compare, KeyValue, Op, OpResponse } from "../../Txn.js"
import * as Txn from "../../Txn.js"
import type { Attempts } from "../attempts.js"
import { toBytes } from "../bytes.js"
import * as Entries from "./entries.js"
import * as Guards from "./guard.js"
import * as Input from "./input.js"
import type { GuardError, GuardOptions, Version, WriteError, WriteOptions } from "./model.js"
import type { Names } from "./names.js"

/** What a write leaves under a key in etcd; no value for a delete. */
export type Wrote = (key: string, revision: Version, value: Uint8Array | undefined) => void

/** A change under conditions; `reads` go along when these do not hold. */
export interface Change {
  readonly compare: ReadonlyArray<Compare>
  readonly success: ReadonlyArray<Op>
  readonly reads?: ReadonlyArray<Op> | undefined
  readonly guard: GuardOptions["guard"]
}

export type Outcome =
  | { readonly applied: true; readonly revision: Version }
  /** If the versions are those that were expected, it was for a guard. */
  | { readonly applied: false; readonly reads: ReadonlyArray<OpResponse>; readonly guards: ReadonlyArray<Compare> }

export interface Writes {
  /** Fails with `LockExpired` if it was refused for the guard of a lock. */
  readonly commit: (change: Change) => Effect.Effect<Outcome, LockExpired | EtcdError>
  readonly set: <A, I, R>(
    key: string,
    schema: Schema.Schema<A, I, R>,
    value: A,
    options: WriteOptions
  ) => Effect.Effect<Version, WriteError, R>
  readonly compareAndSet: <A, I, R>(
    key: string,
    schema: Schema.Schema<A, I, R>,
    value: A,
    version: Version,
    options: WriteOptions
  ) => Effect.Effect<Version, VersionConflict | WriteError, R>
  /** Writes bytes under a key in etcd if that has a version. */
  readonly replace: (
    key: string,
    name: string,
    value: Bytes,
    version: Version,
    options: WriteOptions
  ) => Effect.Effect<Version, VersionConflict | GuardError | EtcdError>
  readonly delete: (
    key: string,
    options: GuardOptions
  ) => Effect.Effect<void, NotFound | GuardError | InvalidArgument | EtcdError>
}

export const kvOf = (read: OpResponse | undefined): KeyValue | undefined =>
  read?._tag === "Range" ? read.response.kvs[0] : undefined

export const versionOf = (read: OpResponse | undefined): Version => kvOf(read)?.modRevision ?? 0n

export const make = (client: EtcdClient["Type"], attempts: Attempts, names: Names, wrote: Wrote): Writes => {
  const commit: Writes["commit"] = ({ compare, guard, reads: own = [], success }) =>
    Effect.gen(function*() {
      const guards = Guards.comparesOf(guard)
      yield* Guards.check(guards)
      const outcome = yield* attempts.commit({
        compare: [...compare, ...guards],
        success,
        failure: [...own, ...Guards.reads(guards)]
      })
      if (outcome.applied) return outcome
      yield* Guards.checkReads(guards, outcome.reads.slice(own.length))
      return { applied: false, reads: outcome.reads, guards }
    })

  const replace: Writes["replace"] = (key, name, value, version, { guard, lease }) =>
    Effect.gen(function*() {
      const outcome = yield* commit({
        compare: [Txn.modRevision(name, "=", version)],
        success: [Txn.put({ key: name, value, lease })],
        reads: [Txn.range({ key: name, keysOnly: true })],
        guard
      })
      if (outcome.applied) {
        wrote(name, outcome.revision, toBytes(value))
        return outcome.revision
      }
      const actual = versionOf(outcome.reads[0])
      return actual === version && outcome.guards.length > 0
        ? yield* Guards.failed(key, outcome.guards)
        : yield* new VersionConflict({ key, expected: version, actual })
    })

  const encoded = <A, I, R>(key: string, schema: Schema.Schema<A, I, R>, value: A) =>
    Effect.gen(function*() {
      const name = yield* names.key(key)
      const codec = yield* Entries.codecFor(key, schema)
      return { name, text: yield* Entries.encode(key, codec, value) }
    })

  return {
    commit,
    replace,
    set: (key, schema, value, options) =>
      Effect.gen(function*() {
        const { guard, lease } = yield* Input.writing(options)
        const { name, text } = yield* encoded(key, schema, value)
        const put = { key: name, value: text, lease }
        if (guard === undefined) {
          const { header } = yield* client.put(put)
          wrote(name, header.revision, toBytes(text))
          return header.revision
        }
        const outcome = yield* commit({ compare: [], success: [Txn.put(put)], guard })
        if (!outcome.applied) return yield* Guards.failed(key, outcome.guards)
        wrote(name, outcome.revision, toBytes(text))
        return outcome.revision
      }),
    compareAndSet: (key, schema, value, version, options) =>
      Effect.gen(function*() {
        yield* Input.version("version", version)
        const valid = yield* Input.writing(options)
        const { name, text } = yield* encoded(key, schema, value)
        return yield* replace(key, name, text, version, valid)
      }),
    delete: (key, options) =>
      Effect.gen(function*() {
        const { guard } = yield* Input.guarded(options)
        const name = yield* names.key(key)
        const outcome = yield* commit({
          compare: [Txn.exists(name)],
          success: [Txn.del({ key: name })],
          reads: [Txn.range({ key: name, keysOnly: true })],
          guard
        })
        if (outcome.applied) return wrote(name, outcome.revision, undefined)
        return yield* versionOf(outcome.reads[0]) === 0n ? new NotFound({ key }) : Guards.failed(key, outcome.guards)
      })
  }
}
