/** A setting that holds a secret shows it to nobody who is not given it. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { inspect } from "node:util"
import * as ConfigManager from "../../src/ConfigManager.js"
import { scenario } from "../support/memory.js"
import { recordingTracer } from "../support/recordingTracer.js"
import { id, isRejected, put } from "./support.js"

const secret = "hunter2"
const Account = Schema.Struct({ password: Schema.Redacted(Schema.String), port: Schema.Int })

/** An application's own error, which quotes the secret. */
class Refused extends Data.TaggedError("Refused")<{ readonly message: string; readonly cause: unknown }> {}

const text = (port: number | string) => JSON.stringify({ password: secret, port })

/** Everything there is to see of something. */
const views = (seen: unknown): ReadonlyArray<string> => [
  inspect(seen, { depth: Infinity, showHidden: true }),
  JSON.stringify(seen, (_, value: unknown) => typeof value === "bigint" ? String(value) : value)
]

describe("a secret", () => {
  it.effect("is in no log, span, status or error, whoever refuses it and whatever they say", () =>
    Effect.gen(function*() {
      const spans: Array<unknown> = []
      const logs: Array<unknown> = []
      const shown: Array<unknown> = []
      const reasons: Array<string> = []
      const logger = Logger.make(({ annotations, cause, message }) => {
        logs.push([message, annotations, Cause.pretty(cause, { renderErrorCause: true })])
      })
      const account = {
        ...id,
        schema: Account,
        default: { password: Redacted.make(secret), port: 1 },
        validate: ({ password, port }: typeof Account.Type) =>
          port === 2 ? Effect.fail(`${Redacted.value(password)} is too short`) : true,
        onUpdate: ({ password, port }: typeof Account.Type) =>
          port === 3
            ? Effect.fail(new Refused({ message: `no ${Redacted.value(password)}`, cause: Redacted.value(password) }))
            : port === 4
            ? Effect.die(`no ${Redacted.value(password)}`)
            : Effect.void
      }
      yield* Effect.gen(function*() {
        const manager = yield* ConfigManager.make(account)
        for (const value of [`{"password": "${secret}"`, text("none"), text(2), text(3), text(4)]) {
          const version = yield* put(value)
          reasons.push((yield* isRejected(manager, version)).reason.split("\n")[0])
          shown.push(yield* manager.status, yield* manager.reload)
        }
        yield* put(text(5))
        yield* manager.reload
        shown.push(yield* manager.status)
        assert.strictEqual(Redacted.value((yield* manager.current).password), secret)
        shown.push(yield* Effect.flip(ConfigManager.make({ ...account, validate: () => Effect.fail(secret) })))
        shown.push(yield* Effect.flip(ConfigManager.make({ ...account, validate: () => Effect.die(secret) })))
      }).pipe(
        Effect.scoped,
        Effect.withTracer(recordingTracer((seen) => spans.push(seen)).tracer),
        Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
        Logger.withMinimumLogLevel(LogLevel.All)
      )
      assert.deepStrictEqual(reasons, [
        "{ readonly password: (string <-> Redacted(<redacted>)); readonly port: Int }",
        "{ readonly password: (string <-> Redacted(<redacted>)); readonly port: Int }",
        "it failed with Error (what that says is hidden, as the schema holds secrets)",
        "it failed with Refused (what that says is hidden, as the schema holds secrets)",
        "it failed with Error (what that says is hidden, as the schema holds secrets)"
      ])
      for (const view of [...views(shown), ...views(logs), ...views(spans), ...shown.map(String)]) {
        assert.isFalse(view.includes(secret), view)
      }
      assert.isAbove(logs.length, 10)
      assert.isAbove(spans.length, 10)
    }).pipe(scenario))

  it.effect("can still be found out by those who ask for the cause", () =>
    Effect.gen(function*() {
      const manager = yield* ConfigManager.make({
        ...id,
        schema: Account,
        default: { password: Redacted.make(""), port: 1 },
        validate: ({ password, port }) => port === 1 || Effect.fail(Redacted.value(password))
      })
      const { cause } = yield* isRejected(manager, yield* put(text(2)))
      assert.deepStrictEqual(Cause.failureOption(Redacted.value(cause)), Option.some(secret))
    }).pipe(scenario))
})
