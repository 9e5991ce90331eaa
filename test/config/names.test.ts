/** Names of properties that every object has already. */
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Config from "../../src/Config.js"
import { TestEtcd } from "../../src/testing.js"
import { embedded } from "./support.js"

const Rights = Schema.Struct({ admin: Schema.Boolean })

/** Its properties have the names of users. */
const Users = Schema.Record({ key: Schema.String, value: Rights })
const Counts = Schema.Record({ key: Schema.String, value: Schema.Int })

const hostile = "{\"__proto__\":{\"admin\":true},\"eve\":{\"admin\":false}}"

describe("a property that is named as what every object has", () => {
  it.effect("comes back equal", () =>
    Effect.gen(function*() {
      const counts = { constructor: 1, toString: 2, hasOwnProperty: 3, length: 4, prototype: 5 }
      yield* Config.set("a", Counts, counts)
      assert.deepStrictEqual(yield* Config.get("a", Counts), counts)
    }).pipe(Effect.provide(embedded())))

  it.effect("is refused when an object would lose it, or get another prototype", () =>
    Effect.gen(function*() {
      const errors = yield* Effect.all([
        Config.set("a", Counts, JSON.parse("{\"__proto__\":1}")),
        Config.set("a", Users, JSON.parse(hostile)),
        Config.set("a", Schema.Array(Schema.Union(Schema.Int, Counts)), JSON.parse("[1,{\"__proto__\":1}]")),
        Config.set("a", Schema.Struct({ users: Users }), { users: JSON.parse(hostile) })
      ].map(Effect.flip))
      for (const error of errors) {
        assert.strictEqual(error._tag, "UnsupportedSchema")
        assert.match(error.message, /__proto__/)
      }
    }).pipe(Effect.provide(embedded())))

  it.effect("gives no object that is read another prototype", () =>
    Effect.gen(function*() {
      const { putKey } = yield* TestEtcd
      yield* putKey("/config/app/users", hostile)
      yield* putKey("/config/app/escaped", hostile.replace("__proto__", "__\\u0070roto__"))
      for (const key of ["app/users", "app/escaped"]) {
        const errors = [yield* Effect.flip(Config.get(key, Users)), yield* Effect.flip(Config.cached(key, Users))]
        assert.deepStrictEqual(errors.map(({ _tag }) => _tag), ["DecodeError", "DecodeError"])
      }
      const { entries, invalid } = yield* Config.list("app", Users)
      assert.deepStrictEqual([entries.length, invalid.length], [0, 2])
      const told = yield* Stream.runCollect(Stream.take(Config.watchPrefix("app", Users), 2))
      assert.deepStrictEqual(Chunk.toReadonlyArray(Chunk.map(told, ({ _tag }) => _tag)), ["Invalid", "Invalid"])
    }).pipe(Effect.scoped, Effect.provide(embedded())))

  it.effect("is as any other where nothing is made of it", () =>
    Effect.gen(function*() {
      yield* Config.set("a", Schema.Unknown, JSON.parse(hostile))
      assert.deepStrictEqual(JSON.stringify(yield* Config.get("a", Schema.Unknown)), hostile)
      const named = yield* Config.get("a", Schema.Struct({ eve: Rights }))
      assert.deepStrictEqual(named, { eve: { admin: false } })
    }).pipe(Effect.provide(embedded())))
})
