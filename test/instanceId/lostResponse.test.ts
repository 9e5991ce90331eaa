/** A message lost at every step of an allocation: see `test/faults/lostResponse.test.ts`. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { EtcdClient } from "../../src/EtcdClient.js"
import { EtcdError } from "../../src/EtcdError.js"
import * as InstanceId from "../../src/InstanceId.js"
import * as client from "../../src/internal/client.js"
import * as clientOptions from "../../src/internal/options.js"
import type { Transport } from "../../src/internal/transport.js"
import * as Session from "../../src/Session.js"
import { TestEtcd } from "../../src/testing.js"
import { countOnEngine, playOnEngine, ways, waysOfRepetitions } from "../faults/lost/engine.js"
import { resultOf, type Scenario, until, World } from "../faults/lost/World.js"
import { keys, pass, scenario as inProcess, text, whileTimePasses } from "../support/memory.js"
import { another, folder, hold, idOf, taken } from "./support.js"

const begin = Effect.flatMap(World, ({ begin }) => begin)
const outcome = Effect.flatMap(World, ({ outcome }) => outcome)

const running = (maxId: number) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const exit = yield* Effect.exit(Scope.extend(InstanceId.allocate("orders", { maxId }), scope))
    return { exit, close: Scope.close(scope, Exit.void) }
  })

const numbers = Effect.map(
  Effect.flatMap(World, ({ stored }) => stored),
  (kvs) => kvs.filter(({ key }) => text(key).startsWith(folder))
)

/** Where the trouble can be got over these are taken at once; otherwise in the end. */
const takenAre = (...expected: ReadonlyArray<number>) =>
  Effect.gen(function*() {
    const { passes } = yield* World
    const isSo = Effect.map(numbers, (kvs) => kvs.map(idOf).join() === expected.join())
    if (passes) assert.deepStrictEqual((yield* numbers).map(idOf), expected)
    else yield* until(`${expected.join()} are taken`, isSo)
  })

/** The number is held, by a key that was put once. */
const isHeld = ({ etcdKey, fencingToken, id }: InstanceId.AllocatedId) =>
  Effect.gen(function*() {
    const { lease } = yield* World
    const kv = (yield* numbers).find((kv) => idOf(kv) === id)
    assert.isDefined(kv, "the key is not there")
    assert.deepStrictEqual(
      [text(kv.key), text(kv.value), kv.createRevision, kv.version, kv.lease],
      [etcdKey, String(id), fencingToken, 1n, lease]
    )
  })

const scenarios: ReadonlyArray<Scenario> = [
  {
    name: "allocate, and the end of the scope",
    run: Effect.gen(function*() {
      yield* begin
      const { close, exit } = yield* running(8)
      yield* outcome
      const allocated = yield* resultOf(exit)
      if (Option.isSome(allocated)) {
        assert.strictEqual(allocated.value.id, 1)
        yield* isHeld(allocated.value)
        yield* takenAre(1)
      }
      yield* close
      yield* takenAre()
    })
  },
  {
    name: "allocate twice at the same time",
    run: Effect.gen(function*() {
      yield* begin
      const both = yield* Effect.all([running(8), running(8)], { concurrency: "unbounded" })
      yield* outcome
      const results = yield* Effect.forEach(both, ({ exit }) => resultOf(exit))
      const held = results.flatMap(Option.toArray)
      for (const one of held) yield* isHeld(one)
      if (held.length === 2) assert.notStrictEqual(held[0].id, held[1].id)
      yield* Effect.forEach(both, ({ close }) => close, { concurrency: "unbounded" })
      yield* takenAre()
    })
  },
  {
    name: "allocate, free, and allocate again",
    repeats: true,
    run: Effect.gen(function*() {
      yield* begin
      const first = yield* running(8)
      yield* first.close
      const { close, exit } = yield* running(8)
      yield* outcome
      yield* resultOf(first.exit)
      const allocated = yield* resultOf(exit)
      if (Option.isSome(allocated)) yield* isHeld(allocated.value)
      yield* close
      yield* takenAre()
    })
  },
  {
    name: "release",
    run: Effect.gen(function*() {
      const allocated = yield* InstanceId.allocate("orders", { maxId: 8 })
      yield* begin
      yield* allocated.release
      yield* outcome
      yield* takenAre()
      assert.strictEqual((yield* Effect.flip(allocated.release))._tag, "LockNotHeld")
    })
  },
  {
    name: "allocate the last one, while another process does",
    repeats: true,
    run: Effect.gen(function*() {
      const { other } = yield* World
      yield* begin
      const [mine, theirs] = yield* Effect.all([running(1), Effect.provide(running(1), other)], {
        concurrency: "unbounded"
      })
      yield* outcome
      const isTaken = (exit: Exit.Exit<unknown, { readonly _tag: string }>) =>
        Exit.isFailure(exit) &&
        Option.exists(Cause.failureOption(exit.cause), ({ _tag }) => _tag === "IdsExhausted")
      assert.isTrue(Exit.isSuccess(theirs.exit) || isTaken(theirs.exit))
      if (!isTaken(mine.exit)) {
        const allocated = yield* resultOf(mine.exit)
        assert.isFalse(Option.isSome(allocated) && Exit.isSuccess(theirs.exit), "two hold it")
        if (Option.isSome(allocated)) yield* isHeld(allocated.value)
      }
      yield* mine.close
      yield* theirs.close
      yield* until("none is taken", Effect.map(numbers, (kvs) => kvs.length === 0))
    })
  }
]

for (const scenario of scenarios) {
  describe(scenario.name, () => {
    const counted = Effect.runSync(Effect.cached(countOnEngine(scenario)))
    for (const way of scenario.repeats === true ? [...ways, ...waysOfRepetitions] : ways) {
      it.effect(`whichever message it is: ${way.name}`, () =>
        Effect.gen(function*() {
          const messages = yield* counted
          let hits = 0
          for (let index = 1; index <= messages; index++) {
            const wasHit = yield* Effect.mapErrorCause(
              playOnEngine(scenario, way, index),
              (cause) => Cause.die(new Error(`message ${index} of ${messages}: ${Cause.pretty(cause)}`))
            )
            if (wasHit) hits++
          }
          assert.isAbove(hits, 0)
        }))
    }
  })
}

/** Takes the next transaction for lost; it arrives when it is told to. */
const losing = (transport: Transport) =>
  Effect.gen(function*() {
    const lost = yield* Deferred.make<Effect.Effect<unknown>>()
    const goOn = yield* Deferred.make<void>()
    const txn: Transport["txn"] = (...call) =>
      Effect.flatMap(Deferred.succeed(lost, Effect.exit(transport.txn(...call))), (isFirst) =>
        isFirst
          ? Effect.zipRight(
            Deferred.await(goOn),
            new EtcdError({ operation: "txn", reason: "Unavailable", code: 14, mayBeApplied: true, detail: "dropped" })
          )
          : transport.txn(...call))
    return { transport: { ...transport, txn }, lost: Deferred.await(lost), goOn: Deferred.succeed(goOn, void 0) }
  })

describe("a number that others took meanwhile", () => {
  it.effect("is not taken by a copy that arrives when it is free again", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { goOn, lost, transport } = yield* losing(yield* etcd.transport())
      const mine = yield* Layer.build(
        InstanceId.layer().pipe(
          Layer.provideMerge(Session.layer),
          Layer.provide(Layer.scoped(EtcdClient, client.make(transport, clientOptions.defaults)))
        )
      )
      const allocating = yield* Effect.fork(Effect.provide(hold(2), mine))
      const arrive = yield* lost
      const others = yield* another("others")
      const [one, two] = yield* Effect.provide(Effect.all([hold(2), hold(2)]), others)
      yield* goOn
      const error = yield* whileTimePasses(Effect.flip(Fiber.join(allocating)))
      assert.strictEqual(error._tag, "IdsExhausted")
      yield* one.close
      yield* two.close
      yield* arrive
      assert.deepStrictEqual(yield* taken, [])
    }).pipe(inProcess))

  it.effect("is not taken beside the one that the second sending took", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { goOn, lost, transport } = yield* losing(yield* etcd.transport())
      const mine = yield* Layer.build(
        InstanceId.layer().pipe(
          Layer.provideMerge(Session.layer),
          Layer.provide(Layer.scoped(EtcdClient, client.make(transport, clientOptions.defaults)))
        )
      )
      const allocating = yield* Effect.fork(Effect.provide(hold(17), mine))
      const arrive = yield* lost
      const others = yield* another("others")
      // All sixteen that the first transaction tries.
      const all = yield* Effect.provide(Effect.all(Array.from({ length: 16 }, () => hold(17))), others)
      yield* goOn
      const allocated = yield* whileTimePasses(Fiber.join(allocating))
      assert.strictEqual(allocated.id, 17)
      yield* Effect.forEach(all, ({ close }) => close)
      yield* arrive
      assert.deepStrictEqual(yield* taken, [17])
      yield* allocated.close
      yield* pass("1 second")
      assert.deepStrictEqual((yield* keys).filter((key) => !key.startsWith("/coord/attempts/")), [])
    }).pipe(inProcess))
})
