/** Layers and providers on a real etcd: writers change several keys together all the time, and nobody sees half of it. */
import { assert, describe, it } from "@effect/vitest"
import * as EffectConfig from "effect/Config"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Config from "../../src/Config.js"
import * as ConfigLayers from "../../src/ConfigLayers.js"
import * as EtcdClient from "../../src/EtcdClient.js"
import * as Txn from "../../src/Txn.js"
import * as EtcdServer from "../support/EtcdServer.js"
import * as TcpProxy from "../support/TcpProxy.js"

/** How many changes are made; more for a longer look. */
const changes = Number(process.env.LAYERS_CHANGES ?? 500)

const clientOf = (endpoints: string) => Effect.map(Layer.build(EtcdClient.layer({ endpoints })), (context) => context)

const keys = ["app/base", "app/production", "z/eu-1"]
const Numbers = Schema.Struct({
  base: Schema.Int,
  production: Schema.Int,
  instance: Schema.Int,
  limits: Schema.Struct({ a: Schema.Int, b: Schema.Int })
})

/** Each layer says its part of the same number; the production layer overrides, too. */
const write = (client: EtcdClient.EtcdClient["Type"], n: number) =>
  client.txn({
    success: [
      { base: n, production: -1, limits: { a: n, b: -1 } },
      { production: n, limits: { b: n } },
      { instance: n }
    ].map((layer, index) => Txn.put({ key: `/config/${keys[index]}`, value: JSON.stringify(layer) }))
  })

describe("layers on a real etcd", () => {
  it.scopedLive(
    "are never seen in part, through cuts and compactions, and end as etcd does",
    () =>
      Effect.gen(function*() {
        const server = yield* EtcdServer.make()
        const proxy = yield* TcpProxy.make(server.endpoint)
        const direct = yield* clientOf(server.endpoint)
        const proxied = yield* clientOf(proxy.endpoint)
        const writer = yield* Effect.provide(EtcdClient.EtcdClient, direct)
        yield* write(writer, 0)

        const numbersOf = ({ base, instance, limits, production }: typeof Numbers.Type) => [
          base,
          production,
          instance,
          limits.a,
          limits.b
        ]
        const mixed: Array<unknown> = []
        const check = (numbers: ReadonlyArray<number>) => {
          if (numbers.some((n) => n !== numbers[0])) mixed.push(numbers)
          return numbers[0]
        }
        const seen = yield* Ref.make(new Array<number>())
        const told = yield* Ref.make(new Array<number>())

        const layers = yield* Effect.provide(ConfigLayers.make({ keys, schema: Numbers }), proxied)
        const following = yield* Effect.fork(layers.changes.pipe(
          Stream.tap((value) => Ref.update(seen, (all) => [...all, check(numbersOf(value))])),
          Stream.takeUntil(({ base }) => base === changes),
          Stream.runDrain
        ))
        // The provider's prefix has only two of the keys: those are of one revision as well.
        const pair = EffectConfig.all([
          EffectConfig.number("base").pipe(EffectConfig.nested("base")),
          EffectConfig.number("production").pipe(EffectConfig.nested("production"))
        ])
        const telling = yield* Effect.fork(
          Config.changes("app", pair).pipe(
            Stream.map((result) => check(Either.getOrThrow(result))),
            Stream.tap((n) => Ref.update(told, (all) => [...all, n])),
            Stream.takeUntil((n) => n === changes),
            Stream.runDrain,
            Effect.provide(proxied)
          )
        )
        const reads = yield* Ref.make(0)
        const reading = yield* Effect.fork(Effect.forever(
          ConfigLayers.read({ keys, schema: Numbers }).pipe(
            Effect.tap(({ value }) => Effect.sync(() => check(numbersOf(value)))),
            Effect.zipRight(Ref.update(reads, (count) => count + 1)),
            Effect.zipRight(Effect.tap(layers.get, (value) => Effect.sync(() => check(numbersOf(value))))),
            Effect.ignore,
            Effect.provide(proxied)
          )
        ))

        yield* layers.get
        for (let n = 1; n <= changes; n++) {
          yield* write(writer, n)
          const tenth = n / changes * 10
          if (tenth === 2 || tenth === 6) yield* proxy.cut({ reset: tenth === 6 })
          if (tenth === 4) yield* proxy.refuse
          if (tenth === 5) {
            yield* proxy.cut()
            yield* Effect.flatMap(writer.range({ key: "x" }), ({ header }) => writer.compact(header.revision))
            yield* proxy.accept
          }
        }
        yield* Effect.all([Fiber.join(following), Fiber.join(telling)], { concurrency: "unbounded" })
        yield* Fiber.interrupt(reading)

        assert.deepStrictEqual(mixed, [])
        for (const all of [yield* Ref.get(seen), yield* Ref.get(told)]) {
          assert.deepStrictEqual(all, [...all].sort((a, b) => a - b), "never back")
          assert.isAbove(all.length, 10, "all along")
        }
        assert.isAbove(yield* Ref.get(reads), 10)
        const once = yield* Effect.provide(ConfigLayers.read({ keys, schema: Numbers }), direct)
        const settings = yield* layers.settings
        assert.deepStrictEqual(settings.value, once.value)
        assert.deepStrictEqual(settings.layers, once.layers)
      }),
    60_000
  )
})
