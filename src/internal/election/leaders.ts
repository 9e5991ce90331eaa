/** Who leads, as the keys of an election tell: by one read, and followed. */
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Leader } from "../../Election.js"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import * as Key from "../../Key.js"
import * as Mirror from "../../Mirror.js"
import type { KeyValue } from "../../Txn.js"
import { toText } from "../bytes.js"
import * as LockQueue from "../lock/queue.js"

const leaderOf = (name: string) => ({ createRevision, key, modRevision, value }: KeyValue): Leader => ({
  name,
  etcdKey: toText(key),
  value: toText(value),
  term: createRevision,
  modRevision
})

/** The leader, by a quorum read. */
export const find = (
  client: EtcdClient["Type"],
  name: string,
  folder: string
): Effect.Effect<Option.Option<Leader>, EtcdError> =>
  client.range({ ...Key.prefix(folder), sort: { by: "create", order: "ascend" }, limit: 1 }).pipe(
    Effect.flatMap(({ kvs }) =>
      kvs.every(({ key }) => Key.isDirectChild(folder, key))
        ? Effect.succeed(kvs)
        : LockQueue.entries(client, folder, { keysOnly: false })
    ),
    Effect.map((candidates) => Option.map(Option.fromNullable(candidates[0]), leaderOf(name)))
  )

type Candidates = HashMap.HashMap<string, KeyValue>

const after = (folder: string, candidates: Candidates, step: ReadonlyArray<Mirror.Change>): Candidates =>
  step.reduce((all, change) => {
    const key = change._tag === "Put" ? change.kv.key : change.key
    if (!Key.isDirectChild(folder, key)) return all
    return change._tag === "Put"
      ? HashMap.set(all, Mirror.indexKey(key), change.kv)
      : HashMap.remove(all, Mirror.indexKey(key))
  }, candidates)

const first = (candidates: Candidates): Option.Option<KeyValue> =>
  HashMap.reduce(
    candidates,
    Option.none<KeyValue>(),
    (before, kv) => Option.isSome(before) && before.value.createRevision < kv.createRevision ? before : Option.some(kv)
  )

const isSame = Option.getEquivalence<Leader>((a, b) =>
  // The value counts as well: another history of etcd may give the same revisions to other values.
  a.etcdKey === b.etcdKey && a.term === b.term && a.modRevision === b.modRevision && a.value === b.value
)

/**
 * The leader, then every other one, and every value that one proclaims.
 *
 * @param services closed when nothing comes any more
 */
export const follow = (
  name: string,
  folder: string,
  services: Scope.Scope
): Stream.Stream<Option.Option<Leader>, EtcdError, EtcdClient> =>
  Stream.unwrapScoped(
    Effect.acquireRelease(Scope.fork(services, ExecutionStrategy.sequential), Scope.close).pipe(
      Effect.flatMap((own) => Scope.extend(Mirror.make(Key.prefix(folder)), own)),
      Effect.map(({ steps }) => steps)
    )
  ).pipe(
    Stream.mapAccum(HashMap.empty<string, KeyValue>(), (before, step) => {
      const candidates = after(folder, before, step)
      return [candidates, Option.map(first(candidates), leaderOf(name))]
    }),
    Stream.changesWith(isSame)
  )
