import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { EtcdError, type EtcdErrorReason } from "../../src/EtcdError.js"
import type {
  DuplexStream,
  KeepAliveResponse,
  StreamHandlers,
  Transport,
  WatchCreate,
  WatchRequest,
  WatchResponse
} from "../../src/internal/transport.js"
import * as TestEtcd from "../../src/testing.js"
import type { KeyValue, RangeRequest, TxnRequest } from "../../src/Txn.js"

export const call = { timeoutMillis: 1000 }

export const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8")

export const keysOf = (kvs: ReadonlyArray<KeyValue>): ReadonlyArray<string> => kvs.map(({ key }) => text(key))

/** Lets the engine's turns pass, without time passing. */
export const settle = Effect.forEach(Array.from({ length: 30 }), () => Effect.yieldNow(), { discard: true })

/** A stream whose messages can be awaited one by one. */
export interface Probe<Request, Response> {
  readonly send: (request: Request) => Effect.Effect<void>
  readonly next: Effect.Effect<Response>
  /** What arrived and was not taken. */
  readonly rest: Effect.Effect<ReadonlyArray<Response>>
  readonly ended: Effect.Effect<EtcdError>
  readonly endings: () => number
}

const probe = <Request, Response>(
  open: (handlers: StreamHandlers<Response>) => Effect.Effect<DuplexStream<Request>, EtcdError, Scope.Scope>
): Effect.Effect<Probe<Request, Response>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const messages = yield* Queue.unbounded<Response>()
    const ends = yield* Queue.unbounded<EtcdError>()
    let endings = 0
    const stream = yield* Effect.orDie(open({
      onMessage: (response) => {
        Queue.unsafeOffer(messages, response)
      },
      onEnd: (error) => {
        endings++
        Queue.unsafeOffer(ends, error)
      }
    }))
    return {
      send: (request) => Effect.sync(() => stream.send(request)),
      next: Queue.take(messages),
      rest: Effect.zipRight(settle, Effect.map(Queue.takeAll(messages), (chunk) => [...chunk])),
      ended: Queue.take(ends),
      endings: () => endings
    }
  })

export type WatchProbe = Probe<WatchRequest, WatchResponse>

export const openWatch = (transport: Transport): Effect.Effect<WatchProbe, never, Scope.Scope> =>
  probe<WatchRequest, WatchResponse>(transport.openWatch)

export const openLease = (transport: Transport) => probe<bigint, KeepAliveResponse>(transport.openLease)

export const create = (key: string, options: Partial<WatchCreate> = {}): WatchCreate => ({
  _tag: "Create",
  key,
  startRevision: 0n,
  prevKv: false,
  noPut: false,
  noDelete: false,
  ...options
})

/** `+key=value@revision` for a put, `-key@revision` for a delete. */
export const show = (response: WatchResponse): ReadonlyArray<string> =>
  response.events.map(({ _tag, kv }) =>
    _tag === "Put" ? `+${text(kv.key)}=${text(kv.value)}@${kv.modRevision}` : `-${text(kv.key)}@${kv.modRevision}`
  )

/** Runs a call that must fail, and returns its error. */
export const failure = <A, R>(effect: Effect.Effect<A, EtcdError, R>): Effect.Effect<EtcdError, never, R> =>
  Effect.flatMap(Effect.exit(effect), (exit) =>
    Exit.isSuccess(exit)
      ? Effect.die(new Error("expected a failure"))
      : Effect.flip(Effect.failCause(exit.cause)))

export const assertRefused = <A, R>(
  effect: Effect.Effect<A, EtcdError, R>,
  reason: EtcdErrorReason,
  detail: string | RegExp
): Effect.Effect<void, never, R> =>
  Effect.map(failure(effect), (error) => {
    assert.instanceOf(error, EtcdError)
    assert.strictEqual(error.reason, reason)
    if (typeof detail === "string") {
      assert.strictEqual(error.detail, detail)
    } else {
      assert.match(error.detail, detail)
    }
    assert.isFalse(error.mayBeApplied)
  })

/** An engine with one client, named `a`. */
export const connect = (options?: TestEtcd.Options) =>
  Effect.gen(function*() {
    const etcd = yield* TestEtcd.make(options)
    const client = yield* etcd.transport({ name: "a" })
    return {
      etcd,
      client,
      put: (key: string, value = "") => client.put({ key, value }, call),
      get: (key: string) => client.range({ key }, call),
      range: (request: RangeRequest) => client.range(request, call),
      txn: (request: TxnRequest) => client.txn(request, call)
    }
  })

export const outcome = (error: EtcdError) => [error.reason, error.mayBeApplied]
