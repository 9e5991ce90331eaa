/** Locks of all kinds in several processes while connections break and answers get lost, held against their history. */
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { connect } from "../grpc/support.js"
import * as EtcdServer from "../support/EtcdServer.js"
import * as Processes from "../support/processes.js"
import * as TcpProxy from "../support/TcpProxy.js"
import type { Order, Told } from "./exclusion.js"
import type { Section } from "./history.js"
import { faults, sectionsOf } from "./history.js"
import { duration, seed, until } from "./support.js"

type Child = Processes.Process<Order, Told>

class Program extends Context.Tag("effect-coord/test/processes/Exclusion")<
  Program,
  Processes.Program<Order, Told>
>() {}

const stage = Layer.merge(
  EtcdServer.layer({ version: "3.5" }),
  Layer.scoped(Program, Processes.compile<Order, Told>(new URL("./fixtures/exclusion.ts", import.meta.url)))
)

/** What the processes have told so far; sections that have not ended last until now. */
const historyOf = (children: ReadonlyArray<Child>): Effect.Effect<ReadonlyArray<Section>> =>
  Effect.map(
    Effect.forEach(children, (child, index) =>
      Effect.map(child.reports, (told) => {
        const reports = told.filter((one) => one._tag === "Begin" || one._tag === "End" || one._tag === "Stalled")
        return sectionsOf(`process ${index + 1}`, reports, process.hrtime.bigint())
      })),
    (all) => all.flat()
  )

const toldBy = (child: Child, tag: Told["_tag"]) =>
  Effect.map(child.reports, (told) => told.filter(({ _tag }) => _tag === tag))

/** One trouble of one process' connection, and its end. */
const trouble = (proxy: TcpProxy.TcpProxy): Effect.Effect<void, TcpProxy.TcpProxyError> =>
  Effect.gen(function*() {
    const pause = Effect.flatMap(Random.nextIntBetween(50, 1_000), Effect.sleep)
    const kinds: ReadonlyArray<Effect.Effect<void, TcpProxy.TcpProxyError>> = [
      proxy.cut(),
      proxy.cut({ reset: true }),
      Effect.zipRight(proxy.stall("both"), pause),
      Effect.zipRight(proxy.stall("up"), pause),
      Effect.zipRight(proxy.stall("down"), pause),
      Effect.zipRight(proxy.slow({ latency: 50 }), pause),
      Effect.all([proxy.refuse, proxy.cut(), pause, proxy.accept], { discard: true }),
      ...[1, 2, 3, 4, 5].map(() =>
        Effect.gen(function*() {
          const { lost } = yield* proxy.loseResponse({ after: yield* Random.nextIntBetween(0, 10) })
          yield* Effect.timeoutOption(lost, "500 millis")
        })
      )
    ]
    yield* yield* Random.choice(kinds).pipe(Effect.orDie)
    yield* proxy.resume
  })

/** Somebody holds on to what it has, and hears nothing until all of it is lost. */
const isolation = (child: Child, proxy: TcpProxy.TcpProxy) =>
  Effect.gen(function*() {
    const lingering = Effect.map(toldBy(child, "Lingers"), ({ length }) => length)
    const before = yield* lingering
    yield* child.send("linger")
    yield* until("a section lingers", Effect.map(lingering, (count) => count > before), "10 seconds")
    yield* proxy.stall()
    yield* Effect.sleep("7 seconds")
    yield* proxy.resume
    yield* child.send("go on")
  })

const suite = layer(stage, { excludeTestServices: true, timeout: "60 seconds" })

suite("locks, semaphores and read-write locks of four processes, with cuts and lost answers", (it) => {
  it.scoped(
    "exclude whom they should, and who lost them leaves before the next one enters",
    () =>
      Effect.gen(function*() {
        const server = yield* EtcdServer.EtcdServer
        const program = yield* Program
        const stands = yield* Effect.forEach([1, 2, 3, 4], (index) =>
          Effect.gen(function*() {
            const proxy = yield* TcpProxy.make(server.endpoint)
            return { proxy, child: yield* program.start(proxy.endpoint, `${seed}-${index}`) }
          }))
        const children = stands.map(({ child }) => child)
        yield* Effect.forEach(children, ({ next }) => next)

        // Half of them lose all they have, one after the other; the others have short troubles all the time.
        const troubled = stands.slice(2).map(({ proxy }) =>
          Effect.forever(Effect.zipRight(Effect.flatMap(Random.nextIntBetween(20, 300), Effect.sleep), trouble(proxy)))
        )
        const isolated = Effect.forever(
          Effect.forEach(stands.slice(0, 2), ({ child, proxy }) => isolation(child, proxy), { discard: true })
        )
        yield* Effect.all([...troubled, isolated], { concurrency: "unbounded", discard: true }).pipe(
          Effect.timeoutOption(Duration.seconds(Number(duration))),
          Effect.withRandom(Random.make(seed))
        )

        for (const { child, proxy } of stands) {
          yield* proxy.accept
          yield* proxy.resume
          yield* child.send("go on")
          yield* child.send("end")
        }
        yield* until(
          "nobody is left behind in a queue",
          Effect.map(
            Effect.forEach(children, (child) => toldBy(child, "Stopped")),
            (told) => told.every(({ length }) => length === 1)
          ),
          "20 seconds"
        )
        const history = yield* historyOf(children)
        const interrupted = history.filter(({ outcome }) => outcome === "interrupted")
        const accepted = yield* Effect.forEach(stands, ({ proxy }) => proxy.accepted)
        const summary = `seed ${seed}: ${history.length} sections, ${interrupted.length} interrupted by a loss, ` +
          `${accepted.join(" + ")} connections`
        console.log(summary)
        assert.strictEqual(faults(history), "", summary)
        assert.isAbove(interrupted.length, 0, summary)
        for (const child of children) {
          const own = yield* historyOf([child])
          const lost = new Set((yield* toldBy(child, "Lost")).map((told) => told._tag === "Lost" ? told.token : ""))
          for (const { outcome, token } of own) {
            if (outcome === "interrupted") assert.include([...lost], String(token), "interrupted without a loss")
          }
        }
      }),
    120_000
  )

  const broken = (
    mode: string,
    hurt: (children: ReadonlyArray<Child>, endpoint: string) => Effect.Effect<void, unknown, Scope.Scope>
  ) =>
    Effect.gen(function*() {
      const server = yield* EtcdServer.EtcdServer
      const program = yield* Program
      const children = yield* Effect.forEach(
        [1, 2],
        (index) => program.start(server.endpoint, `${seed}-${index}`, mode)
      )
      yield* Effect.forEach(children, ({ next }) => next)
      yield* Effect.forkScoped(hurt(children, server.endpoint))
      yield* until(
        `a fault of who ${mode}`,
        Effect.map(historyOf(children), (history) => faults(history) !== ""),
        "20 seconds"
      )
      return faults(yield* historyOf(children))
    })

  it.scoped("are seen to fail when somebody takes no lock", () =>
    Effect.map(
      broken("takes no lock", () => Effect.void),
      (found) => assert.match(found, /^\d+ faults\nlock [a-d]: .* meets /)
    ))

  it.scoped("are seen to fail when somebody goes on without the lock that was taken from it", () =>
    Effect.gen(function*() {
      const found = yield* broken("ignores the loss", (children, endpoints) =>
        Effect.gen(function*() {
          const client = yield* connect({ endpoints })
          yield* Effect.forEach(children, ({ send }) => send("linger"))
          yield* Effect.forever(Effect.zipRight(
            Effect.sleep("300 millis"),
            client.delete({ key: "/locks/", rangeEnd: "/locks0" })
          ))
        }))
      assert.match(found, /^\d+ faults\nlock [a-d]: .* meets /)
    }))
})
