import { assert, describe, it } from "@effect/vitest"
import * as EntryNames from "../../src/internal/session/entryNames.js"

describe("the names of a session's entries", () => {
  it("are used again when they were given back, and are not given to two who hold them", () => {
    const names = EntryNames.make()
    const first = names.take("/locks/a/", 1n)
    first.giveBack()
    const second = names.take("/locks/a/", 1n)
    assert.strictEqual(second.key, first.key)
    assert.notStrictEqual(second.bar, first.bar)
    // It is the second one's by now.
    first.giveBack()
    assert.notStrictEqual(names.take("/locks/a/", 1n).key, second.key)
  })
})
