import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import * as EtcdCluster from "./EtcdCluster.js"

it.scopedLive("a cluster elects another leader when its leader is killed, and takes it back", () =>
  Effect.gen(function*() {
    const cluster = yield* EtcdCluster.make()
    const [member] = cluster.members
    assert.strictEqual(cluster.endpoints.length, 3)
    const first = yield* cluster.leader
    assert.strictEqual((yield* cluster.followers).length, 2)
    yield* first.kill
    const second = yield* cluster.leader
    assert.notStrictEqual(second.endpoint, first.endpoint)
    yield* second.etcdctl(["put", "key", "value"])
    yield* first.start
    assert.strictEqual(yield* first.etcdctl(["get", "--print-value-only", "key"]), "value\n")
    assert.include(yield* member.etcdctl(["member", "list"]), "member3")
  }))
