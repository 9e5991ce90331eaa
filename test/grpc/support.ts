/** What the suites of the gRPC client share: clients, the reading of watches, and conditions to wait for. */
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as EtcdClient from "../../src/EtcdClient.js"
import type { EtcdError, EtcdErrorReason } from "../../src/EtcdError.js"
import * as EtcdServer from "../support/EtcdServer.js"
import * as TcpProxy from "../support/TcpProxy.js"

export type Client = EtcdClient.EtcdClient["Type"]

/** A client of its own; its options are known to be right. */
export const connect = (options: EtcdClient.Options): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.orDie(EtcdClient.make(options))

export const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8")

/** Everything below `prefix`, as a range. */
export const below = (prefix: string) => ({
  key: prefix,
  rangeEnd: `${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`
})

export const everything = { key: "\0", rangeEnd: "\0" }

/** Waits until the condition holds. Fails after 20 s, so that a wrong condition does not look like a hanging test. */
export const until = <E, R>(what: string, condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  condition.pipe(
    Effect.repeat({ until: (holds) => holds, schedule: Schedule.spaced("5 millis") }),
    Effect.asVoid,
    Effect.timeoutFail({ duration: "20 seconds", onTimeout: () => new Error(`not seen in 20 s: ${what}`) }),
    Effect.catchAll((error) =>
      error instanceof Error && error.message.startsWith("not seen") ? Effect.die(error) : Effect.fail(error as E)
    )
  )

/** The failure of a call that must fail. */
export const failure = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<E, never, R> =>
  Effect.flatMap(Effect.either(effect), (either) =>
    either._tag === "Left"
      ? Effect.succeed(either.left)
      : Effect.die(new Error("succeeded where it must fail")))

export const outcome = (error: EtcdError): readonly [EtcdErrorReason, boolean] => [error.reason, error.mayBeApplied]

/** `+key=value` for a put and `-key` for a delete, with the revision. */
export const show = ({ _tag, kv }: EtcdClient.WatchEvent): string =>
  _tag === "Put" ? `+${text(kv.key)}=${text(kv.value)}@${kv.modRevision}` : `-${text(kv.key)}@${kv.modRevision}`

/** Takes events from a watch until there are `count` of them. */
export const take = (watch: EtcdClient.Watch, count: number) =>
  Effect.gen(function*() {
    const events: Array<EtcdClient.WatchEvent> = []
    while (events.length < count) {
      events.push(...yield* watch.next)
    }
    return events
  })

/** Writes `count` keys one after another and returns what a watcher has to see of it. */
export const write = (client: Client, prefix: string, count: number, from = 0) =>
  Effect.forEach(
    Array.from({ length: count }, (_, index) => from + index),
    (index) =>
      Effect.map(
        client.put({ key: `${prefix}${index % 7}`, value: String(index) }),
        ({ header }) => `+${prefix}${index % 7}=${index}@${header.revision}`
      )
  )

/** The same sequence: shows the first difference instead of thousands of lines. */
export const assertSequence = (actual: ReadonlyArray<string>, expected: ReadonlyArray<string>): void => {
  const index = expected.findIndex((value, index) => actual[index] !== value)
  if (index >= 0) assert.deepStrictEqual(actual.slice(index, index + 3), expected.slice(index, index + 3))
  assert.strictEqual(actual.length, expected.length)
}

/** The shared server of the suite behind a proxy. */
export const proxied = Effect.gen(function*() {
  const server = yield* EtcdServer.EtcdServer
  return { server, proxy: yield* TcpProxy.make(server.endpoint) }
})

/** Starts a call whose request goes through the proxy and whose answer does not. */
export const inFlight = (proxy: TcpProxy.TcpProxy, call: Effect.Effect<unknown, unknown>) =>
  Effect.gen(function*() {
    yield* proxy.stall("down")
    const before = (yield* proxy.bytes).up
    const fiber = yield* Effect.fork(call)
    yield* until("the request", Effect.map(proxy.bytes, ({ up }) => up > before))
    return fiber
  })

/** What a client's watches tell of their connection, from now on. */
export const watchStates = (client: Client) =>
  Effect.gen(function*() {
    const states: Array<EtcdClient.WatchConnection["_tag"]> = []
    yield* Effect.forkScoped(
      Stream.runForEach(Stream.changes(client.watchConnection.changes), ({ _tag }) =>
        Effect.sync(() => void states.push(_tag)))
    )
    yield* until(
      "the first state",
      Effect.sync(() =>
        states.length > 0
      )
    )
    return states
  })

/** Fails unless it ends within 3 seconds: for deadlines well below. */
export const bounded = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.timeoutFailCause(Effect.disconnect(effect), {
    duration: "3 seconds",
    onTimeout: () => Cause.die("not within its deadline")
  })

export const timeout = { timeout: 300 }

/** Every call that there is. */
export const calls = (client: Client, options = timeout): Record<string, Effect.Effect<unknown, unknown>> => ({
  range: client.get("key", options),
  pages: Stream.runDrain(client.pages({ key: "key" }, options)),
  put: client.put({ key: "key", value: "" }, options),
  delete: client.delete({ key: "key" }, options),
  txn: client.txn({ success: [{ _tag: "Put", request: { key: "key", value: "" } }] }, options),
  leaseGrant: client.leaseGrant({ ttl: 5_000 }, options),
  leaseRevoke: client.leaseRevoke(1n, options),
  leaseTimeToLive: client.leaseTimeToLive(1n, options),
  leaseKeepAlive: client.leaseKeepAliveOnce(1n, options),
  watch: Effect.scoped(client.openWatch({ key: "key" }, options)),
  status: client.status(client.endpoints[0], options),
  compact: client.compact(1n, options)
})
