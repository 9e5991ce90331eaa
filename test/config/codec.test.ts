import { assert, describe, it } from "@effect/vitest"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as fc from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { isDeepStrictEqual } from "node:util"
import * as Codec from "../../src/internal/config/codec.js"
import type { NotJson } from "../../src/internal/config/json.js"
import * as Shape from "../../src/internal/config/shape.js"
import { Chain, encodedOf, expectedOf, samples, Text, texts } from "./schemas.js"

const bytesOf = (text: string): Uint8Array => Buffer.from(text, "utf8")

const codecOf = <A, I, R>(schema: Schema.Schema<A, I, R>): Codec.Codec<A, R> => Either.getOrThrow(Codec.make(schema))

/** As it stands in etcd. */
const stored = <A, I>(schema: Schema.Schema<A, I>, value: A): string => Effect.runSync(codecOf(schema).encode(value))

const read = <A, I>(schema: Schema.Schema<A, I>, text: string): A =>
  Effect.runSync(codecOf(schema).decode(bytesOf(text)))

const unreadable = <A, I>(schema: Schema.Schema<A, I>, bytes: Uint8Array): ParseResult.ParseError =>
  Effect.runSync(Effect.flip(codecOf(schema).decode(bytes)))

const roundTrip = <A, I>(schema: Schema.Schema<A, I>, value: A): A => read(schema, stored(schema, value))

const unsupported = (schema: Schema.Schema<any, any>): NotJson | undefined =>
  Option.getOrUndefined(Either.getLeft(Codec.make(schema)))

const refused = <A, I>(schema: Schema.Schema<A, I>, value: A): NotJson | ParseResult.ParseError =>
  Effect.runSync(Effect.flip(codecOf(schema).encode(value)))

const assertRefused = <A, I>(schema: Schema.Schema<A, I>, value: A, path: ReadonlyArray<string>, problem: string) => {
  const error = refused(schema, value)
  assert.deepStrictEqual(error, { _tag: "NotJson", path, problem })
}

describe("the stored form", () => {
  it("is the text itself, unless that is JSON", () => {
    for (const text of ["plain", "", "{", "\ufeff1", "01", "a\u0000", "日本語 🎈", "NaN"]) {
      assert.strictEqual(stored(Schema.String, text), text)
    }
    for (const text of ["123", " 1", "null", "true", "\"x\"", "{}", "1e5", "[]\n"]) {
      assert.strictEqual(stored(Schema.String, text), JSON.stringify(text))
    }
  })

  it("quotes what UTF-8 cannot hold", () => {
    assert.strictEqual(stored(Schema.String, "a\ud800"), "\"a\\ud800\"")
  })

  it("is JSON for everything else", () => {
    assert.strictEqual(stored(Schema.Number, 123), "123")
    assert.strictEqual(stored(Schema.Number, -0), "-0")
    assert.strictEqual(stored(Schema.Number, 1e21), "1e+21")
    assert.strictEqual(stored(Schema.Null, null), "null")
    assert.strictEqual(stored(Schema.Array(Schema.Boolean), [true, false]), "[true,false]")
    assert.strictEqual(
      stored(Schema.Struct({ b: Schema.String, a: Schema.Array(Schema.Null) }), { b: "\"\n\ud800", a: [null] }),
      "{\"b\":\"\\\"\\n\\ud800\",\"a\":[null]}"
    )
  })

  it("is that of the encoded side", () => {
    assert.strictEqual(stored(Schema.NumberFromString, 5), "\"5\"")
    assert.strictEqual(stored(Schema.Date, new Date(0)), "1970-01-01T00:00:00.000Z")
    assert.strictEqual(stored(Schema.parseJson(Schema.Struct({ a: Schema.Int })), { a: 1 }), "\"{\\\"a\\\":1}\"")
  })

  it("agrees with JSON.stringify, the sign of zero aside", () => {
    fc.assert(fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
      const text = stored(Schema.Array(Schema.Unknown), [value])
      assert.strictEqual(text.replace(/-0(?=[,\]}])/g, "0"), JSON.stringify([value]).replace(/-0(?=[,\]}])/g, "0"))
    }))
  })
})

describe("reading", () => {
  it("takes JSON where that fits, and the text otherwise", () => {
    assert.strictEqual(read(Schema.String, "123"), "123")
    assert.strictEqual(read(Schema.String, "\"123\""), "123")
    assert.strictEqual(read(Schema.String, "{\"a\": 1}"), "{\"a\": 1}")
    assert.strictEqual(read(Schema.Number, "123"), 123)
    assert.strictEqual(read(Schema.Number, " 123\n"), 123)
    assert.strictEqual(read(Schema.NumberFromString, "123"), 123)
    assert.strictEqual(read(Schema.BigInt, "12345678901234567890"), 12345678901234567890n)
    assert.deepStrictEqual(read(Schema.parseJson(Schema.Struct({ a: Schema.Int })), "{\"a\":1}"), { a: 1 })
    assert.deepStrictEqual(read(Schema.Struct({ a: Schema.Int }), "{\"a\": 1, \"b\": 2}"), { a: 1 })
    assert.strictEqual(read(Schema.Union(Schema.String, Schema.Number), "123"), 123)
    assert.strictEqual(read(Schema.Literal("on", "off"), "on"), "on")
  })

  it("says what is wrong, in the terms of what was stored", () => {
    assert.match(
      unreadable(Schema.Struct({ port: Schema.Int }), bytesOf("{\"port\":\"x\"}")).message,
      /"port".*\n.*\n.*"x"/s
    )
    assert.match(unreadable(Schema.Int.pipe(Schema.positive()), bytesOf("-5")).message, /positive number, actual -5/)
    assert.match(unreadable(Schema.BigInt, bytesOf("12.5")).message, /"12.5" into a bigint/)
    assert.match(unreadable(Schema.Literal("on", "off"), bytesOf("maybe")).message, /"on", actual "maybe"/)
  })

  it("survives bytes that are no text", () => {
    const error = unreadable(Schema.String, Uint8Array.of(0x61, 0xff, 0xfe))
    assert.match(error.message, /not UTF-8/)
  })

  it("survives schemas whose functions throw", async () => {
    const Throwing = Schema.transform(Schema.String, Schema.URLFromSelf, {
      decode: (text) => new URL(text),
      encode: (url) => {
        throw new Error(`no: ${url.host}`)
      }
    })
    assert.match(unreadable(Throwing, bytesOf("no url")).message, /the schema threw TypeError.*Invalid URL/)
    assert.match(String(refused(Throwing, new URL("http://h"))), /the schema threw Error: no: h/)
    const Later = Schema.transformOrFail(Schema.String, Schema.String, {
      decode: () => Effect.zipRight(Effect.yieldNow(), Effect.die("late")),
      encode: ParseResult.succeed
    })
    const error = await Effect.runPromise(Effect.flip(codecOf(Later).decode(bytesOf("x"))))
    assert.match(error.message, /the schema threw late/)
    const mute = {
      toString: () => {
        throw new Error("no")
      }
    }
    const Mute = Schema.transform(Schema.String, Schema.Number, {
      decode: () => {
        throw mute
      },
      encode: () => {
        throw mute
      }
    })
    assert.match(unreadable(Mute, bytesOf("x")).message, /the schema threw something that cannot be shown/)
    assert.match(String(refused(Mute, 1)), /the schema threw something that cannot be shown/)
    const LaterMute = Schema.transformOrFail(Schema.String, Schema.String, {
      decode: () => Effect.zipRight(Effect.yieldNow(), Effect.die(mute)),
      encode: ParseResult.succeed
    })
    const muted = await Effect.runPromise(Effect.flip(codecOf(LaterMute).decode(bytesOf("x"))))
    assert.match(muted.message, /the schema threw something that cannot be shown/)
    const secret = unreadable(Schema.Struct({ url: Throwing, password: Schema.Redacted(Schema.String) }), bytesOf("{}"))
    assert.notMatch(secret.message, /Invalid/)
  })

  it.effect("survives effects that interrupt themselves, and lets itself be interrupted", () =>
    Effect.gen(function*() {
      const ended: Array<string> = []
      const Interrupting = Schema.transformOrFail(Schema.String, Schema.String, {
        decode: (text) =>
          text === "never"
            ? Effect.onExit(Effect.never, ({ _tag }) => Effect.sync(() => ended.push(_tag)))
            : Effect.zipRight(Effect.yieldNow(), Effect.interrupt),
        encode: () => Effect.interrupt
      })
      const { decode, encode } = codecOf(Interrupting)
      assert.match((yield* Effect.flip(decode(bytesOf("x")))).message, /the schema interrupted itself/)
      assert.match(String(yield* Effect.flip(encode("x"))), /the schema interrupted itself/)
      const fiber = yield* Effect.fork(decode(bytesOf("never")))
      yield* Effect.yieldNow()
      const exit = yield* Fiber.interrupt(fiber)
      assert.isTrue(Exit.isInterrupted(exit))
      assert.deepStrictEqual(ended, ["Failure"])
    }))

  it("refuses what throws when it is looked at", () => {
    const value = {
      inner: {
        get no(): number {
          throw new Error("no")
        }
      }
    }
    assertRefused(Schema.Unknown, value, ["inner"], "something that throws when it is read")
    const Reading = Schema.transform(Schema.Unknown, Schema.String, {
      strict: false,
      decode: (given: any) => given.text,
      encode: () => undefined
    })
    assertRefused(Schema.Struct({ a: Schema.optional(Reading) }), { a: "x" }, ["a"], "undefined")
  })

  it("survives documents deeper than any stack", () => {
    interface Nested {
      readonly inner: Nested | number
    }
    const Nested: Schema.Schema<Nested> = Schema.Struct({
      inner: Schema.Union(Schema.suspend((): Schema.Schema<Nested> => Nested), Schema.Number)
    })
    const deep = (levels: number, last: string) => bytesOf("{\"inner\":".repeat(levels) + last + "}".repeat(levels))
    for (const levels of [1_000, 5_000, 100_000]) {
      assert.isBelow(unreadable(Nested, deep(levels, "\"x\"")).message.length, 4_000)
    }
  })

  it("does not repeat a whole document in an error", () => {
    const { message } = unreadable(Schema.Struct({ a: Schema.Int }), bytesOf("x".repeat(1_000_000)))
    assert.isBelow(message.length, 4_000)
    assert.match(message, /Expected \{ readonly a: Int \}, actual <redacted>/)
  })
})

describe("what is set is read back equal", () => {
  it("texts", () => {
    fc.assert(
      fc.property(texts, (text) => {
        assert.strictEqual(roundTrip(Text, text), text)
        assert.strictEqual(roundTrip(Schema.Union(Schema.Number, Schema.String), text), text)
        assert.strictEqual(roundTrip(Schema.Unknown, text), text)
        assert.deepStrictEqual(roundTrip(Schema.Struct({ text: Schema.String }), { text }), { text })
      }),
      { numRuns: 2_000 }
    )
  })

  it("numbers, and texts that look like them", () => {
    const schema = Schema.Union(Schema.String, Schema.Number)
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (number) => {
        assert.isTrue(Object.is(roundTrip(Schema.Number, number), number))
        assert.isTrue(Object.is(roundTrip(schema, number), number))
        assert.strictEqual(roundTrip(schema, String(number)), String(number))
      }),
      { numRuns: 1_000 }
    )
    for (const literal of ["1", 1, "true", true, "null", null] as const) {
      assert.strictEqual(roundTrip(Schema.Literal("1", 1, "true", true, "null", null), literal), literal)
    }
  })

  it("JSON of any kind", () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false, maxDepth: 4 }), (value) => {
        assert.deepStrictEqual(roundTrip(Schema.Unknown, value), value)
      }),
      { numRuns: 1_000 }
    )
  })

  it("values of any schema", () => {
    fc.assert(
      fc.property(samples, ([schema, value]) => {
        const expected = expectedOf(schema, value)
        const actual = roundTrip(schema, value)
        assert.deepStrictEqual(encodedOf(schema, actual), encodedOf(schema, expected))
        assert.isTrue(isDeepStrictEqual(actual, expected))
      }),
      { numRuns: 300 }
    )
  })

  it("properties that are undefined, as ones that are not there", () => {
    const schema = Schema.Struct({
      optional: Schema.optional(Schema.Number),
      required: Schema.UndefinedOr(Schema.Number),
      inner: Schema.Array(Schema.Union(Schema.Null, Schema.Struct({ a: Schema.optional(Schema.Unknown) })))
    })
    const value = { optional: undefined, required: undefined, inner: [null, { a: undefined }] }
    assert.strictEqual(stored(schema, value), "{\"inner\":[null,{}]}")
    assert.deepStrictEqual(roundTrip(schema, value), { required: undefined, inner: [null, {}] })
  })

  it("properties that are undefined and say more than that, or they are refused", () => {
    const none = { a: Option.none() }
    const required = Schema.Struct({ a: Schema.OptionFromUndefinedOr(Schema.Int) })
    assert.deepStrictEqual(roundTrip(required, none), none)
    for (
      const a of [Schema.optionalWith(Schema.Int, { as: "Option" }), Schema.OptionFromNullishOr(Schema.Int, undefined)]
    ) {
      assert.deepStrictEqual(roundTrip(Schema.Struct({ a }), none), none)
    }
    const Nothing = Schema.UndefinedOr(Schema.Int)
    const atA = (schema: Schema.Schema<any, any>, value: unknown) => assertRefused(schema, value, ["a"], "undefined")
    atA(Schema.Struct({ a: Schema.optionalWith(Nothing, { exact: true, default: () => 1 }) }), { a: undefined })
    atA(Schema.Struct({ a: Schema.optionalWith(Nothing, { exact: true, as: "Option" }) }), {
      a: Option.some(undefined)
    })
    const OrNone = Schema.OptionFromUndefinedOr(Schema.Int)
    atA(Schema.Struct({ a: Schema.optional(OrNone) }), none)
    atA(Schema.Struct({ a: Schema.optionalWith(OrNone, { exact: true }) }), none)
    atA(Schema.Struct({ a: Schema.optionalWith(OrNone, { default: () => Option.some(1) }) }), none)
    class Holder extends Schema.Class<Holder>("Holder")({ a: Schema.optional(OrNone) }) {}
    atA(Holder, new Holder(none))
    // The same properties with a value, or none.
    const schema = Schema.Struct({
      a: Schema.optional(OrNone),
      b: Schema.optionalWith(Nothing, { exact: true, as: "Option" }),
      c: Schema.optionalWith(Schema.Date, { default: () => new Date() }),
      d: Schema.optionalWith(OrNone, { default: () => Option.none() })
    })
    for (
      const value of [
        { a: Option.some(1), b: Option.none(), c: new Date(0), d: Option.some(1) },
        { b: Option.some(1), c: new Date(1), d: Option.none() }
      ]
    ) {
      assert.deepStrictEqual(roundTrip(schema, value), value)
    }
  })

  it("deep values of a recursive schema of several alternatives", () => {
    let value: Chain = { kind: "b", next: undefined }
    for (let depth = 0; depth < 100; depth++) value = { kind: depth % 2 === 0 ? "a" : "b", next: value }
    assert.isTrue(isDeepStrictEqual(roundTrip(Chain, value), JSON.parse(JSON.stringify(value))))
  })

  it("large values", () => {
    const text = "1".repeat(1024 * 1024)
    assert.strictEqual(roundTrip(Schema.String, text), text)
    const rows = Array.from({ length: 20_000 }, (_, id) => ({ id, name: `row ${id}`, tags: ["a", "b"] }))
    const schema = Schema.Array(
      Schema.Struct({ id: Schema.Number, name: Schema.String, tags: Schema.Array(Schema.String) })
    )
    assert.deepStrictEqual(roundTrip(schema, rows), rows)
  })
})

describe("what is not JSON", () => {
  it("is seen in the schema", () => {
    interface Node {
      readonly weight: bigint
      readonly next: Node | null
    }
    const Node: Schema.Schema<Node> = Schema.Struct({
      weight: Schema.BigIntFromSelf,
      next: Schema.NullOr(Schema.suspend((): Schema.Schema<Node> => Node))
    })
    const cases: ReadonlyArray<readonly [Schema.Schema<any, any>, ReadonlyArray<string>, string]> = [
      [Schema.BigIntFromSelf, [], "bigint"],
      [Schema.Undefined, [], "undefined"],
      [Schema.Void, [], "undefined"],
      [Schema.UndefinedOr(Schema.String), [], "undefined"],
      [Schema.SymbolFromSelf, [], "symbol"],
      [Schema.UniqueSymbolFromSelf(Symbol.for("x")), [], "symbol"],
      [Schema.Literal(1n), [], "bigint"],
      [Schema.Literal(NaN), [], "NaN"],
      [Schema.Uint8ArrayFromSelf, [], "Uint8Array"],
      [Schema.DateFromSelf, [], "Date"],
      [Schema.URLFromSelf, [], "URL"],
      [Schema.OptionFromSelf(Schema.String), [], "Option"],
      [Schema.RedactedFromSelf(Schema.String), [], "Redacted"],
      [Schema.OptionFromUndefinedOr(Schema.String), [], "undefined"],
      [Schema.Struct({ a: Schema.Struct({ b: Schema.BigIntFromSelf }) }), ["a", "b"], "bigint"],
      [Schema.Struct({ a: Schema.Array(Schema.UndefinedOr(Schema.Int)) }), ["a", "[]"], "undefined"],
      [Schema.Tuple(Schema.Int, Schema.SymbolFromSelf), ["1"], "symbol"],
      [Schema.Record({ key: Schema.String, value: Schema.UndefinedOr(Schema.Int) }), ["[]"], "undefined"],
      [Schema.Record({ key: Schema.SymbolFromSelf, value: Schema.Int }), [], "properties named by symbols"],
      [Schema.Struct({ [Symbol.for("s")]: Schema.Int }), [], "a property named by a symbol"],
      [Schema.Union(Schema.String, Schema.Array(Schema.BigIntFromSelf)), ["[]"], "bigint"],
      [Schema.transform(Schema.BigIntFromSelf, Schema.String, { decode: String, encode: BigInt }), [], "bigint"],
      [Node, ["weight"], "bigint"],
      [Schema.typeSchema(Node), ["weight"], "bigint"],
      [Schema.encodedSchema(Node), ["weight"], "bigint"]
    ]
    for (const [schema, path, problem] of cases) {
      assert.deepStrictEqual(unsupported(schema), { _tag: "NotJson", path, problem }, String(schema))
    }
    assert.isUndefined(unsupported(Schema.Struct({ a: Schema.optional(Schema.Int), b: Schema.BigInt, c: Schema.Date })))
  })

  it("is seen in the value", () => {
    const record = Schema.Record({ key: Schema.String, value: Schema.Unknown })
    assertRefused(Schema.Number, NaN, [], "NaN")
    assertRefused(Schema.Struct({ a: Schema.Array(Schema.Number) }), { a: [1, Infinity] }, ["a", "1"], "Infinity")
    assertRefused(record, { a: undefined }, ["a"], "undefined")
    assertRefused(record, { a: [1, undefined] }, ["a", "1"], "undefined")
    assertRefused(record, { a: new Array<unknown>(1) }, ["a", "0"], "undefined")
    assertRefused(record, { a: 1n }, ["a"], "bigint")
    assertRefused(record, { a: Symbol("s") }, ["a"], "symbol")
    assertRefused(record, { a: () => 1 }, ["a"], "function")
    assertRefused(record, { a: Object.assign([1], { b: 1 }) }, ["a"], "an array with named properties")
    assertRefused(record, { a: Data.array([1]) }, ["a"], "an array that is not plain")
    assertRefused(record, { a: new Date(0) }, ["a"], "an object of the class Date")
    assertRefused(record, { a: new Map() }, ["a"], "an object of the class Map")
    assertRefused(record, { a: { [Symbol.for("s")]: 1 } }, ["a"], "a property named by a symbol")
    assertRefused(record, { a: { toJSON: () => 1 } }, ["a", "toJSON"], "function")
    assertRefused(record, { a: Option.none() }, ["a"], "an object that is not plain")
    assertRefused(Schema.instanceOf(Map), new Map(), [], "an object of the class Map")
    const circle: Record<string, unknown> = {}
    circle.itself = circle
    const error = refused(record, circle)
    assert.isTrue(error._tag === "NotJson" && error.problem.includes("contains itself"))
  })

  it("is told from a value that is not of the schema", () => {
    const error = refused(Schema.Int, 1.5)
    assert.isTrue(error._tag === "ParseError" && /integer, actual 1.5/.test(error.message))
  })
})

describe("secrets", () => {
  const secret = "hunter2"
  const Account = Schema.Struct({
    user: Schema.String,
    password: Schema.Redacted(
      Schema.String.pipe(Schema.filter((text) => text.length > 20 || `${text} is too short`))
    ),
    port: Schema.NumberFromString.annotations({ message: ({ actual }) => `not a port: ${JSON.stringify(actual)}` })
  })
  const leaks = (error: ParseResult.ParseError): boolean =>
    [error.message, JSON.stringify(error), String(error), JSON.stringify(error.issue)].some((text) =>
      text.includes(secret)
    )

  it("do not show in errors of reading", () => {
    const documents = [
      JSON.stringify({ user: "u", password: secret, port: "1" }),
      JSON.stringify({ user: 1, password: "x".repeat(30) + secret, port: "1" }),
      JSON.stringify({ user: "u", password: "x".repeat(30), port: secret }),
      `{password: ${secret}`,
      JSON.stringify(secret)
    ]
    for (const document of documents) assert.isFalse(leaks(unreadable(Account, bytesOf(document))), document)
    const { message } = unreadable(Account, bytesOf(documents[1]))
    assert.match(message, /\["user"\]\n\s+└─ Expected string, actual <redacted>/)
  })

  it("are found in recursive schemas of every form", () => {
    interface Tree {
      readonly children: ReadonlyArray<Tree>
      readonly label: unknown
    }
    const tree = (label: Schema.Schema<any, any>): Schema.Schema<Tree, any> => {
      const Self: Schema.Schema<Tree, any> = Schema.Struct({
        children: Schema.Array(Schema.suspend(() => Self)),
        label
      })
      return Self
    }
    const isSecret = (schema: Schema.Schema<any, any>) => Shape.of(schema.ast).isSecret
    const open = tree(Schema.NumberFromString)
    const secret = tree(Schema.Redacted(Schema.String))
    for (
      const schema of [open, Schema.Option(open), Schema.typeSchema(open), Schema.ReadonlySet(Schema.Option(open))]
    ) {
      assert.isFalse(isSecret(schema), String(schema))
    }
    for (const schema of [secret, Schema.Option(secret), Schema.typeSchema(secret), Schema.Chunk(secret)]) {
      assert.isTrue(isSecret(schema), String(schema))
    }
    assert.isTrue(isSecret(Schema.transform(Schema.Redacted(Schema.String), Schema.String, {
      decode: () => "",
      encode: () => Redacted.make("")
    })))
  })

  it("do not show in errors of writing", () => {
    const password = Schema.decodeSync(Schema.Redacted(Schema.String))(secret)
    const error = refused(Account, { user: "u", password, port: 1 })
    assert.isTrue(error._tag === "ParseError" && !leaks(error))
    const Nested = Schema.Redacted(Schema.Struct({ [secret]: Schema.Unknown }))
    const inner = refused(Nested, Schema.decodeSync(Nested)({ [secret]: new Date() }))
    assert.isTrue(inner._tag === "NotJson")
  })
})
