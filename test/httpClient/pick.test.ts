import { assert, describe, it } from "@effect/vitest"
import * as Pick from "../../src/internal/registry/pick.js"

interface Named extends Pick.Candidate {
  readonly name: string
}

const candidate = (name: string, traits: Partial<Pick.Candidate> = {}): Named => ({
  name,
  weight: 1,
  zone: undefined,
  draining: false,
  credit: 0,
  ...traits
})

const names = (candidates: ReadonlyArray<Named>): string => candidates.map(({ name }) => name).join("")

const sequence = (candidates: ReadonlyArray<Named>, length: number): string =>
  names(Array.from({ length }, () => Pick.next(candidates)).flatMap((next) => next === undefined ? [] : [next]))

describe("the choice of an instance", () => {
  it("spreads the requests of a heavy one among those of the others", () => {
    const all = [candidate("a", { weight: 5 }), candidate("b"), candidate("c")]
    assert.strictEqual(sequence(all, 14), "aabacaaaabacaa")
    assert.deepStrictEqual(all.map(({ credit }) => credit), [0, 0, 0])
  })

  it("takes turns where weights are equal, or there are none", () => {
    assert.strictEqual(sequence(["a", "b", "c"].map((name) => candidate(name)), 6), "abcabc")
    assert.strictEqual(sequence(["a", "b", "c"].map((name) => candidate(name, { weight: 0 })), 6), "abcabc")
    assert.strictEqual(Pick.next([]), undefined)
  })

  it("begins anywhere, and is fair from there", () => {
    const firsts = new Set<string>()
    for (let round = 0; round < 100; round++) {
      const all = ["a", "b", "c"].map((name) => candidate(name, { credit: Pick.initialCredit(1, Math.random()) }))
      const picked = sequence(all, 6)
      firsts.add(picked[0])
      assert.strictEqual(picked.slice(0, 3), picked.slice(3))
      assert.strictEqual(Array.from(picked.slice(0, 3)).sort().join(""), "abc")
    }
    assert.strictEqual(firsts.size, 3)
  })

  it("leaves out those that drain or weigh nothing, unless nobody else is ready", () => {
    const all = [candidate("a"), candidate("b", { draining: true }), candidate("c", { weight: 0 })]
    assert.strictEqual(names(Pick.choose(all, all, { zone: undefined })), "a")
    assert.strictEqual(names(Pick.choose(all, all.slice(1), { zone: undefined })), "bc")
    assert.strictEqual(names(Pick.choose(all, [], { zone: undefined })), "")
  })

  it("stays in the own zone while half of it is ready", () => {
    const all = [
      candidate("a", { zone: "near" }),
      candidate("b", { zone: "near" }),
      candidate("c", { zone: "near" }),
      candidate("d", { zone: "far" }),
      candidate("e")
    ]
    assert.strictEqual(names(Pick.choose(all, all, { zone: undefined })), "abcde")
    assert.strictEqual(names(Pick.choose(all, all, { zone: "near" })), "abc")
    assert.strictEqual(names(Pick.choose(all, all.slice(1), { zone: "near" })), "bc")
    assert.strictEqual(names(Pick.choose(all, all.slice(2), { zone: "near" })), "cde")
    assert.strictEqual(names(Pick.choose(all, all.slice(2), { zone: "near", minReadyInZone: 1 })), "c")
    assert.strictEqual(names(Pick.choose(all, all, { zone: "elsewhere" })), "abcde")
  })

  it("finds the least load for the weight", () => {
    const all = [candidate("a", { weight: 2 }), candidate("b"), candidate("c")]
    const inFlight: Record<string, number> = { a: 1, b: 0, c: 1 }
    assert.strictEqual(names(Pick.leastLoaded(all, ({ name }) => inFlight[name])), "ab")
    assert.strictEqual(names(Pick.leastLoaded([], () => 0)), "")
  })
})
