/** The hub against a server that says exactly what a test wants it to say. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { WatchEvent } from "../../src/EtcdClient.js"
import { EtcdError } from "../../src/EtcdError.js"
import { toText } from "../../src/internal/bytes.js"
import type { StreamHandlers, Transport, WatchRequest, WatchResponse } from "../../src/internal/transport.js"
import * as WatchHub from "../../src/internal/watchHub.js"
import * as TestEtcd from "../../src/testing.js"
import { pass, settle, text } from "../support/memory.js"

interface ServerStream {
  readonly handlers: StreamHandlers<WatchResponse>
  /** What the hub has sent: the first revision of a watch that is created, the number of one that is cancelled. */
  readonly sent: Array<string>
  readonly suspected: Array<string>
}

const headerAt = (revision: bigint, raftTerm: bigint) => ({ clusterId: 1n, memberId: 1n, revision, raftTerm })

const message = (watchId: bigint, revision: bigint, rest: Partial<WatchResponse> = {}): WatchResponse => ({
  header: headerAt(revision, 2n),
  watchId,
  created: false,
  canceled: false,
  compactRevision: 0n,
  cancelReason: "",
  fragment: false,
  events: [],
  ...rest
})

const put = (revision: bigint, key = "a", size = 0): WatchEvent => ({
  _tag: "Put",
  kv: {
    key: Buffer.from(key),
    value: Buffer.alloc(size),
    createRevision: revision,
    modRevision: revision,
    version: 1n,
    lease: 0n
  },
  prevKv: undefined
})

const shown = ({ kv }: WatchEvent): string => `${text(kv.key)}@${kv.modRevision}`

const lost = new EtcdError({ operation: "watch", reason: "Unavailable", code: 14, mayBeApplied: false, detail: "lost" })

const limits: WatchHub.HubOptions = {
  heartbeatMillis: 10_000,
  silenceMillis: 10_000,
  requestTimeoutMillis: 10_000,
  maxBufferedEvents: 3,
  maxBufferedBytes: 1_000
}

const setup = (range?: (bare: Transport) => Transport["range"]) =>
  Effect.gen(function*() {
    const etcd = yield* TestEtcd.make()
    const bare = yield* etcd.transport()
    const streams: Array<ServerStream> = []
    const hub = yield* WatchHub.make({
      ...bare,
      range: range?.(bare) ?? bare.range,
      openWatch: (handlers) =>
        Effect.sync(() => {
          const stream: ServerStream = { handlers, sent: [], suspected: [] }
          streams.push(stream)
          return {
            endpoint: "scripted",
            send: (request: WatchRequest) => {
              if (request._tag === "Create") stream.sent.push(`create ${toText(request.key)}@${request.startRevision}`)
              if (request._tag === "Cancel") stream.sent.push(`cancel ${request.watchId}`)
            },
            suspect: (why: string) => void stream.suspected.push(why)
          }
        })
    }, limits)
    /** The server says something on its newest stream. */
    const say = (...messages: ReadonlyArray<WatchResponse>) =>
      Effect.sync(() => messages.forEach((one) => streams[streams.length - 1].handlers.onMessage(one)))
    const open = (key: string, startRevision: bigint) => Effect.zipLeft(hub.open({ key, startRevision }), settle)
    /** The connection breaks, and another one comes. */
    const cut = Effect.suspend(() => {
      streams[streams.length - 1].handlers.onEnd(lost)
      return Effect.zipRight(settle, pass("2 seconds", "1 second"))
    })
    return { etcd, streams, say, open, cut, sent: () => streams.map(({ sent }) => sent) }
  })

const take = (watch: WatchHub.HubWatch) => Effect.map(watch.pull, (events) => events.map(shown))

describe("a watch", () => {
  it.scoped("hears nothing again that a server repeats", () =>
    Effect.gen(function*() {
      const { open, say } = yield* setup()
      const watch = yield* open("a", 2n)
      yield* say(message(0n, 5n, { created: true }), message(0n, 5n, { events: [put(2n), put(3n)] }))
      yield* say(message(0n, 5n, { events: [put(3n), put(4n)] }))
      assert.deepStrictEqual(yield* take(watch), ["a@2", "a@3", "a@4"])
    }))

  it.scoped("that lags in the middle of a revision gets the whole of it afterwards, once", () =>
    Effect.gen(function*() {
      const { open, say, sent } = yield* setup()
      const watch = yield* open("a", 2n)
      yield* say(
        message(0n, 9n, { created: true }),
        message(0n, 9n, { fragment: true, events: [put(2n), put(3n), put(4n), put(5n), put(6n, "a1")] }),
        message(0n, 9n, { events: [put(6n, "a2")] })
      )
      assert.deepStrictEqual(yield* take(watch), ["a@2", "a@3", "a@4", "a@5"])
      yield* say(
        message(1n, 9n, { created: true }),
        message(1n, 9n, { events: [put(6n, "a1"), put(6n, "a2")] })
      )
      assert.deepStrictEqual(yield* take(watch), ["a1@6", "a2@6"])
      assert.deepStrictEqual(sent(), [["create a@2", "cancel 0", "create a@6"]])
    }))

  it.scoped("that is cut off in the middle of a revision gets the whole of it afterwards, once", () =>
    Effect.gen(function*() {
      const { cut, open, say, sent } = yield* setup()
      const watch = yield* open("a", 2n)
      yield* say(
        message(0n, 9n, { created: true }),
        message(0n, 9n, { fragment: true, events: [put(2n), put(3n, "a1")] })
      )
      yield* cut
      yield* say(message(0n, 9n, { created: true }), message(0n, 9n, { events: [put(3n, "a1"), put(3n, "a2")] }))
      assert.deepStrictEqual(yield* take(watch), ["a@2", "a1@3", "a2@3"])
      assert.deepStrictEqual(sent(), [["create a@2"], ["create a@3"]])
    }))

  it.scoped("lags by its bytes, too, and by those that are new", () =>
    Effect.gen(function*() {
      const { open, say, sent } = yield* setup()
      const watch = yield* open("a", 2n)
      yield* say(message(0n, 9n, { created: true }))
      for (const revision of [2n, 3n, 4n]) {
        yield* say(message(0n, 9n, { events: [put(revision, "a", 600)] }))
        yield* take(watch)
      }
      assert.deepStrictEqual(sent(), [["create a@2"]])
      yield* say(
        message(0n, 9n, { events: [put(5n, "a", 600)] }),
        message(0n, 9n, { events: [put(6n, "a", 600)] })
      )
      assert.deepStrictEqual(sent(), [["create a@2", "cancel 0"]])
    }))

  it.scoped("that was compacted away is cancelled on the server, which would keep it", () =>
    Effect.gen(function*() {
      const { open, say, sent } = yield* setup()
      const watch = yield* open("a", 2n)
      yield* say(message(0n, 9n, { created: true }), message(0n, 9n, { canceled: true, compactRevision: 5n }))
      assert.strictEqual((yield* Effect.flip(watch.pull))._tag, "WatchCompacted")
      assert.deepStrictEqual(sent(), [["create a@2", "cancel 0"]])
    }))

  it.scoped("outlives any number of tokens, as long as each is accepted first", () =>
    Effect.gen(function*() {
      const { open, say, streams } = yield* setup()
      const watch = yield* open("a", 2n)
      const stale = { canceled: true, cancelReason: "etcdserver: invalid auth token" }
      for (const revision of [2n, 3n, 4n]) {
        yield* say(message(0n, 9n, { created: true }), message(0n, 9n, { events: [put(revision)] }))
        assert.deepStrictEqual(yield* take(watch), [`a@${revision}`])
        yield* say(message(0n, 9n, stale))
        yield* pass("2 seconds", "1 second")
      }
      assert.deepStrictEqual(streams.map(({ suspected }) => suspected), [
        ["unauthenticated"],
        ["unauthenticated"],
        ["unauthenticated"],
        []
      ])
    }))

  it.scoped("tells the transport of a stream that has gone silent, and goes on over another", () =>
    Effect.gen(function*() {
      const { open, say, sent, streams } = yield* setup()
      yield* open("a", 2n)
      yield* say(message(0n, 9n, { created: true }))
      yield* pass("32 seconds", "1 second")
      assert.deepStrictEqual(streams.map(({ suspected }) => suspected), [["silent"], []])
      assert.deepStrictEqual(sent(), [["create a@2", "create \0@0"], ["create a@2"]])
    }))

  it.scoped("needs no stream once it is closed: a broken one is not replaced until the next", () =>
    Effect.gen(function*() {
      const { cut, open, say, sent } = yield* setup()
      yield* Effect.scoped(Effect.zipRight(open("a", 2n), say(message(0n, 9n, { created: true }))))
      yield* cut
      assert.deepStrictEqual(sent(), [["create a@2", "cancel 0"]])
      yield* open("b", 2n)
      assert.deepStrictEqual(sent(), [["create a@2", "cancel 0"], ["create b@2"]])
    }))
})

describe("another history", () => {
  const failed = (watch: WatchHub.HubWatch) => Effect.map(Effect.flip(watch.pull), ({ _tag }) => _tag)
  const newHistory = (revision: bigint, raftTerm: bigint): Transport["range"] => () =>
    Effect.succeed({ header: headerAt(revision, raftTerm), kvs: [], more: false, count: 0n })

  it.scoped("that one watch finds ends all that have seen the old one, and none that has not", () =>
    Effect.gen(function*() {
      const { cut, open, say } = yield* setup(() => newHistory(5n, 2n))
      const ahead = yield* open("a", 9n)
      const behind = yield* open("b", 2n)
      yield* say(message(0n, 9n, { created: true }), message(1n, 9n, { created: true }))
      yield* cut
      const fresh = yield* open("c", 2n)
      yield* say(
        message(0n, 5n, { created: true }),
        message(1n, 5n, { created: true }),
        message(2n, 5n, { created: true }),
        message(2n, 5n, { events: [put(3n, "c")] })
      )
      assert.deepStrictEqual([yield* failed(ahead), yield* failed(behind)], ["WatchNewEpoch", "WatchNewEpoch"])
      yield* say(message(2n, 6n, { events: [put(6n, "c")] }))
      assert.deepStrictEqual(yield* take(fresh), ["c@3", "c@6"])
    }))

  it.scoped("is known by its smaller term, though its revisions have caught up", () =>
    Effect.gen(function*() {
      const { cut, open, say } = yield* setup(() => newHistory(9n, 1n))
      const first = yield* open("a", 2n)
      yield* say(message(0n, 9n, { created: true }))
      yield* cut
      yield* say(message(0n, 9n, { created: true, header: headerAt(9n, 1n) }))
      assert.strictEqual(yield* failed(first), "WatchNewEpoch")
    }))

  it.scoped("is not believed before the quorum has told, however often it has to be asked", () =>
    Effect.gen(function*() {
      let asked = 0
      const { cut, open, say } = yield* setup(() => (request, call) =>
        asked++ < 2 ? Effect.fail(lost) : newHistory(9n, asked === 3 ? 1n : 2n)(request, call)
      )
      const first = yield* open("a", 2n)
      yield* say(message(0n, 9n, { created: true }))
      yield* cut
      const failing = yield* Effect.fork(failed(first))
      yield* say(message(0n, 9n, { created: true, header: headerAt(9n, 1n) }))
      yield* settle
      assert.strictEqual(asked, 1)
      yield* pass("2 seconds", "1 second")
      assert.strictEqual(yield* Fiber.join(failing), "WatchNewEpoch")
      assert.strictEqual(asked, 3)
    }))
})
