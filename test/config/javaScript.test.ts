/** What the compiler refuses, and JavaScript does not, where settings are concerned: refused by name, at once. */
import { assert, describe, it } from "@effect/vitest"
import * as EffectConfig from "effect/Config"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Config from "../../src/Config.js"
import * as ConfigLayers from "../../src/ConfigLayers.js"
import * as ConfigManager from "../../src/ConfigManager.js"
import type { EtcdClient } from "../../src/EtcdClient.js"
import { TestEtcd } from "../../src/testing.js"
import { eventually, whileTimePasses } from "../support/memory.js"
import { embedded } from "./support.js"

type Attempt = Effect.Effect<
  unknown,
  { readonly _tag: string; readonly argument?: string },
  Config.Config | EtcdClient | Scope.Scope
>

/** As one who has no compiler calls it. */
const untyped = <A>(value: unknown): A => value as A

const Text = Schema.String
const Settings = Schema.Struct({ requests: Schema.Int })

const setting = { env: "e", service: "s", component: "c", schema: Settings, default: { requests: 1 } }
const layers = { keys: ["base", "top"], schema: Schema.Struct({}) }

/** The options of the one, with those of the other in their place; what is no options stays what it is. */
const over = <A extends object>(options: A, others: unknown): A =>
  typeof others === "object" && others !== null ? { ...options, ...others } : untyped(others)

/** What has options, with the names of those that any value of another kind is tried in place of. */
const withOptions: ReadonlyArray<
  readonly [what: string, attempt: (options: never) => Attempt, names: ReadonlyArray<string>]
> = [
  ["Config.make", (options) => Config.make(options), ["prefix"]],
  ["Config.layer", (options) => Layer.build(Config.layer(options)), ["prefix"]],
  ["Config.set", (options) => Config.set("a", Text, "b", options), ["guard", "lease"]],
  ["Config.compareAndSet", (options) => Config.compareAndSet("a", Text, "b", 0n, options), ["guard", "lease"]],
  ["Config.modify", (options) => Config.modify("a", Text, () => "b", options), ["guard", "lease", "schedule"]],
  [
    "Config.modifyEffect",
    (options) => Config.modifyEffect("a", Text, () => Effect.succeed("b"), options),
    ["guard", "lease", "schedule"]
  ],
  ["Config.transaction", (options) => Config.transaction([Config.remove("a")], options), ["guard"]],
  ["Config.put", (options) => Config.transaction([Config.put("a", Text, "b", options)]), ["version", "lease"]],
  ["Config.remove", (options) => Config.transaction([Config.remove("a", options)]), ["version"]],
  ["Config.delete", (options) => Config.delete("a", options), ["guard"]],
  ["Config.rollback", (options) => Config.rollback("a", 1n, options), ["guard", "lease", "expected"]],
  ["Config.list", (options) => Config.list("a", Text, options), ["revision"]],
  ["Config.provider", (options) => Config.provider("a", options), ["timeout", "orElse", "configPrefix"]],
  ["Config.layerProvider", (options) => Layer.build(Config.layerProvider("a", options)), ["timeout", "orElse"]],
  [
    "Config.changes",
    (options) => Stream.runHead(Config.changes("a", EffectConfig.string("b"), options)),
    ["timeout", "orElse", "configPrefix"]
  ],
  [
    "ConfigManager.make",
    (options) => ConfigManager.make(over(setting, options)),
    [
      "env",
      "service",
      "component",
      "default",
      "validate",
      "onUpdate",
      "updateTimeout",
      "startTimeout",
      "snapshotFile",
      "goKey",
      "prefix"
    ]
  ],
  ["ConfigManager.key", (options) => ConfigManager.key(options), []],
  [
    "ConfigLayers.make",
    (options) => ConfigLayers.make(over(layers, options)),
    ["keys", "timeout", "updateTimeout", "prefix"]
  ],
  [
    "ConfigLayers.read",
    (options) => ConfigLayers.read(over(layers, options)),
    ["keys", "prefix"]
  ]
]

const others: ReadonlyArray<readonly [what: string, attempt: () => Attempt, argument: string]> = [
  [
    "no default",
    () => ConfigManager.make({ ...setting, default: untyped<typeof Settings.Type>(undefined) }),
    "default"
  ],
  ["another default", () => ConfigManager.make({ ...setting, default: { requests: 1.5 } }), "default"],
  ["a layer that has no name", () => ConfigLayers.make({ ...layers, keys: ["base", untyped(5)] }), "keys"],
  ["no function to modify with", () => Config.modify("a", Text, untyped("b")), "f"],
  ["no function to modify with, in an effect", () => Config.modifyEffect("a", Text, untyped(undefined)), "f"],
  ["a number in place of steps", () => Config.transaction(untyped(5)), "steps"],
  ["no steps", () => Config.transaction(untyped(undefined)), "steps"],
  ["a step that is none", () => Config.transaction([untyped(null)]), "steps"],
  ["a step of another kind", () => Config.transaction([untyped({ _tag: "Move", key: "a" })]), "steps"],
  ["a lock in place of its guard", () => Config.set("a", Text, "b", { guard: untyped({ key: "a" }) }), "guard"],
  ["guards of which one is missing", () => Config.delete("a", { guard: [untyped(undefined)] }), "guard"],
  ["a version in place of a step's options", () => Config.transaction([Config.remove("a", untyped(5n))]), "options"],
  [
    "no key, and no schema that could be kept",
    () => Config.transaction([Config.put(untyped(5), Schema.BigIntFromSelf, 5n)]),
    "key"
  ],
  ["no Config of effect", () => Stream.runHead(Config.changes("a", untyped<EffectConfig.Config<string>>({}))), "config"]
]

/** Nothing was asked of etcd, and nothing is there that was not before. */
const nothingHappened = Effect.gen(function*() {
  const { calls, watchers } = yield* (yield* TestEtcd).usage
  assert.deepStrictEqual([Object.values(calls).filter((count) => count > 0), watchers], [[], 0])
})

const isRefused = (what: string, attempt: Attempt, argument: string) =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(Effect.scoped(attempt))
    assert.deepEqual([error._tag, error.argument], ["InvalidArgument", argument], what)
  })

describe("what JavaScript lets pass", () => {
  it.effect("is refused where options should be", () =>
    Effect.gen(function*() {
      for (const [what, attempt] of withOptions) {
        for (const options of [null, 5, "10 seconds", 5n]) {
          yield* isRefused(`${what} with ${options}`, Effect.suspend(() => attempt(untyped(options))), "options")
        }
      }
      yield* nothingHappened
    }).pipe(Effect.provide(embedded())))

  it.effect("is refused where an option should be", () =>
    Effect.gen(function*() {
      for (const [what, attempt, names] of withOptions) {
        for (const name of names) {
          for (const value of [null, Symbol("s"), {}, [{}]]) {
            yield* isRefused(`${what}, ${name}`, Effect.suspend(() => attempt(untyped({ [name]: value }))), name)
          }
        }
      }
      yield* nothingHappened
    }).pipe(Effect.provide(embedded())))

  it.effect("is refused where anything else should be", () =>
    Effect.gen(function*() {
      for (const [what, attempt, argument] of others) yield* isRefused(what, Effect.suspend(attempt), argument)
      yield* nothingHappened
    }).pipe(Effect.provide(embedded())))

  for (
    const [what, options, phase] of [
      ["onUpdate that gives no effect", { onUpdate: () => undefined }, "onUpdate"],
      ["validate that gives a promise", { validate: async () => true }, "validate"]
    ] as const
  ) {
    it.effect(`is an update refused with the reason: ${what}`, () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const given = { ...setting, ...untyped<{ readonly onUpdate: () => Effect.Effect<void> }>(options) }
        const made = Scope.extend(ConfigManager.make(given), scope)
        if (phase === "validate") {
          const error = yield* Effect.flip(made)
          assert.strictEqual(error._tag === "InvalidArgument" && error.argument, "default")
          assert.match(error.message, /validate has to give an effect/)
        } else {
          yield* Config.set("e/s/c", Settings, { requests: 2 })
          const manager = yield* made
          yield* eventually("it is refused", Effect.map(manager.status, ({ rejected }) => Option.isSome(rejected)))
          const { reason } = yield* Effect.flatten(Effect.map(manager.status, ({ rejected }) => rejected))
          assert.match(reason, /onUpdate has to give an effect/)
        }
        yield* whileTimePasses(Scope.close(scope, Exit.void))
      }).pipe(Effect.provide(embedded())))
  }
})
