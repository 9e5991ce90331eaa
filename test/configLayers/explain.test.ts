/** Where values come from, and that nothing is shown which may be a secret. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as ConfigLayers from "../../src/ConfigLayers.js"
import { shown } from "../../src/internal/configLayers/shown.js"
import { TestEtcd } from "../../src/testing.js"
import { Chain } from "../config/schemas.js"
import { scenario } from "../support/memory.js"

const keys = ["base", "production", "eu-1"]

const put = (key: string, value: unknown) =>
  Effect.flatMap(TestEtcd, (etcd) => etcd.putKey(`/config/${key}`, JSON.stringify(value)))

const line = ({ from, overrides, path }: ConfigLayers.Explanation): string =>
  [
    path.join("."),
    ...[from, ...overrides].map(({ key, shown, version }) => `${shown} ${key}@${version}`)
  ].join(" | ")

const explained = <A, I>(schema: Schema.Schema<A, I>) =>
  Effect.map(
    Effect.flatMap(ConfigLayers.read({ keys, schema }), ({ explain }) => explain),
    (explanations) => explanations.map(line)
  )

describe("an explanation", () => {
  const App = Schema.Struct({
    name: Schema.String,
    tags: Schema.Array(Schema.String),
    limits: Schema.optional(Schema.Struct({ requests: Schema.Int, burst: Schema.optional(Schema.Int) })),
    labels: Schema.optional(Schema.Record({ key: Schema.String, value: Schema.String }))
  })

  it.effect("names the layer, its version, and what it overrides", () =>
    Effect.gen(function*() {
      yield* put("base", { name: "app", tags: ["a"], limits: { requests: 1, burst: 2 }, labels: {} })
      yield* put("production", { limits: { requests: 10 }, tags: ["b", "c"] })
      yield* put("eu-1", { limits: { requests: 100 } })
      assert.deepStrictEqual(yield* explained(App), [
        "labels | {} base@2",
        "limits.burst | 2 base@2",
        "limits.requests | 100 eu-1@4 | 10 production@3 | 1 base@2",
        "name | \"app\" base@2",
        "tags | [\"b\",\"c\"] production@3 | [\"a\"] base@2"
      ])
    }).pipe(scenario))

  it.effect("tells what was removed, and what was put in the place of something else", () =>
    Effect.gen(function*() {
      yield* put("base", { name: "app", tags: [], limits: { requests: 1, burst: 2 }, labels: { a: "1", b: "2" } })
      yield* put("production", { limits: { burst: null, none: null }, labels: "no object" })
      yield* put("eu-1", { labels: { c: "3", a: null } })
      assert.deepStrictEqual(yield* explained(App), [
        "labels.a | <removed> eu-1@4 | <redacted> production@3 | \"1\" base@2",
        "labels.c | \"3\" eu-1@4 | <redacted> production@3",
        "limits.burst | <removed> production@3 | 2 base@2",
        "limits.requests | 1 base@2",
        "name | \"app\" base@2",
        "tags | [] base@2"
      ])
      yield* put("eu-1", { labels: { c: "3" }, limits: null, name: "x" })
      assert.deepStrictEqual(yield* explained(App), [
        "labels.c | \"3\" eu-1@5 | <redacted> production@3",
        "limits | <removed> eu-1@5 | {\"burst\":null,\"none\":<undeclared>} production@3 | {\"requests\":1,\"burst\":2} base@2",
        "name | \"x\" eu-1@5 | \"app\" base@2",
        "tags | [] base@2"
      ])
    }).pipe(scenario))

  it.effect("is a table for people", () =>
    Effect.gen(function*() {
      yield* put("base", { name: "app", tags: [], labels: { "a b": "1" } })
      yield* put("eu-1", { name: "other" })
      const { explain } = yield* ConfigLayers.read({ keys, schema: App })
      assert.deepStrictEqual(ConfigLayers.format(yield* explain).split("\n"), [
        "setting       value    from     overrides",
        "labels.\"a b\"  \"1\"      base @2",
        "name          \"other\"  eu-1 @3  \"app\" of base @2",
        "tags          []       base @2"
      ])
      assert.strictEqual(ConfigLayers.format([]), "setting  value  from  overrides")
    }).pipe(scenario))

  it.effect("is that of the settings that count, whatever came after them", () =>
    Effect.gen(function*() {
      yield* put("base", { name: "app", tags: [] })
      const layers = yield* ConfigLayers.make({ keys, schema: App })
      const { explain } = yield* layers.settings
      yield* put("base", { name: "other", tags: [] })
      assert.strictEqual((yield* explain).map(line)[0], "name | \"app\" base@2")
    }).pipe(scenario))

  it("takes no longer for a recursive schema of several alternatives, however deep the value", () => {
    const path = Array.from({ length: 200 }, () => "next")
    assert.strictEqual(shown(Chain.ast, [...path, "kind"], "b"), "\"b\"")
    assert.strictEqual(shown(Chain.ast, [...path, "kind"], "d"), "<redacted>")
  })

  it("is a table of any length, which one long value does not make wide", () => {
    const said = (text: string) => ({ key: "base", version: 2n, shown: text })
    const table = ConfigLayers.format([
      { path: ["long"], from: said("x".repeat(100_000)), overrides: [] },
      ...Array.from({ length: 200_000 }, (_, index) => ({ path: [`p${index}`], from: said("1"), overrides: [] }))
    ])
    assert.strictEqual(table.split("\n").length, 200_002)
    assert.isBelow(table.length, 30_000_000)
  })
})

describe("a value", () => {
  const secret = "hunter2"
  const Text = Schema.String
  const Secret = Schema.Redacted(Text)
  const Account = Schema.Struct({ user: Text, password: Secret })

  class Service extends Schema.Class<Service>("Service")({
    host: Text,
    account: Account,
    token: Schema.optionalWith(Secret, { default: () => Redacted.make("") })
  }) {}

  interface Tree {
    readonly name: string
    readonly password: Redacted.Redacted
    readonly children: ReadonlyArray<Tree>
  }
  interface TreeEncoded {
    readonly name: string
    readonly password: string
    readonly children: ReadonlyArray<TreeEncoded>
  }
  const Tree: Schema.Schema<Tree, TreeEncoded> = Schema.Struct({
    name: Text,
    password: Secret,
    children: Schema.Array(Schema.suspend(() => Tree))
  })

  const hidden = "<redacted>"
  const cases: ReadonlyArray<readonly [string, Schema.Schema.All, ReadonlyArray<string>, unknown, string]> = [
    ["that is public", Text, [], secret, "\"hunter2\""],
    ["that is a secret", Account, ["password"], secret, hidden],
    ["beside a secret", Account, ["user"], "u", "\"u\""],
    ["around a secret", Account, [], { user: "u", password: secret }, "{\"user\":\"u\",\"password\":<redacted>}"],
    ["in a secret", Schema.Redacted(Account), ["user"], secret, hidden],
    ["of a class", Service, ["host"], "h", "\"h\""],
    ["that is a secret of a class", Service, ["account", "password"], secret, hidden],
    ["that is an optional secret", Service, ["token"], secret, hidden],
    [
      "in a recursive schema",
      Tree,
      ["children"],
      [{ name: "n", password: secret, children: [] }],
      "[{\"name\":\"n\",\"password\":<redacted>,\"children\":[]}]"
    ],
    ["that may be a secret", Schema.Union(Text, Secret), [], secret, hidden],
    [
      "in one of several structs",
      Schema.Union(Account, Schema.Struct({ password: Text })),
      ["password"],
      secret,
      hidden
    ],
    ["of a record of secrets", Schema.Record({ key: Text, value: Secret }), ["a"], secret, hidden],
    ["of a tuple", Schema.Tuple(Text, Secret), [], ["a", secret], "[\"a\",<redacted>]"],
    ["of an array of secrets", Schema.Array(Secret), [], [secret], "[<redacted>]"],
    ["of a filtered secret", Secret.pipe(Schema.filter(() => true)), [], secret, hidden],
    [
      "of a named secret",
      Schema.Struct({ a: Secret.pipe(Schema.propertySignature, Schema.fromKey("b")) }),
      ["b"],
      secret,
      hidden
    ],
    [
      "that a secret is made of",
      Schema.transform(Schema.Struct({ a: Text }), Schema.RedactedFromSelf(Text), {
        strict: true,
        decode: ({ a }) => Redacted.make(a),
        encode: (a) => ({ a: Redacted.value(a) })
      }),
      ["a"],
      secret,
      hidden
    ],
    [
      "of a property that becomes one",
      Schema.Struct({
        a: Schema.optionalToRequired(Text, Schema.RedactedFromSelf(Text), {
          decode: () => Redacted.make(""),
          encode: () => {
            throw new Error("unused")
          }
        }),
        b: Text
      }),
      [],
      { a: secret, b: "b" },
      "{\"a\":<redacted>,\"b\":\"b\"}"
    ],
    ["of JSON in a text that has one", Schema.parseJson(Account), [], `{"password":"${secret}"}`, hidden],
    ["of another type", Schema.Int, [], secret, hidden],
    ["where the schema has an object", Account, [], secret, hidden],
    ["where the schema has a text", Text, ["password"], secret, "<undeclared>"],
    ["that the schema does not have", Account, ["pasword"], secret, "<undeclared>"],
    [
      "in what the schema does not have",
      Schema.Array(Schema.Struct({ a: Text })),
      [],
      [{ a: "a", b: secret }],
      "[{\"a\":\"a\",\"b\":<undeclared>}]"
    ],
    ["where anything may be", Schema.Unknown, ["a"], { b: [1] }, "{\"b\":[1]}"],
    ["of a number as text", Schema.NumberFromString, [], "12", "\"12\""],
    ["of a duration", Schema.Duration, [], { _tag: "Infinity" }, "{\"_tag\":\"Infinity\"}"],
    ["that is not there", Account, ["user"], null, "<removed>"],
    ["that is a secret and nothing", Schema.Array(Secret), [], [null], "[<redacted>]"]
  ]

  for (const [name, schema, path, value, expected] of cases) {
    it(`${name} is shown as ${expected}`, () => {
      const text = shown(schema.ast, path, value)
      assert.strictEqual(text, expected)
      if (name !== "that is public") assert.notInclude(text, secret)
    })
  }
})
