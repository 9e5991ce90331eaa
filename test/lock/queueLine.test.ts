import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { Line } from "../../src/internal/lock/line.js"
import * as Mode from "../../src/internal/lock/mode.js"
import * as Permits from "../../src/internal/lock/permits.js"
import type { Recipe } from "../../src/internal/lock/recipe.js"
import { holders, lock } from "../../src/internal/lock/recipe.js"

const bytes = (value: unknown): Uint8Array => Buffer.from(typeof value === "string" ? value : JSON.stringify(value))

interface Entry {
  readonly key: string
  readonly createRevision: bigint
  readonly value: Uint8Array
}

/** A queue in etcd, a copy of it that comes behind, and those who wait. */
class World<Info, State> {
  readonly #recipe: Recipe<Info, State>
  readonly #line: Line<Info, State>
  /** What the watch has still to tell. */
  readonly #coming: Array<() => void> = []
  /** What the copy has, but for those that are known to be gone. */
  #present: Array<Entry> = []
  readonly #foreseen = new Set<bigint>()
  #revision = 1n
  /** What those who wait were told, by the revision of their entry. */
  readonly told = new Map<bigint, Array<string>>()
  readonly #leaves = new Map<bigint, () => void>()

  constructor(recipe: Recipe<Info, State>) {
    this.#recipe = recipe
    this.#line = new Line(recipe)
  }

  enter(key: string, value: Uint8Array): Entry {
    const entry = { key, createRevision: ++this.#revision, value }
    this.#coming.push(() => {
      if (!this.#foreseen.has(entry.createRevision)) this.#present.push(entry)
      this.#line.put(key, entry.createRevision, value)
      this.#line.advance()
    })
    return entry
  }

  wait({ createRevision, key }: Entry): void {
    if (this.told.has(createRevision)) return
    const told: Array<string> = []
    this.told.set(createRevision, told)
    const leave = this.#line.wait(key, createRevision, {
      onTurn: () => told.push("holds"),
      onGone: () => told.push("gone")
    })
    this.#leaves.set(createRevision, leave)
  }

  /** Somebody deletes the entry. */
  delete({ createRevision, key }: Entry): void {
    this.#coming.push(() => {
      this.#forget(createRevision)
      this.#line.delete(key)
      this.#line.advance()
    })
  }

  /** It leaves by itself, and says so. */
  leave(entry: Entry): void {
    const { createRevision, key } = entry
    this.#leaves.get(createRevision)?.()
    this.told.delete(createRevision)
    this.delete(entry)
    this.#foreseen.add(createRevision)
    this.#forget(createRevision)
    this.#line.foresee(key, createRevision)
  }

  tell(): boolean {
    const next = this.#coming.shift()
    next?.()
    return next !== undefined
  }

  /** Those that hold, by a plain count. */
  get holding(): ReadonlyArray<bigint> {
    const infos = this.#present.map(({ value }) => this.#recipe.read(value))
    return this.#present.slice(0, holders(this.#recipe, infos)).map(({ createRevision }) => createRevision)
  }

  #forget(revision: bigint): void {
    this.#present = this.#present.filter(({ createRevision }) => createRevision !== revision)
  }
}

const values: Record<string, FastCheck.Arbitrary<Uint8Array>> = {
  lock: FastCheck.constant(bytes("")),
  semaphore: FastCheck.oneof(
    {
      weight: 8,
      arbitrary: FastCheck.integer({ min: 1, max: 4 }).map((permits) => bytes(Permits.encode({ permits, limit: 4 })))
    },
    { weight: 1, arbitrary: FastCheck.constant(bytes(Permits.encode({ permits: 1, limit: 3 }))) },
    { weight: 1, arbitrary: FastCheck.constantFrom("", "?", "{}", "{\"permits\":9,\"limit\":4}").map(bytes) }
  ),
  "read-write lock": FastCheck.constantFrom(
    bytes(Mode.encode("read")),
    bytes(Mode.encode("read")),
    bytes(Mode.encode("write")),
    bytes("?")
  )
}

/** What is decided, at random, in every step. */
const steps = (value: FastCheck.Arbitrary<Uint8Array>) =>
  FastCheck.array(
    FastCheck.record({
      what: FastCheck.constantFrom("enter", "enter", "tell", "tell", "tell", "wait", "wait", "leave", "delete"),
      which: FastCheck.nat(20),
      value
    }),
    { maxLength: 100, size: "max" }
  )

const holdsOnly = <Info, State>(recipe: Recipe<Info, State>, value: FastCheck.Arbitrary<Uint8Array>) =>
  FastCheck.assert(
    FastCheck.property(steps(value), (plan) => {
      const world = new World(recipe)
      const entered: Array<Entry> = []
      const names = Array.from({ length: 10 }, (_, index) => `k${index}`)
      const inUse = new Set<string>()
      const held = new Set<bigint>()
      const gone = new Set<bigint>()
      for (const { value, what, which } of plan) {
        const entry = entered[which % Math.max(1, entered.length)]
        if (what === "enter") {
          // Names are used again as soon as their owner has deleted them.
          const key = names.find((name) => !inUse.has(name))
          if (key !== undefined) {
            inUse.add(key)
            entered.push(world.enter(key, value))
          }
        } else if (what === "tell") {
          world.tell()
        } else if (entry !== undefined && !gone.has(entry.createRevision)) {
          if (what === "wait") {
            world.wait(entry)
          } else {
            gone.add(entry.createRevision)
            if (what === "delete") {
              world.delete(entry)
            } else {
              world.leave(entry)
              inUse.delete(entry.key)
            }
          }
        }
        const holding = world.holding
        for (const revision of holding) {
          held.add(revision)
          const told = world.told.get(revision)
          if (told !== undefined) assert.deepStrictEqual(told, ["holds"], "at its turn")
        }
        for (const [revision, told] of world.told) {
          assert.isAtMost(told.length, 1, "once")
          if (told[0] === "holds") assert.isTrue(held.has(revision), "not before its turn")
        }
      }
      while (world.tell());
      const holding = world.holding
      for (const [revision, told] of world.told) {
        if (!gone.has(revision)) assert.deepStrictEqual(told, holding.includes(revision) ? ["holds"] : [])
        else assert.lengthOf(told, 1, "a delete is told")
      }
    }),
    { numRuns: 300 }
  )

describe("Line", () => {
  it("tells those who hold, and nobody else, whatever comes and goes", () => {
    holdsOnly(lock, values.lock)
    holdsOnly(Permits.semaphore, values.semaphore)
    holdsOnly(Mode.readWriteLock, values["read-write lock"])
  })

  it("looks at the head only, however many wait", () => {
    let looks = 0
    const counting: Recipe<void, boolean> = {
      ...lock,
      admit: (held, next) => {
        looks++
        return lock.admit(held, next)
      }
    }
    const line = new Line(counting)
    const count = 10_000
    let served = 0
    const keys = Array.from({ length: count }, (_, index) => `k${index}`)
    keys.forEach((key, index) => {
      line.put(key, BigInt(index + 1), bytes(""))
      line.wait(key, BigInt(index + 1), { onTurn: () => served++, onGone: () => {} })
    })
    line.advance()
    looks = 0
    for (const key of keys) {
      line.delete(key)
      line.advance()
    }
    assert.strictEqual(served, count)
    assert.isAtMost(looks, 2 * count, "the next one, and the one after it")
  })

  it("does not take an entry back that was known to be gone before it came", () => {
    const line = new Line(lock)
    const told: Array<string> = []
    line.foresee("a", 2n)
    line.wait("b", 3n, { onTurn: () => told.push("holds"), onGone: () => told.push("gone") })
    line.put("a", 2n, bytes(""))
    line.put("b", 3n, bytes(""))
    line.advance()
    assert.deepStrictEqual(told, ["holds"])
    line.delete("a")
    // The next one under that name is another.
    line.put("a", 4n, bytes(""))
    line.wait("a", 4n, { onTurn: () => told.push("too"), onGone: () => told.push("gone") })
    line.advance()
    line.delete("b")
    line.advance()
    assert.deepStrictEqual(told, ["holds", "too"])
  })

  it("does not mistake an entry for an earlier one under its name", () => {
    const line = new Line(lock)
    const told: Array<string> = []
    line.put("a", 2n, bytes(""))
    line.wait("a", 5n, { onTurn: () => told.push("holds"), onGone: () => told.push("gone") })
    line.advance()
    assert.deepStrictEqual(told, [])
    line.delete("a")
    line.put("a", 5n, bytes(""))
    line.advance()
    assert.deepStrictEqual(told, ["holds"])
  })

  it("takes an entry for what it was when it came, also when it is written again", () => {
    const line = new Line(Mode.readWriteLock)
    const told: Array<string> = []
    const waiter = { onTurn: () => told.push("holds"), onGone: () => told.push("gone") }
    line.put("a", 2n, bytes(Mode.encode("write")))
    line.put("b", 3n, bytes(Mode.encode("write")))
    line.wait("b", 3n, waiter)
    line.put("a", 2n, bytes(Mode.encode("read")))
    line.put("b", 3n, bytes(Mode.encode("read")))
    line.advance()
    assert.deepStrictEqual(told, [])
    line.delete("a")
    line.advance()
    assert.deepStrictEqual(told, ["holds"])
  })

  it("starts over when another history has somebody before those who hold", () => {
    const line = new Line(Mode.readWriteLock)
    const told: Array<string> = []
    const waiter = (name: string) => ({
      onTurn: () => told.push(`${name} holds`),
      onGone: () => told.push(`${name} gone`)
    })
    line.put("a", 10n, bytes(Mode.encode("write")))
    line.put("b", 11n, bytes(Mode.encode("read")))
    line.wait("b", 11n, waiter("b"))
    line.advance()
    line.put("c", 3n, bytes(Mode.encode("write")))
    line.wait("c", 3n, waiter("c"))
    line.delete("a")
    line.advance()
    assert.deepStrictEqual(told, ["c holds"])
  })
})
