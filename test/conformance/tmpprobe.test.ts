import { layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Txn from "../../src/Txn.js"
import { Backend, engine, etcd } from "./Backend.js"
import { stageOf } from "./support.js"
for (const [name, l] of [["engine", engine, false], ["3.4", etcd("3.4"), true], ["3.5", etcd("3.5"), true]] as const) {
  layer(l, { excludeTestServices: true })(name, (it) => {
    it.scoped("probe", () => Effect.gen(function*() {
      const { client } = yield* Backend
      const s = yield* stageOf(client)
      const log = (what: string, e: Effect.Effect<unknown, any, any>) => Effect.flatMap(Effect.either(Effect.timeout(Effect.scoped(e), "3 seconds")), (r) => Effect.sync(() => console.log(name, what, r._tag, r._tag === "Left" ? `${r.left.message}` : r.right))) as Effect.Effect<void>

      yield* s.puts("a=1", "a=2", "a=3")
      yield* log("watch from -1, next", Effect.flatMap(client.openWatch({ key: s.k("a"), startRevision: -1n }), (w) => Effect.map(w.next, (e) => e.map(s.event))))
      yield* client.compact(s.at(2))
      yield* log("watch from -1, next, after compaction", Effect.flatMap(client.openWatch({ key: s.k("a"), startRevision: -1n }), (w) => Effect.map(w.next, (e) => e.map(s.event))))
      yield* log("range 2^63", client.range({ key: "a", revision: 1n << 63n }))
      yield* log("put lease 2^63", client.put({ key: "a", value: "", lease: 1n << 63n }))
      yield* log("grant 2^63", client.leaseGrant({ id: 1n << 63n, ttl: "60 seconds" }))
      yield* log("compact 2^63", client.compact(1n << 63n))
      yield* log("keepalive 2^63", client.leaseKeepAliveOnce(1n << 63n, { timeout: "2 seconds" }))
      yield* log("keepalive 1 after", client.leaseKeepAliveOnce(1n, { timeout: "2 seconds" }))
      yield* log("ttl 2^63", client.leaseTimeToLive(1n << 63n))
      yield* log("watch 2^63", Effect.flatMap(client.openWatch({ key: s.k("a"), startRevision: 1n << 63n }, { timeout: "2 seconds" }), (w) => Effect.map(w.next, (e) => e.map(s.event))))
      yield* log("watch after", Effect.flatMap(client.openWatch({ key: s.k("a") }, { timeout: "2 seconds" }), (w) => Effect.succeed(1)))
      yield* log("compare 2^63", client.txn({ compare: [Txn.version("a", "=", 1n << 63n)] }))
      yield* log("txn empty key compare+many", client.txn({ compare: [Txn.absent("")], success: Array.from({ length: 129 }, () => Txn.range({ key: "" })) }))
      yield* log("lone surrogate", Effect.flatMap(client.put({ key: s.k("\ud800"), value: "" }), () => client.get(s.k("\ud800"))))
      yield* log("bad limit", client.range({ key: "a", limit: 1.5 }))
    }))
  })
}
