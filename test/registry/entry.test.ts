import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import { decode, encode, layout, validateService } from "../../src/internal/registry/entry.js"
import type { ServiceInput } from "../../src/Registry.js"

const bytes = (text: string) => Buffer.from(text)

const good: ServiceInput = { id: "u1", name: "user", address: "127.0.0.1", port: 8080 }

const service = FastCheck.record({
  id: FastCheck.string({ minLength: 1 }),
  name: FastCheck.string({ minLength: 1 }),
  address: FastCheck.constantFrom("127.0.0.1", "::1", "example.org"),
  port: FastCheck.integer({ min: 1, max: 65_535 }),
  metadata: FastCheck.dictionary(
    FastCheck.oneof(FastCheck.string({ unit: "grapheme" }), FastCheck.nat().map(String)).filter((key) =>
      key !== "__proto__"
    ),
    FastCheck.string({ unit: "grapheme" }),
    { noNullPrototype: true }
  )
})

describe("an entry", () => {
  it("is read as it was written", () => {
    FastCheck.assert(FastCheck.property(service, (service) => {
      assert.deepStrictEqual(Either.getOrThrow(decode(bytes(encode(service)))), service)
    }))
  })

  it("has its metadata in the order of their bytes", () => {
    const order = [
      ...encode({ ...good, metadata: { b: "", "10": "", "9": "", "\uff5e": "", "\u{1f600}": "", a: "" } })
        .matchAll(/"([^"]*)":""/g)
    ].map(([, key]) => key)
    assert.deepStrictEqual(order, ["10", "9", "a", "b", "\uff5e", "\u{1f600}"])
  })

  it("tells what is wrong with a value", () => {
    const problem = (value: string) => Either.getOrThrow(Either.flip(decode(bytes(value))))
    assert.match(problem("{\"id\":\"a\",\"name\":\"b\",\"address\":\"c\",\"port\":0}"), /^port: .*between 1 and 65535/)
    assert.match(
      problem("{\"id\":\"a\",\"name\":\"b\",\"address\":\"c\",\"port\":1,\"metadata\":{\"x\":1}}"),
      /^metadata: x: /
    )
    assert.match(problem(""), /JSON/)
    assert.notInclude(problem("[]"), "\n")
  })

  it("is no service if it is nested too deep to be read, and no failure", () => {
    const deep = `${"[".repeat(20_000)}${"]".repeat(20_000)}`
    const problem = (value: string) => Either.getOrThrow(Either.flip(decode(bytes(value))))
    const fields = "\"id\":\"a\",\"name\":\"b\",\"address\":\"c\""
    for (const value of [deep, `{${fields},"port":${deep}}`, `{${fields},"port":1,"metadata":{"x":${deep}}}`]) {
      assert.match(problem(value), /^cannot be read: .*stack size exceeded$/)
    }
    assert.isTrue(Either.isRight(decode(bytes(`{${fields},"port":1,"new":${deep}}`))))
  })

  it.effect("refuses a service with an error that names the field", () =>
    Effect.gen(function*() {
      const argument = (input: Partial<Record<keyof ServiceInput, unknown>>) =>
        Effect.map(Effect.flip(validateService({ ...good, ...input } as ServiceInput, ["service"])), (error) =>
          error.argument)
      assert.strictEqual(yield* argument({ id: "" }), "service.id")
      assert.strictEqual(yield* argument({ id: "a/b" }), "service.id")
      assert.strictEqual(yield* argument({ id: ".." }), "service.id")
      assert.strictEqual(yield* argument({ id: 7 }), "service.id")
      assert.strictEqual(yield* argument({ name: "" }), "service.name")
      assert.strictEqual(yield* argument({ name: "a//b" }), "service.name")
      assert.strictEqual(yield* argument({ name: "a/../b" }), "service.name")
      assert.strictEqual(yield* argument({ name: "a\u0000" }), "service.name")
      assert.strictEqual(yield* argument({ address: "" }), "service.address")
      assert.strictEqual(yield* argument({ address: "a b" }), "service.address")
      for (const port of [0, -1, 65_536, 1.5, Number.NaN, "80"]) {
        assert.strictEqual(yield* argument({ port }), "service.port")
      }
      assert.strictEqual(yield* argument({ metadata: { version: 1 } }), "service.metadata.version")
      const error = yield* Effect.flip(validateService({ ...good, port: 0 }, ["service"]))
      assert.strictEqual(error.message, "Invalid service.port \"0\": expected a number between 1 and 65535, actual 0")
      assert.deepStrictEqual(yield* validateService({ ...good, name: "a/b", metadata: undefined }, ["service"]), {
        ...good,
        name: "a/b",
        metadata: {}
      })
    }))

  it.effect("has a key, and a key an entry", () =>
    Effect.gen(function*() {
      const { key, parse } = yield* layout("/services")
      const parsed = (key: string) => parse({ key: bytes(key), value: bytes("") })
      assert.strictEqual(key("a/b", "c"), "/services/a/b/c")
      assert.deepStrictEqual(parsed("/services/a/b/c"), { name: "a/b", id: "c" })
      assert.isUndefined(parsed("/services/a"))
      assert.isUndefined(parsed("/services//a"))
      assert.isUndefined(parsed("/services/a/"))
      for (const prefix of ["", "/", "services", "/services/", "/a//b"]) {
        assert.deepInclude(yield* Effect.flip(layout(prefix)), { argument: "prefix", value: prefix })
      }
    }))
})
