/** One etcd under random operations: carries them out, and writes its answers down without what is its own. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { WatchError, WatchEvent } from "../../../src/EtcdClient.js"
import type { EtcdError } from "../../../src/EtcdError.js"
import type * as Txn from "../../../src/Txn.js"
import type { Deviation } from "../deviations.js"
import { type Client, Notation, text } from "../support.js"
import { defined } from "./operations.js"
import type * as Operations from "./operations.js"

/** A key behind all others: its changes end what watches without an upper end tell. */
const last = "\uffff"

/** Silence of both would look like agreement. */
const inTime = (problem: string) =>
  Effect.timeoutFailCause({ duration: "15 seconds", onTimeout: () => Cause.die(new Error(problem)) })

export interface Subject {
  /** Its answer, or its refusal, for comparison with those of others. */
  readonly run: (operation: Operations.Operation) => Effect.Effect<unknown>
  /** What a watch has told since the beginning. */
  readonly told: Effect.Effect<unknown, WatchError>
}

/** What a subject shares with those it is compared to. */
export interface Shared {
  readonly prefix: string
  readonly firstLease: bigint
  /** What the versions that are compared do not have in common is left out of the answers. */
  readonly deviations: ReadonlySet<Deviation>
}

/** Begins with an empty etcd, whose past is compacted. */
export const make = (
  client: Client,
  { deviations, firstLease, prefix }: Shared
): Effect.Effect<Subject, WatchError, Scope.Scope> =>
  Effect.gen(function*() {
    yield* client.delete({ key: "\0", rangeEnd: "\0" })
    for (const value of ["1", "2", "3"]) yield* client.put({ key: prefix + last, value })
    const { header } = yield* client.delete({ key: prefix + last })
    const base = header.revision
    yield* client.compact(base)
    let newest = base
    let compacted = base

    const notation = new Notation(base, prefix)
    const { rev } = notation
    const leaseId = (number: number) => firstLease + BigInt(number)
    const kv = (kv: Txn.KeyValue) => notation.kv({ ...kv, lease: kv.lease === 0n ? 0n : kv.lease - firstLease + 1n })

    const revision = (at: Operations.Revision | undefined): bigint | undefined => {
      if (at === undefined) return undefined
      if ("literal" in at) return at.literal
      const asked = newest - BigInt(at.ago)
      // revisions before the first one are numbers of another kind
      return asked < base - 1n ? base - 1n : asked
    }

    const fullKey = (name: string) => name === "" ? "" : prefix + name

    const span = ({ key, to }: Operations.Span): Txn.KeyRange => {
      switch (to._tag) {
        case "One":
          return { key: fullKey(key) }
        case "Key":
          return { key: fullKey(key), rangeEnd: prefix + to.key }
        case "End":
          return { key: fullKey(key), rangeEnd: "\0" }
      }
    }

    const range = (range: Operations.Range): Txn.RangeRequest =>
      defined({
        ...span(range),
        limit: range.limit,
        revision: revision(range.revision),
        sort: range.sort,
        serializable: range.serializable,
        keysOnly: range.keysOnly,
        countOnly: range.countOnly,
        minModRevision: revision(range.minModRevision),
        maxModRevision: revision(range.maxModRevision),
        minCreateRevision: revision(range.minCreateRevision),
        maxCreateRevision: revision(range.maxCreateRevision)
      })

    const put = ({ key, lease, ...put }: Operations.Put): Txn.PutRequest =>
      defined({ ...put, key: fullKey(key), lease: lease === undefined ? undefined : leaseId(lease) })

    const del = (request: Operations.Delete): Txn.DeleteRequest => ({ ...span(request), prevKv: request.prevKv })

    const compare = (compare: Operations.Compare): Txn.Compare => {
      const about = { ...span(compare), result: compare.result }
      switch (compare.target) {
        case "create":
        case "mod":
          return { ...about, target: compare.target, operand: revision(compare.operand) ?? 0n }
        case "version":
          return { ...about, target: "version", operand: BigInt(compare.operand) }
        case "lease":
          return { ...about, target: "lease", operand: compare.operand === undefined ? 0n : leaseId(compare.operand) }
        case "value":
          return { ...about, target: "value", operand: compare.operand }
      }
    }

    const op = (op: Operations.Op): Txn.Op => {
      switch (op._tag) {
        case "Range":
          return { _tag: "Range", request: range(op.range) }
        case "Put":
          return { _tag: "Put", request: put(op.put) }
        case "Delete":
          return { _tag: "Delete", request: del(op.del) }
        case "Txn":
          return { _tag: "Txn", request: txn(op.txn) }
      }
    }

    const txn = (txn: Operations.Txn): Txn.TxnRequest => ({
      compare: txn.compare.map(compare),
      success: txn.success.map(op),
      failure: txn.failure.map(op)
    })

    const at = ({ revision }: Txn.Header) => revision === 0n ? "no revision" : rev(revision)

    const answer = ({ _tag, response }: Txn.OpResponse): unknown => {
      const from = at(response.header)
      switch (_tag) {
        case "Range":
          return [from, response.kvs.map(kv), response.more, Number(response.count)]
        case "Put":
          return [from, response.prevKv && kv(response.prevKv)]
        case "Delete":
          return [from, Number(response.deleted), response.prevKvs.map(kv)]
        case "Txn":
          return [from, response.succeeded, response.responses.map(answer)]
      }
    }

    const carryOut = (operation: Operations.Op): Effect.Effect<unknown, EtcdError> => {
      const heard = (response: Txn.OpResponse) => {
        newest = response.response.header.revision
        return answer(response)
      }
      const request = op(operation)
      switch (request._tag) {
        case "Range":
          return Effect.map(client.range(request.request), (response) => heard({ _tag: "Range", response }))
        case "Put":
          return Effect.map(client.put(request.request), (response) => heard({ _tag: "Put", response }))
        case "Delete":
          return Effect.map(client.delete(request.request), (response) => heard({ _tag: "Delete", response }))
        case "Txn":
          return Effect.map(client.txn(request.request), (response) => heard({ _tag: "Txn", response }))
      }
    }

    const event = ({ prevKv, ...event }: WatchEvent): string => {
      const lease = event.kv.lease === 0n ? 0n : event.kv.lease - firstLease + 1n
      return notation.event({ ...event, kv: { ...event.kv, lease }, prevKv: undefined }) +
        (prevKv === undefined ? "" : ` < ${kv(prevKv)}`)
    }

    /** Two changes that tell a watch, whatever it leaves out, that it has heard everything before them. */
    const mark = (key = last) =>
      Effect.gen(function*() {
        yield* client.put({ key: prefix + key, value: "" })
        newest = (yield* client.delete({ key: prefix + key })).header.revision
      })

    const isMark = ({ kv }: WatchEvent): boolean => kv.modRevision === newest || kv.modRevision === newest - 1n

    const mayBeLost = ({ _tag, kv }: WatchEvent): boolean =>
      deviations.has("lostDeleteAtCompaction") && _tag === "Delete" && kv.modRevision === compacted

    const watch = (request: Extract<Operations.Operation, { readonly _tag: "Watch" }>) =>
      Effect.gen(function*() {
        // a watch from a revision to come would end, or not, by what is written meanwhile
        const asked = revision(request.revision) ?? 0n
        const startRevision = asked < 0n ? 0n : asked > newest ? newest + 1n : asked
        const isPast = startRevision !== 0n && startRevision <= newest
        const marking = mark(request.to._tag === "End" ? last : request.key)
        if (isPast) yield* marking
        const { next } = yield* client.openWatch({
          ...span(request),
          startRevision,
          prevKv: request.prevKv,
          noPut: request.filter === "noPut",
          noDelete: request.filter === "noDelete"
        })
        if (!isPast) yield* marking
        const events: Array<WatchEvent> = []
        while (!events.some(isMark)) events.push(...(yield* next))
        return events.filter((event) => !isMark(event) && !mayBeLost(event)).map(event)
      }).pipe(Effect.scoped)

    const onLease = (
      operation: Extract<Operations.Operation, { readonly lease: number }>
    ): Effect.Effect<unknown, EtcdError> => {
      const id = leaseId(operation.lease)
      switch (operation._tag) {
        case "Grant":
          return Effect.map(client.leaseGrant({ id, ttl: `${operation.ttl} seconds` }), ({ ttl }) => String(ttl))
        case "Revoke":
          return Effect.zipRight(
            client.leaseRevoke(id),
            Effect.map(client.range({ key: "\0" }), ({ header }) => {
              newest = header.revision
              return rev(newest)
            })
          )
        case "TimeToLive":
          return Effect.map(client.leaseTimeToLive(id, { keys: true }), ({ granted, keys }) => [
            String(granted),
            keys.map(text).sort()
          ])
        case "KeepAlive":
          return Effect.map(client.leaseKeepAliveOnce(id), ({ ttl }) => String(ttl))
      }
    }

    const compact = (revision: bigint, physical: boolean) =>
      Effect.map(client.compact(revision, { physical }), (header) => {
        compacted = revision
        return at(header)
      })

    const perform = (operation: Operations.Operation): Effect.Effect<unknown, WatchError> => {
      switch (operation._tag) {
        case "Range":
        case "Put":
        case "Delete":
        case "Txn":
          return carryOut(operation)
        case "Grant":
        case "Revoke":
        case "TimeToLive":
        case "KeepAlive":
          return onLease(operation)
        case "Compact":
          return compact(revision(operation.revision) ?? 0n, operation.physical)
        case "Watch":
          return watch(operation)
      }
    }

    const refusal = (error: WatchError): unknown => {
      switch (error._tag) {
        case "EtcdError":
          return [error.operation, error.reason, error.code, error.key, error.mayBeApplied, error.detail]
        case "WatchCompacted":
          return [error._tag, rev(error.startRevision), rev(error.compactRevision)]
        case "WatchNewEpoch":
          return [error._tag, rev(error.startRevision), rev(error.revision)]
      }
    }

    const everything = yield* client.openWatch({ key: "\0", rangeEnd: "\0" })

    return {
      run: (operation) =>
        perform(operation).pipe(
          Effect.match({ onSuccess: (answer) => ({ answer }), onFailure: (error) => ({ refusal: refusal(error) }) }),
          inTime(`no answer to ${operation._tag}`)
        ),
      told: Effect.gen(function*() {
        yield* mark()
        const events: Array<WatchEvent> = []
        while (!events.some(({ kv }) => kv.modRevision === newest)) events.push(...yield* everything.next)
        return events.map(event)
      }).pipe(inTime("a watch has not told everything"))
    }
  })
