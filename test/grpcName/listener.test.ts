/** What the resolver tells grpc-js, and when. */
import { assert, it } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Resolver from "../../src/internal/grpcName/resolver.js"
import type { Known, View } from "../../src/internal/grpcName/view.js"
import type { ServiceInfo } from "../../src/Registry.js"

const turn = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

const scenario = () => {
  Resolver.register()
  const listeners = new Set<() => void>()
  let known: Known | undefined
  const view: View = {
    current: () => known,
    onChange: (listener) => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    }
  }
  const told: Array<string> = []
  const resolver = grpc.experimental.createResolver(
    { scheme: Resolver.scheme, path: "echo" },
    (endpoints) => {
      told.push(
        endpoints.ok
          ? endpoints.value.map(grpc.experimental.endpointToString).join(" ")
          : `${grpc.status[endpoints.error.code]}: ${endpoints.error.details}`
      )
      return true
    },
    Resolver.channelOptions({ name: "echo", view, balancerDrains: true, construct: () => {} })
  )
  const set = (next: Known): void => {
    known = next
    for (const listener of Array.from(listeners)) listener()
  }
  return {
    resolver,
    /** What it has told since the last time. */
    told: Effect.map(turn, () => told.splice(0)),
    toldAtOnce: () => told.length,
    know: (...ports: ReadonlyArray<number>) =>
      set({
        _tag: "Instances",
        services: ports.map((port): ServiceInfo => ({
          id: String(port),
          name: "echo",
          address: "10.0.0.1",
          port,
          metadata: { at: String(Math.random()) }
        }))
      }),
    fail: (problem: string) => set({ _tag: "Unknown", problem }),
    listeners
  }
}

it.effect("tells what it knows once, and then what changes, and never at once", () =>
  Effect.gen(function*() {
    const { know, resolver, told, toldAtOnce } = scenario()
    resolver.updateResolution()
    assert.deepStrictEqual(yield* told, [])
    know(1)
    assert.strictEqual(toldAtOnce(), 0)
    assert.deepStrictEqual(yield* told, ["[10.0.0.1:1]"])
    // However often it is asked.
    for (let i = 0; i < 10; i++) resolver.updateResolution()
    assert.deepStrictEqual(yield* told, [])
    // What balancers do not see is no change.
    know(1)
    assert.deepStrictEqual(yield* told, [])
    // Of several changes, the last.
    know(1, 2)
    know(1, 2, 3)
    assert.deepStrictEqual(yield* told, ["[10.0.0.1:1] [10.0.0.1:2] [10.0.0.1:3]"])
    know()
    assert.deepStrictEqual(yield* told, ["", "UNAVAILABLE: no instance of echo is registered"])
    know(1)
    assert.deepStrictEqual(yield* told, ["[10.0.0.1:1]"])
  }))

it.effect("is silent after its end, until it is asked again", () =>
  Effect.gen(function*() {
    const { know, listeners, resolver, told, toldAtOnce } = scenario()
    know(1)
    assert.strictEqual(listeners.size, 0)
    resolver.updateResolution()
    assert.strictEqual(toldAtOnce(), 0)
    assert.deepStrictEqual(yield* told, ["[10.0.0.1:1]"])
    know(2)
    resolver.destroy()
    assert.strictEqual(listeners.size, 0)
    know(3)
    assert.deepStrictEqual(yield* told, [])
    resolver.updateResolution()
    assert.deepStrictEqual(yield* told, ["[10.0.0.1:3]"])
  }))

it.effect("tells of problems before the first list", () =>
  Effect.gen(function*() {
    const { fail, know, resolver, told } = scenario()
    resolver.updateResolution()
    fail("etcd refuses")
    assert.deepStrictEqual(yield* told, ["UNAVAILABLE: etcd refuses"])
    know(1)
    assert.deepStrictEqual(yield* told, ["[10.0.0.1:1]"])
  }))
