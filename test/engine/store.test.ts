/**
 * Random sequences of requests against the engine's member and against the naive store must have the same answers, and
 * every watcher must see what happened, completely and in order.
 */
import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { Member } from "../../src/internal/engine/Member.js"
import { Refusal } from "../../src/internal/engine/refusal.js"
import type { Commit } from "../../src/internal/engine/Store.js"
import { WatchServer } from "../../src/internal/engine/WatchServer.js"
import { Statuses } from "../../src/internal/etcdErrors.js"
import type { WatchResponse } from "../../src/internal/transport.js"
import type * as Txn from "../../src/Txn.js"
import { NaiveStore } from "./naiveStore.js"
import { create, text } from "./support.js"

const makeMember = (onCommit: (commit: Commit) => void = () => {}) =>
  new Member({
    now: () => 0n,
    onCommit,
    onDeadline: () => {},
    minLeaseTtl: 2n,
    electionTimeout: 0n,
    maxTxnOps: 128,
    maxRequestBytes: 1_000_000,
    version: "3.5.28"
  })

const key = FastCheck.constantFrom("a", "aa", "ab", "b", "ba", "c", "\0", "~")
const value = FastCheck.constantFrom("", "1", "2", "3")
const flag = FastCheck.boolean()
const revision = FastCheck.integer({ min: 0, max: 30 }).map(BigInt)
const span: FastCheck.Arbitrary<Txn.KeyRange> = FastCheck.record({
  key,
  rangeEnd: FastCheck.oneof(FastCheck.constant(undefined), FastCheck.constant("\0"), key)
})
const sort = FastCheck.oneof(
  FastCheck.constant(undefined),
  FastCheck.record({
    by: FastCheck.constantFrom<Txn.SortTarget>("key", "version", "create", "mod", "value"),
    order: FastCheck.constantFrom<"ascend" | "descend">("ascend", "descend")
  })
)
const rangeRequest: FastCheck.Arbitrary<Txn.RangeRequest> = FastCheck.tuple(
  span,
  FastCheck.record({
    limit: FastCheck.integer({ min: 0, max: 4 }),
    revision: FastCheck.oneof({ weight: 3, arbitrary: FastCheck.constant(0n) }, revision),
    sort,
    keysOnly: flag,
    countOnly: FastCheck.oneof({ weight: 3, arbitrary: FastCheck.constant(false) }, flag),
    minModRevision: revision,
    maxModRevision: revision,
    minCreateRevision: revision,
    maxCreateRevision: revision
  }, { requiredKeys: [] })
).map(([range, options]) => ({ ...range, ...options }))
const putRequest: FastCheck.Arbitrary<Txn.PutRequest> = FastCheck.record({ key, value, prevKv: flag })
const deleteRequest: FastCheck.Arbitrary<Txn.DeleteRequest> = FastCheck.tuple(span, flag)
  .map(([range, prevKv]) => ({ ...range, prevKv }))
const result = FastCheck.constantFrom<Txn.CompareResult>("=", "!=", "<", ">")
const compare: FastCheck.Arbitrary<Txn.Compare> = FastCheck.oneof(
  FastCheck.tuple(
    span,
    result,
    FastCheck.constantFrom<"create" | "mod" | "version" | "lease">("create", "mod", "version", "lease"),
    revision
  ).map(([range, result, target, operand]) => ({ ...range, result, target, operand })),
  FastCheck.tuple(span, result, value).map(([range, result, operand]) => ({
    ...range,
    result,
    target: "value" as const,
    operand
  }))
)
const { txn: txnRequest } = FastCheck.letrec<{ op: Txn.Op; txn: Txn.TxnRequest }>((tie) => ({
  op: FastCheck.oneof(
    { depthSize: "small", withCrossShrink: true },
    rangeRequest.map((request): Txn.Op => ({ _tag: "Range", request })),
    putRequest.map((request): Txn.Op => ({ _tag: "Put", request })),
    deleteRequest.map((request): Txn.Op => ({ _tag: "Delete", request })),
    tie("txn").map((request): Txn.Op => ({ _tag: "Txn", request }))
  ),
  txn: FastCheck.record({
    compare: FastCheck.array(compare, { maxLength: 2 }),
    success: FastCheck.array(tie("op"), { maxLength: 4 }),
    failure: FastCheck.array(tie("op"), { maxLength: 4 })
  })
}))

type Step =
  | { readonly _tag: "Range"; readonly request: Txn.RangeRequest }
  | { readonly _tag: "Put"; readonly request: Txn.PutRequest }
  | { readonly _tag: "Delete"; readonly request: Txn.DeleteRequest }
  | { readonly _tag: "Txn"; readonly request: Txn.TxnRequest }
  | { readonly _tag: "Compact"; readonly back: bigint }

const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
  { weight: 2, arbitrary: rangeRequest.map((request): Step => ({ _tag: "Range", request })) },
  { weight: 4, arbitrary: putRequest.map((request): Step => ({ _tag: "Put", request })) },
  { weight: 2, arbitrary: deleteRequest.map((request): Step => ({ _tag: "Delete", request })) },
  { weight: 4, arbitrary: txnRequest.map((request): Step => ({ _tag: "Txn", request })) },
  {
    weight: 1,
    arbitrary: FastCheck.integer({ min: 0, max: 8 }).map((back): Step => ({ _tag: "Compact", back: BigInt(back) }))
  }
)

/** An answer without its headers, at every depth. */
const bare = (answer: unknown): unknown => {
  if (Array.isArray(answer)) {
    return answer.map(bare)
  }
  if (typeof answer === "object" && answer !== null && !(answer instanceof Uint8Array)) {
    if ("_tag" in answer && "response" in answer) {
      return bare(answer.response)
    }
    return Object.fromEntries(
      Object.entries(answer).flatMap(([name, value]) => name === "header" ? [] : [[name, bare(value)]])
    )
  }
  return answer
}

/** The answer, or the text of the refusal. */
const attempt = (body: () => unknown): unknown => {
  try {
    return bare(body())
  } catch (error) {
    if (error instanceof Refusal) {
      return error.status.details
    }
    throw error
  }
}

const run = (member: Member, one: Step): unknown => {
  switch (one._tag) {
    case "Range":
      return attempt(() => member.range(one.request))
    case "Put":
      return attempt(() => member.put(one.request))
    case "Delete":
      return attempt(() => member.del(one.request))
    case "Txn":
      return attempt(() => member.txn(one.request))
    case "Compact":
      return attempt(() => member.compact(member.store.revision - one.back))
  }
}

const runNaive = (naive: NaiveStore, one: Exclude<Step, { _tag: "Compact" }>): unknown => {
  switch (one._tag) {
    case "Range":
      return naive.range(one.request)
    case "Put":
      return naive.put(one.request)
    case "Delete":
      return naive.del(one.request)
    case "Txn":
      return naive.txn(one.request)
  }
}

const dump = (member: Member, revision: bigint) => bare(member.range({ key: "\0", rangeEnd: "\0", revision }))

describe("the store", () => {
  it("answers like a store that copies everything for every revision", () => {
    const seen = new Set<unknown>()
    FastCheck.assert(
      FastCheck.property(FastCheck.array(step, { maxLength: 40 }), (steps) => {
        const member = makeMember()
        const naive = new NaiveStore()
        for (const one of steps) {
          const before = dump(member, 0n)
          const answer = run(member, one)
          if (typeof answer === "string") {
            seen.add(answer)
            assert.deepStrictEqual(dump(member, 0n), before)
          } else if (one._tag !== "Compact") {
            seen.add(one._tag)
            assert.deepStrictEqual(answer, bare(runNaive(naive, one)))
          }
          assert.strictEqual(member.store.revision, naive.revision)
        }
        for (let revision = 1n; revision <= naive.revision; revision++) {
          const expected = revision < member.store.compactRevision
            ? Statuses.compacted.details
            : naive.range({ key: "\0", rangeEnd: "\0", revision })
          assert.deepStrictEqual(attempt(() => member.range({ key: "\0", rangeEnd: "\0", revision })), expected)
        }
      }),
      { numRuns: 500 }
    )
    // the property means nothing if some kind of answer never occurred
    for (
      const kind of [
        "Range",
        "Put",
        "Delete",
        "Txn",
        ...[
          Statuses.compacted,
          Statuses.futureRevision,
          Statuses.duplicateKey
        ].map(({ details }) => details)
      ]
    ) {
      assert.isTrue(seen.has(kind), kind)
    }
  })

  it("tells watchers everything, once and in order", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.array(step.filter(({ _tag }) => _tag !== "Compact"), { minLength: 5, maxLength: 40 }),
        FastCheck.array(FastCheck.tuple(FastCheck.nat(40), FastCheck.nat(40), span), { minLength: 1, maxLength: 5 }),
        FastCheck.option(FastCheck.integer({ min: 1, max: 3 }), { nil: undefined }),
        (steps, watchers, fragmentEvents) => {
          const responses: Array<WatchResponse> = []
          const jobs: Array<() => void> = []
          const naive = new NaiveStore()
          const member = makeMember((commit) => server.commit(commit))
          const server = new WatchServer(member, {
            emit: (response) => responses.push(response),
            later: (job) => jobs.push(job),
            fragmentEvents
          })
          const starts: Array<{ readonly from: bigint; readonly span: Txn.KeyRange }> = []
          steps.forEach((one, index) => {
            for (const [at, from, span] of watchers) {
              if (at === index) {
                const startRevision = BigInt(from)
                const before = responses.length
                server.handle({ ...create("a"), ...span, startRevision, prevKv: true })
                if (responses[before]?.canceled === false) {
                  starts.push({ from: startRevision === 0n ? member.store.revision + 1n : startRevision, span })
                }
              }
            }
            const answer = run(member, one)
            if (typeof answer !== "string" && one._tag !== "Compact") {
              runNaive(naive, one)
            }
            if (index % 3 === 0) {
              jobs.splice(0).forEach((job) => job())
            }
          })
          while (jobs.length > 0) {
            jobs.splice(0).forEach((job) => job())
          }
          starts.forEach(({ from, span }, id) => {
            const mine = responses.filter(({ watchId }) => watchId === BigInt(id))
            const events = mine.flatMap(({ events }) => events)
            const revisions = events.map(({ kv }) => kv.modRevision)
            assert.deepStrictEqual(revisions, [...revisions].sort((left, right) => Number(left - right)))
            assert.isTrue(revisions.every((revision) => revision >= from))
            assert.isFalse(mine.at(-1)?.fragment)
            // applied to what stood there before, the events lead through every later state
            const start = from > naive.revision ? naive.revision : from > 1n ? from - 1n : 1n
            const state = new Map(
              naive.range({ key: span.key, rangeEnd: span.rangeEnd, revision: start })
                .kvs.map((kv) => [text(kv.key), kv])
            )
            for (let revision = start + 1n; revision <= naive.revision; revision++) {
              const past = new Map(state)
              for (const { _tag, kv, prevKv } of events.filter(({ kv }) => kv.modRevision === revision)) {
                if (_tag === "Put") {
                  state.set(text(kv.key), kv)
                } else {
                  state.delete(text(kv.key))
                }
                const created = _tag === "Put" && kv.createRevision === revision
                assert.deepStrictEqual(prevKv, created ? undefined : past.get(text(kv.key)))
              }
              const expected = naive.range({ key: span.key, rangeEnd: span.rangeEnd, revision }).kvs
              assert.deepStrictEqual([...state.values()].sort((l, r) => text(l.key) < text(r.key) ? -1 : 1), expected)
            }
          })
        }
      ),
      { numRuns: 500 }
    )
  })

  it("is quick enough for a test: what it costs grows with what is done, and no faster", () => {
    const costOf = (count: number): number => {
      const member = makeMember()
      const before = process.cpuUsage()
      for (let index = 0; index < count; index++) {
        member.put({ key: `key/${index % (count / 4)}`, value: "x" })
      }
      for (let index = 0; index < count / 100; index++) {
        member.range({ key: "key/", rangeEnd: "key0", limit: 10 })
      }
      member.compact(BigInt(count))
      const { system, user } = process.cpuUsage(before)
      return user + system
    }
    const little = costOf(2_000)
    assert.isBelow(costOf(20_000), 50 * little)
  })
})
