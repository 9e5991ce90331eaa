/**
 * A cluster of real etcd servers for tests; each member can be stopped, killed and paused on its own.
 */
import { Array, Context, Effect, Layer, Schedule } from "effect"
import type { Scope } from "effect"
import type { EtcdServerOptions, EtcdServerService } from "./EtcdServer.js"
import { drawPorts, EtcdServerError, makeMember } from "./EtcdServer.js"

/** A cluster and its members. */
export interface EtcdClusterService {
  readonly members: ReadonlyArray<EtcdServerService>
  /** Where clients connect, one entry for each member. */
  readonly endpoints: ReadonlyArray<string>
  /** The member that leads at the moment; waits for an election. */
  readonly leader: Effect.Effect<EtcdServerService, EtcdServerError>
  /** The members that do not lead at the moment, whether they run or not. */
  readonly followers: Effect.Effect<ReadonlyArray<EtcdServerService>, EtcdServerError>
}

/** A cluster of the tests' own. */
export class EtcdCluster extends Context.Tag("effect-coord/test/EtcdCluster")<EtcdCluster, EtcdClusterService>() {}

interface Status {
  readonly header: { readonly member_id: number }
  readonly leader: number
}

/** How long an election may take, and a busy machine to tell of it. */
const electionTimeout = "20 seconds"

/** One that does not run is not asked, as `etcdctl` would go on trying. */
const isLeader = (member: EtcdServerService) =>
  Effect.zipRight(member.pid, member.etcdctl(["endpoint", "status", "--write-out=json"])).pipe(
    Effect.map((output) => {
      const [entry] = JSON.parse(output) as ReadonlyArray<{ readonly Status: Status }>
      return entry.Status.leader === entry.Status.header.member_id
    }),
    Effect.orElseSucceed(() => false)
  )

/** Starts a cluster, of three members unless told otherwise, and waits until all of them are ready. */
export const make = (
  options: EtcdServerOptions & { readonly size?: number | undefined } = {}
): Effect.Effect<EtcdClusterService, EtcdServerError, Scope.Scope> =>
  Effect.gen(function*() {
    const planned = yield* Effect.forEach(
      Array.range(1, options.size ?? 3),
      (index) => Effect.map(Effect.promise(drawPorts), (ports) => ({ name: `member${index}`, ports }))
    )
    const cluster = planned.map(({ name, ports }) => `${name}=http://127.0.0.1:${ports.peer}`).join(",")
    const members = yield* Effect.forEach(planned, (one) => makeMember({ ...options, ...one, cluster }))
    yield* Effect.forEach(members, (member) => member.start, { concurrency: "unbounded", discard: true })
    const leader = Effect.forEach(members, isLeader, { concurrency: "unbounded" }).pipe(
      Effect.flatMap((leads) => {
        const index = leads.indexOf(true)
        return index < 0
          ? new EtcdServerError({ message: "the cluster has no leader" })
          : Effect.succeed(members[index])
      }),
      Effect.retry(Schedule.upTo(Schedule.spaced("50 millis"), electionTimeout))
    )
    return {
      members,
      endpoints: members.map((member) => member.endpoint),
      leader,
      followers: Effect.map(leader, (leading) => members.filter((member) => member !== leading))
    }
  })

/** A layer of one cluster for a suite. */
export const layer = (
  options: EtcdServerOptions & { readonly size?: number | undefined } = {}
): Layer.Layer<EtcdCluster, EtcdServerError> => Layer.scoped(EtcdCluster, make(options))
