import { assert, describe, it, layer } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import { instanceOptions } from "../../src/etcd3.js"
import type { EtcdError } from "../../src/EtcdError.js"
import * as Calls from "../../src/internal/etcd3/calls.js"
import * as Txn from "../../src/Txn.js"
import { bounded, calls, failure, inFlight, outcome, proxied, text, timeout, until } from "../grpc/support.js"
import * as EtcdServer from "../support/EtcdServer.js"
import { stubServer } from "../support/stubServer.js"
import * as TcpProxy from "../support/TcpProxy.js"
import { applicationReads, instance, over, withItsPolicies } from "./support.js"

const etcd = layer(EtcdServer.layer({ version: "3.5" }), { excludeTestServices: true })

const writes = ["put", "delete", "txn", "leaseGrant", "leaseRevoke", "compact", "a put"]

etcd("a host that does not answer", (it) => {
  it.scoped("before there is a connection: each call fails at its deadline, and nothing was done", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const client = yield* over(yield* instance(proxy.endpoint), { batch: false })
      yield* proxy.blackHole
      const { leaseKeepAlive, watch, ...unary } = calls(client)
      yield* Effect.forEach(Object.entries(unary), ([name, call]) =>
        Effect.gen(function*() {
          const error = (yield* bounded(failure(call))) as EtcdError
          assert.deepStrictEqual([name, ...outcome(error)], [name, "DeadlineExceeded", false])
          assert.strictEqual(error.endpoint, proxy.endpoint, name)
        }), { concurrency: "unbounded" })
      for (const call of [leaseKeepAlive, watch]) {
        assert.deepStrictEqual(outcome((yield* bounded(failure(call))) as EtcdError), ["DeadlineExceeded", false])
      }
      yield* proxy.resume
      yield* client.get("key")
    }))

  it.scoped("on a connection that stands: a write may be applied, a read not", () =>
    Effect.gen(function*() {
      const { proxy, server } = yield* proxied
      const application = yield* instance(proxy.endpoint)
      const client = yield* over(application, { batch: false })
      // The clients of the services have connections of their own.
      yield* Effect.all([client.get("key"), client.leaseGrant({ ttl: "1 minute" }), client.status("etcd3")])
      yield* proxy.stall("down")
      const { leaseKeepAlive: _, watch: __, ...others } = calls(client)
      const unary = { ...others, "a put": client.put({ key: "indeed", value: "" }, timeout) }
      yield* Effect.forEach(Object.entries(unary), ([name, call]) =>
        Effect.gen(function*() {
          const error = (yield* bounded(failure(call))) as EtcdError
          assert.deepStrictEqual([name, ...outcome(error)], [name, "DeadlineExceeded", writes.includes(name)])
          assert.strictEqual(error.endpoint, proxy.endpoint, name)
        }), { concurrency: "unbounded" })
      const read = client.txn({ success: [Txn.range({ key: "key" })] }, timeout)
      assert.deepStrictEqual(outcome(yield* failure(read)), ["DeadlineExceeded", false])
      // It was applied indeed.
      yield* Effect.repeat(server.etcdctl(["get", "indeed", "--keys-only"]), {
        until: (keys) => keys.includes("indeed")
      })
      yield* proxy.resume
      yield* client.get("key")
      yield* applicationReads(application, "key")
    }))

  it.scoped("and whose connection is dead: the next calls get a new one", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const application = yield* instance(proxy.endpoint)
      const client = yield* over(application)
      yield* client.get("key")
      yield* proxy.blackHole
      yield* failure(client.get("key", timeout))
      assert.strictEqual(yield* proxy.accepted, 1)
      yield* failure(client.get("key", timeout))
      yield* until("a new connection", Effect.map(proxy.accepted, (count) => count > 1))
      assert.strictEqual(yield* proxy.accepted, 2)
      // What was swallowed is lost: the old connection leads nowhere for ever.
      yield* proxy.resume
      yield* bounded(client.get("key"))
      yield* bounded(applicationReads(application, "key"))
    }))
})

describe("a connection", () => {
  const connectionsAfter = (code: grpc.status, details: string) =>
    Effect.gen(function*() {
      const server = yield* stubServer({ code, details })
      const proxy = yield* TcpProxy.make(server.endpoint)
      const client = yield* over(yield* instance(proxy.endpoint), { batch: false, retry: { maxAttempts: 1 } })
      const error = yield* failure(client.get("key")).pipe(Effect.repeatN(4))
      assert.deepStrictEqual([error.code, error.detail, error.endpoint], [code, details, proxy.endpoint])
      return yield* proxy.accepted
    })

  it.scopedLive("stays when one call gets no answer in time, while others do", () =>
    Effect.gen(function*() {
      const server = yield* stubServer({ code: grpc.status.OK, details: "" })
      const proxy = yield* TcpProxy.make(server.endpoint)
      const client = yield* over(yield* instance(proxy.endpoint), { batch: false })
      yield* client.get("key")
      assert.strictEqual(yield* bounded(server.come), "Range")
      for (let round = 0; round < 2; round++) {
        // Long enough for the other call to be answered before the deadline.
        const put = client.put({ key: "key", value: "" }, { timeout: 2_000 })
        const unanswered = yield* Effect.fork(failure(put))
        assert.strictEqual(yield* bounded(server.come), "Put")
        yield* client.get("key")
        assert.strictEqual(yield* bounded(server.come), "Range")
        assert.deepStrictEqual(outcome(yield* Fiber.join(unanswered)), ["DeadlineExceeded", true])
      }
      assert.strictEqual(yield* proxy.accepted, 1)
    }))

  it.scopedLive("stays when etcd itself refuses a call over it", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* connectionsAfter(grpc.status.UNAVAILABLE, "etcdserver: no leader"), 1)
      assert.strictEqual(yield* connectionsAfter(grpc.status.RESOURCE_EXHAUSTED, "etcdserver: too many requests"), 1)
      assert.strictEqual(yield* connectionsAfter(grpc.status.UNKNOWN, "something"), 1)
    }))

  it.scopedLive("is made anew when something else is in the way", () =>
    Effect.gen(function*() {
      assert.isAbove(yield* connectionsAfter(grpc.status.UNAVAILABLE, "a proxy's own words"), 1)
    }))
})

describe("a call that a policy of the instance gives up", () => {
  it.scopedLive("is cancelled, and a write may be applied", () =>
    Effect.gen(function*() {
      const server = yield* stubServer()
      const direct = instanceOptions.faultHandling.global
      assert.isDefined(direct)
      let giveUp = (): void => {}
      const impatient: typeof direct = Object.assign(Object.create(direct), {
        execute: (call: () => Promise<unknown>) =>
          Promise.race([
            call(),
            new Promise((_, reject) => {
              giveUp = () => reject("impatient")
            })
          ])
      })
      const faultHandling = { ...instanceOptions.faultHandling, global: impatient }
      const application = yield* instance(server.endpoint, { faultHandling })
      const client = yield* over(application, { batch: false, retry: { maxAttempts: 1 } })
      for (
        const [applied, path, call] of [
          [false, "Range", Effect.asVoid(client.get("key"))],
          [true, "Put", Effect.asVoid(client.put({ key: "key", value: "" }))]
        ] as const
      ) {
        const failing = yield* Effect.fork(failure(call))
        assert.strictEqual(yield* bounded(server.come), path)
        giveUp()
        const error = yield* bounded(Fiber.join(failing))
        assert.deepStrictEqual([error.detail, ...outcome(error)], ["impatient", "Unavailable", applied])
        assert.strictEqual(yield* bounded(server.gone), path)
      }
    }))
})

describe("what the server sees of a call", () => {
  it.scopedLive("its deadline, though the instance sets none", () =>
    Effect.gen(function*() {
      const server = yield* stubServer()
      const client = yield* over(yield* instance(server.endpoint), { requestTimeout: "1 second" })
      const before = Date.now()
      const error = yield* bounded(failure(client.get("key")))
      assert.strictEqual(error.reason, "DeadlineExceeded")
      const deadline = Number((yield* server.first).deadline)
      assert.isTrue(deadline > before + 500 && deadline < Date.now() + 500, String(deadline - before))
    }))

  it.scopedLive("that is interrupted: its cancellation", () =>
    Effect.gen(function*() {
      const server = yield* stubServer()
      const client = yield* over(yield* instance(server.endpoint))
      for (
        const [path, call] of [
          ["Range", Effect.asVoid(client.get("key"))],
          ["Put", Effect.asVoid(client.put({ key: "key", value: "" }))]
        ] as const
      ) {
        const fiber = yield* Effect.fork(call)
        assert.strictEqual(yield* bounded(server.come), path)
        yield* bounded(Fiber.interrupt(fiber))
        assert.strictEqual(yield* bounded(server.gone), path)
      }
    }))
})

describe("a call that is interrupted in the moment in which it is started", () => {
  it.scopedLive("does not stay with the server", () =>
    Effect.gen(function*() {
      const server = yield* stubServer()
      const connection = yield* Effect.acquireRelease(
        Effect.sync(() => new grpc.Client(server.endpoint, grpc.credentials.createInsecure())),
        (connection) => Effect.sync(() => connection.close())
      )
      yield* Effect.async<void>((resume) => connection.waitForReady(Infinity, () => resume(Effect.void)))
      const same = (bytes: Buffer) => bytes
      // Started as soon as it is called, which etcd3 does a little later.
      const begin = (options: grpc.CallOptions) =>
        new Promise<Buffer | undefined>((resolve, reject) =>
          connection.makeUnaryRequest(
            "/etcdserverpb.KV/Range",
            same,
            same,
            Buffer.alloc(0),
            new grpc.Metadata(),
            options,
            (error, answer) => error === null ? resolve(answer) : reject(error)
          )
        )
      const { unary } = Calls.make(begin)
      const call = unary({ operation: "range", readOnly: true, timeoutMillis: 60_000, begin })
      const fiber = yield* Effect.fork(call)
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* bounded(server.come), "Range")
      assert.strictEqual(yield* bounded(server.gone), "Range")
    }))
})

etcd("a call that is interrupted", (it) => {
  it.scoped("leaves the instance its connection, and the calls of others under way", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const application = yield* instance(proxy.endpoint)
      const client = yield* over(application)
      yield* client.put({ key: "key", value: "1" })
      for (const call of [Effect.asVoid(client.get("key")), Effect.asVoid(client.put({ key: "key", value: "1" }))]) {
        const fiber = yield* inFlight(proxy, call)
        const other = yield* Effect.fork(applicationReads(application, "key"))
        yield* bounded(Fiber.interrupt(fiber))
        yield* proxy.resume
        assert.strictEqual(yield* Fiber.join(other), "1")
        yield* client.get("key")
      }
      assert.strictEqual(yield* proxy.accepted, 1)
    }))

  it.scoped("while there is no connection, ends at once", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      yield* proxy.blackHole
      const client = yield* over(yield* instance(proxy.endpoint))
      const fibers = yield* Effect.forEach(Object.values(calls(client)), (call) => Effect.fork(call))
      yield* until("a connection", Effect.map(proxy.accepted, (count) => count > 0))
      yield* bounded(Fiber.interruptAll(fibers))
    }))
})

const instances = [["without policies", {}], ["with etcd3's own policies", withItsPolicies]] as const

etcd("a write whose answer is lost", (it) => {
  for (const [name, options] of instances) {
    it.scoped(`is reported as possibly applied, and not sent again: ${name}`, () =>
      Effect.gen(function*() {
        const { proxy, server } = yield* proxied
        const client = yield* over(yield* instance(proxy.endpoint, options), { batch: false })
        const key = `lost ${name}`
        yield* client.get(key)
        const create = client.txn({
          compare: [Txn.absent(key)],
          success: [Txn.put({ key, value: "mine" })],
          failure: [Txn.put({ key: `${key}: again`, value: "" })]
        })
        for (const call of [Effect.asVoid(create), Effect.asVoid(client.put({ key, value: "mine" }))]) {
          const { lost } = yield* proxy.loseResponse()
          const error = yield* bounded(failure(call))
          yield* bounded(lost)
          assert.deepStrictEqual(outcome(error), ["Unavailable", true])
          yield* client.get("another call")
        }
        const other = yield* over(yield* instance(server.endpoint))
        const { kvs } = yield* other.range({ key, rangeEnd: `${key}~` })
        // Once by the transaction, once by the put.
        assert.deepStrictEqual(kvs.map(({ key, version }) => [text(key), version]), [[key, 2n]])
      }))

    it.scoped(`is repeated when that does no harm, and reads are: ${name}`, () =>
      Effect.gen(function*() {
        const { proxy } = yield* proxied
        const client = yield* over(yield* instance(proxy.endpoint, options), { batch: false })
        const key = `repeated ${name}`
        yield* client.get(key)
        for (
          const call of [
            Effect.asVoid(client.put({ key, value: "1" }, { idempotent: true })),
            Effect.asVoid(client.get(key))
          ]
        ) {
          const { lost } = yield* proxy.loseResponse()
          yield* bounded(call)
          yield* bounded(lost)
        }
      }))
  }
})

etcd("calls over one instance", (it) => {
  it.scoped("run at the same time, each with its own answer", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const application = yield* instance(proxy.endpoint)
      for (const batch of [true, false]) {
        const client = yield* over(application, { batch })
        const indices = Array.from({ length: 300 }, (_, index) => index)
        const all = yield* Effect.forEach(indices, (index) =>
          Effect.gen(function*() {
            const key = `/${batch}/${index}`
            yield* client.put({ key, value: String(index) })
            const [mine, absent] = yield* Effect.all([
              client.range({ key }),
              Effect.either(client.leaseTimeToLive(BigInt(index + 1)))
            ], { concurrency: 2 })
            return [text(mine.kvs[0].value), absent._tag === "Left" && absent.left.reason]
          }), { concurrency: "unbounded" })
        assert.deepStrictEqual(all, indices.map((index) => [String(index), "LeaseNotFound"]))
      }
      // One for keys, and one for leases.
      assert.strictEqual(yield* proxy.accepted, 2)
    }))

  it.scoped("tell, once, of an instance that repeats them", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const warnings: Array<unknown> = []
      const collect = Logger.make(({ logLevel, message }) => {
        if (logLevel === LogLevel.Warning) warnings.push(message)
      })
      yield* proxy.refuse
      for (const [, options] of instances) {
        const client = yield* over(yield* instance(proxy.endpoint, options))
        yield* failure(client.get("key", timeout)).pipe(
          Effect.repeatN(3),
          Effect.provide(Logger.replace(Logger.defaultLogger, collect))
        )
        assert.lengthOf(warnings, options === withItsPolicies ? 1 : 0)
      }
    }))

  it.scoped("fail, and are not sent, when the application has closed it", () =>
    Effect.gen(function*() {
      const { proxy } = yield* proxied
      const application = yield* instance(proxy.endpoint)
      const client = yield* over(application, { retry: { maxAttempts: 1 } })
      yield* client.get("key")
      application.close()
      const error = yield* failure(client.put({ key: "key", value: "" }))
      assert.deepStrictEqual(outcome(error), ["Unavailable", false])
      assert.match(error.detail, /already closed/)
      assert.strictEqual((yield* failure(client.leaseKeepAliveOnce(1n))).reason, "Unavailable")
    }))
})
