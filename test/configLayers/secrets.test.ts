/** Secrets appear in no log, span, error or explanation, whatever is done with layers, providers and single settings. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as EffectConfig from "effect/Config"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HashMap from "effect/HashMap"
import * as List from "effect/List"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { inspect } from "node:util"
import * as Config from "../../src/Config.js"
import * as ConfigLayers from "../../src/ConfigLayers.js"
import { TestEtcd } from "../../src/testing.js"
import { scenario, settle } from "../support/memory.js"
import { recordingTracer } from "../support/recordingTracer.js"

const secret = "hunter2"

const pretty = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isFailure(exit) ? Cause.pretty(exit.cause, { renderErrorCause: true }) : "ok"

const render = (value: unknown): string => inspect(value, { depth: Infinity, showHidden: true })

/** All that a program shows: logs of every level with their annotations, spans with their attributes and ends. */
const watched = () => {
  const shown: Array<string> = []
  const logger = Logger.make<unknown, void>(({ annotations, cause, message, spans }) => {
    shown.push(render([
      message,
      Cause.pretty(cause),
      HashMap.toEntries(annotations),
      List.toArray(spans)
    ]))
  })
  const { spans, tracer } = recordingTracer((seen) => shown.push(render(seen)))
  const watch = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    effect.pipe(
      Effect.withTracer(tracer),
      Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
      Logger.withMinimumLogLevel(LogLevel.All)
    )
  return { shown, spans, watch }
}

const Account = Schema.Struct({
  user: Schema.String,
  password: Schema.Redacted(Schema.String.pipe(Schema.minLength(3))),
  port: Schema.Int,
  tokens: Schema.optional(Schema.Array(Schema.Struct({ token: Schema.Redacted(Schema.String) })))
})

const good = { user: "u", password: secret, port: 1, tokens: [{ token: secret }] }
/** Secrets where they belong, and everywhere else where somebody may put them. */
const documents: ReadonlyArray<string> = [
  JSON.stringify(good),
  JSON.stringify({ ...good, port: secret }),
  JSON.stringify({ ...good, user: [secret] }),
  JSON.stringify({ ...good, tokens: secret }),
  JSON.stringify({ ...good, tokens: [{ token: secret, tokn: secret }] }),
  JSON.stringify({ ...good, pasword: secret, other: { [`x`]: secret } }),
  JSON.stringify({ user: "u", password: { value: secret }, port: 1 }),
  `{"password": "${secret}"`,
  `["${secret}"]`,
  JSON.stringify(secret),
  secret,
  `{"__proto__": "${secret}"}`
]

const text = EffectConfig.string("password")
const configs: ReadonlyArray<EffectConfig.Config<unknown>> = [
  EffectConfig.redacted("password"),
  EffectConfig.redacted(EffectConfig.number("password")),
  EffectConfig.redacted(EffectConfig.array(EffectConfig.number(), "password")),
  EffectConfig.redacted(Schema.Config("password", Schema.String.pipe(Schema.minLength(30)))),
  EffectConfig.redacted(EffectConfig.validate(text, { message: "too short", validation: () => false })),
  EffectConfig.all({ a: EffectConfig.redacted("password"), b: EffectConfig.number("none") }),
  EffectConfig.hashMap(EffectConfig.redacted(EffectConfig.integer()))
]

describe("a secret", () => {
  it.effect("in layers is in no log, span, error or explanation", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { shown, spans, watch } = watched()
      const options = { keys: ["base", "top"], schema: Account }
      const outcomes: Array<unknown> = []
      let applied = 0
      yield* watch(Effect.gen(function*() {
        yield* etcd.putKey("/config/base", JSON.stringify(good))
        const layers = yield* ConfigLayers.make(options)
        yield* Effect.forkScoped(Stream.runForEach(layers.events, (event) =>
          Effect.sync(() => {
            if (event._tag === "Applied") applied++
            outcomes.push(event)
          })))
        for (const document of documents) {
          for (const key of ["/config/top", "/config/base"]) {
            yield* etcd.putKey(key, document)
            yield* settle
            const exits = [
              yield* Effect.exit(layers.settings),
              yield* Effect.exit(ConfigLayers.read(options)),
              yield* Effect.exit(Effect.flatMap(ConfigLayers.read(options), ({ explain }) => explain))
            ]
            const explanation = yield* layers.explain
            outcomes.push(exits, exits.map(pretty), yield* layers.status, explanation, ConfigLayers.format(explanation))
            yield* Effect.logTrace("all of it", layers, ...exits)
          }
          yield* etcd.deleteKey("/config/top")
          yield* etcd.putKey("/config/base", JSON.stringify(good))
        }
      }))
      assert.isAtLeast(applied, 2, "the good ones count")
      assert.isTrue(spans.some(({ name }) => name === "ConfigLayers.read"))
      assert.isTrue(shown.some((text) => text.includes("what counted before still does")))
      assert.isTrue(outcomes.some((outcome) => typeof outcome === "string" && outcome.includes("<redacted>")))
      for (const text of [...shown, ...outcomes.map(render)]) assert.notInclude(text, secret)
    }).pipe(scenario))

  it.effect("read by Effect's Config is in no log, span or error", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { shown, watch } = watched()
      const outcomes: Array<Exit.Exit<unknown, unknown>> = []
      yield* watch(Effect.gen(function*() {
        yield* etcd.putKey("/config/app/password", secret)
        const provider = yield* Config.provider("app")
        for (const document of [...documents, JSON.stringify([secret]), JSON.stringify({ password: secret })]) {
          yield* etcd.putKey("/config/app/password", document)
          yield* settle
          for (const config of configs) {
            const exit = yield* Effect.exit(provider.load(config)).pipe(
              Effect.tap((exit) => Effect.logTrace("loaded", exit)),
              Effect.withSpan("load")
            )
            outcomes.push(exit)
            outcomes.push(yield* Effect.exit(Stream.runHead(Config.changes("app", config))))
          }
        }
        yield* etcd.down
        yield* Effect.logTrace(provider)
      }))
      assert.isTrue(outcomes.some(Exit.isSuccess))
      assert.isTrue(outcomes.some(Exit.isFailure))
      for (const text of [...shown, ...outcomes.map(render), ...outcomes.map(pretty)]) assert.notInclude(text, secret)
    }).pipe(scenario))

  it.effect("of a single setting is in no log, span or error", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const { shown, watch } = watched()
      const outcomes: Array<unknown> = []
      yield* watch(Effect.gen(function*() {
        for (const document of documents) {
          yield* etcd.putKey("/config/app/account", document)
          const exits = [
            yield* Effect.exit(Config.get("app/account", Account)),
            yield* Effect.exit(Config.cached("app/account", Account)),
            yield* Effect.exit(Config.list("app", Account)),
            yield* Effect.exit(Config.modify("app/account", Account, () => {
              throw new Error("no")
            })),
            yield* Effect.exit(Stream.runHead(Config.watch("app/account", Account))),
            yield* Effect.exit(Stream.runCollect(Config.history("app/account", Account)))
          ]
          outcomes.push(exits, exits.map(pretty))
          yield* Effect.logTrace("all of it", ...exits)
        }
      })).pipe(Effect.provide(Config.layer()))
      for (const text of [...shown, ...outcomes.map(render)]) assert.notInclude(text, secret)
    }).pipe(scenario))
})
