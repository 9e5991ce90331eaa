/** The stage of one conformance test, and how its observations are written down. */
import { assert, type Vitest } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { EtcdClient, Watch, WatchError, WatchEvent } from "../../src/EtcdClient.js"
import { EtcdError, type EtcdErrorReason, WatchCompacted } from "../../src/EtcdError.js"
import * as Key from "../../src/Key.js"
import type { Bytes, KeyRange, KeyValue, OpResponse, RangeResponse } from "../../src/Txn.js"
import { Backend, type BackendService } from "./Backend.js"

export type Client = EtcdClient["Type"]

/** The `it` of a suite under `layer`: the time of its tests is the backend's. */
export type It = Pick<Vitest.MethodsNonLive<Backend, boolean>, "scoped">

export const text = (bytes: Bytes): string => typeof bytes === "string" ? bytes : Buffer.from(bytes).toString("utf8")

/**
 * Writes down what clients see, with revisions relative to `base` and keys without `prefix`:
 *
 * - a key: `a=1 c1 m2 v2` was created at the first revision after the base, and last changed at the second
 * - a lease: `a=1 c1 m1 v1 l7`
 * - events: `+a=1 c1 m1 v1` and `-a m2`, with the version before after a `<`
 */
export class Notation {
  readonly base: bigint
  readonly prefix: string

  constructor(base: bigint, prefix: string) {
    this.base = base
    this.prefix = prefix
  }

  readonly rev = (revision: bigint): number => Number(revision - this.base)

  readonly name = (key: Bytes): string => {
    const full = text(key)
    assert.isTrue(full.startsWith(this.prefix), `${full} is outside ${this.prefix}`)
    return full.slice(this.prefix.length)
  }

  readonly kv = ({ createRevision, key, lease, modRevision, value, version }: KeyValue): string =>
    `${this.name(key)}=${text(value)} c${this.rev(createRevision)} m${this.rev(modRevision)} v${version}` +
    (lease === 0n ? "" : ` l${lease}`)

  readonly kvs = (kvs: ReadonlyArray<KeyValue>): ReadonlyArray<string> => kvs.map(this.kv)

  readonly names = ({ kvs }: RangeResponse): string => kvs.map(({ key }) => this.name(key)).join(" ")

  readonly event = ({ _tag, kv, prevKv }: WatchEvent): string => {
    if (_tag === "Delete") {
      assert.deepInclude(kv, { createRevision: 0n, version: 0n, lease: 0n })
      assert.strictEqual(kv.value.length, 0)
    }
    return (_tag === "Put" ? `+${this.kv(kv)}` : `-${this.name(kv.key)} m${this.rev(kv.modRevision)}`) +
      (prevKv === undefined ? "" : ` < ${this.kv(prevKv)}`)
  }

  /** One answer inside a transaction. */
  readonly answer = (answer: OpResponse): unknown => {
    switch (answer._tag) {
      case "Range":
        return this.kvs(answer.response.kvs)
      case "Put":
        return answer.response.prevKv === undefined ? "put" : `put < ${this.kv(answer.response.prevKv)}`
      case "Delete":
        return [`deleted ${answer.response.deleted}`, ...this.kvs(answer.response.prevKvs)]
      case "Txn":
        return [answer.response.succeeded, ...answer.response.responses.map(this.answer)]
    }
  }
}

/** A stage on one client: keys of its own, and revisions that count from its beginning. */
export interface Stage extends Pick<Notation, "rev" | "kv" | "kvs" | "names" | "event" | "answer" | "name"> {
  readonly client: Client
  readonly base: bigint
  readonly prefix: string
  /** The full key. */
  readonly k: (name: string) => string
  /** All keys of the test, or those from one name to another. */
  readonly all: KeyRange
  readonly span: (from: string, to: string) => KeyRange
  /** The absolute revision. */
  readonly at: (revision: number) => bigint
  /** Puts, one revision after another: `["a=1", "b=2"]`. */
  readonly puts: (...entries: ReadonlyArray<string>) => Effect.Effect<void, EtcdError>
  /** All keys of the test. */
  readonly contents: Effect.Effect<ReadonlyArray<string>, EtcdError>
  readonly revision: Effect.Effect<number, EtcdError>
  /** Fails unless the next events of the watch are these. Each inner array is one revision or several. */
  readonly expectEvents: (watch: Watch, events: ReadonlyArray<string>) => Effect.Effect<void, WatchError>
}

let stages = 0

/** A number that no test of this run has. */
export const unique = (): number => ++stages

export const stageOf = (client: Client, prefix = `/${unique()}/`): Effect.Effect<Stage, EtcdError> =>
  Effect.gen(function*() {
    const current = Effect.map(client.range({ key: "\0", limit: 1 }), ({ header }) => header.revision)
    const notation = new Notation(yield* current, prefix)
    const { answer, base, event, kv, kvs, name, names, rev } = notation
    const k = (name: string) => prefix + name
    const all = Key.prefix(prefix)
    return {
      client,
      base,
      prefix,
      answer,
      event,
      kv,
      kvs,
      name,
      names,
      rev,
      k,
      all,
      span: (from, to) => ({ key: k(from), rangeEnd: k(to) }),
      at: (revision) => base + BigInt(revision),
      puts: (...entries) =>
        Effect.forEach(entries, (entry) => {
          const [name, value] = entry.split("=")
          return client.put({ key: k(name), value })
        }, { discard: true }),
      contents: Effect.map(client.range(all), (response) => kvs(response.kvs)),
      revision: Effect.map(current, rev),
      expectEvents: (watch, expected) =>
        Effect.gen(function*() {
          const events: Array<string> = []
          while (events.length < expected.length) events.push(...(yield* watch.next).map(event))
          assert.deepStrictEqual(events, expected)
        })
    }
  })

/** A test: on a stage of its own. */
export const test = (
  it: It,
  name: string,
  body: (
    stage: Stage & { readonly backend: BackendService }
  ) => Effect.Effect<void, EtcdError | WatchError, Scope.Scope>
): void =>
  it.scoped(name, () =>
    Effect.gen(function*() {
      const backend = yield* Backend
      const stage = yield* stageOf(backend.client)
      yield* body({ ...stage, backend })
    }))

/** A refusal: definite, with this reason and in these words. */
export const refused = <A, R>(
  effect: Effect.Effect<A, WatchError, R>,
  reason: EtcdErrorReason,
  detail: string | RegExp,
  key?: string
): Effect.Effect<void, never, R> =>
  Effect.map(Effect.either(effect), (either) => {
    assert.strictEqual(either._tag, "Left", `not refused, but expected ${reason}: ${String(detail)}`)
    const error = either._tag === "Left" ? either.left : undefined
    assert.instanceOf(error, EtcdError)
    if (typeof detail === "string") assert.strictEqual(error.detail, detail)
    else assert.match(error.detail, detail)
    assert.strictEqual(error.reason, reason, error.message)
    assert.isFalse(error.mayBeApplied, error.message)
    if (key !== undefined) assert.strictEqual(error.key, key)
  })

/** A watch that ends because what it needs was compacted. */
export const compacted = <A>(effect: Effect.Effect<A, WatchError>) =>
  Effect.map(Effect.either(effect), (either) => {
    const error = either._tag === "Left" ? either.left : either
    assert.instanceOf(error, WatchCompacted)
    return error
  })
