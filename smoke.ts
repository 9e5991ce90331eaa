import * as EtcdClient from "./src/EtcdClient.js"
import * as Txn from "./src/Txn.js"
import * as Mirror from "./src/Mirror.js"
import * as Key from "./src/Key.js"
import * as Session from "./src/Session.js"
import { Effect, Stream, Fiber, Layer } from "effect"
import { spawn } from "node:child_process"
const text = (b: Uint8Array) => Buffer.from(b).toString()
const program = Effect.gen(function*() {
  const c = yield* EtcdClient.EtcdClient
  console.log(yield* c.status(c.endpoints[0]))
  console.log(yield* c.put({ key: "a", value: "1" }))
  const r = yield* c.range(Key.prefix("a"))
  console.log(text(r.kvs[0].value), r.header.revision)
  const w = yield* c.openWatch(Key.prefix("a"))
  console.log("watch at", w.revision)
  yield* c.txn({ compare: [Txn.exists("a")], success: [Txn.put({ key: "a/1", value: "x" }), Txn.txn({ success: [Txn.del({ key: "a" })] })] })
  console.log((yield* w.next).map((e) => [e._tag, text(e.kv.key)]))
  const l = yield* c.leaseGrant({ ttl: "5 seconds" })
  console.log(l, yield* c.leaseTimeToLive(l.id))
  console.log(yield* c.leaseKeepAliveOnce(l.id))
  yield* c.leaseRevoke(l.id)
  yield* c.leaseRevoke(l.id)
  console.log(yield* Effect.flip(c.leaseKeepAliveOnce(l.id)))
  const m = yield* Mirror.make(Key.prefix("m/"))
  const f = yield* Effect.fork(Stream.runCollect(Stream.take(m.changes, 3)))
  yield* m.ready
  yield* c.put({ key: "m/1", value: "1" }); yield* c.put({ key: "m/2", value: "1" }); yield* c.delete({ key: "m/1" })
  console.log((yield* Fiber.join(f)).pipe((x) => Array.from(x).map((e) => e._tag)))
  const sessions = yield* Session.Sessions
  const s = yield* sessions.get("5 seconds")
  const e = yield* Effect.scoped(s.enter({ key: "/locks/x/1", value: "" }))
  console.log(e)
  console.log(yield* c.get("/locks/x/1"), yield* s.state, yield* m.state)
}).pipe(Effect.scoped, Effect.provide(Session.layer.pipe(Layer.provideMerge(EtcdClient.layer({ endpoints: process.argv[2] })))))
const t=Date.now()
Effect.runPromise(program).then(() => console.log("done", Date.now() - t), (e) => console.log("failed", Date.now() - t, e))
process.on("exit", () => console.log("exit", Date.now() - t))
