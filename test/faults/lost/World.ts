/** What the scenarios of lost messages run in: the embedded engine or a real etcd, with one process that is hit. */
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Coord from "../../../src/Coord.js"
import type { EtcdClient } from "../../../src/EtcdClient.js"
import type { InvalidArgument } from "../../../src/EtcdError.js"
import { EtcdError } from "../../../src/EtcdError.js"
import * as Lock from "../../../src/Lock.js"
import type { KeyValue } from "../../../src/Txn.js"
import { text } from "../../support/memory.js"

/** The services of a process, over its client. */
export const servicesOver = <E, R>(
  client: Layer.Layer<EtcdClient, E, R>
): Layer.Layer<Coord.Coord, E | InvalidArgument, R> => Layer.provideMerge(Coord.layerServices(), client)

/** What goes wrong with the messages of the process. */
export interface Trouble {
  /** From now on messages are counted, and one of them is hit. */
  readonly begin: Effect.Effect<void>
  /** The outcome is known. What is late may arrive now. */
  readonly outcome: Effect.Effect<void>
  /** All is well again. What is late arrives now, at the latest. */
  readonly heal: Effect.Effect<void>
  readonly wasHit: Effect.Effect<boolean>
  /** Whether what the library can repeat without harm has to succeed. */
  readonly passes: boolean
}

export class World extends Context.Tag("effect-coord/test/faults/World")<
  World,
  Omit<Trouble, "heal" | "wasHit"> & {
    /** Everything in etcd, seen past the trouble. */
    readonly stored: Effect.Effect<ReadonlyArray<KeyValue>>
    readonly leases: Effect.Effect<ReadonlyArray<bigint>>
    /** The lease of the process that is hit: it lives on, so nothing goes away with it. */
    readonly lease: bigint
    /** Another process, with the same services, that nothing hits. */
    readonly other: Context.Context<Coord.Coord>
  }
>() {}

export interface Scenario {
  readonly name: string
  /** Whether it is granted leases of its own. */
  readonly grants?: boolean
  /** Whether it does something twice. */
  readonly repeats?: boolean
  /** Runs in the process that is hit. Its scope is closed in the midst of the trouble. */
  readonly run: Effect.Effect<void, unknown, World | Coord.Coord | Scope.Scope>
}

/** Waits until a condition holds; fails after 40 seconds. */
export const until = <E, R>(what: string, condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.gen(function*() {
    for (let i = 0; i < 800; i++) {
      if (yield* condition) return
      yield* Effect.sleep("50 millis")
    }
    assert.fail(`never: ${what}`)
  })

const startingWith = (prefix: string) =>
  Effect.map(
    Effect.flatMap(World, ({ stored }) => stored),
    (kvs) => kvs.filter(({ key }) => text(key).startsWith(prefix))
  )

/** The entries of a lock, oldest first. */
export const queue = (key: string) =>
  Effect.map(
    startingWith(`/locks/${key}/`),
    (kvs) => [...kvs].sort((a, b) => Number(a.createRevision - b.createRevision))
  )

/** One key as it is in etcd. */
export const kvOf = (key: string) => Effect.map(startingWith(key), (kvs) => kvs.find((kv) => text(kv.key) === key))

/**
 * The result of an operation. None when it failed as it may: by what etcd said or did not say, and not where the trouble
 * could be got over.
 */
export const resultOf = <A, E>(exit: Exit.Exit<A, E>): Effect.Effect<Option.Option<A>, never, World> =>
  Effect.map(World, ({ passes }) => {
    if (Exit.isSuccess(exit)) return Option.some(exit.value)
    const error = Option.getOrUndefined(Cause.failureOption(exit.cause))
    if (!(error instanceof EtcdError) || passes) assert.fail(`failed with ${Cause.pretty(exit.cause)}`)
    return Option.none()
  })

/** Holds the outcome of a write against what is in etcd: done means done, and what is unknown is said to be unknown. */
export const isTruthful = (exit: Exit.Exit<unknown, unknown>, applied: boolean): void => {
  if (Exit.isSuccess(exit)) return assert.isTrue(applied, "it succeeded, and was not applied")
  const error = Option.getOrUndefined(Cause.failureOption(exit.cause))
  if (!(error instanceof EtcdError)) return assert.fail(`failed with ${Cause.pretty(exit.cause)}`)
  if (applied) assert.isTrue(error.mayBeApplied, `it was applied, but the error says that it was not: ${error.message}`)
}

const isMarker = ({ key }: KeyValue): boolean => text(key).startsWith("/coord/attempts/")

/** Runs a scenario in trouble, and then sees that nothing of it is left. Returns whether the trouble hit. */
export const play = (
  { grants = false, name, run }: Scenario,
  { outside, process, trouble }: {
    readonly process: Context.Context<Coord.Coord>
    readonly trouble: Trouble
    readonly outside: Pick<World["Type"], "stored" | "leases"> & {
      readonly newProcess: Effect.Effect<Context.Context<Coord.Coord>, never, Scope.Scope>
    }
  }
): Effect.Effect<boolean, unknown> =>
  Effect.gen(function*() {
    // Holds the lease that everything in this process shares.
    const keeper = yield* Lock.acquire("keeper")
    const kept = (yield* outside.stored)[0]
    yield* Effect.scoped(Effect.gen(function*() {
      const other = yield* outside.newProcess
      yield* Effect.scoped(run).pipe(
        Effect.provideService(World, { ...trouble, ...outside, other, lease: kept.lease })
      )
      yield* trouble.heal
      const isGhost = (kv: KeyValue) => kv.lease !== 0n && !isMarker(kv) && text(kv.key) !== keeper.etcdKey
      yield* until(`no key of ${name} is left`, Effect.map(outside.stored, (kvs) => !kvs.some(isGhost)))
      for (const context of [other, process]) {
        yield* Lock.withLock("a", { timeout: "5 seconds" })(Effect.void).pipe(Effect.provide(context))
      }
    }))
    assert.isFalse(yield* keeper.isExpired, "the lease did not live on")
    const leases = yield* outside.leases
    assert.include(leases, kept.lease)
    if (!grants) assert.lengthOf(leases, 1)
    for (const kv of yield* outside.stored) {
      assert.isTrue(
        kv.lease === 0n || kv.lease === kept.lease || isMarker(kv),
        `${text(kv.key)} hangs on another lease`
      )
    }
    return yield* trouble.wasHit
  }).pipe(Effect.scoped, Effect.provide(process))
