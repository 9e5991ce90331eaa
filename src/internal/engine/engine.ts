/**
 * The embedded etcd: one member, the links to its clients, and the controls that `effect-coord/testing` hands out.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Statuses } from "../etcdErrors.js"
import { fromBinary } from "./bytes.js"
import { Connection, type Server } from "./Connection.js"
import { dropped } from "./errors.js"
import { type Endpoint, Link } from "./Link.js"
import { Member } from "./Member.js"
import type { Engine, Faults, LeaseState, Options } from "./model.js"
import { toKeyValue } from "./Store.js"
import * as Turns from "./Turns.js"
import type { WatchServer } from "./WatchServer.js"

const makeFaults = (link: Link): Faults => {
  const total = (count: (endpoint: Endpoint) => number) =>
    link.endpoints.reduce((sum, endpoint) => sum + count(endpoint), 0)
  return {
    disconnect: Effect.sync(() => link.cut(dropped, dropped)),
    down: Effect.sync(() => {
      link.setDown(true)
      link.cut(dropped, dropped)
    }),
    up: Effect.sync(() => link.setDown(false)),
    stall: (options) => Effect.sync(() => link.stall(options)),
    resume: Effect.sync(() => link.resume()),
    loseRequest: (options) => Effect.sync(() => link.addFault({ _tag: "LoseRequest" }, options)),
    loseResponse: (options) => Effect.sync(() => link.addFault({ _tag: "LoseResponse" }, options)),
    refuse: (status, options) => Effect.sync(() => link.addFault({ _tag: "Refuse", status }, options)),
    clear: Effect.sync(() => link.clearFaults()),
    usage: Effect.sync(() => ({
      calls: link.calls,
      callsInFlight: total((endpoint) => endpoint.callsInFlight()),
      watchStreams: total((endpoint) => endpoint.watchStreams()),
      leaseStreams: total((endpoint) => endpoint.leaseStreams()),
      watchers: total((endpoint) => endpoint.watchers())
    })),
    resetUsage: Effect.sync(() => link.resetCalls())
  }
}

export const make = (options: Options = {}): Effect.Effect<Engine, never, Scope.Scope> =>
  Effect.gen(function*() {
    const watchServers = new Set<WatchServer>()
    const turns: Turns.Turns = yield* Turns.make({
      deadline: () => member.lessor.earliest,
      onDeadline: () => member.expireLeases()
    })
    const member: Member = new Member({
      now: turns.now,
      onCommit: (commit) => watchServers.forEach((server) => server.commit(commit)),
      onDeadline: turns.wake,
      minLeaseTtl: BigInt(Math.ceil(Duration.toSeconds(options.minLeaseTtl ?? "2 seconds"))),
      electionTimeout: BigInt(Math.ceil(Duration.toMillis(options.electionTimeout ?? "1 second"))) * 1_000_000n,
      maxTxnOps: options.maxTxnOps ?? 128,
      maxRequestBytes: options.maxRequestBytes ?? 1.5 * 1024 * 1024,
      version: options.version ?? "3.5.28"
    })
    const server: Server = { turns, member, watchServers, fragmentEvents: options.fragmentEvents }
    const root = new Link()
    const links = new Map<string, Link>()
    const linkOf = (name: string): Link => {
      const known = links.get(name)
      if (known !== undefined) {
        return known
      }
      const link = new Link(root)
      links.set(name, link)
      return link
    }

    let isGone = false
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        isGone = true
        return turns.stop
      }).pipe(Effect.zipRight(Effect.sync(() => root.endpoints.forEach((endpoint) => endpoint.abandon()))))
    )

    /** What a control does to the member; leases that are over end first, as they would before any request. */
    const control = <A>(body: () => A): Effect.Effect<A> =>
      Effect.sync(() => {
        member.expireLeases()
        return body()
      })

    const leaseStates = (): ReadonlyArray<LeaseState> =>
      [...member.lessor.all()]
        .sort((left, right) => left.id < right.id ? -1 : 1)
        .map(({ deadline, id, keys, ttl }) => ({
          id,
          ttl,
          remaining: Duration.nanos(deadline - turns.now()),
          keys: [...keys].sort().map(fromBinary)
        }))

    return {
      ...makeFaults(root),
      connection: (name) => makeFaults(linkOf(name)),
      transport: ({ name } = {}) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const link = name === undefined ? new Link(root) : linkOf(name)
            const connection = new Connection(server, link)
            link.attach(connection)
            if (isGone) {
              connection.abandon()
            }
            return { connection, link }
          }),
          ({ connection, link }) =>
            Effect.sync(() => {
              connection.close()
              link.detach(connection)
              if (name === undefined) {
                link.dispose()
              }
            })
        ).pipe(Effect.map(({ connection }) => connection.transport)),

      revision: control(() => member.store.revision),
      compactRevision: control(() => member.store.compactRevision),
      snapshot: control(() => member.store.range({ start: "", end: "" }, member.store.revision).map(toKeyValue)),
      leases: control(leaseStates),

      putKey: (key, value) => control(() => member.put({ key, value }).header.revision),
      deleteKey: (key) => control(() => member.del({ key }).deleted > 0n),
      expireLease: (id) =>
        control(() => {
          const known = member.lessor.has(id)
          if (known) {
            member.leaseRevoke(id)
          }
          return known
        }),
      compact: (revision) =>
        control(() => {
          const target = revision ?? member.store.revision
          if (target > member.store.compactRevision) {
            member.compact(target)
          }
        }),

      restart: control(() => {
        root.cut(dropped, dropped)
        member.elect()
      }),
      restartWithoutData: control(() => {
        root.cut(dropped, dropped)
        member.loseData()
      }),
      failOver: control(() => {
        root.cut(Statuses.leaderChanged, Statuses.noLeader)
        member.elect()
      })
    }
  })
