/** The ways in which the embedded engine loses a message, and the stage for the scenarios on it. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { EtcdClient } from "../../../src/EtcdClient.js"
import { EtcdError } from "../../../src/EtcdError.js"
import * as client from "../../../src/internal/client.js"
import * as clientOptions from "../../../src/internal/options.js"
import type { Transport } from "../../../src/internal/transport.js"
import { isReadOnly } from "../../../src/internal/txnShape.js"
import * as TestEtcd from "../../../src/testing.js"
import { settle } from "../../support/memory.js"
import { inVirtualTime } from "../../support/virtualTime.js"
import { play, type Scenario, servicesOver, type Trouble } from "./World.js"

type Engine = TestEtcd.Engine

/** Makes one trouble; `index` says which message is hit, from 1 on. */
export interface Way {
  readonly name: string
  /** What can be hit: every message, calls that wait for an answer, or only those that write. */
  readonly counts: "messages" | "calls" | "writes"
  readonly make: (etcd: Engine, index: number) => Effect.Effect<Trouble & Hook, never, Scope.Scope>
}

/** Between the client that is hit and its connection. */
interface Hook {
  readonly onWrite: <A>(write: Effect.Effect<A, EtcdError>) => Effect.Effect<A, EtcdError>
}

const theirs = "mine"

interface Faults {
  /** Called for every message when etcd gets it; `true` loses it there. */
  readonly onMessage?: (number: number, mine: TestEtcd.Faults) => boolean
  /** Which answers are lost. */
  readonly isLost?: (number: number) => boolean
}

const faulty = (
  name: string,
  counts: Way["counts"],
  passes: boolean,
  faults: (index: number, hit: () => void) => Faults,
  afterHit: (mine: TestEtcd.Faults) => Effect.Effect<void> = () => Effect.void
): Way => ({
  name,
  counts,
  make: (etcd, index) =>
    Effect.gen(function*() {
      const mine = etcd.connection(theirs)
      const hit = Effect.unsafeMakeLatch()
      let wasHit = false
      let begun = false
      let number = 0
      const { isLost = () => false, onMessage = () => false } = faults(index, () => {
        wasHit = true
        hit.unsafeOpen()
      })
      yield* mine.loseRequest({ match: () => begun && onMessage(++number, mine), times: Infinity })
      yield* mine.loseResponse({ match: () => begun && isLost(number), times: Infinity })
      yield* Effect.forkScoped(Effect.zipRight(hit.await, afterHit(mine)))
      return {
        passes,
        begin: Effect.sync(() => {
          begun = true
        }),
        outcome: Effect.void,
        heal: Effect.zipRight(mine.clear, mine.resume),
        wasHit: Effect.sync(() => wasHit),
        onWrite: (write) => write
      }
    })
})

const answerLost = (name: string, lost: (number: number, index: number) => boolean): Way =>
  faulty(name, "calls", true, (index, hit) => ({
    isLost: (number) => {
      if (number === index) hit()
      return lost(number, index)
    }
  }))

/** The answers to this call and to all after it are withheld for so long, while leases are kept alive. */
const withheld = (name: string, seconds: number, applied = true): Way =>
  faulty(
    name,
    "messages",
    false,
    (index, hit) => ({
      onMessage: (number, mine) => {
        if (number === index) {
          hit()
          Effect.runSync(mine.stall({ applied, streams: false }))
        }
        return false
      }
    }),
    (mine) => Effect.delay(mine.resume, `${seconds} seconds`)
  )

const lost = new EtcdError({
  operation: "txn",
  reason: "Unavailable",
  code: 14,
  mayBeApplied: true,
  detail: "Connection dropped"
})

type Fate = "arrives" | "arrives late" | "arrives, and its answer is lost"

/** The client takes a request for lost, and it arrives later. Only writes are counted. */
const late = (name: string, when: "outcome" | "heal", fateOf: (number: number, index: number) => Fate): Way => ({
  name,
  counts: "writes",
  make: (_, index) =>
    Effect.sync(() => {
      const onTheWay: Array<Effect.Effect<unknown, EtcdError>> = []
      let begun = false
      let number = 0
      let wasHit = false
      const arrive = Effect.suspend(() =>
        Effect.zipRight(Effect.forEach(onTheWay.splice(0), Effect.exit, { discard: true }), settle)
      )
      return {
        passes: true,
        begin: Effect.sync(() => {
          begun = true
        }),
        outcome: when === "outcome" ? arrive : Effect.void,
        heal: arrive,
        wasHit: Effect.sync(() => wasHit),
        onWrite: (write) =>
          Effect.suspend(() => {
            const fate = begun ? fateOf(++number, index) : "arrives"
            if (fate === "arrives") return write
            if (fate === "arrives late") onTheWay.push(write)
            wasHit = true
            return Effect.zipRight(fate === "arrives late" ? settle : Effect.exit(write), Effect.fail(lost))
          })
      }
    })
})

const isLate = (number: number, index: number): Fate => number === index ? "arrives late" : "arrives"

/** After an answer was lost, a later write arrives late. */
const isLateAfter = (distance: number) => (number: number, index: number): Fate =>
  number === index
    ? "arrives, and its answer is lost"
    : number === index + distance
    ? "arrives late"
    : "arrives"

export const ways: ReadonlyArray<Way> = [
  answerLost("its answer is lost", (number, index) => number === index),
  answerLost("its answer is lost, and so is the next", (number, index) => number === index || number === index + 1),
  faulty("the connection breaks before its answer", "messages", true, (index, hit) => ({
    onMessage: (number, mine) => {
      if (number === index) {
        hit()
        Effect.runSync(mine.disconnect)
      }
      return false
    }
  })),
  faulty("it is lost", "messages", true, (index, hit) => ({
    onMessage: (number) => {
      if (number === index) hit()
      return number === index
    }
  })),
  withheld("its answer comes when the deadline is over", 12),
  withheld("its answer comes when everybody has given up", 25),
  withheld("its answer does not come, and nothing arrives after it until everybody has given up", 25, false),
  late("it arrives when the outcome is known", "outcome", isLate),
  late("it arrives when all is over", "heal", isLate)
]

/** Ways for what is done twice, where something late from the first time may meet the second. */
export const waysOfRepetitions: ReadonlyArray<Way> = [1, 2, 3].flatMap((distance) => [
  late(
    `its answer is lost, and number ${distance} after it arrives when the outcome is known`,
    "outcome",
    isLateAfter(distance)
  ),
  late(`its answer is lost, and number ${distance} after it arrives when all is over`, "heal", isLateAfter(distance))
])

const over = (transport: Transport, { onWrite }: Hook): Transport => ({
  ...transport,
  put: (...call) => onWrite(transport.put(...call)),
  del: (...call) => onWrite(transport.del(...call)),
  txn: (...call) => isReadOnly(call[0]) ? transport.txn(...call) : onWrite(transport.txn(...call)),
  leaseGrant: (...call) => onWrite(transport.leaseGrant(...call)),
  leaseRevoke: (...call) => onWrite(transport.leaseRevoke(...call))
})

/** Plays a scenario on an engine of its own, and hits the message of this number. Whether there was such a message. */
export const playOnEngine = (scenario: Scenario, way: Way, index: number): Effect.Effect<boolean, unknown> =>
  Effect.gen(function*() {
    const etcd = yield* TestEtcd.TestEtcd
    const trouble = yield* way.make(etcd, index)
    const transport = yield* etcd.transport({ name: theirs })
    const mine = client.make(over(transport, trouble), clientOptions.defaults)
    const process = yield* Layer.build(servicesOver(Layer.scoped(EtcdClient, mine)))
    return yield* play(scenario, {
      process,
      trouble,
      outside: {
        stored: etcd.snapshot,
        leases: Effect.map(etcd.leases, (leases) => leases.map(({ id }) => id)),
        newProcess: Effect.orDie(
          Layer.build(servicesOver(TestEtcd.client({ connection: "other" }))).pipe(
            Effect.provide(Context.make(TestEtcd.TestEtcd, etcd))
          )
        )
      }
    })
  }).pipe(Effect.scoped, Effect.provide(TestEtcd.layer()), inVirtualTime)

/** How many messages the scenario needs when nothing goes wrong. */
export const countOnEngine = (scenario: Scenario): Effect.Effect<number, unknown> =>
  Effect.gen(function*() {
    let messages = 0
    const counting = faulty("nothing goes wrong", "messages", true, () => ({
      onMessage: (number) => {
        messages = number
        return false
      }
    }))
    yield* playOnEngine(scenario, counting, 0)
    return messages
  })
