/** Elections over an embedded etcd, with more than one process. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Election from "../../src/Election.js"
import type { EtcdClient } from "../../src/EtcdClient.js"
import type * as Lock from "../../src/Lock.js"
import type { Sessions } from "../../src/Session.js"
import type { TestEtcd } from "../../src/testing.js"
import type { MemoryOptions } from "../support/memory.js"
import { eventually, keys, process, scenario } from "../support/memory.js"

/** `scenario` with elections. */
export const elections = <A, E>(
  body: Effect.Effect<
    A,
    E,
    Election.Election | EtcdClient | Sessions | Lock.Lock | TestEtcd | Scope.Scope
  >,
  options: MemoryOptions = {}
) => scenario(Effect.provide(body, Election.layer()), options)

/** Another process on the same etcd. */
export const node = (connection: string) => Layer.build(Layer.provideMerge(Election.layer(), process({ connection })))

export const electionKeys = Effect.map(keys, (all) => all.filter((key) => key.startsWith("/elections/")))

/** Waits until so many stand in the election, the leader included. */
export const standing = (name: string, count: number) =>
  eventually(
    `${count} stand for ${name}`,
    Effect.map(electionKeys, (all) => all.filter((key) => key.startsWith(`/elections/${name}/`)).length === count)
  )

/** Campaigns in a scope of its own, which is handed out: closing it gives the leadership up. */
export const lead = (name: string, options?: Election.CampaignOptions) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const leadership = yield* Scope.extend(Election.campaign(name, options), scope)
    return { leadership, leave: Scope.close(scope, Exit.void) }
  })

export const leaderValue = (name: string) =>
  Effect.map(Election.leader(name), (leader) => Option.getOrUndefined(Option.map(leader, ({ value }) => value)))

/** What an observer is told, in the short form `value@term`; `-` for no leader. */
export const show = (leader: Option.Option<Election.Leader>): string =>
  Option.match(leader, { onNone: () => "-", onSome: ({ term, value }) => `${value}@${term}` })

/** An observer that takes the next when asked. */
export const observer = (name: string) =>
  Effect.gen(function*() {
    const seen = yield* Queue.bounded<Option.Option<Election.Leader>>(1)
    yield* Effect.forkScoped(Stream.runForEach(Election.observe(name), (leader) => Queue.offer(seen, leader)))
    const next = Effect.map(Queue.take(seen), show)
    return { next, some: (count: number) => Effect.replicateEffect(next, count) }
  })
