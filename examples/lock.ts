/**
 * A lock around work that only one process may do, and what protects the work's results when the lock is lost meanwhile.
 *
 *     npx tsx examples/lock.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/lock.ts
 */
import { Effect, Schema } from "effect"
import { Config, EtcdClient, Lock } from "effect-coord"
import { run, runName } from "./support.js"

const job = `${runName}/nightly`
const lastRun = `${runName}/last-run`
const LastRun = Schema.Struct({ by: Schema.String, token: Schema.String })

/** Writes its result only if the lock is still held, as etcd itself sees it in the moment of the write. */
const record = (by: string, lock: Lock.LockHandle) =>
  Config.set(lastRun, LastRun, { by, token: String(lock.fencingToken) }, { guard: lock.guard })

const worker = (name: string) =>
  Lock.withLock(job, { ttl: "5 seconds" })((lock) =>
    Effect.gen(function*() {
      yield* Effect.log(`${name} holds the lock with token ${lock.fencingToken}`)
      yield* Effect.sleep("300 millis")
      yield* record(name, lock)
      yield* Effect.log(`${name} has recorded its run`)
    })
  )

/** Somebody deletes the lock's key by hand, as `etcdctl del` would: the work is interrupted, and the result says why. */
const losesItsLock = Effect.gen(function*() {
  const etcd = yield* EtcdClient.EtcdClient
  const error = yield* Effect.flip(
    Lock.withLock(job, { ttl: "5 seconds" })((lock) =>
      Effect.gen(function*() {
        yield* Effect.sleep("300 millis")
        yield* etcd.delete({ key: lock.etcdKey })
        return yield* Effect.never
      }).pipe(Effect.onInterrupt(() => Effect.log("the work was interrupted")))
    )
  )
  yield* Effect.log(error.message)
})

/** A holder that has not heard of the loss yet is refused by etcd. One that was paused: see `fencing.ts`. */
const writesTooLate = Effect.scoped(Effect.gen(function*() {
  const etcd = yield* EtcdClient.EtcdClient
  const lock = yield* Lock.acquire(job, { ttl: "5 seconds" })
  yield* etcd.delete({ key: lock.etcdKey })
  const error = yield* Effect.flip(record("a late holder", lock))
  yield* Effect.log(error.message)
  yield* Effect.log(`still recorded: ${(yield* Config.get(lastRun, LastRun)).by}`)
}))

run(Effect.gen(function*() {
  yield* Effect.all([worker("alice"), worker("bob"), worker("carol")], { concurrency: "unbounded" })
  yield* losesItsLock
  yield* writesTooLate
}))
