import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Grpc from "../../src/Grpc.js"
import { Echo } from "./echo.js"
import { call, instance, memory, reaches, shares, untilEffect } from "./support.js"

const weight = (value: number) => ({ "coord.weight": String(value) })
const zone = (name: string) => ({ "coord.zone": name })

it.scopedLive("calls go by weight, which can change while they do", () =>
  Effect.gen(function*() {
    const a = yield* instance("echo", "a", { metadata: weight(3) })
    const b = yield* instance("echo", "b")
    const c = yield* instance("echo", "c", { metadata: weight(0.5) })
    const client = yield* Grpc.client(Echo, "echo")
    for (const each of [a, b, c]) yield* reaches(client, each)
    const got = yield* shares(client, 90)
    assert.deepStrictEqual(got, { a: 60, b: 20, c: 10 })
    yield* a.registration.setWeight(0)
    yield* untilEffect("a has no weight", Effect.map(shares(client, 6), ({ a }) => a === undefined))
    assert.deepStrictEqual(yield* shares(client, 30), { b: 20, c: 10 })
    // The connections were the same all the time.
    assert.deepStrictEqual([a, b, c].map((each) => each.connections()), [1, 1, 1])
  }).pipe(Effect.provide(memory)))

it.scopedLive("calls stay in their zone while enough of it is there", () =>
  Effect.gen(function*() {
    const a = yield* instance("echo", "a", { metadata: zone("x") })
    const b = yield* instance("echo", "b", { metadata: zone("x") })
    yield* instance("echo", "c", { metadata: zone("y") })
    yield* instance("echo", "d")
    const near = yield* Grpc.client(Echo, "echo", { zone: "x" })
    const strict = yield* Grpc.client(Echo, "echo", { zone: "x", minReadyInZone: 2 })
    const far = yield* Grpc.client(Echo, "echo", { zone: "z" })
    for (const client of [near, strict]) {
      yield* untilEffect(
        "the zone is connected",
        Effect.map(shares(client, 8), (got) => got.a === 4 && got.b === 4)
      )
    }
    assert.deepStrictEqual(yield* shares(near, 20), { a: 10, b: 10 })
    assert.deepStrictEqual(yield* shares(strict, 20), { a: 10, b: 10 })
    yield* untilEffect("all are connected", Effect.map(shares(far, 8), (got) => Object.keys(got).length === 4))
    assert.deepStrictEqual(yield* shares(far, 20), { a: 5, b: 5, c: 5, d: 5 })

    // Its entry stays, but nobody answers there.
    yield* b.kill
    yield* untilEffect("it is short", Effect.map(shares(strict, 9), (got) => got.c === 3 && got.d === 3))
    yield* untilEffect("the other is enough", Effect.map(shares(near, 4), ({ a }) => a === 4))
    yield* a.kill
    yield* untilEffect("nobody is left", Effect.map(shares(near, 4), (got) => got.c === 2 && got.d === 2))
    assert.strictEqual(typeof (yield* call(near)), "string")
  }).pipe(Effect.provide(memory)))
