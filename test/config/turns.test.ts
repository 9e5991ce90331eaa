/** Those of one process who change the same key. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Scheduler from "effect/Scheduler"
import * as TestClock from "effect/TestClock"
import * as Turns from "../../src/internal/config/turns.js"
import { pass, settle } from "../support/memory.js"

/** Interrupts an effect before its nth step. */
const interruptAt = <A, E, R>(effect: Effect.Effect<A, E, R>, step: number) =>
  Effect.gen(function*() {
    let steps = 0
    let held: Array<() => void> | undefined
    const scheduler: Scheduler.Scheduler = {
      shouldYield: () => {
        if (++steps !== step) return false
        held = []
        return 0
      },
      scheduleTask: (task, priority) =>
        held === undefined ? Scheduler.defaultScheduler.scheduleTask(task, priority) : void held.push(task)
    }
    const fiber = yield* Effect.fork(Effect.withScheduler(effect, scheduler))
    yield* settle
    fiber.unsafeInterruptAsFork(FiberId.none)
    const tasks = held ?? []
    held = undefined
    for (const task of tasks) task()
    yield* settle
    assert.isNotNull(fiber.unsafePoll())
  })

describe("turns", () => {
  const value = (revision: bigint) => ({ value: new Uint8Array(), modRevision: revision })

  it.scoped("leave nothing behind", () =>
    Effect.gen(function*() {
      const turns = yield* Turns.make
      const gate = yield* Deferred.make<void>()
      const fibers = yield* Effect.forEach(["a", "a", "a", "b"], (key) =>
        Effect.fork(turns.inTurn(key, () => Deferred.await(gate))))
      yield* settle
      assert.strictEqual(turns.size(), 2)
      yield* Fiber.interrupt(fibers[1])
      yield* Deferred.succeed(gate, undefined)
      yield* Effect.forEach(
        fibers.filter((_, index) =>
          index !== 1
        ),
        Fiber.join
      )
      assert.strictEqual(turns.size(), 0)
    }))

  it.scoped("hand on what was written after somebody came, and nothing older", () =>
    Effect.gen(function*() {
      const turns = yield* Turns.make
      const sent = yield* Deferred.make<void>()
      const gate = yield* Deferred.make<void>()
      const known: Record<string, bigint | undefined> = {}
      const look = (name: string) =>
        turns.inTurn("a", (turn) =>
          Effect.sync(() => {
            known[name] = turn.known()?.modRevision
          }))
      const writing = yield* Effect.fork(turns.inTurn("a", (turn) =>
        Effect.gen(function*() {
          yield* settle
          turn.sending()
          yield* Deferred.succeed(sent, undefined)
          yield* Deferred.await(gate)
          turn.wrote(value(5n))
        })))
      const early = yield* Effect.fork(look("early"))
      yield* Deferred.await(sent)
      const late = yield* Effect.fork(look("late"))
      yield* settle
      yield* Deferred.succeed(gate, undefined)
      yield* Effect.forEach([writing, early, late], (fiber) => Fiber.join(fiber))
      assert.deepStrictEqual(known, { early: 5n, late: undefined })
    }))

  it.scoped("do not hand on what was written before somebody came, although others write as well", () =>
    Effect.gen(function*() {
      const turns = yield* Turns.make
      const gate = yield* Deferred.make<void>()
      const known: Array<bigint | undefined> = []
      const slow = yield* Effect.fork(turns.inTurn("a", (turn) =>
        Effect.gen(function*() {
          turn.sending()
          yield* Deferred.await(gate)
          turn.wrote(value(5n))
        })))
      // It has its turn after a second, and sends when the late one has come.
      const sent = yield* Deferred.make<void>()
      const hanging = yield* Effect.fork(turns.inTurn("a", (turn) =>
        Effect.gen(function*() {
          yield* Deferred.await(sent)
          turn.sending()
          yield* Effect.never
        })))
      yield* settle
      yield* TestClock.adjust("1 second")
      const late = yield* Effect.fork(turns.inTurn("a", (turn) =>
        Effect.sync(() => {
          known.push(turn.known()?.modRevision)
        })))
      yield* settle
      yield* Deferred.succeed(sent, undefined)
      yield* settle
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(slow)
      yield* Fiber.interrupt(hanging)
      yield* Fiber.join(late)
      assert.deepStrictEqual(known, [undefined])
    }))

  it.scoped("come one by one while those before make no progress", () =>
    Effect.gen(function*() {
      const turns = yield* Turns.make
      let begun = 0
      const hang = turns.inTurn("a", () => Effect.zipRight(Effect.sync(() => begun++), Effect.never))
      const fibers = yield* Effect.replicateEffect(Effect.fork(hang), 4)
      for (const expected of [1, 2, 3, 4]) {
        yield* settle
        assert.strictEqual(begun, expected)
        yield* TestClock.adjust("1 second")
      }
      yield* Effect.forEach(fibers, Fiber.interrupt)
      assert.strictEqual(turns.size(), 0)
    }))

  it.scoped("are not taken by those who come later when one leaves who only waited", () =>
    Effect.gen(function*() {
      const turns = yield* Turns.make
      const gate = yield* Deferred.make<void>()
      const begun: Array<number> = []
      const fibers = yield* Effect.forEach([0, 1, 2], (index) =>
        Effect.fork(turns.inTurn("a", () =>
          Effect.zipRight(
            Effect.sync(() => begun.push(index)),
            Deferred.await(gate)
          ))))
      yield* settle
      yield* Fiber.interrupt(fibers[1])
      yield* settle
      assert.deepStrictEqual(begun, [0])
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(fibers[2])
      assert.deepStrictEqual(begun, [0, 2])
    }))

  it.scoped("come also when one who waited was interrupted, wherever it was", () =>
    Effect.gen(function*() {
      for (let step = 1; step <= 30; step++) {
        const turns = yield* Turns.make
        const hanging = yield* Effect.fork(turns.inTurn("a", () => Effect.never))
        yield* settle
        yield* interruptAt(turns.inTurn("a", () => Effect.never), step)
        const other = yield* Effect.fork(turns.inTurn("a", () => Effect.void))
        yield* pass("2 seconds", "1 second")
        assert.isNotNull(other.unsafePoll(), `after an interruption before step ${step}`)
        yield* Fiber.interrupt(hanging)
        assert.strictEqual(turns.size(), 0)
      }
    }))
})
