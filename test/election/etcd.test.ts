/** Elections over a real etcd: with `etcdctl elect`, which is Go's `concurrency.Election`, and through etcd's own history. */
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import * as Coord from "../../src/Coord.js"
import * as Election from "../../src/Election.js"
import { EtcdServer } from "../support/EtcdServer.js"
import * as EtcdServers from "../support/EtcdServer.js"
import * as TcpProxy from "../support/TcpProxy.js"
import { lead, leaderValue, observer } from "./support.js"

const coord = Layer.unwrapEffect(Effect.map(EtcdServer, ({ endpoint }) => Coord.layer({ endpoints: endpoint })))

const etcdctl = (...args: ReadonlyArray<string>) => Effect.flatMap(EtcdServer, (etcd) => etcd.startEtcdctl(args))

/** Waits until so many stand in an election. */
const standing = (name: string, count: number) =>
  Effect.flatMap(
    EtcdServer,
    ({ etcdctl }) =>
      Effect.repeat(etcdctl(["get", `/elections/${name}/`, "--prefix", "--keys-only"]), {
        until: (keys) => keys.split("\n").filter((key) => key !== "").length === count
      })
  )

describe("with etcdctl, in Go's layout", () => {
  layer(Layer.provideMerge(coord, EtcdServers.layer()), { excludeTestServices: true })((it) => {
    it.effect("we wait for it and watch it, and lead when it resigns", () =>
      Effect.scoped(Effect.gen(function*() {
        const { next } = yield* observer("theirs")
        assert.strictEqual(yield* next, "-")
        const other = yield* etcdctl("elect", "/elections/theirs", "it leads")
        const key = yield* other.nextLine
        assert.strictEqual(yield* other.nextLine, "it leads")
        const leader = Option.getOrThrow(yield* Election.leader("theirs"))
        assert.deepStrictEqual([leader.etcdKey, leader.value], [key, "it leads"])
        assert.strictEqual(yield* next, `it leads@${leader.term}`)
        const mine = yield* Effect.fork(Election.campaign("theirs", { value: "we lead" }))
        yield* standing("theirs", 2)
        assert.isTrue(Option.isNone(yield* Fiber.poll(mine)))
        yield* other.signal("SIGINT")
        const { term } = yield* Fiber.join(mine)
        assert.isTrue(term > leader.term)
        assert.strictEqual(yield* next, `we lead@${term}`)
      })))

    it.effect("it waits for us and watches us, and leads when we resign", () =>
      Effect.scoped(Effect.gen(function*() {
        const { leadership, leave } = yield* lead("ours", { value: "one" })
        const watcher = yield* etcdctl("elect", "-l", "/elections/ours")
        assert.deepStrictEqual([yield* watcher.nextLine, yield* watcher.nextLine], [leadership.etcdKey, "one"])
        yield* leadership.proclaim("two")
        assert.deepStrictEqual([yield* watcher.nextLine, yield* watcher.nextLine], [leadership.etcdKey, "two"])
        const other = yield* etcdctl("elect", "/elections/ours", "it leads")
        yield* standing("ours", 2)
        assert.strictEqual(yield* leaderValue("ours"), "two")
        yield* leave
        const key = yield* other.nextLine
        assert.strictEqual(yield* other.nextLine, "it leads")
        assert.deepStrictEqual([yield* watcher.nextLine, yield* watcher.nextLine], [key, "it leads"])
        assert.strictEqual(yield* leaderValue("ours"), "it leads")
      })))
  })
})

describe("through etcd's history", () => {
  it.scopedLive("an observer that was away is told what etcd still knows, and the outcome of what was compacted", () =>
    Effect.gen(function*() {
      const etcd = yield* EtcdServers.make()
      const proxy = yield* TcpProxy.make(etcd.endpoint)
      const away = yield* Layer.build(Coord.layer({ endpoints: proxy.endpoint }))
      const here = yield* Layer.build(Coord.layer({ endpoints: etcd.endpoint }))
      const { next } = yield* Effect.provide(observer("a"), away)
      assert.strictEqual(yield* next, "-")
      const absent = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        Effect.zipRight(Effect.zipRight(proxy.refuse, proxy.cut()), effect).pipe(Effect.zipLeft(proxy.accept))
      yield* Effect.gen(function*() {
        const first = yield* absent(Effect.tap(lead("a", { value: "1" }), ({ leadership }) => leadership.proclaim("2")))
        const { term } = first.leadership
        assert.deepStrictEqual([yield* next, yield* next], [`1@${term}`, `2@${term}`])
        const second = yield* absent(Effect.gen(function*() {
          yield* first.leadership.proclaim("3")
          yield* first.leave
          const { leadership } = yield* lead("a", { value: "4" })
          yield* leadership.proclaim("5")
          const revision = Option.getOrThrow(yield* Election.leader("a")).modRevision
          yield* etcd.etcdctl(["compact", String(revision)])
          return leadership
        }))
        assert.strictEqual(yield* next, `5@${second.term}`)
      }).pipe(Effect.provide(here))
    }))

  it.scopedLive(
    "an etcd that lost its data has no leader, and its terms start over; a leader learns of its loss",
    () =>
      Effect.gen(function*() {
        const etcd = yield* EtcdServers.make()
        const here = yield* Layer.build(Coord.layer({ endpoints: etcd.endpoint }))
        yield* Effect.gen(function*() {
          for (let i = 0; i < 20; i++) yield* Effect.scoped(Election.campaign("other"))
          const { next } = yield* observer("a")
          assert.strictEqual(yield* next, "-")
          const terms = yield* Queue.unbounded<bigint>()
          yield* Effect.forkScoped(
            Election.withLeadership("a", { value: "me", ttl: "5 seconds" })(({ term }) =>
              Effect.zipRight(Queue.offer(terms, term), Effect.never)
            )
          )
          const before = yield* Queue.take(terms)
          assert.strictEqual(yield* next, `me@${before}`)
          yield* etcd.kill
          yield* etcd.startWithoutData
          const after = yield* Queue.take(terms)
          assert.isTrue(after < before)
          assert.strictEqual(yield* next, "-")
          assert.strictEqual(yield* next, `me@${after}`)
        }).pipe(Effect.provide(here))
      }),
    60_000
  )

  it.scopedLive("a leader that is cut off stops before another one leads", () =>
    Effect.gen(function*() {
      const etcd = yield* EtcdServers.make()
      const proxy = yield* TcpProxy.make(etcd.endpoint)
      const mine = yield* Layer.build(Coord.layer({ endpoints: proxy.endpoint }))
      const other = yield* Layer.build(Coord.layer({ endpoints: etcd.endpoint }))
      const order: Array<string> = []
      const note = (what: string) => Effect.sync(() => void order.push(what))
      yield* Election.withLeadership("a", { ttl: "5 seconds" })(
        Effect.onInterrupt(Effect.zipRight(note("first leads"), Effect.never), () => note("first stops"))
      ).pipe(Effect.provide(mine), Effect.forkScoped)
      yield* Election.observe("a").pipe(Stream.takeUntil(Option.isSome), Stream.runDrain, Effect.provide(other))
      const scope = yield* Scope.make()
      const second = yield* Election.campaign("a").pipe(
        Effect.zipRight(note("second leads")),
        Scope.extend(scope),
        Effect.provide(other),
        Effect.fork
      )
      yield* Effect.provide(standing("a", 2), Layer.succeed(EtcdServer, etcd))
      yield* proxy.blackHole
      yield* Fiber.join(second)
      assert.deepStrictEqual(order, ["first leads", "first stops", "second leads"])
      yield* Scope.close(scope, Exit.void)
    }))
})

/** The example as a stranger runs it; all that it and the processes it starts have printed. */
const example = (endpoint: string) =>
  Effect.async<ReadonlyArray<string>>((resume) => {
    const printed: Array<string> = []
    const child = spawn(process.execPath, ["--import", "tsx", "examples/singleton.ts"], {
      env: { ...process.env, ETCD_ENDPOINTS: endpoint },
      stdio: ["ignore", "pipe", "inherit"]
    })
    createInterface({ input: child.stdout }).on("line", (line) => printed.push(line))
    child.once("close", () => resume(Effect.succeed(printed)))
    return Effect.sync(() => void child.kill())
  })

describe("the example of a singleton", () => {
  it.scopedLive("moves it when its node is killed, and when its node is shut down", () =>
    Effect.gen(function*() {
      const etcd = yield* EtcdServers.make()
      const printed = yield* example(etcd.endpoint)
      const events = printed.flatMap((line) =>
        /(node-\d)(?:: the ticker)? (starts|stops|is killed|is shut down)$/.exec(line)?.slice(1).join(" ") ?? []
      )
      const [first, second, third] = events.flatMap((event) => /(node-\d) starts/.exec(event)?.[1] ?? [])
      assert.deepStrictEqual(events, [
        `${first} starts`,
        `${first} is killed`,
        `${second} starts`,
        `${second} is shut down`,
        `${second} stops`,
        `${third} starts`,
        `${third} stops`
      ], printed.join("\n"))
      assert.strictEqual(new Set([first, second, third]).size, 3)
      assert.strictEqual(yield* etcd.etcdctl(["get", "", "--prefix", "--keys-only"]), "", "nothing is left behind")
    }), 90_000)
})
