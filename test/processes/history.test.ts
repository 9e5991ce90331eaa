import { assert, describe, it } from "@effect/vitest"
import type { Report, Section } from "./history.js"
import { disorder, overlaps, sectionsOf } from "./history.js"

const section = (resource: string, begin: number, end: number, more: Partial<Section> = {}): Section => ({
  resource,
  holder: "process",
  token: BigInt(begin),
  weight: 1,
  limit: 1,
  begin: BigInt(begin),
  end: BigInt(end),
  outcome: "done",
  ...more
})

describe("overlaps", () => {
  it("finds two who hold one lock, in whatever order they are told", () => {
    const first = section("lock", 10, 20)
    assert.deepStrictEqual(overlaps([first, section("lock", 20, 30), section("other", 15, 25)]), [])
    for (const other of [section("lock", 19, 30), section("lock", 0, 11), section("lock", 12, 13)]) {
      assert.lengthOf(overlaps([first, other]), 1)
      assert.lengthOf(overlaps([other, first]), 1)
    }
  })

  it("finds one that began long before, behind others that ended", () => {
    const sections = [section("lock", 0, 100, { weight: 0 }), section("lock", 1, 2), section("lock", 3, 4)]
    assert.deepStrictEqual(overlaps(sections), [])
    assert.lengthOf(overlaps([...sections, section("lock", 0, 100)]), 2)
  })

  it("adds up permits", () => {
    const permits = (begin: number, end: number, weight: number) => section("s", begin, end, { weight, limit: 3 })
    assert.deepStrictEqual(overlaps([permits(0, 10, 1), permits(5, 15, 2), permits(10, 20, 1)]), [])
    assert.lengthOf(overlaps([permits(0, 10, 1), permits(5, 15, 2), permits(9, 20, 1)]), 1)
  })

  it("lets readers meet, and no writer with anybody", () => {
    const limit = 1_000
    const reader = (begin: number, end: number) => section("rw", begin, end, { limit })
    const writer = (begin: number, end: number) => section("rw", begin, end, { weight: limit, limit })
    assert.deepStrictEqual(overlaps([reader(0, 10), reader(0, 10), writer(10, 20), reader(20, 30)]), [])
    assert.lengthOf(overlaps([reader(0, 10), writer(9, 20)]), 1)
    assert.lengthOf(overlaps([writer(0, 10), reader(9, 20)]), 1)
    assert.lengthOf(overlaps([writer(0, 10), writer(9, 20)]), 1)
  })
})

describe("disorder", () => {
  it("finds a token that is not larger than the one before", () => {
    const sections = [section("lock", 0, 1, { token: 5n }), section("lock", 2, 3, { token: 7n })]
    assert.deepStrictEqual(disorder(sections), [])
    assert.lengthOf(disorder([...sections, section("lock", 4, 5, { token: 7n })]), 1)
    assert.lengthOf(disorder([...sections, section("lock", 1, 2, { token: 8n })]), 1)
  })
})

describe("sectionsOf", () => {
  const begin = (section: number, time: number): Report => ({
    _tag: "Begin",
    section,
    resource: "lock",
    token: "7",
    weight: 1,
    limit: 1,
    time: String(time)
  })
  const end = (section: number, time: number): Report => ({
    _tag: "End",
    section,
    outcome: "interrupted",
    time: String(time)
  })

  it("ends what a killed process was in with its death", () => {
    const reports: ReadonlyArray<Report> = [
      begin(1, 10),
      end(1, 12),
      begin(2, 20),
      begin(3, 31)
    ]
    assert.deepStrictEqual(
      sectionsOf("p", reports, 30n).map(({ begin, end, outcome }) => [begin, end, outcome]),
      [[10n, 12n, "interrupted"], [20n, 30n, "killed"], [31n, 31n, "killed"]]
    )
  })

  it("ends what a process ended in its first turn after a stall with the stall's beginning, and nothing else", () => {
    const reports: ReadonlyArray<Report> = [
      { _tag: "Stalled", from: "20", to: "40", next: "50" },
      ...[1, 2, 3].map((section) => begin(section, 10)),
      begin(4, 41),
      end(1, 20),
      end(2, 49),
      end(3, 50),
      end(4, 45)
    ]
    assert.deepStrictEqual(
      sectionsOf("p", reports, 100n).map(({ begin, end }) => [begin, end]),
      [[10n, 20n], [10n, 20n], [10n, 50n], [41n, 41n]]
    )
  })
})
