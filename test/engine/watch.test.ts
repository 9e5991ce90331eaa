import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestEtcd from "../../src/testing.js"
import * as Txn from "../../src/Txn.js"
import { call, create, openWatch, settle, show, text } from "./support.js"

const connect = (options?: TestEtcd.Options) =>
  Effect.gen(function*() {
    const etcd = yield* TestEtcd.make(options)
    const client = yield* etcd.transport()
    const watch = yield* openWatch(client)
    return { etcd, client, watch, put: (key: string, value = "") => client.put({ key, value }, call) }
  })

describe("watches", () => {
  it.scoped("sends what happens after the creation", () =>
    Effect.gen(function*() {
      const { client, put, watch } = yield* connect()
      yield* put("a", "0")
      yield* watch.send(create("a"))
      const created = yield* watch.next
      assert.deepInclude(created, {
        watchId: 0n,
        created: true,
        canceled: false,
        cancelReason: "",
        compactRevision: 0n
      })
      assert.strictEqual(created.header.revision, 2n)
      yield* put("a", "1")
      yield* put("b", "1")
      yield* client.del({ key: "a" }, call)
      yield* client.del({ key: "a" }, call)
      const messages = yield* watch.rest
      assert.deepStrictEqual(messages.map(show), [["+a=1@3"], ["-a@5"]])
      assert.deepStrictEqual(messages.map(({ header }) => header.revision), [3n, 5n])
      const deleted = messages[1]!.events[0]!.kv
      assert.deepStrictEqual(
        [deleted.createRevision, deleted.version, deleted.lease, deleted.value.length],
        [0n, 0n, 0n, 0]
      )
    }))

  it.scoped("answers creations in order, and knows watchers by number", () =>
    Effect.gen(function*() {
      const { put, watch } = yield* connect()
      yield* watch.send(create("a"))
      yield* watch.send(create("a", { rangeEnd: "c" }))
      yield* watch.send(create("b", { rangeEnd: "\0" }))
      // key "" is the smallest key, and all keys with it
      yield* watch.send(create("", { rangeEnd: "\0" }))
      yield* watch.send(create(""))
      assert.deepStrictEqual((yield* watch.rest).map(({ created, watchId }) => [created, watchId]), [
        [true, 0n],
        [true, 1n],
        [true, 2n],
        [true, 3n],
        [true, 4n]
      ])
      yield* put("b")
      assert.deepStrictEqual((yield* watch.rest).map(({ watchId }) => watchId), [1n, 2n, 3n])
      yield* put("\0")
      assert.deepStrictEqual((yield* watch.rest).map(({ watchId }) => watchId), [3n, 4n])
    }))

  it.scoped("refuses ranges that hold nothing and revisions below zero", () =>
    Effect.gen(function*() {
      const { watch } = yield* connect()
      yield* watch.send(create("b", { rangeEnd: "a" }))
      yield* watch.send(create("b", { rangeEnd: "b" }))
      yield* watch.send(create("b", { startRevision: -1n }))
      yield* watch.send(create("b"))
      assert.deepStrictEqual(
        (yield* watch.rest).map(({ canceled, cancelReason, created, watchId }) => [
          watchId,
          created,
          canceled,
          cancelReason
        ]),
        [
          [-1n, true, true, "mvcc: watcher range is empty"],
          [-1n, true, true, "mvcc: watcher range is empty"],
          [-1n, true, true, "etcdserver: mvcc: required revision has been compacted"],
          [0n, true, false, ""]
        ]
      )
    }))

  it.scoped("replays the past, then goes on", () =>
    Effect.gen(function*() {
      const { client, put, watch } = yield* connect()
      yield* put("a", "1")
      yield* put("b", "1")
      yield* client.del({ key: "a" }, call)
      yield* put("a", "2")
      yield* watch.send(create("a", { startRevision: 2n }))
      assert.deepInclude(yield* watch.next, { created: true, watchId: 0n })
      const past = yield* watch.next
      assert.deepStrictEqual(show(past), ["+a=1@2", "-a@4", "+a=2@5"])
      assert.strictEqual(past.header.revision, 5n)
      yield* put("a", "3")
      assert.deepStrictEqual(show(yield* watch.next), ["+a=3@6"])
      assert.deepStrictEqual(yield* watch.rest, [])
    }))

  it.scoped("replays at most 1000 revisions in one response", () =>
    Effect.gen(function*() {
      const { put, watch } = yield* connect()
      for (let index = 0; index < 2500; index++) {
        yield* put("a", `${index}`)
      }
      yield* watch.send(create("a", { startRevision: 1n }))
      const messages = yield* watch.rest
      assert.deepStrictEqual(messages.map(({ events }) => events.length), [0, 1000, 1000, 500])
      // a response that is not the last already tells the newest revision
      assert.deepStrictEqual(messages.map(({ header }) => header.revision), [2501n, 2501n, 2501n, 2501n])
      assert.deepStrictEqual(
        messages.flatMap(({ events }) => events.map(({ kv }) => kv.modRevision)),
        Array.from({ length: 2500 }, (_, index) => BigInt(index + 2))
      )
    }))

  it.scoped("keeps the order when it is written while the past is replayed", () =>
    Effect.gen(function*() {
      const { client, put, watch } = yield* connect()
      yield* put("a", "1")
      yield* watch.send(create("a", { startRevision: 2n }))
      yield* Effect.all([put("a", "2"), client.put({ key: "a", value: "3" }, call)], { concurrency: "unbounded" })
      assert.deepStrictEqual((yield* watch.rest).flatMap(show), ["+a=1@2", "+a=2@3", "+a=3@4"])
    }))

  it.scoped("waits for a future revision", () =>
    Effect.gen(function*() {
      const { put, watch } = yield* connect()
      yield* watch.send(create("a", { startRevision: 4n }))
      assert.deepInclude(yield* watch.next, { created: true, canceled: false })
      yield* put("a", "2")
      yield* put("a", "3")
      assert.deepStrictEqual(yield* watch.rest, [])
      yield* put("a", "4")
      yield* put("a", "5")
      assert.deepStrictEqual((yield* watch.rest).map(show), [["+a=4@4"], ["+a=5@5"]])
    }))

  it.scoped("ends where the past is compacted", () =>
    Effect.gen(function*() {
      const { client, etcd, put, watch } = yield* connect()
      for (const value of ["2", "3", "4"]) {
        yield* put("a", value)
      }
      yield* etcd.compact(3n)
      yield* watch.send(create("a", { startRevision: 2n }))
      assert.deepInclude(yield* watch.next, { created: true, canceled: false, watchId: 0n })
      assert.deepInclude(yield* watch.next, { created: false, canceled: true, watchId: 0n, compactRevision: 3n })
      assert.strictEqual((yield* etcd.usage).watchers, 0)
      // the compacted revision itself can still be watched
      yield* watch.send(create("a", { startRevision: 3n }))
      assert.deepInclude(yield* watch.next, { created: true, watchId: 1n })
      assert.deepStrictEqual(show(yield* watch.next), ["+a=3@3", "+a=4@4"])
      // a watcher in step does not mind
      yield* client.compact(4n, true, call)
      yield* put("a", "5")
      assert.deepStrictEqual((yield* watch.rest).map(({ watchId }) => watchId), [1n])
    }))

  it.scoped("ends when the past is compacted between the creation and the replay", () =>
    Effect.gen(function*() {
      const { client, put, watch } = yield* connect()
      yield* put("a", "2")
      yield* put("a", "3")
      yield* watch.send(create("a", { startRevision: 2n }))
      yield* client.compact(3n, false, call)
      assert.deepStrictEqual((yield* watch.rest).map(({ compactRevision, created }) => [created, compactRevision]), [
        [true, 0n],
        [false, 3n]
      ])
    }))

  it.scoped("keeps the delete at the compacted revision", () =>
    Effect.gen(function*() {
      const { client, etcd, put, watch } = yield* connect()
      yield* put("a", "2")
      yield* client.del({ key: "a" }, call)
      yield* etcd.compact()
      yield* watch.send(create("a", { startRevision: 3n }))
      yield* watch.next
      assert.deepStrictEqual(show(yield* watch.next), ["-a@3"])
    }))

  it.scoped("sends a revision in one response, and keeps the order of its changes", () =>
    Effect.gen(function*() {
      const { client, put, watch } = yield* connect()
      yield* put("c", "1")
      yield* watch.send(create("a", { rangeEnd: "z", prevKv: true }))
      yield* watch.next
      yield* client.txn({
        success: [
          Txn.put({ key: "b", value: "1" }),
          Txn.put({ key: "a", value: "1" }),
          Txn.del({ key: "c" }),
          Txn.put({ key: "0", value: "1" })
        ]
      }, call)
      const message = yield* watch.next
      assert.deepStrictEqual(show(message), ["+b=1@3", "+a=1@3", "-c@3"])
      assert.isFalse(message.fragment)
      assert.deepStrictEqual(yield* watch.rest, [])
    }))

  it.scoped("tells what stood there before", () =>
    Effect.gen(function*() {
      const { client, etcd, put, watch } = yield* connect()
      yield* put("a", "1")
      yield* put("a", "2")
      yield* client.del({ key: "a" }, call)
      yield* put("a", "3")
      const previous = (startRevision: bigint) =>
        Effect.gen(function*() {
          yield* watch.send(create("a", { startRevision, prevKv: true }))
          return (yield* watch.rest).flatMap(({ events }) =>
            events.map(({ prevKv }) => prevKv === undefined ? "none" : text(prevKv.value))
          )
        })
      assert.deepStrictEqual(yield* previous(2n), ["none", "1", "2", "none"])
      yield* etcd.compact(3n)
      // revision 2, before the put of revision 3, is gone
      assert.deepStrictEqual(yield* previous(3n), ["none", "2", "none"])
    }))

  it.scoped("filters puts or deletes", () =>
    Effect.gen(function*() {
      const { client, put, watch } = yield* connect()
      yield* watch.send(create("a", { noPut: true }))
      yield* watch.send(create("a", { noDelete: true }))
      yield* settle
      yield* put("a", "1")
      yield* client.del({ key: "a" }, call)
      yield* watch.send(create("a", { noPut: true, startRevision: 1n }))
      assert.deepStrictEqual((yield* watch.rest).map((response) => [response.watchId, ...show(response)]), [
        [0n],
        [1n],
        [1n, "+a=1@2"],
        [0n, "-a@3"],
        [2n],
        [2n, "-a@3"]
      ])
    }))

  it.scoped("is cancelled", () =>
    Effect.gen(function*() {
      const { etcd, put, watch } = yield* connect()
      yield* watch.send(create("a"))
      yield* watch.send(create("a"))
      yield* watch.send({ _tag: "Cancel", watchId: 0n })
      yield* watch.send({ _tag: "Cancel", watchId: 7n })
      const messages = yield* watch.rest
      assert.deepStrictEqual(messages.map(({ canceled, watchId }) => [watchId, canceled]), [
        [0n, false],
        [1n, false],
        [0n, true]
      ])
      assert.deepInclude(messages[2], { created: false, compactRevision: 0n })
      assert.strictEqual((yield* etcd.usage).watchers, 1)
      yield* put("a")
      assert.deepStrictEqual((yield* watch.rest).map(({ watchId }) => watchId), [1n])
    }))

  it.scoped("tells its progress when every watcher is in step", () =>
    Effect.gen(function*() {
      const { etcd, put, watch } = yield* connect()
      const progress = Effect.gen(function*() {
        yield* watch.send({ _tag: "Progress" })
        return (yield* watch.rest).map(({ events, header, watchId }) => [watchId, header.revision, events.length])
      })
      assert.deepStrictEqual(yield* progress, [])
      yield* watch.send(create("a"))
      yield* settle
      yield* put("b")
      yield* watch.rest
      assert.deepStrictEqual(yield* progress, [[-1n, 2n, 0]])
      yield* watch.send(create("a", { startRevision: 9n }))
      yield* watch.rest
      assert.deepStrictEqual(yield* progress, [])
      yield* watch.send({ _tag: "Cancel", watchId: 1n })
      yield* watch.rest
      assert.deepStrictEqual(yield* progress, [[-1n, 2n, 0]])
      // a watcher that ended by compaction stands in the way until it is cancelled
      yield* put("b")
      yield* etcd.compact()
      yield* watch.send(create("b", { startRevision: 2n }))
      yield* watch.rest
      assert.deepStrictEqual(yield* progress, [])
      yield* watch.send({ _tag: "Cancel", watchId: 2n })
      yield* watch.rest
      assert.deepStrictEqual(yield* progress, [[-1n, 3n, 0]])
    }))

  it.scoped("splits responses when it is told to", () =>
    Effect.gen(function*() {
      const { client, watch } = yield* connect({ fragmentEvents: 2 })
      yield* watch.send(create("a", { rangeEnd: "z" }))
      yield* watch.next
      yield* client.txn({ success: ["a", "b", "c", "d", "e"].map((key) => Txn.put({ key, value: "" })) }, call)
      const live = yield* watch.rest
      assert.deepStrictEqual(live.map(({ events, fragment }) => [events.length, fragment]), [
        [2, true],
        [2, true],
        [1, false]
      ])
      yield* client.txn({ success: ["a", "b"].map((key) => Txn.put({ key, value: "" })) }, call)
      assert.deepStrictEqual((yield* watch.rest).map(({ events, fragment }) => [events.length, fragment]), [[2, false]])
    }))

  it.scoped("answers nobody inside the call that caused it", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* connect()
      const log: Array<string> = []
      const stream = yield* client.openWatch({
        onMessage: ({ created, events }) => {
          log.push(created ? "created" : `events ${events.length}`)
          if (created && log.length === 2) {
            stream.send(create("b"))
            log.push("sent from the handler")
          }
          if (events.length > 0) {
            throw new Error("a bad handler harms only itself")
          }
        },
        onEnd: () => {}
      })
      stream.send(create("a"))
      log.push("sent")
      yield* etcd.putKey("a", "0")
      // the request had not arrived
      assert.deepStrictEqual(log, ["sent"])
      yield* settle
      yield* etcd.putKey("a", "1")
      assert.strictEqual(log.at(-1), "created")
      yield* settle
      yield* etcd.putKey("b", "1")
      yield* settle
      assert.deepStrictEqual(log, ["sent", "created", "sent from the handler", "created", "events 1", "events 1"])
    }))

  it.scoped("ends in silence with its scope", () =>
    Effect.gen(function*() {
      const { client, etcd } = yield* connect()
      const messages: Array<unknown> = []
      yield* Effect.scoped(Effect.gen(function*() {
        const stream = yield* client.openWatch({ onMessage: (m) => messages.push(m), onEnd: (e) => messages.push(e) })
        stream.send(create("a"))
        yield* settle
        assert.strictEqual((yield* etcd.usage).watchStreams, 2)
        yield* etcd.putKey("a", "1")
      }))
      yield* etcd.putKey("a", "2")
      yield* settle
      // what was on its way is lost too
      assert.strictEqual(messages.length, 1)
      assert.deepInclude(yield* etcd.usage, { watchStreams: 1, watchers: 0 })
    }))
})
