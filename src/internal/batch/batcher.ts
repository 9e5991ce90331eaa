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
import type * as Scope from "effect/Scope"
import type { EtcdError } from "../../EtcdError.js"
import type { DeleteRequest, Op, OpResponse, PutRequest, RangeRequest, RangeResponse, TxnRequest } from "../../Txn.js"
import * as Txn from "../../Txn.js"
import { toText } from "../bytes.js"
import type { CallOptions, Cancel, Done, Kv, Transport } from "../transport.js"
import { firstKey, isReadOnly } from "../txnShape.js"
import * as Footprint from "./footprint.js"
import type { Part, Request } from "./lane.js"
import { Lane } from "./lane.js"
import * as Nesting from "./nesting.js"

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

/** The operations of a transaction at its deepest, level by level: etcd's limit is on their sum. */
const operationsOf = ({ compare = [], failure = [], success = [] }: TxnRequest): number => {
  let below = 0
  for (const ops of [success, failure]) {
    for (const op of ops) if (op._tag === "Txn") below = Math.max(below, operationsOf(op.request))
  }
  return Math.max(compare.length, success.length, failure.length) + below
}

/** About: what surrounds keys and values is not counted exactly, and text is taken for ASCII. */
const perOperation = 32

const weightOfOp = (op: Op): number => {
  switch (op._tag) {
    case "Range":
    case "Delete":
      return perOperation + 2 * op.request.key.length
    case "Put":
      return perOperation + op.request.key.length + op.request.value.length
    case "Txn":
      return weightOfTxn(op.request)
  }
}

const weightOfTxn = ({ compare = [], failure = [], success = [] }: TxnRequest): number => {
  let weight = perOperation
  for (const { key } of compare) weight += perOperation + key.length
  for (const op of success) weight += weightOfOp(op)
  for (const op of failure) weight += weightOfOp(op)
  return weight
}

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

const unexpected = (expected: Op["_tag"], response: OpResponse | undefined): Error =>
  new Error(`etcd answered a ${expected} in a transaction with ${response?._tag ?? "nothing"}`)

const part = (
  operation: string,
  key: string | undefined,
  op: Op,
  footprint: Footprint.Footprint,
  shares: boolean,
  nested = 0
): Part => ({ ops: [op], nested, weight: weightOfOp(op), shares, footprint, operation, key })

/** The client's own limits on messages; -1 for none. */
export interface Options {
  readonly maxSendBytes: number
  readonly maxReceiveBytes: number
}

type StartTxn = (request: TxnRequest, options: CallOptions, done: Done<Txn.TxnResponse>) => Cancel

/** The calls, and the one that is hottest without a fibre of its caller. */
export interface BatchedKv extends Kv {
  readonly startTxn: StartTxn
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
      commit: (success: ReadonlyArray<Op>, call: CallOptions, done: Done<Txn.TxnResponse>) =>
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

    const rangeRequest = (request: RangeRequest): Request<RangeResponse> => ({
      part: () => part("range", toText(request.key), Txn.range(request), Footprint.nothing, true),
      answer: ([response], header) => {
        if (response?._tag !== "Range") throw unexpected("Range", response)
        return { ...response.response, header }
      },
      alone: (call) => transport.range(request, call),
      start: (call, done) => begin(transport.range(request, call), done)
    })

    const flatRead = (request: TxnRequest): Request<Txn.TxnResponse> => ({
      part: () => {
        const ops = request.success ?? []
        return {
          ops,
          nested: 0,
          weight: weightOfTxn(request),
          shares: true,
          footprint: Footprint.nothing,
          operation: "txn",
          key: firstKey(request)
        }
      },
      answer: (responses, header) => ({ header, succeeded: true, responses }),
      alone: (call) => transport.txn(request, call),
      start: (call, done) => startTxn(request, call, done)
    })

    const putRequest = (request: PutRequest): Request<Txn.PutResponse> => ({
      part: () => {
        const op = Txn.put(request)
        return part("put", toText(request.key), op, Footprint.ofWrite(request), mayShare(op))
      },
      answer: ([response], header) => {
        if (response?._tag !== "Put") throw unexpected("Put", response)
        return { ...response.response, header }
      },
      alone: (call) => transport.put(request, call),
      start: (call, done) => begin(transport.put(request, call), done)
    })

    const deleteRequest = (request: DeleteRequest): Request<Txn.DeleteResponse> => ({
      part: () => {
        const op = Txn.del(request)
        return part("delete", toText(request.key), op, Footprint.ofWrite(request), mayShare(op))
      },
      answer: ([response], header) => {
        if (response?._tag !== "Delete") throw unexpected("Delete", response)
        return { ...response.response, header }
      },
      alone: (call) => transport.del(request, call),
      start: (call, done) => begin(transport.del(request, call), done)
    })

    const txnRequest = (request: TxnRequest): Request<Txn.TxnResponse> => ({
      part: () => {
        const op = Txn.txn(request)
        const shares = nests() && mayShare(op)
        return part("txn", firstKey(request), op, Footprint.ofTxn(request), shares, operationsOf(request))
      },
      answer: ([response], header) => {
        if (response?._tag !== "Txn") throw unexpected("Txn", response)
        return { ...response.response, header }
      },
      alone: (call) => transport.txn(request, call),
      start: (call, done) => startTxn(request, call, done)
    })

    return {
      range: (request, call) =>
        request.serializable === true || !bringsLittle(request)
          ? transport.range(request, call)
          : reads.submit(rangeRequest(request), call),
      put: (request, call) => writes.submit(putRequest(request), call),
      del: (request, call) => writes.submit(deleteRequest(request), call),
      txn: (request, call) =>
        isFlatRead(request)
          ? reads.submit(flatRead(request), call)
          : isReadOnly(request)
          ? transport.txn(request, call)
          : writes.submit(txnRequest(request), call),
      startTxn: (request, call, done) =>
        isFlatRead(request)
          ? reads.start(flatRead(request), call, done)
          : isReadOnly(request)
          ? startTxn(request, call, done)
          : writes.start(txnRequest(request), call, done)
    }
  })
