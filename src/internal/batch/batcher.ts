/**
 * Concurrent requests leave as one call.
 *
 * A call costs more than what it carries. So reads that come together go as one transaction of ranges, which etcd answers
 * without a proposal, and writes as one transaction of writes and nested transactions: one proposal, one write to the disk.
 * Nobody can tell from the answers, as only independent requests share a transaction (`footprint.ts`).
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as FiberSet from "effect/FiberSet"
import { constTrue } from "effect/Function"
import type * as Scope from "effect/Scope"
import type { Cancelable, StartedTxn } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import type {
  DeleteRequest,
  DeleteResponse,
  Op,
  PutRequest,
  PutResponse,
  RangeRequest,
  RangeResponse,
  TxnRequest,
  TxnResponse
} from "../../Txn.js"
import type { Rest } from "../retry.js"
import { goingOn } from "../retry.js"
import type { CallOptions, Cancel, Done, Kv, Settled, Transport } from "../transport.js"
import { isReadOnly } from "../txnShape.js"
import { Lane } from "./lane.js"
import * as Nesting from "./nesting.js"
import * as Requests from "./requests.js"

/** etcd's limit, unless it was configured otherwise: then it is found out. */
const maxOperations = 128
/** Far below etcd's 1.5 MiB, so that a large value does not hold up small ones. */
const maxBytes = 256 * 1024
/** Reads of more than this many keys go by themselves: others should not wait for what they bring. */
const fewKeys = 16

const bringsLittle = ({ countOnly, limit = 0, rangeEnd }: RangeRequest): boolean =>
  rangeEnd === undefined || countOnly === true || (limit > 0 && limit <= fewKeys)

const isSmallRead = (op: Op): op is Extract<Op, { readonly _tag: "Range" }> =>
  op._tag === "Range" && op.request.serializable !== true && bringsLittle(op.request)

/** Whether a transaction is nothing but small reads: then they need not be nested. */
const isFlatRead = ({ compare = [], success = [] }: TxnRequest): boolean =>
  compare.length === 0 && success.every(isSmallRead)

/** Whether the answer may be large: it holds values that others chose. */
const bringsValues = (op: Op): boolean => {
  switch (op._tag) {
    case "Range":
      return op.request.countOnly !== true && op.request.keysOnly !== true
    case "Put":
    case "Delete":
      return op.request.prevKv === true
    case "Txn": {
      const { failure = [], success = [] } = op.request
      return success.some(bringsValues) || failure.some(bringsValues)
    }
  }
}

/** The client's own limits on messages; -1 for none. */
export interface Options {
  readonly maxSendBytes: number
  readonly maxReceiveBytes: number
}

type StartTxn = (request: TxnRequest, options: CallOptions, done: Done<TxnResponse>) => Cancel

/** One attempt; with a `rest` also what follows after it. */
type Going<Request, A> = (request: Request, options: CallOptions, rest?: Rest<A>) => Effect.Effect<A, EtcdError>

/** The key-value calls as parts of something longer. */
interface GoingKv extends Kv {
  readonly range: Going<RangeRequest, RangeResponse>
  readonly put: Going<PutRequest, PutResponse>
  readonly del: Going<DeleteRequest, DeleteResponse>
  readonly txn: Going<TxnRequest, TxnResponse>
}

/** Every request as a call of its own. */
export const none = (transport: Transport): GoingKv => ({
  range: (request, call, rest) => goingOn(transport.range(request, call), rest),
  put: (request, call, rest) => goingOn(transport.put(request, call), rest),
  del: (request, call, rest) => goingOn(transport.del(request, call), rest),
  txn: (request, call, rest) => goingOn(transport.txn(request, call), rest)
})

/** The calls, and the one that is hottest without a fibre of its caller. */
export interface BatchedKv extends GoingKv {
  /** @param request what `source` makes */
  readonly startTxn: (
    source: Pick<StartedTxn, "request">,
    request: TxnRequest,
    options: CallOptions,
    caller: Settled<TxnResponse>
  ) => Cancelable
}

export const make = (transport: Transport, options: Options): Effect.Effect<BatchedKv, never, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Effect.clock
    const run = yield* FiberSet.makeRuntime<never>()
    const begin = <A>(call: Effect.Effect<A, EtcdError>, done: Done<A>): Cancel => {
      let cancelled = false
      const fiber = run(Effect.onExit(call, (exit) => Effect.sync(() => cancelled || done(exit))).pipe(Effect.ignore))
      return () => {
        cancelled = true
        fiber.unsafeInterruptAsFork(FiberId.none)
      }
    }
    /** With several members, what could not be sent to one of them is sent to the next: that takes the longer way. */
    const wasNotSent = (exit: Exit.Exit<unknown, EtcdError>): boolean =>
      Exit.isFailure(exit) && exit.cause._tag === "Fail" &&
      exit.cause.error.reason === "Unavailable" && !exit.cause.error.mayBeApplied

    const startTxn: StartTxn = (request, call, done) => {
      const atLength = (): Cancel => begin(transport.txn(request, call), done)
      if (transport.startTxn === undefined) return atLength()
      if (transport.endpoints.length === 1) return transport.startTxn(request, call, done) ?? atLength()
      let again: Cancel | undefined
      const first = transport.startTxn(request, call, (exit) => {
        if (wasNotSent(exit)) again = atLength()
        else done(exit)
      })
      return first === undefined ? atLength() : () => (again ?? first)()
    }

    const common = {
      maxOperations,
      maxBytes: options.maxSendBytes < 0 ? maxBytes : Math.min(maxBytes, options.maxSendBytes / 2),
      clock,
      commit: (success: ReadonlyArray<Op>, call: CallOptions, done: Done<TxnResponse>) =>
        startTxn({ success }, call, done),
      run: (effect: Effect.Effect<void>) => run(effect)
    }
    const reads = new Lane({ ...common, kind: "read" })
    const writes = new Lane({ ...common, kind: "write" })
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        reads.close()
        writes.close()
      })
    )

    const nests = transport.identified
      ? Nesting.make(
        Effect.forEach(
          transport.endpoints,
          (endpoint) => Effect.map(transport.status(endpoint, { timeoutMillis: 5_000 }), ({ version }) => version),
          { concurrency: "unbounded" }
        ),
        clock,
        run
      )
      : () => true

    /**
     * Where answers are limited, those to writes must not grow by sharing: an answer that is too large comes too late, the
     * writes are done. Reads can simply be made again.
     */
    const mayShare = (op: Op): boolean => options.maxReceiveBytes < 0 || !bringsValues(op)

    const flat = none(transport)
    const ways: Requests.Ways = { transport, begin, startTxn, nests, mayShare }

    return {
      range: (request, call, rest) =>
        request.serializable === true || !bringsLittle(request)
          ? flat.range(request, call, rest)
          : reads.submit(new Requests.RangeCall(ways, request), call, rest),
      put: (request, call, rest) => writes.submit(new Requests.PutCall(ways, request), call, rest),
      del: (request, call, rest) => writes.submit(new Requests.DeleteCall(ways, request), call, rest),
      txn: (request, call, rest) =>
        isFlatRead(request)
          ? reads.submit(new Requests.FlatReadCall(ways, { request: () => request }), call, rest)
          : isReadOnly(request)
          ? flat.txn(request, call, rest)
          : writes.submit(new Requests.TxnCall(ways, { request: () => request }, request), call, rest),
      startTxn: (source, request, call, caller) => {
        if (isFlatRead(request)) return reads.start(new Requests.FlatReadCall(ways, source), call, caller)
        return isReadOnly(request)
          ? { cancel: startTxn(request, call, (exit) => caller.settled(exit)), isSent: constTrue }
          : writes.start(new Requests.TxnCall(ways, source, request), call, caller)
      }
    }
  })
