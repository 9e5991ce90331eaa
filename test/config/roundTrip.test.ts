/**
 * What is set is read back equal, whichever way it is read: schemas and values at random, over the embedded etcd and a real
 * one. `ROUND_TRIP_SEED` repeats a run, `ROUND_TRIP_RUNS` makes it longer.
 */
import { assert, describe, it, layer, type Vitest } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as fc from "effect/FastCheck"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { inspect, isDeepStrictEqual } from "node:util"
import * as Config from "../../src/Config.js"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as TestEtcd from "../../src/testing.js"
import type { Any } from "./schemas.js"
import { encodedOf, expectedOf, pairs, schemas } from "./schemas.js"
import { embedded, real } from "./support.js"

const seed = Number(process.env.ROUND_TRIP_SEED ?? Math.floor(Math.random() * 2 ** 31))

const runs = (usual: number): number => Number(process.env.ROUND_TRIP_RUNS ?? usual)

/** Less than etcd takes for one value. */
const maxLength = 1_000_000

interface Sample {
  readonly name: string
  readonly schema: Any
  readonly first: unknown
  readonly second: unknown
}

const sample = (count: number): ReadonlyArray<Sample> =>
  fc.sample(pairs, { seed, numRuns: count })
    .map(([schema, first, second], index) => ({ name: `sample ${index}, seed ${seed}`, schema, first, second }))
    .filter(({ first, schema, second }) =>
      [first, second].every((value) => JSON.stringify(encodedOf(schema, value)).length < maxLength)
    )

/** All ways of writing a value and of reading it. */
const everyWay = (folder: string, { first, name, schema, second }: Sample) =>
  Effect.gen(function*() {
    const key = `${folder}/value`
    const known = new Map([first, second].map((value) => [value, {
      expected: expectedOf(schema, value),
      // Of another copy: a Chunk changes within when it is encoded.
      encoded: encodedOf(schema, expectedOf(schema, value))
    }]))
    const assertRead = (way: string, actual: unknown, value: unknown) => {
      const { encoded, expected } = known.get(value)!
      // The encoded form shows what the type hides: what is in a Redacted.
      if (!isDeepStrictEqual(actual, expected) || !isDeepStrictEqual(encodedOf(schema, actual), encoded)) {
        const shown = [expected, actual].map((one) => inspect(one, { depth: 20, maxArrayLength: 1_000 }))
        assert.fail(`${name}, ${way}: of ${schema}\n${shown[0]}\nis read as\n${shown[1]}`)
      }
    }
    const assertEvent = (
      event: Config.ConfigEvent<any>,
      version: Config.Version,
      value: unknown,
      ...previous: ReadonlyArray<unknown>
    ) => {
      if (event._tag !== "Put") return assert.fail(`${name}: ${event._tag}`)
      assertRead("watch", event.value, value)
      assert.strictEqual(event.version, version, name)
      assertPrevious(event, previous)
    }
    const assertPrevious = (event: Config.ConfigEvent<any>, previous: ReadonlyArray<unknown>) => {
      assert.strictEqual(Option.isSome(event.previous), previous.length === 1, name)
      if (Option.isSome(event.previous)) assertRead("watch", event.previous.value, previous[0])
    }

    const created = yield* Config.set(key, schema, first)
    assertRead("get", yield* Config.get(key, schema), first)
    const events = yield* Queue.unbounded<Config.ConfigEvent<any>>()
    yield* Effect.forkScoped(
      Stream.runForEach(
        Stream.merge(Config.watch(key, schema), Stream.drain(Config.watchPrefix(folder, schema))),
        (event) => Queue.offer(events, event)
      )
    )
    assertEvent(yield* Queue.take(events), created, first)

    const changed = yield* Config.compareAndSet(key, schema, second, created)
    const found = yield* Config.getWithVersion(key, schema)
    assertRead("getWithVersion", found.value, second)
    assert.strictEqual(found.version, changed, name)
    assertEvent(yield* Queue.take(events), changed, second, first)
    const { entries, invalid } = yield* Config.list(folder, schema)
    assert.deepStrictEqual([entries.map((entry) => [entry.key, entry.version]), invalid], [[[key, changed]], []], name)
    assertRead("list", entries[0].value, second)
    assertRead("getAt", (yield* Config.getAt(key, schema, created)).value, first)
    const cached = yield* Config.cached(key, schema)
    assertRead("cached", cached.value, second)
    assert.strictEqual(cached.version, changed, name)

    yield* Config.delete(key)
    const again = yield* Config.compareAndSet(key, schema, first, 0n)
    const deleted = yield* Queue.take(events)
    assert.strictEqual(deleted._tag, "Delete", name)
    assertPrevious(deleted, [second])
    assertEvent(yield* Queue.take(events), again, first)
    const inFolder = yield* Stream.runHead(Config.watchPrefix(folder, schema))
    assertEvent(Option.getOrThrow(inFolder), again, first)
  }).pipe(Effect.scoped)

const put = (key: string, value: string) =>
  Effect.flatMap(EtcdClient, (client) => client.put({ key: `/config/${key}`, value }))

const stored = (key: string) =>
  Effect.flatMap(
    EtcdClient,
    (client) =>
      Effect.map(client.get(`/config/${key}`), (kv) => Buffer.from(Option.getOrThrow(kv).value).toString("utf8"))
  )

const megabyte = 1024 * 1024

const Rows = Schema.Array(Schema.Struct({
  id: Schema.BigInt,
  at: Schema.Date,
  note: Schema.optionalWith(Schema.String, { as: "Option" })
}))

const large: ReadonlyArray<readonly [name: string, schema: Any, first: unknown, second: unknown]> = [
  ["a text that is JSON", Schema.String, "1".repeat(megabyte), `"${"x".repeat(megabyte)}"`],
  ["a text", Schema.String, "{".repeat(megabyte), "ä".repeat(megabyte / 2)],
  ["bytes", Schema.Uint8ArrayFromBase64, new Uint8Array(700_000).fill(7), new Uint8Array(700_000).fill(255)],
  [
    "rows",
    Rows,
    ...[1, 2].map((factor) =>
      Array.from({ length: 10_000 }, (_, index) => ({
        id: BigInt(index * factor) ** 3n,
        at: new Date(index * factor * 1e7),
        note: index % 2 === 0 ? Option.none() : Option.some(`\ud800 row ${index}`)
      }))
    ) as [unknown, unknown]
  ]
]

const Limits = Schema.Struct({
  name: Schema.String,
  requests: Schema.Int,
  burst: Schema.optionalWith(Schema.Int, { default: () => 20 })
})

/** What Go's `Set` leaves there, or a person with etcdctl, and what it is to a reader. */
const foreign: ReadonlyArray<readonly [schema: Any, text: string, value: unknown]> = [
  ...["123", "true", "null", "{\"a\":1}", "[]", "-0", "1e5", " 7", "plain", "", "\ufeffx", "12345678901234567890\n"]
    .map(
      (text) => [Schema.String, text, text] as const
    ),
  // A text in quotes could be either: it is read as what we would have written so.
  [Schema.String, "\"x\"", "x"],
  [Schema.String, "\"<a href=\\u0022\\u003e\\u0026\"", "<a href=\">&"],
  [Schema.Int, "123", 123],
  [Schema.NumberFromString, "123", 123],
  [Schema.NumberFromString, "\"123\"", 123],
  [Schema.BigInt, "12345678901234567890", 12345678901234567890n],
  [Schema.Boolean, "true", true],
  [Schema.BooleanFromString, "true", true],
  [Schema.Null, "null", null],
  [Schema.OptionFromNullOr(Schema.String), "null", Option.none()],
  [Schema.OptionFromNullOr(Schema.String), "nothing", Option.some("nothing")],
  [Schema.Literal("true", "false"), "true", "true"],
  [Schema.Union(Schema.String, Schema.Number), "123", 123],
  [Schema.Union(Schema.Number, Schema.String), "123a", "123a"],
  [Limits, "{\"name\":\"\\u003ca\\u003e \\u0026 \\u2028\",\"requests\":5}", {
    name: "<a> & \u2028",
    requests: 5,
    burst: 20
  }],
  [Limits, "{\n  \"burst\": 1,\n  \"name\": \"b\",\n  \"requests\": 5,\n  \"more\": []\n}\n", {
    name: "b",
    requests: 5,
    burst: 1
  }],
  [Schema.parseJson(Limits), "{\"name\":\"c\",\"requests\":5}", { name: "c", requests: 5, burst: 20 }],
  [Schema.Record({ key: Schema.String, value: Schema.Unknown }), "{\"a\":{\"b\":[1,null]}}", { a: { b: [1, null] } }],
  [Schema.Uint8ArrayFromBase64, "\"AQI=\"", Uint8Array.of(1, 2)],
  [Schema.Duration, "{\"_tag\":\"Millis\",\"millis\":5}", Duration.millis(5)],
  [Schema.Date, "2025-01-31T12:00:00Z", new Date("2025-01-31T12:00:00Z")]
]

const suite =
  (samples: number, larges: typeof large) => (it: Vitest.MethodsNonLive<Config.Config | EtcdClient, any>): void => {
    it.effect(`comes back equal, of ${samples} schemas`, () =>
      Effect.forEach(
        sample(runs(samples)),
        (one, index) => everyWay(`random/${index}`, one),
        { concurrency: 8, discard: true }
      ), 60_000)

    it.effect("comes back equal, with a megabyte", () =>
      Effect.forEach(
        larges,
        ([name, schema, first, second], index) => everyWay(`large/${index}`, { name, schema, first, second }),
        { discard: true }
      ))

    it.effect("may have been written by others", () =>
      Effect.forEach(foreign, ([schema, text, value]) =>
        Effect.gen(function*() {
          yield* put("foreign", text)
          const read = yield* Config.get("foreign", schema)
          assert.isTrue(isDeepStrictEqual(read, value), `${schema} ${text}: ${inspect(read)}`)
          // And stays the same when it is written back.
          yield* Config.set("foreign", schema, read)
          assert.isTrue(isDeepStrictEqual(yield* Config.get("foreign", schema), value), `${schema} ${text}`)
        })))

    it.effect("is what others would write", () =>
      Effect.forEach(
        [
          [Schema.String, "plain", "plain"],
          [Schema.String, "123", "\"123\""],
          [Schema.String, "true", "\"true\""],
          [Schema.String, "null", "\"null\""],
          [Schema.String, "\"x\"", "\"\\\"x\\\"\""],
          [Schema.Int, 123, "123"],
          [Limits, { name: "<", requests: 5, burst: 1 }, "{\"name\":\"<\",\"requests\":5,\"burst\":1}"]
        ] satisfies ReadonlyArray<readonly [Any, unknown, string]>,
        ([schema, value, text]) =>
          Effect.gen(function*() {
            yield* Config.set<any, any, never>("written", schema, value)
            assert.strictEqual(yield* stored("written"), text)
          })
      ))
  }

describe(`a value (ROUND_TRIP_SEED=${seed})`, () => {
  layer(embedded())("over the embedded etcd", suite(40, large.slice(0, 1)))
  layer(real, { excludeTestServices: true, timeout: "30 seconds" })("over etcd", suite(30, large))
})

/** Schemas whose encoded side has something that JSON has not, wherever it is. */
const unsupported: fc.Arbitrary<Any> = fc.letrec<{ schema: Any }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 3, depthIdentifier: "unsupported" },
    fc.constantFrom<Any>(
      Schema.BigIntFromSelf,
      Schema.PositiveBigIntFromSelf,
      Schema.SymbolFromSelf,
      Schema.UniqueSymbolFromSelf(Symbol.for("x")),
      Schema.Literal("a", 1n),
      Schema.DateFromSelf,
      Schema.ValidDateFromSelf,
      Schema.URLFromSelf,
      Schema.Uint8ArrayFromSelf,
      Schema.DurationFromSelf,
      Schema.BigDecimalFromSelf,
      Schema.DateTimeUtcFromSelf,
      Schema.DateTimeUtcFromDate,
      Schema.OptionFromSelf(Schema.String),
      Schema.EitherFromSelf({ left: Schema.String, right: Schema.Int }),
      Schema.ChunkFromSelf(Schema.String),
      Schema.ReadonlySetFromSelf(Schema.String),
      Schema.ReadonlyMapFromSelf({ key: Schema.String, value: Schema.String }),
      Schema.HashMapFromSelf({ key: Schema.String, value: Schema.String }),
      Schema.RedactedFromSelf(Schema.String),
      Schema.DurationFromNanos,
      Schema.NumberFromString.pipe(Schema.typeSchema, Schema.compose(Schema.BigIntFromNumber), Schema.typeSchema),
      Schema.Record({ key: Schema.SymbolFromSelf, value: Schema.Int }),
      Schema.Struct({ [Symbol.for("x")]: Schema.Int }),
      Schema.Array(Schema.Undefined),
      Schema.Tuple(Schema.UndefinedOr(Schema.Int))
    ),
    tie("schema").map((item): Any => Schema.Array(item)),
    fc.tuple(schemas, tie("schema")).map(([first, second]): Any => Schema.Tuple(first, second)),
    tie("schema").map((item): Any => Schema.Tuple([Schema.Int], item)),
    tie("schema").map((item): Any => Schema.Record({ key: Schema.String, value: item })),
    fc.tuple(schemas, tie("schema")).map(([a, b]): Any => Schema.Struct({ a, b })),
    tie("schema").map((item): Any => Schema.Struct({ a: Schema.optional(item) })),
    tie("schema").map((item): Any => Schema.Struct({ a: Schema.optionalWith(item, { as: "Option" }) })),
    fc.tuple(schemas, tie("schema")).map(([first, second]): Any => Schema.Union(first, second)),
    tie("schema").map((item): Any => Schema.NullOr(item)),
    tie("schema").map((item): Any => Schema.Option(item)),
    tie("schema").map((item): Any => Schema.Redacted(item)),
    tie("schema").map((item): Any => Schema.suspend(() => item)),
    tie("schema").map((item): Any => item.pipe(Schema.filter(() => true))),
    tie("schema").map((item): Any => {
      class Holder extends Schema.Class<Holder>("Holder")({ item }) {}
      return Holder
    })
  )
})).schema

describe(`a schema that is not JSON (ROUND_TRIP_SEED=${seed})`, () => {
  it.effect("is refused at once, whatever is asked, and nothing is sent", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd.TestEtcd
      const key = "bad"
      for (const schema of fc.sample(unsupported, { seed, numRuns: runs(150) })) {
        const errors = yield* Effect.all([
          Effect.flip(Config.get(key, schema)),
          Effect.flip(Config.getOption(key, schema)),
          Effect.flip(Config.getWithVersion(key, schema)),
          Effect.flip(Config.set(key, schema, undefined)),
          Effect.flip(Config.compareAndSet(key, schema, undefined, 0n)),
          Effect.flip(Config.list(key, schema)),
          Effect.flip(Stream.runDrain(Config.watch(key, schema))),
          Effect.flip(Stream.runDrain(Config.watchPrefix(key, schema)))
        ])
        for (const error of errors) {
          assert.isTrue(error._tag === "UnsupportedSchema" && error.key === key, `${schema}, seed ${seed}: ${error}`)
        }
      }
      assert.isTrue(Object.values((yield* etcd.usage).calls).every((count) => count === 0))
    }).pipe(Effect.provide(embedded())))
})
