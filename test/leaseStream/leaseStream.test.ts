/** Keep-alives over a server that answers when a test wants it to. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { EtcdError } from "../../src/EtcdError.js"
import * as LeaseStream from "../../src/internal/leaseStream.js"
import type { KeepAliveResponse, StreamHandlers } from "../../src/internal/transport.js"
import * as TestEtcd from "../../src/testing.js"
import { settle } from "../support/memory.js"

interface ServerStream {
  readonly handlers: StreamHandlers<KeepAliveResponse>
  readonly sent: Array<bigint>
  readonly suspected: Array<string>
  isOpen: boolean
}

const header = { clusterId: 1n, memberId: 1n, revision: 1n, raftTerm: 1n }

const lost = new EtcdError({
  operation: "leaseKeepAlive",
  reason: "Unavailable",
  code: 14,
  mayBeApplied: false,
  detail: "lost"
})

const setup = (onOpen: (stream: ServerStream) => void = () => {}) =>
  Effect.gen(function*() {
    const etcd = yield* TestEtcd.make()
    const bare = yield* etcd.transport()
    const streams: Array<ServerStream> = []
    const { keepAlive } = yield* LeaseStream.make({
      ...bare,
      openLease: (handlers) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const stream: ServerStream = { handlers, sent: [], suspected: [], isOpen: true }
            streams.push(stream)
            onOpen(stream)
            return stream
          }),
          (stream) => Effect.sync(() => void (stream.isOpen = false))
        ).pipe(Effect.map((stream) => ({
          endpoint: "scripted",
          send: (id: bigint) => void stream.sent.push(id),
          suspect: (why: string) => void stream.suspected.push(why)
        })))
    })
    const start = (id: bigint, timeoutMillis: number) =>
      Effect.zipLeft(Effect.fork(keepAlive(id, timeoutMillis)), settle)
    const answer = (id: bigint, ttl: bigint, stream = streams[streams.length - 1]) =>
      Effect.sync(() => stream.handlers.onMessage({ header, id, ttl }))
    return { streams, start, answer }
  })

describe("keep-alives", () => {
  it.scoped("of one lease are answered in their order, also after one that nobody waits for any more", () =>
    Effect.gen(function*() {
      const { answer, start } = yield* setup()
      const first = yield* start(1n, 1_000)
      const interrupted = yield* start(1n, 1_000)
      const last = yield* start(1n, 1_000)
      yield* Fiber.interrupt(interrupted)
      for (const ttl of [5n, 6n, 7n]) yield* answer(1n, ttl)
      assert.deepStrictEqual([(yield* Fiber.join(first)).ttl, (yield* Fiber.join(last)).ttl], [5n, 7n])
    }))

  it.scoped("that are not answered in time end their stream, for all; the next one opens another", () =>
    Effect.gen(function*() {
      const { answer, start, streams } = yield* setup()
      const impatient = yield* start(1n, 1_000)
      const patient = yield* start(2n, 10_000)
      yield* TestClock.adjust("1 second")
      const errors = [yield* Effect.flip(Fiber.join(impatient)), yield* Effect.flip(Fiber.join(patient))]
      assert.deepStrictEqual(errors.map(({ reason }) => reason), ["DeadlineExceeded", "DeadlineExceeded"])
      assert.deepStrictEqual(streams.map(({ isOpen, suspected }) => [isOpen, suspected]), [[false, ["silent"]]])
      const next = yield* start(1n, 1_000)
      yield* answer(1n, 5n)
      assert.strictEqual((yield* Fiber.join(next)).ttl, 5n)
      assert.lengthOf(streams, 2)
    }))

  it.scoped("that are late at the same time do not end the stream that comes after theirs", () =>
    Effect.gen(function*() {
      const { answer, start, streams } = yield* setup()
      const late = yield* Effect.forEach([1n, 2n, 3n, 4n], (id) => start(id, 1_000))
      const after = yield* Effect.forEach(
        late,
        (fiber, index) =>
          Effect.fork(
            Effect.zipRight(Fiber.await(fiber), start(BigInt(10 + index), 1_000).pipe(Effect.flatMap(Fiber.join)))
          )
      )
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.lengthOf(streams, 2)
      for (const id of [10n, 11n, 12n, 13n]) yield* answer(id, 5n)
      assert.lengthOf(yield* Effect.forEach(after, Fiber.join), 4)
    }))

  it.scoped("leave one stream open at most, however many have broken", () =>
    Effect.gen(function*() {
      const { start, streams } = yield* setup()
      for (let i = 0; i < 3; i++) {
        const waiting = yield* start(1n, 1_000)
        streams[i].handlers.onEnd(lost)
        assert.strictEqual(yield* Effect.flip(Fiber.join(waiting)), lost)
      }
      yield* start(1n, 1_000)
      assert.deepStrictEqual(streams.map(({ isOpen }) => isOpen), [false, false, false, true])
    }))

  it.scoped("fail at once on a stream that has ended before it was there", () =>
    Effect.gen(function*() {
      const { start } = yield* setup(({ handlers }) => handlers.onEnd(lost))
      assert.strictEqual(yield* Effect.flip(Fiber.join(yield* start(1n, 1_000))), lost)
    }))
})
