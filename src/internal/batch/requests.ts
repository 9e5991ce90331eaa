/** The requests that can share a call, each in the forms in which it can leave. */
import type * as Effect from "effect/Effect"
import type { StartedTxn } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import type {
  DeleteRequest,
  DeleteResponse,
  Header,
  Op,
  OpResponse,
  PutRequest,
  PutResponse,
  RangeRequest,
  RangeResponse,
  TxnRequest,
  TxnResponse
} from "../../Txn.js"
import * as Txn from "../../Txn.js"
import { toText } from "../bytes.js"
import type { CallOptions, Cancel, Done, Transport } from "../transport.js"
import { firstKey } from "../txnShape.js"
import * as Footprint from "./footprint.js"
import type { Part, Request } from "./member.js"

/** The ways to the server. */
export interface Ways {
  readonly transport: Transport
  /** Runs a call in a fibre of its own. */
  readonly begin: <A>(call: Effect.Effect<A, EtcdError>, done: Done<A>) => Cancel
  readonly startTxn: (request: TxnRequest, options: CallOptions, done: Done<TxnResponse>) => Cancel
  /** Whether transactions may be nested now. */
  readonly nests: () => boolean
  /** Whether the answer may come together with others, as far as its size goes. */
  readonly mayShare: (op: Op) => boolean
}

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

const unexpected = (expected: Op["_tag"], response: OpResponse | undefined): Error =>
  new Error(`etcd answered a ${expected} in a transaction with ${response?._tag ?? "nothing"}`)

const part = (op: Op, footprint: Footprint.Footprint, nested = 0): Part => ({
  ops: [op],
  nested,
  weight: weightOfOp(op),
  footprint
})

/** @see member.ts: objects of a class, with no functions of their own, as hundreds of them may wait */
export class RangeCall implements Request<RangeResponse> {
  readonly operation = "range"
  readonly shares = true
  readonly #ways: Ways
  readonly #request: RangeRequest

  constructor(ways: Ways, request: RangeRequest) {
    this.#ways = ways
    this.#request = request
  }

  key(): string {
    return toText(this.#request.key)
  }

  part(): Part {
    return part(Txn.range(this.#request), Footprint.nothing)
  }

  answer([response]: ReadonlyArray<OpResponse>, header: Header): RangeResponse {
    if (response?._tag !== "Range") throw unexpected("Range", response)
    return { ...response.response, header }
  }

  alone(options: CallOptions): Effect.Effect<RangeResponse, EtcdError> {
    return this.#ways.transport.range(this.#request, options)
  }

  start(options: CallOptions, done: Done<RangeResponse>): Cancel {
    return this.#ways.begin(this.alone(options), done)
  }
}

export class PutCall implements Request<PutResponse> {
  readonly operation = "put"
  readonly shares: boolean
  readonly #ways: Ways
  readonly #request: PutRequest

  constructor(ways: Ways, request: PutRequest) {
    this.#ways = ways
    this.#request = request
    this.shares = ways.mayShare(Txn.put(request))
  }

  key(): string {
    return toText(this.#request.key)
  }

  part(): Part {
    return part(Txn.put(this.#request), Footprint.ofPut(this.#request))
  }

  answer([response]: ReadonlyArray<OpResponse>, header: Header): PutResponse {
    if (response?._tag !== "Put") throw unexpected("Put", response)
    return { ...response.response, header }
  }

  alone(options: CallOptions): Effect.Effect<PutResponse, EtcdError> {
    return this.#ways.transport.put(this.#request, options)
  }

  start(options: CallOptions, done: Done<PutResponse>): Cancel {
    return this.#ways.begin(this.alone(options), done)
  }
}

export class DeleteCall implements Request<DeleteResponse> {
  readonly operation = "delete"
  readonly shares: boolean
  readonly #ways: Ways
  readonly #request: DeleteRequest

  constructor(ways: Ways, request: DeleteRequest) {
    this.#ways = ways
    this.#request = request
    this.shares = ways.mayShare(Txn.del(request))
  }

  key(): string {
    return toText(this.#request.key)
  }

  part(): Part {
    return part(Txn.del(this.#request), Footprint.ofDelete(this.#request))
  }

  answer([response]: ReadonlyArray<OpResponse>, header: Header): DeleteResponse {
    if (response?._tag !== "Delete") throw unexpected("Delete", response)
    return { ...response.response, header }
  }

  alone(options: CallOptions): Effect.Effect<DeleteResponse, EtcdError> {
    return this.#ways.transport.del(this.#request, options)
  }

  start(options: CallOptions, done: Done<DeleteResponse>): Cancel {
    return this.#ways.begin(this.alone(options), done)
  }
}

/** What transactions have in common. They are made when they are about to leave, so that those which wait are small. */
abstract class AnyTxnCall {
  readonly operation = "txn"
  abstract readonly shares: boolean
  readonly #ways: Ways
  readonly #source: Pick<StartedTxn, "request">

  constructor(ways: Ways, source: Pick<StartedTxn, "request">) {
    this.#ways = ways
    this.#source = source
  }

  key(): string | undefined {
    return firstKey(this.request())
  }

  alone(options: CallOptions): Effect.Effect<TxnResponse, EtcdError> {
    return this.#ways.transport.txn(this.request(), options)
  }

  start(options: CallOptions, done: Done<TxnResponse>): Cancel {
    return this.#ways.startTxn(this.request(), options, done)
  }

  protected request(): TxnRequest {
    return this.#source.request()
  }
}

/** A transaction of nothing but small reads: they need not be nested. */
export class FlatReadCall extends AnyTxnCall implements Request<TxnResponse> {
  readonly shares = true

  part(): Part {
    const request = this.request()
    return {
      ops: request.success ?? [],
      nested: 0,
      weight: weightOfTxn(request),
      footprint: Footprint.nothing
    }
  }

  answer(responses: ReadonlyArray<OpResponse>, header: Header): TxnResponse {
    return { header, succeeded: true, responses }
  }
}

export class TxnCall extends AnyTxnCall implements Request<TxnResponse> {
  readonly shares: boolean

  constructor(ways: Ways, source: Pick<StartedTxn, "request">, request: TxnRequest) {
    super(ways, source)
    this.shares = ways.nests() && ways.mayShare(Txn.txn(request))
  }

  part(): Part {
    const request = this.request()
    return part(Txn.txn(request), Footprint.ofTxn(request), operationsOf(request))
  }

  answer([response]: ReadonlyArray<OpResponse>, header: Header): TxnResponse {
    if (response?._tag !== "Txn") throw unexpected("Txn", response)
    return { ...response.response, header }
  }
}
