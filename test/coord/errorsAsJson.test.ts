/** Errors are logged as JSON in production, and JSON has no bigints. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as ConfigError from "../../src/ConfigError.js"
import { WatchCompacted, WatchNewEpoch } from "../../src/EtcdError.js"
import { LockExpired } from "../../src/LockError.js"
import { SessionExpired } from "../../src/Session.js"

const cause = new ParseResult.ParseError({ issue: new ParseResult.Type(Schema.String.ast, 5) })

const errors = [
  new LockExpired({ key: "a", fencingToken: 41n, reason: "expired" }),
  new SessionExpired({ lease: 7n, reason: "revoked" }),
  new WatchCompacted({ startRevision: 1n, compactRevision: 2n }),
  new WatchNewEpoch({ startRevision: 2n, revision: 1n }),
  new ConfigError.NotFound({ key: "a", revision: 2n }),
  new ConfigError.DecodeError({ key: "a", version: 2n, cause }),
  new ConfigError.VersionConflict({ key: "a", expected: 2n, actual: 3n }),
  new ConfigError.TransactionConflict({
    conflicts: [new ConfigError.VersionConflict({ key: "a", expected: 2n, actual: 3n })]
  }),
  new ConfigError.RevisionCompacted({ key: "a", revision: 1n, oldest: 2n }),
  new ConfigError.FutureRevision({ key: "a", revision: 9n, newest: 2n }),
  new ConfigError.LayersInvalid({
    layers: [{ key: "a", version: 2n }],
    revision: 3n,
    problems: [{ key: "a", version: 2n, path: ["b"], problem: "missing" }],
    cause
  })
]

describe("every error", () => {
  it.effect("can be logged as JSON", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.map(Logger.jsonLogger, (line) => void lines.push(line))
      yield* Effect.forEach(errors, (error) => Effect.annotateLogs(Effect.logError("failed", error), { error })).pipe(
        Effect.provide(Logger.replace(Logger.defaultLogger, logger))
      )
      assert.strictEqual(lines.length, errors.length)
      for (const [index, { _tag }] of errors.entries()) assert.include(lines[index], `"_tag":"${_tag}"`)
    }))

  it("has its numbers as texts there, at any depth", () => {
    assert.include(JSON.stringify(errors[0]), "\"fencingToken\":\"41\"")
    assert.include(JSON.stringify(errors[7]), "\"actual\":\"3\"")
    assert.include(JSON.stringify(errors[10]), "\"layers\":[{\"key\":\"a\",\"version\":\"2\"}]")
    assert.include(String(Exit.fail(errors[0])), "41")
  })

  it("keeps its numbers as they are", () => {
    const [expired] = errors
    assert.isTrue(expired instanceof LockExpired && expired.fencingToken === 41n)
  })
})
