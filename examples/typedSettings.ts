/**
 * Effect's own `Config`, read from etcd: an application says what it needs, and follows what changes while it runs.
 *
 *     npx tsx examples/typedSettings.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/typedSettings.ts
 */
import {
  Config as EffectConfig,
  ConfigProvider,
  Duration,
  Effect,
  Either,
  HashMap,
  Redacted,
  Schema,
  Stream
} from "effect"
import { Config, EtcdClient } from "effect-coord"
import { run, runName } from "./support.js"

/** What the application needs. It does not know where it comes from. */
const Database = EffectConfig.all({
  host: EffectConfig.string("host"),
  port: EffectConfig.port("port").pipe(EffectConfig.withDefault(5432)),
  password: EffectConfig.redacted("password")
}).pipe(EffectConfig.nested("database"))

const Timeout = EffectConfig.duration("timeout")

const Limits = EffectConfig.hashMap(EffectConfig.integer(), "limits")

/** A part of the application: what it reads is the newest, every time. */
const handle = Effect.gen(function*() {
  const { host, password, port } = yield* Database
  const timeout = yield* Timeout
  const limits = yield* Limits
  yield* Effect.log(
    `${host}:${port} with ${password}, within ${Duration.format(timeout)}, limits`,
    JSON.stringify(Object.fromEntries(HashMap.toEntries(limits)))
  )
})

/** What etcd does not have comes from elsewhere: from the environment, or here from a map. */
const fallback = ConfigProvider.fromMap(new Map([["timeout", "30 seconds"]]))

const follow = Config.changes(runName, Timeout, { orElse: fallback }).pipe(
  Stream.runForEach(Either.match({
    onLeft: (error) => Effect.log(`the timeout cannot be used: ${error}`),
    onRight: (timeout) => Effect.log(`the timeout is ${Duration.format(timeout)} now`)
  }))
)

/** What an operator does meanwhile, with this library, `etcdctl`, or anything else. */
const operate = Effect.gen(function*() {
  const put = (name: string, value: string) =>
    Effect.flatMap(EtcdClient.EtcdClient, (etcd) => etcd.put({ key: `/config/${runName}/${name}`, value })).pipe(
      // So that what follows from it is printed before the next.
      Effect.zipRight(Effect.sleep("100 millis"))
    )

  yield* put("timeout", "5 seconds")
  yield* handle
  // A single field, under a key of its own.
  yield* put("database/host", "db-2")
  yield* handle
  yield* put("timeout", "soon")
  yield* put("timeout", "500 millis")
  yield* handle
})

run(Effect.gen(function*() {
  yield* Config.set(
    `${runName}/database`,
    Schema.Struct({ host: Schema.String, password: Schema.Redacted(Schema.String) }),
    {
      host: "db-1",
      password: Redacted.make("hunter2")
    }
  )
  yield* Config.set(`${runName}/limits/api`, Schema.Int, 100)
  yield* Config.set(`${runName}/limits/web`, Schema.Int, 20)

  yield* Effect.gen(function*() {
    yield* handle
    yield* Effect.forkScoped(follow)
    yield* Effect.sleep("100 millis")
    yield* operate
  }).pipe(Effect.provide(Config.layerProvider(runName, { orElse: fallback })))
}))
