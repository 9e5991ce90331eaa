/** What the configuration centre does, over any etcd. */
import { assert, type Vitest } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Config from "../../src/Config.js"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as Txn from "../../src/Txn.js"

const Limits = Schema.Struct({ requests: Schema.Int, burst: Schema.optional(Schema.Int) })

/** Follows a stream into a queue, so that its events can be awaited one by one. */
const following = <A, E, R>(stream: Stream.Stream<A, E, R>) =>
  Effect.gen(function*() {
    const queue = yield* Queue.unbounded<A>()
    yield* Effect.forkScoped(Stream.runForEach(stream, (event) => Queue.offer(queue, event)))
    return queue
  })

/** Tag and fields of an error; chai itself would follow the spans that Effect attaches. */
const assertError = (actual: unknown, expected: { readonly _tag: string }): void => {
  for (const [field, value] of Object.entries(expected)) {
    assert.deepStrictEqual(Reflect.get(Object(actual), field), value, field)
  }
}

const put = (key: string, value: string | Uint8Array) =>
  Effect.flatMap(EtcdClient, (client) => Effect.map(client.put({ key, value }), ({ header }) => header.revision))

const show = (event: Config.ConfigEvent<unknown>): string => {
  const previous = Option.match(event.previous, { onNone: () => "", onSome: (value) => ` (${JSON.stringify(value)})` })
  switch (event._tag) {
    case "Put":
      return `+${event.key}=${JSON.stringify(event.value)}${previous}`
    case "Delete":
      return `-${event.key}${previous}`
    case "Invalid":
      return `!${event.key}${previous}`
  }
}

export const suite = (it: Vitest.MethodsNonLive<Config.Config | EtcdClient, any>): void => {
  it.effect("sets and gets", () =>
    Effect.gen(function*() {
      const version = yield* Config.set("limits/api", Limits, { requests: 10 })
      assert.deepStrictEqual(yield* Config.get("limits/api", Limits), { requests: 10 })
      assert.deepStrictEqual(yield* Config.getWithVersion("limits/api", Limits), { value: { requests: 10 }, version })
      const next = yield* Config.set("limits/api", Limits, { requests: 20, burst: 5 })
      assert.isTrue(next > version)
      assert.deepStrictEqual(yield* Config.getOption("limits/api", Limits), Option.some({ requests: 20, burst: 5 }))
    }))

  it.effect("keeps what Go keeps", () =>
    Effect.gen(function*() {
      const client = yield* EtcdClient
      yield* Config.set("go/text", Schema.String, "plain")
      yield* Config.set("go/digits", Schema.String, "123")
      const stored = yield* client.range({ key: "/config/go/", rangeEnd: "/config/go0" })
      assert.deepStrictEqual(stored.kvs.map(({ value }) => Buffer.from(value).toString()), ["\"123\"", "plain"])
      yield* put("/config/go/digits", "123")
      assert.strictEqual(yield* Config.get("go/digits", Schema.String), "123")
    }))

  it.effect("says what is not there", () =>
    Effect.gen(function*() {
      assertError(
        yield* Effect.flip(Config.get("none", Schema.String)),
        new Config.NotFound({ key: "none" })
      )
      assertError(
        yield* Effect.flip(Config.getWithVersion("none", Schema.String)),
        new Config.NotFound({ key: "none" })
      )
      assert.deepStrictEqual(yield* Config.getOption("none", Schema.String), Option.none())
    }))

  it.effect("says what does not decode, with its version", () =>
    Effect.gen(function*() {
      const version = yield* put("/config/wrong", "{\"requests\":\"many\"}")
      const error = yield* Effect.flip(Config.get("wrong", Limits))
      assert.isTrue(error._tag === "DecodeError" && error.version === version)
      assert.match(error.message, /config "wrong" \(version \d+\) does not decode: .*"requests".*actual "many"/s)
      const bytes = yield* put("/config/wrong", Uint8Array.of(0xff))
      const other = yield* Effect.flip(Config.getOption("wrong", Schema.String))
      assert.isTrue(other._tag === "DecodeError" && other.version === bytes)
    }))

  it.effect("refuses bad keys before anything is sent", () =>
    Effect.gen(function*() {
      for (const key of ["", "/a", "a/", "a//b", "a/../b", "a\nb"]) {
        const errors = yield* Effect.all([
          Effect.flip(Config.get(key, Schema.String)),
          Effect.flip(Config.set(key, Schema.String, "x")),
          Effect.flip(Config.compareAndSet(key, Schema.String, "x", 0n)),
          Effect.flip(Config.delete(key)),
          Effect.flip(Stream.runDrain(Config.watch(key, Schema.String)))
        ])
        for (const error of errors) {
          assert.isTrue(error._tag === "InvalidArgument" && error.argument === "key" && error.value === key, key)
        }
      }
      for (const prefix of ["/", "//", "a//", "../a"]) {
        const errors = yield* Effect.all([
          Effect.flip(Config.list(prefix, Schema.String)),
          Effect.flip(Stream.runDrain(Config.watchPrefix(prefix, Schema.String)))
        ])
        for (const error of errors) {
          assert.isTrue(error._tag === "InvalidArgument" && error.argument === "prefix" && error.value === prefix)
        }
      }
      const error = yield* Effect.flip(Config.compareAndSet("a", Schema.String, "x", -1n))
      assert.isTrue(error._tag === "InvalidArgument" && error.argument === "version")
    }))

  it.effect("refuses what is not JSON", () =>
    Effect.gen(function*() {
      const schema = Schema.Struct({ size: Schema.BigIntFromSelf })
      const errors = yield* Effect.all([
        Effect.flip(Config.get("size", schema)),
        Effect.flip(Config.set("size", schema, { size: 1n })),
        Effect.flip(Config.compareAndSet("size", schema, { size: 1n }, 0n)),
        Effect.flip(Config.list("size", schema)),
        Effect.flip(Stream.runDrain(Config.watch("size", schema))),
        Effect.flip(Stream.runDrain(Config.watchPrefix("size", schema)))
      ])
      for (const error of errors) {
        assertError(error, new Config.UnsupportedSchema({ key: "size", path: ["size"], problem: "bigint" }))
      }
      const error = yield* Effect.flip(Config.set("size", Schema.Array(Schema.Number), [1, NaN]))
      assert.strictEqual(
        error.message,
        "config \"size\" cannot be kept as JSON: its encoded side has NaN at 1"
      )
      const encode = yield* Effect.flip(Config.set("size", Schema.Int, 1.5))
      assert.isTrue(encode._tag === "EncodeError" && encode.key === "size")
      assert.deepStrictEqual(yield* Config.getOption("size", Schema.Unknown), Option.none())
    }))

  it.effect("deletes", () =>
    Effect.gen(function*() {
      yield* Config.set("gone", Schema.String, "x")
      yield* Config.delete("gone")
      assert.deepStrictEqual(yield* Config.getOption("gone", Schema.String), Option.none())
      assertError(yield* Effect.flip(Config.delete("gone")), new Config.NotFound({ key: "gone" }))
    }))

  it.effect("creates, and changes what has not changed", () =>
    Effect.gen(function*() {
      const first = yield* Config.compareAndSet("cas", Schema.Int, 1, 0n)
      assertError(
        yield* Effect.flip(Config.compareAndSet("cas", Schema.Int, 2, 0n)),
        new Config.VersionConflict({ key: "cas", expected: 0n, actual: first })
      )
      const second = yield* Config.compareAndSet("cas", Schema.Int, 2, first)
      assertError(
        yield* Effect.flip(Config.compareAndSet("cas", Schema.Int, 3, first)),
        new Config.VersionConflict({ key: "cas", expected: first, actual: second })
      )
      assert.deepStrictEqual(yield* Config.getWithVersion("cas", Schema.Int), { value: 2, version: second })
      yield* Config.delete("cas")
      assertError(
        yield* Effect.flip(Config.compareAndSet("cas", Schema.Int, 3, second)),
        new Config.VersionConflict({ key: "cas", expected: second, actual: 0n })
      )
    }))

  it.effect("counts right when many change one value", () =>
    Effect.gen(function*() {
      const increment: Effect.Effect<
        void,
        Config.VersionConflict | Config.ReadError | Config.WriteError,
        Config.Config
      > = Effect.gen(function*() {
        const now = yield* Config.getOption("counter", Schema.Int)
        const { value, version } = Option.isSome(now)
          ? yield* Effect.orDie(Config.getWithVersion("counter", Schema.Int))
          : { value: 0, version: 0n }
        yield* Config.compareAndSet("counter", Schema.Int, value + 1, version)
      }).pipe(Effect.catchTag("VersionConflict", () => increment))
      yield* Effect.all(Array.from({ length: 8 }, () => Effect.repeatN(increment, 9)), { concurrency: "unbounded" })
      assert.strictEqual(yield* Config.get("counter", Schema.Int), 80)
    }))

  it.effect("writes under a guard", () =>
    Effect.gen(function*() {
      const token = yield* put("/locks/g/1", "")
      const guard = Txn.createRevision("/locks/g/1", "=", token)
      const version = yield* Config.set("guarded", Schema.Int, 1, { guard })
      const next = yield* Config.compareAndSet("guarded", Schema.Int, 2, version, { guard })
      yield* Effect.flatMap(EtcdClient, (client) => client.delete({ key: "/locks/g/1" }))
      const failed = new Config.GuardFailed({ key: "guarded", guard: "/locks/g/1" })
      assertError(yield* Effect.flip(Config.set("guarded", Schema.Int, 3, { guard })), failed)
      assertError(
        yield* Effect.flip(Config.compareAndSet("guarded", Schema.Int, 3, next, { guard })),
        failed
      )
      assertError(
        yield* Effect.flip(Config.compareAndSet("guarded", Schema.Int, 3, version, { guard })),
        new Config.VersionConflict({ key: "guarded", expected: version, actual: next })
      )
      assert.deepStrictEqual(yield* Config.getWithVersion("guarded", Schema.Int), { value: 2, version: next })
    }))

  it.effect("binds a value to a lease", () =>
    Effect.gen(function*() {
      const client = yield* EtcdClient
      const lease = yield* client.leaseGrant({ ttl: "60 seconds" })
      const token = yield* put("/locks/l/1", "")
      const guard = Txn.createRevision("/locks/l/1", "=", token)
      yield* Config.set("leased/plain", Schema.Int, 1, { lease: lease.id })
      yield* Config.set("leased/guarded", Schema.Int, 1, { lease: lease.id, guard })
      yield* Config.compareAndSet("leased/cas", Schema.Int, 1, 0n, { lease: lease.id })
      yield* client.leaseRevoke(lease.id)
      assert.deepStrictEqual((yield* Config.list("leased", Schema.Int)).entries, [])
      const errors = yield* Effect.all([
        Effect.flip(Config.set("leased/plain", Schema.Int, 1, { lease: lease.id })),
        Effect.flip(Config.set("leased/guarded", Schema.Int, 1, { lease: lease.id, guard })),
        Effect.flip(Config.compareAndSet("leased/cas", Schema.Int, 1, 0n, { lease: lease.id }))
      ])
      for (const error of errors) {
        assert.isTrue(error._tag === "EtcdError" && error.reason === "LeaseNotFound" && !error.mayBeApplied)
      }
    }))

  it.effect("lists a folder, and tells apart what does not decode", () =>
    Effect.gen(function*() {
      const one = yield* Config.set("list/a", Schema.Int, 1)
      const two = yield* Config.set("list/b/c", Schema.Int, 2)
      const wrong = yield* Config.set("list/b/d", Schema.String, "x")
      yield* Config.set("listing", Schema.Int, 3)
      yield* Config.set("list", Schema.Int, 4)
      const { entries, invalid } = yield* Config.list("list", Schema.Int)
      assert.deepStrictEqual(entries, [
        { key: "list/a", value: 1, version: one },
        { key: "list/b/c", value: 2, version: two }
      ])
      assert.deepStrictEqual(invalid.map(({ key, version }) => [key, version]), [["list/b/d", wrong]])
      assert.strictEqual(Buffer.from(Redacted.value(invalid[0].raw)).toString(), "x")
      assert.match(invalid[0].error.message, /Int/)
      assert.deepStrictEqual(
        yield* Config.list("list/", Schema.Int).pipe(Effect.map(({ entries }) => entries)),
        entries
      )
      assert.deepStrictEqual((yield* Config.list("li", Schema.Int)).entries, [])
      const all = yield* Config.list("", Schema.Unknown)
      for (const key of ["list", "list/a", "listing"]) assert.isTrue(all.entries.some((entry) => entry.key === key))
    }))

  it.scoped("watches a key from what it is now", () =>
    Effect.gen(function*() {
      const first = yield* Config.set("watched", Schema.Int, 1)
      yield* Config.set("watched2", Schema.Int, 1)
      const events = yield* following(Config.watch("watched", Schema.Int))
      const initial = yield* Queue.take(events)
      assert.deepStrictEqual(initial, {
        _tag: "Put",
        key: "watched",
        value: 1,
        version: first,
        previous: Option.none()
      })
      const second = yield* Config.set("watched", Schema.Int, 2)
      assert.deepStrictEqual(
        yield* Queue.take(events),
        { _tag: "Put", key: "watched", value: 2, version: second, previous: Option.some(1) }
      )
      const wrong = yield* put("/config/watched", "many")
      const invalid = yield* Queue.take(events)
      assert.isTrue(invalid._tag === "Invalid" && Buffer.from(Redacted.value(invalid.raw)).toString() === "many")
      assert.deepStrictEqual([invalid.key, invalid.version, invalid.previous], ["watched", wrong, Option.some(2)])
      yield* Config.set("watched", Schema.Int, 4)
      yield* Config.delete("watched")
      yield* Config.set("watched", Schema.Int, 5)
      const rest = yield* Queue.takeN(events, 3)
      assert.deepStrictEqual(Chunk.toReadonlyArray(rest).map(show), ["+watched=4", "-watched (4)", "+watched=5"])
      assert.isTrue(Chunk.unsafeGet(rest, 1).version > Chunk.unsafeGet(rest, 0).version)
    }))

  it.scoped("goes on watching after a value whose decoding interrupts itself, or throws what cannot be shown", () =>
    Effect.gen(function*() {
      const Odd = Schema.transformOrFail(Schema.String, Schema.String, {
        decode: (text) =>
          text === "stop"
            ? Effect.interrupt
            : text === "throw"
            ? Effect.die(Object.create(null))
            : ParseResult.succeed(text),
        encode: ParseResult.succeed
      })
      yield* Config.set("odd", Schema.String, "a")
      const events = yield* following(Config.watch("odd", Odd))
      assert.strictEqual(show(yield* Queue.take(events)), "+odd=\"a\"")
      for (const value of ["stop", "throw", "b"]) yield* Config.set("odd", Schema.String, value)
      const seen = yield* Queue.takeN(events, 3)
      assert.deepStrictEqual(Chunk.toReadonlyArray(seen).map(show), ["!odd (\"a\")", "!odd", "+odd=\"b\""])
    }))

  it.scoped("watches a key that is not there yet", () =>
    Effect.gen(function*() {
      const event = yield* Effect.fork(Stream.runHead(Config.watch("later", Schema.String)))
      yield* Effect.yieldNow()
      yield* Config.set("later", Schema.String, "x")
      assert.deepStrictEqual(Option.map(yield* Fiber.join(event), show), Option.some("+later=\"x\""))
    }))

  it.scoped("watches a folder", () =>
    Effect.gen(function*() {
      yield* Config.set("app/a", Schema.Int, 1)
      yield* Config.set("app/b", Schema.String, "wrong")
      yield* Config.set("application/a", Schema.Int, 1)
      yield* Config.set("app", Schema.Int, 1)
      const events = yield* following(Config.watchPrefix("app", Schema.Int))
      assert.deepStrictEqual([...yield* Queue.takeN(events, 2)].map(show), ["+app/a=1", "!app/b"])
      yield* Config.set("application/a", Schema.Int, 2)
      yield* Config.set("app", Schema.Int, 2)
      yield* Config.set("app/c/d", Schema.Int, 3)
      yield* Config.set("app/b", Schema.Int, 4)
      yield* Config.delete("app/a")
      assert.deepStrictEqual([...yield* Queue.takeN(events, 3)].map(show), ["+app/c/d=3", "+app/b=4", "-app/a (1)"])
    }))

  it.scoped("misses nothing between the present and the changes", () =>
    Effect.gen(function*() {
      const last = 200
      yield* Config.set("race/a", Schema.Int, 0)
      const writing = yield* Effect.fork(
        Effect.forEach(Array.from({ length: last }, (_, i) => i + 1), (i) => Config.set("race/a", Schema.Int, i))
      )
      const seen = yield* Stream.runCollect(
        Stream.takeUntil(
          Stream.map(Config.watchPrefix("race", Schema.Int), (event) => event._tag === "Put" ? event.value : -1),
          (value) => value === last
        )
      )
      yield* Fiber.join(writing)
      const values = Chunk.toReadonlyArray(seen)
      assert.deepStrictEqual(values, Array.from({ length: values.length }, (_, i) => values[0] + i))
    }))

  it.effect("modifies", () =>
    Effect.gen(function*() {
      const increment = Option.match({ onNone: () => 1, onSome: (count: number) => count + 1 })
      const first = yield* Config.modify("modified", Schema.Int, increment)
      assert.strictEqual(first.value, 1)
      const all = yield* Effect.replicateEffect(Config.modify("modified", Schema.Int, increment), 30, {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(all.map(({ value }) => value).sort((a, b) => a - b), Array.from(all, (_, i) => i + 2))
      assert.strictEqual(new Set(all.map(({ version }) => version)).size, 30)
      const failed = yield* Effect.flip(Config.modifyEffect("modified", Schema.Int, () => Effect.fail("no" as const)))
      assert.strictEqual(failed, "no")
      assert.strictEqual(yield* Config.get("modified", Schema.Int), 31)
    }))

  it.effect("changes several keys together, or none", () =>
    Effect.gen(function*() {
      const one = yield* Config.set("txn/one", Schema.Int, 1)
      yield* Config.set("txn/two", Schema.String, "2")
      const version = yield* Config.transaction([
        Config.put("txn/one", Schema.Int, 10, { version: one }),
        Config.put("txn/three", Schema.String, "null", { version: 0n }),
        Config.remove("txn/two"),
        Config.remove("txn/none"),
        Config.check("txn/four", 0n)
      ])
      const { entries } = yield* Config.list("txn", Schema.Union(Schema.Int, Schema.String))
      assert.deepStrictEqual(entries, [
        { key: "txn/one", value: 10, version },
        { key: "txn/three", value: "null", version }
      ])
      const error = yield* Effect.flip(Config.transaction([
        Config.check("txn/three", version),
        Config.put("txn/one", Schema.Int, 11, { version: one })
      ]))
      assertError(error, { _tag: "TransactionConflict" })
      assert.deepStrictEqual((yield* Config.list("txn", Schema.Unknown)).entries.length, 2)
      const client = yield* EtcdClient
      const lease = yield* client.leaseGrant({ ttl: "60 seconds" })
      yield* Config.transaction([Config.put("txn/leased", Schema.Int, 1, { lease: lease.id })])
      yield* client.leaseRevoke(lease.id)
      assert.deepStrictEqual(yield* Config.getOption("txn/leased", Schema.Int), Option.none())
    }))

  it.effect("does 127 steps at once", () =>
    Effect.gen(function*() {
      const keys = Array.from({ length: 127 }, (_, index) => `many/${index}`)
      const version = yield* Config.transaction(keys.map((key, i) => Config.put(key, Schema.Int, i, { version: 0n })))
      const { entries } = yield* Config.list("many", Schema.Int)
      assert.isTrue(entries.length === 127 && entries.every((entry) => entry.version === version))
      const error = yield* Effect.flip(Config.transaction(keys.map((key) => Config.check(key, 0n))))
      assert.isTrue(error._tag === "TransactionConflict" && error.conflicts.length === 127)
    }))

  it.effect("reads the past", () =>
    Effect.gen(function*() {
      const first = yield* Config.set("past/a", Schema.Int, 1)
      const other = yield* Config.set("past/b", Schema.Int, 2)
      yield* Config.set("past/a", Schema.Int, 3)
      yield* Config.delete("past/b")
      assert.deepStrictEqual(yield* Config.getAt("past/a", Schema.Int, other), { value: 1, version: first })
      assertError(
        yield* Effect.flip(Config.getAt("past/b", Schema.Int, first)),
        new Config.NotFound({ key: "past/b", revision: first })
      )
      const { entries } = yield* Config.list("past", Schema.Int, { revision: other })
      assert.deepStrictEqual(entries.map(({ key, value }) => [key, value]), [["past/a", 1], ["past/b", 2]])
      const error = yield* Effect.flip(Config.getAt("past/a", Schema.Int, other + 1_000_000n))
      assert.isTrue(error._tag === "FutureRevision" && error.newest !== undefined && error.newest > other)
    }))

  it.effect("tells the history of a key, and rolls it back", () =>
    Effect.gen(function*() {
      const first = yield* Config.set("story", Schema.Int, 1)
      yield* Config.delete("story")
      yield* Effect.forEach(Array.from({ length: 150 }), () => Config.set("story2", Schema.Int, 0), { discard: true })
      const wrong = yield* put("/config/story", "x")
      yield* Config.set("story", Schema.Int, 3)
      const entries = yield* Stream.runCollect(Config.history("story", Schema.Int))
      const shown = Array.from(entries, (entry) => entry._tag === "Put" ? entry.value : entry._tag)
      // What was there before the test, and whether it was compacted, is not its business.
      assert.deepStrictEqual(shown.slice(0, 4), [3, "Invalid", "Delete", 1])
      const version = yield* Config.rollback("story", first)
      assert.deepStrictEqual(yield* Config.getWithVersion("story", Schema.Int), { value: 1, version })
      const error = yield* Effect.flip(Config.rollback("story", first, { expected: wrong }))
      assertError(error, new Config.VersionConflict({ key: "story", expected: wrong, actual: version }))
    }))

  it.effect("says which part of the past was compacted", () =>
    Effect.gen(function*() {
      const client = yield* EtcdClient
      const first = yield* Config.set("compacted", Schema.Int, 1)
      const second = yield* Config.set("compacted", Schema.Int, 2)
      yield* client.compact(second, { physical: true })
      const error = yield* Effect.flip(Config.getAt("compacted", Schema.Int, first))
      assertError(error, new Config.RevisionCompacted({ key: "compacted", revision: first, oldest: second }))
      assert.strictEqual((yield* Config.getAt("compacted", Schema.Int, second)).value, 2)
      const entries = yield* Stream.runCollect(Config.history("compacted", Schema.Int))
      assert.deepStrictEqual(Array.from(entries), [
        { _tag: "Put", key: "compacted", value: 2, version: second },
        { _tag: "Compacted", key: "compacted", before: second }
      ])
    }))

  it.effect("reads its local copy", () =>
    Effect.gen(function*() {
      yield* Config.set("cached", Schema.Int, 0)
      for (let i = 1; i <= 50; i++) {
        yield* Config.cached("cached", Schema.Int)
        const version = yield* Config.set("cached", Schema.Int, i)
        assert.deepStrictEqual(yield* Config.cached("cached", Schema.Int), {
          value: i,
          version,
          staleSinceMillis: undefined
        })
      }
      const version = yield* put("/config/cached", "100")
      const newer = Effect.repeat(Effect.zipLeft(Config.cached("cached", Schema.Int), Effect.yieldNow()), {
        until: (read) => read.version === version
      })
      assert.strictEqual((yield* newer).value, 100)
    }))
}
