/** The choice of the next instance, by gRPC's balancer and by HTTP clients. */
import { assert, describe, it } from "@effect/vitest"
import type { Candidate } from "../../src/internal/registry/pick.js"
import { choose, initialCredit, leastLoaded, next } from "../../src/internal/registry/pick.js"

interface Named extends Candidate {
  readonly id: string
}

const named = (id: string, options: Partial<Candidate> = {}): Named => ({
  id,
  weight: 1,
  zone: undefined,
  draining: false,
  credit: 0,
  ...options
})

const ids = (all: ReadonlyArray<Named>): string => all.map(({ id }) => id).join("")

const chosen = (all: ReadonlyArray<Named>, down = "", zone?: string, minReadyInZone?: number): string =>
  ids(choose(all, all.filter(({ id }) => !down.includes(id)), { zone, minReadyInZone }))

const turns = (weights: Record<string, number>) => Object.entries(weights).map(([id, weight]) => named(id, { weight }))

const take = (turns: ReadonlyArray<Named>, n: number): string =>
  Array.from({ length: n }, () => next(turns)?.id).join("")

const count = (text: string, id: string): number => text.split(id).length - 1

describe("who takes calls", () => {
  it("not those who drain or weigh nothing, unless nobody else is there", () => {
    const all = [named("a", { draining: true }), named("b", { weight: 0 }), named("c"), named("d")]
    assert.strictEqual(chosen(all), "cd")
    assert.strictEqual(chosen(all, "c"), "d")
    assert.strictEqual(chosen(all, "cd"), "ab")
    assert.strictEqual(chosen(all, "abcd"), "")
  })

  it("those of the own zone, while half of them are there", () => {
    const all = [..."abc"].map((id) => named(id, { zone: "x" })).concat(named("d", { zone: "y" }), named("e"))
    assert.strictEqual(chosen(all, "", "x"), "abc")
    assert.strictEqual(chosen(all, "a", "x"), "bc")
    assert.strictEqual(chosen(all, "ab", "x"), "cde")
    assert.strictEqual(chosen(all, "abc", "x"), "de")
    assert.strictEqual(chosen(all, "", "y"), "d")
    assert.strictEqual(chosen(all, "", "nowhere"), "abcde")
    assert.strictEqual(chosen(all), "abcde")
  })

  it("those of the own zone, while there are as many as was asked for", () => {
    const all = [..."abc"].map((id) => named(id, { zone: "x" })).concat(named("d", { zone: "y" }))
    assert.strictEqual(chosen(all, "ab", "x", 1), "c")
    assert.strictEqual(chosen(all, "a", "x", 3), "bcd")
    assert.strictEqual(chosen(all, "", "x", 4), "abcd")
  })

  it("those of other zones, when the own ones drain", () => {
    const all = [named("a", { zone: "x", draining: true }), named("b", { zone: "x" }), named("c", { zone: "y" })]
    // Who drains does not count as missing.
    assert.strictEqual(chosen(all, "", "x"), "b")
    assert.strictEqual(chosen(all, "b", "x"), "c")
    assert.strictEqual(chosen(all, "bc", "x"), "a")
  })

  it("those with the least load for their weight, where it counts", () => {
    const all = turns({ a: 2, b: 1, c: 1 })
    const inFlight: Record<string, number> = { a: 1, b: 0, c: 1 }
    assert.strictEqual(ids(leastLoaded(all, ({ id }) => inFlight[id])), "ab")
    assert.strictEqual(ids(leastLoaded([], () => 0)), "")
  })
})

describe("the order", () => {
  it("is smooth: a heavy one does not get its calls in a row", () => {
    const all = turns({ a: 5, b: 1, c: 1 })
    assert.strictEqual(take(all, 14), "aabacaaaabacaa")
    assert.deepStrictEqual(all.map(({ credit }) => credit), [0, 0, 0])
  })

  it("is in turn where weights are equal, or there are none", () => {
    assert.strictEqual(take(turns({ a: 1, b: 1, c: 1 }), 6), "abcabc")
    assert.strictEqual(take(turns({ a: 0, b: 0, c: 0 }), 6), "abcabc")
    assert.isUndefined(next([]))
  })

  it("begins anywhere, and is fair from there", () => {
    const firsts = new Set<string>()
    for (let round = 0; round < 100; round++) {
      const all = turns({ a: 1, b: 1, c: 1 })
      for (const turn of all) turn.credit = initialCredit(1, Math.random())
      const picked = take(all, 6)
      firsts.add(picked[0])
      assert.strictEqual(picked.slice(0, 3), picked.slice(3))
      assert.strictEqual(Array.from(picked.slice(0, 3)).sort().join(""), "abc")
    }
    assert.strictEqual(firsts.size, 3)
  })

  it("gives each its share from any start, and goes on where it was when others come and go", () => {
    const all = turns({ a: 3, b: 2, c: 1 })
    for (const turn of all) turn.credit = initialCredit(turn.weight, Math.random())
    const got = take(all, 600)
    assert.approximately(count(got, "a"), 300, 1)
    assert.approximately(count(got, "b"), 200, 1)
    assert.approximately(count(got, "c"), 100, 1)
    const without = take(all.slice(0, 2), 500)
    assert.approximately(count(without, "a"), 300, 1)
    const withAll = take(all, 600)
    assert.approximately(count(withAll, "c"), 100, 1)
  })

  it("forgets what a heavy one was owed, or owed, once it is light or gone", () => {
    for (const warmUp of [1, 50_000, 500_000, 500_001]) {
      const all: Array<Named & { weight: number }> = turns({ a: 1_000_000, b: 1, c: 1 })
      take(all, warmUp)
      const rest = all.slice(1)
      const withoutIt = take(rest, 20)
      assert.approximately(count(withoutIt, "b"), 10, 3, `without it, after ${warmUp}`)
      all[0].weight = 1
      const light = take(all, 30)
      for (const { id } of all) assert.approximately(count(light, id), 10, 4, `${id} of ${light}, after ${warmUp}`)
    }
  })
})
