/** Schemas of every kind whose encoded side is JSON, and values for them, for properties. */
import * as Arbitrary from "effect/Arbitrary"
import * as fc from "effect/FastCheck"
import * as Schema from "effect/Schema"

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

type Any = Schema.Schema<any, any>

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
  Tree
]

const keyOf = Text.pipe(Schema.filter((key) => key !== "__proto__"))

/** Any schema whose encoded side is JSON. */
export const schemas: fc.Arbitrary<Any> = fc.letrec<{ schema: Any; leaf: Any }>((tie) => ({
  leaf: fc.constantFrom(...leaves),
  schema: fc.oneof(
    { maxDepth: 3, depthIdentifier: "schema" },
    tie("leaf"),
    tie("schema").map((item): Any => Schema.Array(item)),
    fc.tuple(tie("schema"), tie("schema")).map(([first, second]): Any => Schema.Tuple(first, second)),
    tie("schema").map((item): Any => Schema.Record({ key: keyOf, value: item })),
    fc.array(fc.tuple(name, tie("schema"), fc.nat(3)), { minLength: 1, maxLength: 4 }).map((fields): Any =>
      Schema.Struct(Object.fromEntries(fields.map(([name, type, kind]) => [
        name,
        kind === 0
          ? Schema.optionalWith(type, { exact: true })
          : kind === 1
          ? Schema.optionalWith(type, { as: "Option", exact: true })
          : type
      ])))
    ),
    fc.tuple(tie("schema"), tie("schema")).map(([first, second]): Any => Schema.Union(first, second)),
    tie("schema").map((item): Any => Schema.Option(item)),
    tie("schema").map((item): Any => Schema.OptionFromNullOr(item)),
    tie("schema").map((item): Any => Schema.parseJson(item)),
    tie("schema").map((item): Any => Schema.ReadonlySet(item))
  )
})).schema

/** A schema and one of its values. */
export const samples: fc.Arbitrary<readonly [Any, unknown]> = schemas.chain((schema) =>
  Arbitrary.make(schema).map((value) => [schema, value] as const)
)
