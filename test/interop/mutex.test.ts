import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Coord from "../../src/Coord.js"
import * as Lock from "../../src/Lock.js"
import { EtcdServer } from "../support/EtcdServer.js"
import * as EtcdServers from "../support/EtcdServer.js"
import * as GoMutex from "./GoMutex.js"

const coord = Layer.unwrapEffect(Effect.map(EtcdServer, ({ endpoint }) => Coord.layer({ endpoints: endpoint })))

/** One in Go's way, on one of our locks. */
const goMutex = (key: string) =>
  Effect.flatMap(EtcdServer, ({ endpoint }) => Effect.orDie(GoMutex.make(endpoint, `/locks/${key}`)))

/** Runs something scoped in a scope of its own, which is handed out: closing it releases. */
const hold = <A, E, R>(acquire: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const lock = yield* Scope.extend(acquire, scope)
    return { lock, release: Scope.close(scope, Exit.void) }
  })

const waiting = (key: string, count: number) =>
  Effect.repeat(Lock.inspect(key), { until: ({ waiters }) => waiters.length === count })

const isRunning = (fiber: Fiber.RuntimeFiber<unknown, unknown>) => Effect.map(Fiber.poll(fiber), Option.isNone)

describe.each(["3.4", "3.5"])("with Go's recipe, on etcd %s", (version) => {
  layer(Layer.provideMerge(coord, EtcdServers.layer({ version })), { excludeTestServices: true })((it) => {
    it.scoped("who holds a lock there excludes us, until it is unlocked", () =>
      Effect.gen(function*() {
        const go = yield* goMutex("theirs")
        const token = yield* go.lock
        const conflict = yield* Effect.flip(Lock.tryAcquire("theirs"))
        assert.isTrue(conflict._tag === "LockConflict" && conflict.holder === go.key && conflict.owner === undefined)
        assert.deepStrictEqual(yield* Lock.withLockIfAvailable("theirs")(Effect.void), Option.none())
        const timeout = yield* Effect.flip(Lock.withLock("theirs", { timeout: "200 millis" })(Effect.void))
        assert.strictEqual(timeout._tag, "LockTimeout")
        const ours = yield* Effect.fork(hold(Lock.acquire("theirs")))
        yield* waiting("theirs", 1)
        assert.isTrue(yield* isRunning(ours))
        yield* go.unlock
        const { lock, release } = yield* Fiber.join(ours)
        assert.isTrue(lock.fencingToken > token)
        yield* release
      }))

    it.scoped("who dies there with a lock makes room for us", () =>
      Effect.gen(function*() {
        const go = yield* goMutex("orphan")
        yield* go.lock
        const ours = yield* Effect.fork(Effect.scoped(Lock.acquire("orphan")))
        yield* waiting("orphan", 1)
        yield* go.die
        yield* Fiber.join(ours)
      }))

    it.scoped("a lock that we hold excludes them, until we release it", () =>
      Effect.gen(function*() {
        const { lock, release } = yield* hold(Lock.acquire("ours"))
        const [impatient, go] = [yield* goMutex("ours"), yield* goMutex("ours")]
        assert.strictEqual((yield* Effect.flip(impatient.tryLock))._tag, "ErrLocked")
        const theirs = yield* Effect.fork(go.lock)
        yield* waiting("ours", 1)
        assert.isTrue(yield* isRunning(theirs))
        yield* release
        assert.isTrue((yield* Fiber.join(theirs)) > lock.fencingToken)
        assert.strictEqual((yield* Effect.flip(Lock.tryAcquire("ours")))._tag, "LockConflict")
        yield* go.unlock
        yield* impatient.tryLock
      }))

    it.scoped("a lock that we lose is theirs", () =>
      Effect.gen(function*() {
        const ours = yield* Lock.acquire("lost")
        const go = yield* goMutex("lost")
        const theirs = yield* Effect.fork(go.lock)
        yield* waiting("lost", 1)
        const { holder } = yield* Lock.inspect("lost")
        const etcd = yield* EtcdServer
        // As Go's `Unlock` does: by name.
        yield* etcd.etcdctl(["del", Option.getOrThrow(holder).etcdKey])
        yield* Fiber.join(theirs)
        assert.strictEqual((yield* Effect.flip(ours.lost)).reason, "deleted")
      }))

    it.scoped("both stand in one queue, and are served in its order", () =>
      Effect.gen(function*() {
        const served: Array<string> = []
        const first = yield* hold(Lock.acquire("queue"))
        const fibers: Array<Fiber.RuntimeFiber<unknown, unknown>> = []
        for (let index = 0; index < 6; index++) {
          if (index % 2 === 0) {
            const go = yield* goMutex("queue")
            const turn = Effect.flatMap(go.lock, () => Effect.sync(() => served.push(`theirs ${index}`)))
            fibers.push(yield* Effect.fork(Effect.zipRight(turn, go.unlock)))
          } else {
            fibers.push(
              yield* Effect.fork(Lock.withLock("queue")(Effect.sync(() => void served.push(`ours ${index}`))))
            )
          }
          yield* waiting("queue", index + 1)
        }
        yield* first.release
        for (const fiber of fibers) yield* Fiber.join(fiber)
        assert.deepStrictEqual(served, ["theirs 0", "ours 1", "theirs 2", "ours 3", "theirs 4", "ours 5"])
      }))

    it.scoped("nobody overlaps when many of both want one lock", () =>
      Effect.gen(function*() {
        let inside = 0
        let last = 0n
        let count = 0
        const critical = (token: bigint) =>
          Effect.gen(function*() {
            assert.strictEqual(++inside, 1)
            assert.isTrue(token > last)
            last = token
            yield* Effect.yieldNow()
            count++
            inside--
          })
        const rounds = 15
        const theirs = Effect.gen(function*() {
          const go = yield* goMutex("busy")
          yield* Effect.repeatN(
            Effect.flatMap(go.lock, (token) => Effect.zipRight(critical(token), go.unlock)),
            rounds - 1
          )
        })
        const ours = Effect.repeatN(
          Lock.withLock("busy")(({ fencingToken }) => critical(fencingToken)),
          rounds - 1
        )
        yield* Effect.all([theirs, ours, theirs, ours, theirs, ours], { concurrency: "unbounded", discard: true })
        assert.strictEqual(count, 6 * rounds)
      }))

    it.scoped("a lock whose name continues another is another one, on our side", () =>
      Effect.gen(function*() {
        const nested = yield* goMutex("a/b")
        yield* nested.lock
        // Ours on `a` does not wait for theirs on `a/b`; theirs would, as one prefix contains the other.
        const { release } = yield* hold(Lock.acquire("a"))
        yield* release
        yield* Effect.scoped(Lock.tryAcquire("a"))
        const go = yield* goMutex("a")
        assert.strictEqual((yield* Effect.flip(go.tryLock))._tag, "ErrLocked")
        const above = yield* Effect.fork(go.lock)
        yield* waiting("a", 0)
        assert.isTrue(yield* isRunning(above))
        // That one waits in the queue of `a`, and so excludes us there.
        assert.strictEqual((yield* Effect.flip(Lock.tryAcquire("a")))._tag, "LockConflict")
        assert.strictEqual((yield* Effect.flip(Lock.tryAcquire("a/b")))._tag, "LockConflict")
        yield* nested.unlock
        yield* Fiber.join(above)
        yield* Effect.scoped(Lock.tryAcquire("a/b"))
        const ours = yield* Effect.fork(Effect.scoped(Lock.acquire("a")))
        yield* waiting("a", 1)
        yield* go.unlock
        yield* Fiber.join(ours)
      }))

    it.scoped("several locks at once exclude them one by one", () =>
      Effect.gen(function*() {
        const [one, other, late] = [yield* goMutex("s1"), yield* goMutex("s2"), yield* goMutex("s1")]
        yield* one.lock
        yield* other.lock
        const ours = yield* Effect.fork(hold(Lock.acquireAll(["s2", "s1"])))
        yield* waiting("s2", 1)
        yield* other.unlock
        const theirs = yield* Effect.fork(late.lock)
        yield* waiting("s1", 2)
        assert.isTrue(yield* isRunning(ours))
        yield* one.unlock
        const { lock, release } = yield* Fiber.join(ours)
        assert.isTrue(yield* isRunning(theirs))
        assert.strictEqual((yield* Effect.flip(other.tryLock))._tag, "ErrLocked")
        yield* release
        assert.isTrue((yield* Fiber.join(theirs)) > lock.fencingToken)
        yield* other.tryLock
      }))
  })
})
