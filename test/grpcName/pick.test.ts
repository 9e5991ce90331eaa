import { assert, describe, it } from "@effect/vitest"
import type { Candidate } from "../../src/internal/registry/pick.js"
import { choose, initialCredit, next } from "../../src/internal/registry/pick.js"

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

const chosen = (all: ReadonlyArray<Named>, down = "", zone?: string, minReadyInZone?: number): string =>
  choose(all, all.filter(({ id }) => !down.includes(id)), { zone, minReadyInZone }).map(({ id }) => id).join("")

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
})

describe("the order", () => {
  it("is smooth: a heavy one does not get its calls in a row", () => {
    assert.strictEqual(take(turns({ a: 5, b: 1, c: 1 }), 14), "aabacaaaabacaa")
  })

  it("gives each its share from any start, and goes on where it was when others come and go", () => {
    const all = turns({ a: 3, b: 2, c: 1 })
    for (const turn of all) turn.credit = initialCredit(turn.weight, Math.random())
    const got = take(all, 600)
    assert.deepStrictEqual([count(got, "a"), count(got, "b"), count(got, "c")], [300, 200, 100])
    const without = take(all.slice(0, 2), 500)
    assert.approximately(count(without, "a"), 300, 1)
    const withAll = take(all, 600)
    assert.approximately(count(withAll, "c"), 100, 1)
  })

  it("is in turn where nobody has a weight", () => {
    const got = take(turns({ a: 0, b: 0 }), 10)
    assert.deepStrictEqual([count(got, "a"), count(got, "b")], [5, 5])
  })
})
