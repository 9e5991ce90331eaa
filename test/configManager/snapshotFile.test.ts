/** The file that a live setting starts from without etcd. */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as TestServices from "effect/TestServices"
import { mkdir, mkdtemp, readdir, readFile, readlink, rename, rm, stat, symlink, writeFile } from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import * as ConfigManager from "../../src/ConfigManager.js"
import { TestEtcd } from "../../src/testing.js"
import * as inRealTime from "../grpc/support.js"
import { scenario, settle, whileTimePasses } from "../support/memory.js"
import {
  becomes,
  etcdKey,
  isNow,
  isRejected,
  json,
  key,
  type Limits,
  limits,
  longPass,
  put,
  remove,
  warnings
} from "./support.js"

const promise = <A>(evaluate: () => Promise<A>) => Effect.promise(evaluate)

const folder: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  promise(() => mkdtemp(Path.join(Os.tmpdir(), "effect-coord-snapshot-"))),
  (path) => promise(() => rm(path, { recursive: true, force: true }))
)

const file = Effect.map(folder, (path) => Path.join(path, "limits.json"))

/** The disk takes real time. */
const until = (what: string, condition: Effect.Effect<boolean>) =>
  TestServices.provideLive(inRealTime.until(what, condition))

const written = ({ status }: ConfigManager.ConfigManager<Limits>, version: bigint) =>
  until(
    `version ${version} is in the file`,
    Effect.map(status, ({ snapshot }) =>
      Option.exists(
        Option.flatMap(snapshot, ({ saved }) => saved),
        (saved) => saved.version === version
      ))
  )

const problem = ({ status }: ConfigManager.ConfigManager<Limits>) =>
  Effect.map(
    status,
    ({ snapshot }) => Option.getOrElse(Option.flatMap(snapshot, ({ problem }) => problem), () => "none")
  )

const contentOf = (value: string, version: bigint, setting = etcdKey, writtenAt = "1970-01-01T00:00:00.000Z") =>
  JSON.stringify({
    format: "effect-coord/config-snapshot",
    formatVersion: 1,
    setting,
    key,
    version: String(version),
    writtenAt,
    value
  })

/** Puts a symbolic link in place of what is there: nobody finds nothing in between. */
const link = (path: string, target: string) =>
  promise(() => symlink(target, `${path}.link`).then(() => rename(`${path}.link`, path)))

/** A process that was there before, and has left a file behind. */
const earlier = (snapshotFile: string, requests: number) =>
  Effect.scoped(Effect.gen(function*() {
    const version = yield* put(json(requests))
    const manager = yield* ConfigManager.make({ ...limits, snapshotFile })
    yield* written(manager, version)
    return version
  }))

describe("the snapshot file", () => {
  it.effect("has what was applied last, for its owner alone, and nothing once that is deleted", () =>
    Effect.gen(function*() {
      const snapshotFile = yield* file
      const first = yield* put(json(2))
      const manager = yield* ConfigManager.make({ ...limits, snapshotFile })
      yield* written(manager, first)
      assert.strictEqual(yield* promise(() => readFile(snapshotFile, "utf8")), contentOf(json(2), first))
      assert.strictEqual((yield* promise(() => stat(snapshotFile))).mode & 0o777, 0o600)
      yield* isRejected(manager, yield* put("x"))
      yield* TestClock.adjust("5 seconds")
      const second = yield* put(json(3))
      yield* written(manager, second)
      assert.strictEqual(
        yield* promise(() => readFile(snapshotFile, "utf8")),
        contentOf(json(3), second, etcdKey, "1970-01-01T00:00:05.000Z")
      )
      yield* remove()
      yield* isNow(manager, 1)
      yield* TestClock.adjust("5 seconds")
      yield* until(
        "no file",
        Effect.map(promise(() => readdir(Path.dirname(snapshotFile))), ({ length }) => length === 0)
      )
      const { snapshot } = yield* manager.status
      assert.deepStrictEqual(
        snapshot,
        Option.some({ file: snapshotFile, saved: Option.none(), problem: Option.none() })
      )
    }).pipe(Effect.scoped, scenario))

  it.effect("is what a setting starts from without etcd, which then has the last word", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const snapshotFile = yield* file
      const version = yield* earlier(snapshotFile, 2)
      yield* etcd.down
      yield* TestClock.adjust("1 hour")
      const seen: Array<string> = []
      const { layer, lines } = yield* warnings
      const manager = yield* whileTimePasses(ConfigManager.make({
        ...limits,
        snapshotFile,
        startTimeout: "1 second",
        onUpdate: (value, previous) => Effect.sync(() => seen.push(`${previous.requests} -> ${value.requests}`))
      })).pipe(Effect.provide(layer))
      assert.deepStrictEqual(yield* manager.current, { requests: 2 })
      const status = yield* manager.status
      assert.deepStrictEqual([status.source, status.version, status.key], ["snapshot", version, key])
      const saved = Option.flatMap(status.snapshot, ({ saved }) => saved)
      assert.isTrue(Option.exists(saved, ({ age, atMillis }) => atMillis === 0 && Duration.toHours(age) >= 1))
      assert.match(lines.join(), /starts with config "test\/billing\/limits" \(version 2, from snapshot\)/)

      yield* etcd.up
      yield* longPass
      const later = yield* manager.status
      assert.deepStrictEqual([later.source, later.version], ["etcd", version])
      assert.deepStrictEqual(seen, ["1 -> 2"])
      yield* put(json(3))
      yield* isNow(manager, 3)
    }).pipe(Effect.scoped, scenario))

  for (
    const [what, change, expected] of [
      ["changed", put(json(3)), 3],
      ["deleted", remove(), 1]
    ] as const
  ) {
    it.effect(`is overtaken by what was ${what} meanwhile`, () =>
      Effect.gen(function*() {
        const etcd = yield* TestEtcd
        const snapshotFile = yield* file
        yield* earlier(snapshotFile, 2)
        yield* etcd.down
        const manager = yield* whileTimePasses(
          ConfigManager.make({ ...limits, startTimeout: "1 second", snapshotFile })
        )
        assert.deepStrictEqual(yield* manager.current, { requests: 2 })
        yield* change
        yield* etcd.up
        yield* becomes(manager, expected)
      }).pipe(Effect.scoped, scenario))
  }

  it.effect("is not asked when etcd has an answer, even if that is that there is nothing", () =>
    Effect.gen(function*() {
      const snapshotFile = yield* file
      yield* earlier(snapshotFile, 2)
      yield* remove()
      const manager = yield* ConfigManager.make({ ...limits, snapshotFile })
      assert.deepStrictEqual(yield* manager.current, { requests: 1 })
      yield* until(
        "no file",
        Effect.map(promise(() => readdir(Path.dirname(snapshotFile))), ({ length }) => length === 0)
      )
    }).pipe(Effect.scoped, scenario))

  it.effect("helps when etcd's value is refused at the start, whose reason stays visible", () =>
    Effect.gen(function*() {
      const snapshotFile = yield* file
      yield* earlier(snapshotFile, 2)
      const version = yield* put(json("many"))
      const manager = yield* ConfigManager.make({ ...limits, snapshotFile })
      assert.deepStrictEqual(yield* manager.current, { requests: 2 })
      const { rejected, source } = yield* manager.status
      assert.strictEqual(source, "snapshot")
      assert.isTrue(Option.exists(rejected, (one) => one.version === version && one.phase === "decode"))
      yield* remove()
      yield* isNow(manager, 1)
    }).pipe(Effect.scoped, scenario))

  it.effect("is waited for no longer than an update when etcd's value cannot be interrupted", () =>
    Effect.gen(function*() {
      const snapshotFile = yield* file
      yield* earlier(snapshotFile, 2)
      yield* put(json(3))
      const latch = yield* Effect.makeLatch()
      const manager = yield* whileTimePasses(
        ConfigManager.make({
          ...limits,
          snapshotFile,
          updateTimeout: "2 seconds",
          onUpdate: ({ requests }) => requests === 3 ? Effect.uninterruptible(latch.await) : Effect.void
        }),
        "5 seconds"
      )
      assert.strictEqual((yield* manager.status).source, "default")
      // Its turn comes all the same.
      yield* latch.open
      yield* isNow(manager, 2)
      assert.strictEqual((yield* manager.status).source, "snapshot")
    }).pipe(Effect.scoped, scenario))

  it.effect("leaves the reason of etcd's value to be seen when it is refused as well", () =>
    Effect.gen(function*() {
      const snapshotFile = yield* file
      yield* earlier(snapshotFile, 2)
      const version = yield* put(json("many"))
      const manager = yield* ConfigManager.make({ ...limits, snapshotFile, validate: ({ requests }) => requests < 2 })
      const { rejected, source } = yield* manager.status
      assert.strictEqual(source, "default")
      assert.isTrue(Option.exists(rejected, (one) => one.version === version && one.source === "etcd"))
    }).pipe(Effect.scoped, scenario))

  it.effect("is not needed any more when something newer has passed meanwhile", () =>
    Effect.gen(function*() {
      const snapshotFile = yield* file
      yield* earlier(snapshotFile, 2)
      yield* put(json(3))
      const gate = yield* Effect.makeLatch()
      const seen: Array<number> = []
      const starting = yield* Effect.fork(ConfigManager.make({
        ...limits,
        snapshotFile,
        onUpdate: ({ requests }) =>
          Effect.zipRight(
            Effect.sync(() => seen.push(requests)),
            requests === 3 ? Effect.zipRight(gate.await, Effect.fail("no")) : settle
          )
      }))
      yield* until("it is tried", Effect.sync(() => seen.length === 1))
      yield* put(json(4))
      yield* settle
      yield* gate.open
      const manager = yield* Fiber.join(starting)
      yield* isNow(manager, 4)
      yield* settle
      assert.deepStrictEqual(seen, [3, 4])
      assert.deepStrictEqual(yield* manager.current, { requests: 4 })
    }).pipe(Effect.scoped, scenario))

  it.effect("has to pass all phases", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const snapshotFile = yield* file
      const version = yield* earlier(snapshotFile, 2)
      yield* etcd.down
      for (
        const [phase, options] of [
          ["validate", { validate: (value: Limits) => value.requests < 2 }],
          ["onUpdate", { onUpdate: () => Effect.fail("no") }]
        ] as const
      ) {
        const manager = yield* whileTimePasses(
          ConfigManager.make({ ...limits, startTimeout: "1 second", snapshotFile, ...options })
        )
        assert.deepStrictEqual(yield* manager.current, { requests: 1 })
        const rejection = yield* isRejected(manager, version)
        assert.deepStrictEqual([rejection.phase, rejection.source], [phase, "snapshot"])
      }
    }).pipe(Effect.scoped, scenario))

  for (
    const [what, content, expected, isReplaced] of [
      ["is cut off", contentOf(json(2), 7n).slice(0, 90), /cannot be read as a snapshot/, true],
      ["is empty", "", /cannot be read as a snapshot/, true],
      [
        "has another form",
        contentOf(json(2), 7n).replace("\"formatVersion\":1", "\"formatVersion\":2"),
        /cannot be/,
        true
      ],
      ["is something else", "key: value\n", /no snapshot: ignored, and left as it is/, false],
      ["is another setting's", contentOf(json(2), 7n, "/config/a/b/c"), /the snapshot of "\/config\/a\/b\/c"/, false]
    ] as const
  ) {
    it.effect(`is ignored, and that is told, when it ${what}`, () =>
      Effect.gen(function*() {
        const etcd = yield* TestEtcd
        const snapshotFile = yield* file
        yield* promise(() => writeFile(snapshotFile, content))
        const { layer, lines } = yield* warnings
        yield* etcd.down
        const manager = yield* whileTimePasses(
          ConfigManager.make({ ...limits, startTimeout: "1 second", snapshotFile })
        ).pipe(
          Effect.provide(layer)
        )
        assert.deepStrictEqual(yield* manager.current, { requests: 1 })
        assert.match(yield* problem(manager), expected)
        assert.match(lines.join(), expected)
        yield* etcd.up
        const version = yield* put(json(3))
        yield* becomes(manager, 3)
        if (isReplaced) {
          yield* written(manager, version)
          assert.strictEqual(yield* problem(manager), "none")
        } else {
          assert.strictEqual(yield* promise(() => readFile(snapshotFile, "utf8")), content)
          assert.match(yield* problem(manager), expected)
        }
      }).pipe(Effect.scoped, scenario))
  }

  it.effect("is left to the setting that was the first to write it", () =>
    Effect.gen(function*() {
      const { layer, lines } = yield* warnings
      yield* Effect.gen(function*() {
        const snapshotFile = yield* file
        const one = yield* ConfigManager.make({ ...limits, snapshotFile })
        const other = yield* ConfigManager.make({ ...limits, component: "other", snapshotFile })
        const version = yield* put(json(2))
        yield* written(one, version)
        yield* put(json(3), "/config/test/billing/other")
        yield* until("it is found out", Effect.map(problem(other), (problem) => problem.includes(etcdKey)))
        assert.strictEqual(yield* promise(() => readFile(snapshotFile, "utf8")), contentOf(json(2), version))
        assert.strictEqual(lines.length, 1)

        // Somebody has copied another one over it.
        yield* promise(() => writeFile(snapshotFile, contentOf(json(9), 9n, "/config/somebody/elses/limits")))
        yield* put(json(4))
        yield* whileTimePasses(isNow(one, 4))
        yield* longPass
        yield* until("that too", Effect.map(problem(one), (problem) => problem.includes("somebody")))
        assert.isTrue(Option.exists((yield* one.status).snapshot, ({ saved }) => Option.isNone(saved)))
      }).pipe(Effect.provide(layer))
    }).pipe(scenario))

  it.effect("that cannot be read is left alone, as it may be anybody's, until it can", () =>
    Effect.gen(function*() {
      const snapshotFile = yield* file
      yield* link(snapshotFile, "limits.json")
      const version = yield* put(json(2))
      const { layer, lines } = yield* warnings
      yield* Effect.gen(function*() {
        const manager = yield* ConfigManager.make({ ...limits, snapshotFile })
        const looks = (expected: RegExp) =>
          Effect.raceFirst(
            until(`it is ${expected}`, Effect.map(problem(manager), (problem) => expected.test(problem))),
            Effect.forever(TestClock.adjust("1 second"))
          )
        assert.match(yield* problem(manager), /cannot be read: ELOOP/)
        // Each look at the file belongs to an attempt to write: when another has told, the one before is over.
        yield* link(snapshotFile, ".")
        yield* looks(/cannot be read: EISDIR/)
        yield* link(snapshotFile, "limits.json")
        yield* looks(/cannot be read: ELOOP/)
        const { snapshot } = yield* manager.status
        assert.isTrue(Option.exists(snapshot, ({ saved }) => Option.isNone(saved)))
        assert.strictEqual(yield* promise(() => readlink(snapshotFile)), "limits.json")
        yield* promise(() => rm(snapshotFile))
        yield* Effect.raceFirst(written(manager, version), Effect.forever(TestClock.adjust("1 second")))
        assert.strictEqual(yield* problem(manager), "none")
      }).pipe(Effect.scoped, Effect.provide(layer))
      // Each change of what is wrong is told once; a read that is slow adds one.
      assert.isTrue(lines.length > 0 && lines.every((line, index) => line !== lines[index - 1]))
      // Somebody else's that could not be read at first.
      yield* link(snapshotFile, "limits.json")
      const manager = yield* ConfigManager.make({ ...limits, snapshotFile })
      yield* promise(() => rm(snapshotFile))
      yield* promise(() => writeFile(snapshotFile, "key: value"))
      yield* Effect.raceFirst(
        until("it is seen", Effect.map(problem(manager), (problem) => problem.includes("it is no snapshot"))),
        Effect.forever(TestClock.adjust("1 second"))
      )
      yield* put(json(3))
      yield* isNow(manager, 3)
      yield* longPass
      assert.strictEqual(yield* promise(() => readFile(snapshotFile, "utf8")), "key: value")
    }).pipe(Effect.scoped, scenario))

  it.effect("that cannot be written harms nothing, is told of, and is written when it can", () =>
    Effect.gen(function*() {
      const inside = Path.join(yield* folder, "none")
      const snapshotFile = Path.join(inside, "limits.json")
      const { layer, lines } = yield* warnings
      yield* Effect.gen(function*() {
        yield* put(json(2))
        const manager = yield* ConfigManager.make({ ...limits, snapshotFile })
        yield* until(
          "it fails",
          Effect.map(problem(manager), (problem) => problem.includes("cannot be written: ENOENT"))
        )
        const version = yield* put(json(3))
        yield* isNow(manager, 3)
        yield* longPass
        assert.lengthOf(lines, 1)
        yield* promise(() => mkdir(inside))
        yield* Effect.raceFirst(written(manager, version), Effect.forever(TestClock.adjust("1 second")))
        assert.strictEqual(yield* problem(manager), "none")
      }).pipe(Effect.scoped, Effect.provide(layer))
    }).pipe(Effect.scoped, scenario))

  it.effect("has the last of many updates when the manager is closed, and is whole at any time", () =>
    Effect.gen(function*() {
      const snapshotFile = yield* file
      const found = new Set<string>()
      const version = yield* Effect.scoped(Effect.gen(function*() {
        const manager = yield* ConfigManager.make({ ...limits, snapshotFile })
        yield* Effect.forkScoped(Effect.forever(Effect.andThen(
          promise(() => readFile(snapshotFile, "utf8").then((text) => found.add(text), () => undefined)),
          Effect.yieldNow()
        )))
        let last = 0n
        for (let i = 2; i < 2_000; i++) last = yield* put(json(i))
        yield* isNow(manager, 1_999)
        return last
      }))
      const text = yield* promise(() => readFile(snapshotFile, "utf8"))
      assert.strictEqual(text, contentOf(json(1_999), version))
      for (const content of found) assert.doesNotThrow(() => void JSON.parse(content))
      assert.deepStrictEqual(yield* promise(() => readdir(Path.dirname(snapshotFile))), ["limits.json"])
    }).pipe(Effect.scoped, scenario))

  it.effect("is not written for each of many updates", () =>
    Effect.gen(function*() {
      const snapshotFile = yield* file
      const manager = yield* ConfigManager.make({ ...limits, snapshotFile })
      const found = new Set<string>()
      // As long as the disk takes.
      const look = Effect.map(promise(() => readFile(snapshotFile, "utf8")), (text) => found.add(text))
      yield* written(manager, yield* put(json(2)))
      for (let i = 3; i < 200; i++) {
        yield* put(json(i))
        yield* isNow(manager, i)
        yield* look
      }
      assert.strictEqual(found.size, 1)
      const last = (yield* manager.status).version
      yield* TestClock.adjust("1 second")
      yield* written(manager, last)
    }).pipe(Effect.scoped, scenario))
})
