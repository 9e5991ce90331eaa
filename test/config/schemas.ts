/** Schemas of every kind whose encoded side is JSON, and values for them, for properties. */
import * as Arbitrary from "effect/Arbitrary"
import * as fc from "effect/FastCheck"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** A recursive schema of several alternatives: at each level there are as many ways to go on. */
export interface Chain {
  readonly kind: "a" | "b"
  readonly next?: Chain | undefined
}
const next = Schema.optional(Schema.suspend((): Schema.Schema<Chain> => Chain))
export const Chain: Schema.Schema<Chain> = Schema.Union(
  Schema.Struct({ kind: Schema.Literal("a"), next }),
  Schema.Struct({ kind: Schema.Literal("b"), next })
)

/** What a careless codec takes for JSON, or loses on the way. */
const awkwardTexts = [
  "",
  "123",
  " 1",
  "1e5",
  "-0",
  "null",
  "true",
  "\"x\"",
  "\"",
  "{}",
  "[1]",
  "{\"a\":1}",
  "\ufeff",
  "\ufeff1",
  "\ufeff{}",
  "\ud800",
  "a\udc00b",
  "\udc00\ud800",
  "\u0000",
  "\n",
  "\u2028",
  "NaN",
  "Infinity",
  "undefined",
  "1e999",
  "12345678901234567890",
  "日本語 🎈"
]

export const texts: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom(...awkwardTexts),
  fc.string16bits(),
  fc.fullUnicodeString(),
  fc.json(),
  fc.double().map(String),
  fc.string().map((text) => JSON.stringify(text))
)

export const Text = Schema.String.annotations({ arbitrary: () => () => texts })

const name = fc.constantFrom("a", "b", "name", "0", "日", "a b", "\ud800")

class Point extends Schema.Class<Point>("Point")({ x: Schema.JsonNumber, label: Text }) {}

class Circle extends Schema.TaggedClass<Circle>("Circle")("Circle", {
  centre: Point,
  radius: Schema.optionalWith(Schema.JsonNumber, { default: () => 1 })
}) {}

interface Tree {
  readonly label: string
  readonly children: ReadonlyArray<Tree>
}

const Tree: Schema.Schema<Tree> = Schema.Struct({
  label: Text,
  children: Schema.Array(Schema.suspend((): Schema.Schema<Tree> => Tree))
})

/** Refers to itself through another schema, and through a transformation. */
interface Folder {
  readonly name: string
  readonly parent: Option.Option<Folder>
}

interface EncodedFolder {
  readonly name?: string
  readonly parent: EncodedFolder | null
}

const Folder: Schema.Schema<Folder, EncodedFolder> = Schema.Struct({
  name: Schema.optionalWith(Text, { exact: true, default: () => "none" }),
  parent: Schema.OptionFromNullOr(Schema.suspend((): Schema.Schema<Folder, EncodedFolder> => Folder))
})

class Extended extends Circle.extend<Extended>("Extended")({
  tags: Schema.NonEmptyArray(Text),
  since: Schema.Date
}) {}

/** Its own JSON inside a text, whatever that looks like. */
const Reversed = Schema.transform(Text, Schema.String, {
  strict: true,
  decode: (text) => text.split("").reverse().join(""),
  encode: (text) => text.split("").reverse().join("")
}).annotations({ arbitrary: () => () => texts })

export type Any = Schema.Schema<any, any>

const leaves: ReadonlyArray<Any> = [
  Text,
  Schema.JsonNumber,
  Schema.Int,
  Schema.Boolean,
  Schema.Null,
  Schema.Literal("1"),
  Schema.Literal(1, "1", true, "true", null, "null"),
  Schema.NumberFromString.pipe(Schema.finite()),
  Schema.BigInt,
  Schema.BigDecimal,
  Schema.Date,
  Schema.BooleanFromString,
  Schema.Uint8ArrayFromBase64,
  Schema.Uint8ArrayFromHex,
  Schema.TemplateLiteral("v", Schema.String),
  Schema.Duration,
  Schema.Redacted(Text),
  Schema.Enums({ One: 1, Two: "2" }),
  Schema.NonEmptyString,
  Schema.UUID,
  Point,
  Circle,
  Extended,
  Tree,
  Folder,
  Reversed,
  Schema.NullOr(Text),
  Schema.Union(Text, Schema.JsonNumber, Schema.Boolean, Schema.Null),
  Schema.Union(Schema.JsonNumber, Text),
  // A text that is a number only to the second; a long one that is never the first.
  Schema.Union(Schema.BigInt, Schema.NonNegativeInt),
  Schema.Union(Text.pipe(Schema.maxLength(3)), Schema.JsonNumber, Schema.Struct({ a: Schema.Int })),
  Schema.Union(Schema.Struct({ a: Schema.Int }), Text.pipe(Schema.filter((text) => text.includes("a")))),
  Schema.Union(
    Schema.TaggedStruct("one", { value: Text }),
    Schema.TaggedStruct("two", { value: Schema.NumberFromString.pipe(Schema.finite()) })
  ),
  Schema.DateTimeUtc,
  Schema.DateFromNumber.pipe(Schema.validDate()),
  Schema.StringFromBase64Url,
  Schema.StringFromHex,
  Schema.Trim,
  Schema.split(","),
  Schema.Not,
  Schema.transformLiterals([0, "zero"], ["1", "one"], [null, "null"]),
  Schema.TemplateLiteral(Schema.Number, "/", Schema.Literal("a", "1")),
  Schema.TemplateLiteralParser(Schema.Int, ":", Schema.Literal("x", "1")),
  Schema.JsonNumber.pipe(Schema.brand("Metres")),
  Schema.Int.pipe(Schema.between(0, 65_535), Schema.brand("Port")),
  Schema.NumberFromString.pipe(Schema.compose(Schema.Int)),
  Schema.compose(Schema.parseJson(), Schema.Array(Schema.Int)),
  Schema.URL,
  Schema.Symbol,
  Schema.Tuple([Text, Schema.Int], Text),
  Schema.Tuple(Text, Schema.optionalElement(Schema.Int)),
  Schema.Struct(
    { a: Schema.Int },
    Schema.Record({ key: Schema.TemplateLiteral("x-", Schema.Number), value: Schema.Int })
  ),
  Schema.rename(Schema.Struct({ a: Text, b: Schema.Int }), { a: "first" }),
  Schema.Struct({ inner: Schema.propertySignature(Text).pipe(Schema.fromKey("outer name")) }),
  Schema.attachPropertySignature(Schema.Struct({ radius: Schema.JsonNumber }), "kind", "circle"),
  Schema.partialWith(Schema.Struct({ a: Text, b: Schema.NumberFromString.pipe(Schema.finite()) }), { exact: true })
]

const keyOf = Text.pipe(Schema.filter((key) => key !== "__proto__"))

const fieldOf = (type: Any, kind: number): any => {
  switch (kind) {
    case 0:
      return Schema.optionalWith(type, { exact: true })
    case 1:
      return Schema.optionalWith(type, { as: "Option", exact: true })
    case 2:
      return Schema.optional(type)
    case 3:
      return Schema.optionalWith(type, { as: "Option" })
    case 4:
      return Schema.optionalWith(Schema.NullOr(type), { exact: true, default: () => null })
    case 5:
      return Schema.optionalWith(type, { as: "Option", nullable: true })
    case 6:
      return Schema.UndefinedOr(type)
    case 7:
      return Schema.OptionFromUndefinedOr(type)
    default:
      return type
  }
}

const structOf = (fields: Record<string, Any>): Any => Schema.Struct(fields)

/** Any schema whose encoded side is JSON. */
export const schemas: fc.Arbitrary<Any> = fc.letrec<{ schema: Any; leaf: Any }>((tie) => ({
  leaf: fc.constantFrom(...leaves),
  schema: fc.oneof(
    { maxDepth: 3, depthIdentifier: "schema" },
    tie("leaf"),
    tie("schema").map((item): Any => Schema.Array(item)),
    fc.tuple(tie("schema"), tie("schema")).map(([first, second]): Any => Schema.Tuple(first, second)),
    fc.tuple(tie("schema"), tie("schema")).map(([first, rest]): Any => Schema.Tuple([first], rest)),
    tie("schema").map((item): Any => Schema.Record({ key: keyOf, value: item })),
    fc.array(fc.tuple(name, tie("schema"), fc.nat(12)), { minLength: 1, maxLength: 4 }).map((fields): Any =>
      structOf(Object.fromEntries(fields.map(([name, type, kind]) => [name, fieldOf(type, kind)])))
    ),
    fc.tuple(tie("schema"), tie("schema")).map(([first, second]): Any => Schema.Union(first, second)),
    tie("schema").map((item): Any => Schema.Option(item)),
    tie("schema").map((item): Any => Schema.OptionFromNullOr(item)),
    tie("schema").map((item): Any => Schema.parseJson(item)),
    tie("schema").map((item): Any => Schema.ReadonlySet(item)),
    tie("schema").map((item): Any => Schema.Chunk(item)),
    tie("schema").map((item): Any => Schema.suspend(() => item)),
    fc.tuple(tie("schema"), tie("schema")).map(([left, right]): Any => Schema.Either({ left, right })),
    fc.tuple(tie("schema"), tie("schema")).map(([key, value]): Any => Schema.ReadonlyMap({ key, value })),
    tie("schema").map((item): Any => Schema.Redacted(item))
  )
})).schema

/** A schema and one of its values. */
export const samples: fc.Arbitrary<readonly [Any, unknown]> = schemas.chain((schema) =>
  Arbitrary.make(schema).map((value) => [schema, value] as const)
)

/** A schema and two of its values. */
export const pairs: fc.Arbitrary<readonly [Any, unknown, unknown]> = schemas.chain((schema) => {
  const values = Arbitrary.make(schema)
  return fc.tuple(fc.constant(schema), values, values)
})

const isPlain = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Without the properties that are undefined, which say the same as ones that are not there. */
const withoutUndefined = (encoded: unknown): unknown =>
  Array.isArray(encoded)
    ? encoded.map(withoutUndefined)
    : isPlain(encoded)
    ? Object.fromEntries(
      Object.entries(encoded).flatMap(([name, item]) => item === undefined ? [] : [[name, withoutUndefined(item)]])
    )
    : encoded

/** The encoded form of a value, which is JSON. */
export const encodedOf = (schema: Any, value: unknown): unknown => withoutUndefined(Schema.encodeSync(schema)(value))

/**
 * What the schema itself makes of its encoded side: it may lose something (a union of String and NumberFromString does),
 * but the store may not.
 */
export const expectedOf = (schema: Any, value: unknown): unknown => Schema.decodeSync(schema)(encodedOf(schema, value))
