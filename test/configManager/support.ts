/** A setting to try things on. */
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type * as ConfigManager from "../../src/ConfigManager.js"
import { TestEtcd } from "../../src/testing.js"
import { eventually, pass, whileTimePasses } from "../support/memory.js"

export const Limits = Schema.Struct({ requests: Schema.Int })
export type Limits = typeof Limits.Type

export const id = { env: "test", service: "billing", component: "limits" }
export const key = "test/billing/limits"
export const etcdKey = `/config/${key}`
export const goEtcdKey = `/config/config/${key}`

export const limits = { ...id, schema: Limits, default: { requests: 1 } }

export const json = (requests: unknown) => JSON.stringify({ requests })

/** Writes as a person with `etcdctl` does. */
export const put = (value: string, key = etcdKey) => Effect.flatMap(TestEtcd, (etcd) => etcd.putKey(key, value))
export const remove = (key = etcdKey) => Effect.flatMap(TestEtcd, (etcd) => etcd.deleteKey(key))

export const isNow = ({ current }: ConfigManager.ConfigManager<Limits>, requests: number) =>
  eventually(`the limit is ${requests}`, Effect.map(current, (value) => value.requests === requests))

/** The same while time passes. */
export const becomes = ({ changes }: ConfigManager.ConfigManager<Limits>, requests: number) =>
  whileTimePasses(Stream.runDrain(Stream.takeUntil(changes, (now) => now.requests === requests)))

/** Lets so much time pass that everything has settled. */
export const longPass = pass("10 seconds", "1 second")

/** Waits until an update was refused that was not refused before, and tells why. */
export const isRejected = <A>({ status }: ConfigManager.ConfigManager<A>, version: bigint) =>
  Effect.gen(function*() {
    const rejected = Effect.map(status, (now) => now.rejected)
    yield* eventually(
      `version ${version} is refused`,
      Effect.map(rejected, Option.exists((rejection) => rejection.version === version))
    )
    return yield* Effect.flatten(rejected)
  })

/** What is logged as a warning or worse. */
export const warnings = Effect.gen(function*() {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    if (logLevel.ordinal >= 30_000) lines.push([message].flat().map(String).join(" "))
  })
  return { lines, layer: Logger.replace(Logger.defaultLogger, logger) }
})
