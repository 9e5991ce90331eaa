/** A client of an embedded etcd whose calls can be seen, and held back. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { EtcdClient } from "../../src/EtcdClient.js"
import type { EtcdError } from "../../src/EtcdError.js"
import * as client from "../../src/internal/client.js"
import type { ClientOptions } from "../../src/internal/options.js"
import * as clientOptions from "../../src/internal/options.js"
import type { Kv, Transport } from "../../src/internal/transport.js"
import * as TestEtcd from "../../src/testing.js"
import type { Op, TxnRequest } from "../../src/Txn.js"
import { text } from "../support/memory.js"

/** What was sent: the call, and what is in it (`put a`, `range b`, `txn c`, …). */
export interface Sent {
  readonly call: keyof Kv
  readonly ops: ReadonlyArray<string>
  readonly request: TxnRequest | undefined
  readonly answered: () => boolean
}

export interface Watched {
  readonly etcd: TestEtcd.Engine
  readonly client: EtcdClient["Type"]
  readonly sent: ReadonlyArray<Sent>
  /** Holds back the answers to what is sent from now on. */
  readonly hold: Effect.Effect<void>
  /** Lets the answers through. */
  readonly release: Effect.Effect<void>
  /** Closes the client; the etcd lives on. */
  readonly close: Effect.Effect<void>
}

const keyText = (key: string | Uint8Array): string => typeof key === "string" ? key : text(key)

export const describe = (op: Op): string =>
  op._tag === "Txn"
    ? `txn ${keyText(op.request.compare?.[0]?.key ?? "")}`
    : `${op._tag.toLowerCase()} ${keyText(op.request.key)}`

export interface WatchedOptions {
  readonly engine?: TestEtcd.Options | undefined
  readonly client?: Partial<ClientOptions> | undefined
  readonly transport?: ((transport: Transport) => Partial<Transport>) | undefined
}

export const watched = (options: WatchedOptions = {}): Effect.Effect<Watched, never, Scope.Scope> =>
  Effect.gen(function*() {
    const etcd = yield* TestEtcd.make(options.engine)
    const own = yield* Scope.fork(yield* Effect.scope, ExecutionStrategy.sequential)
    const bare = yield* Scope.extend(etcd.transport(), own)
    const transport: Transport = { ...bare, ...options.transport?.(bare) }
    const sent: Array<Sent> = []
    let gate = yield* Deferred.make<void>()
    yield* Deferred.succeed(gate, undefined)

    const seen = <A>(
      call: keyof Kv,
      ops: ReadonlyArray<string>,
      effect: Effect.Effect<A, EtcdError>,
      request?: TxnRequest
    ): Effect.Effect<A, EtcdError> =>
      Effect.suspend(() => {
        let answered = false
        const present = gate
        sent.push({ call, ops, request, answered: () => answered })
        return Effect.zipLeft(effect, Deferred.await(present)).pipe(
          Effect.tap(() =>
            Effect.sync(() => {
              answered = true
            })
          )
        )
      })

    const gated: Transport = {
      ...transport,
      range: (request, call) => seen("range", [`range ${keyText(request.key)}`], transport.range(request, call)),
      put: (request, call) => seen("put", [`put ${keyText(request.key)}`], transport.put(request, call)),
      del: (request, call) => seen("del", [`delete ${keyText(request.key)}`], transport.del(request, call)),
      txn: (request, call) => seen("txn", (request.success ?? []).map(describe), transport.txn(request, call), request)
    }
    return {
      etcd,
      client: yield* Scope.extend(client.make(gated, { ...clientOptions.defaults, ...options.client }), own),
      close: Scope.close(own, Exit.void),
      sent,
      hold: Effect.map(Deferred.make<void>(), (next) => {
        gate = next
      }),
      release: Effect.suspend(() => Deferred.succeed(gate, undefined))
    }
  })
