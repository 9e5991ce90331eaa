/** Deletes that etcd does not take at once. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { constVoid } from "effect/Function"
import * as Option from "effect/Option"
import { EtcdClient } from "../../src/EtcdClient.js"
import { EtcdError } from "../../src/EtcdError.js"
import * as Session from "../../src/Session.js"
import { refusals, type Request, TestEtcd } from "../../src/testing.js"
import type * as Txn from "../../src/Txn.js"
import { keys, pass, scenario, settle, whileTimePasses } from "../support/memory.js"

const lost = new EtcdError({ operation: "txn", reason: "Unavailable", code: 14, mayBeApplied: true, detail: "lost" })

/** Of one key, or of a folder. */
const isTxnOf = (start: string) => ({ keys, operation }: Request): boolean =>
  operation === "txn" && keys.some((key) => key.startsWith(start))

const isDeleteOf = (folder: string, { success = [] }: Txn.TxnRequest): boolean =>
  success.some((op) => op._tag === "Delete" && String(op.request.key).startsWith(folder))

/** An entry that stands until it is given up. */
const enter = (session: Session.Session, folder: string, onRemoved?: () => void) =>
  Effect.gen(function*() {
    const owed: Array<() => Effect.Effect<void> | void> = []
    const { entry } = yield* session.claim({ folder, value: "", onRemoved }, (undo) => owed.push(undo))
    const { key } = Option.getOrThrow(entry)
    const giveUp = Effect.suspend(() => Effect.forEach(owed, (undo) => undo() ?? Effect.void, { discard: true }))
    return { key, giveUp }
  })

describe("a delete", () => {
  for (const refusal of ["tooManyRequests", "noSpace", "permissionDenied", "invalidAuthToken"] as const) {
    it.effect(`that etcd refuses for a while (${refusal}) is repeated: the lease lives on, and nobody else would do it`, () =>
      Effect.gen(function*() {
        const etcd = yield* TestEtcd
        const session = yield* Session.make({ ttl: "1 hour" })
        const { giveUp, key } = yield* enter(session, "/q/")
        yield* etcd.refuse(refusals[refusal], { match: isTxnOf(key), times: 20 })
        yield* whileTimePasses(giveUp)
        assert.deepStrictEqual(yield* keys, [key])
        yield* pass("1 minute", "1 second")
        assert.deepStrictEqual(yield* keys, [])
        assert.strictEqual((yield* session.state)._tag, "Active")
      }).pipe(scenario))
  }

  it.effect("is due whoever waits for it: its caller may be interrupted before etcd has confirmed it", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const session = yield* Session.make({ ttl: "1 hour" })
      yield* (yield* EtcdClient).put({ key: "own", value: "", lease: yield* session.lease })
      yield* etcd.down
      const removing = yield* Effect.fork(session.remove({ key: "own" }))
      yield* settle
      yield* whileTimePasses(Fiber.interrupt(removing), "2 seconds")
      yield* etcd.up
      yield* pass("5 seconds")
      assert.deepStrictEqual(yield* keys, [])
    }).pipe(scenario))

  it.effect("that etcd refuses keeps no other waiting, nor makes it hurry on without an answer", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const session = yield* Session.make({ ttl: "1 hour" })
      // More than are tried at the same time.
      const refused = yield* Effect.forEach(Array.from({ length: 20 }), () => enter(session, "/refused/"))
      yield* etcd.refuse(refusals.permissionDenied, { match: isTxnOf("/refused/"), times: Infinity })
      yield* whileTimePasses(Effect.forEach(refused, ({ giveUp }) => giveUp, { discard: true }))
      const other = yield* enter(session, "/other/")
      yield* etcd.stall({ streams: false })
      const givingUp = yield* Effect.fork(other.giveUp)
      yield* settle
      assert.isTrue(Option.isNone(yield* Fiber.poll(givingUp)), "it waits for etcd's answer")
      yield* etcd.resume
      yield* settle
      assert.isTrue(Option.isSome(yield* Fiber.poll(givingUp)))
      assert.notInclude(yield* keys, other.key)
      // Nor one that came into the background by itself.
      const later = yield* enter(session, "/later/")
      yield* etcd.stall({ streams: false })
      yield* whileTimePasses(later.giveUp)
      yield* etcd.resume
      yield* pass("10 seconds")
      assert.lengthOf(yield* keys, 20)
      yield* etcd.clear
      yield* pass("5 seconds")
      assert.deepStrictEqual(yield* keys, [])
    }).pipe(scenario))

  it.effect("is told once, although another one fails while it is under way: by then its name may be somebody else's", () =>
    Effect.gen(function*() {
      const etcd = yield* TestEtcd
      const client = yield* EtcdClient
      let isCut = false
      const session = yield* Effect.provideService(Session.make({ ttl: "1 hour" }), EtcdClient, {
        ...client,
        // Those of one entry are lost at once, while those of the other wait for their answers.
        startTxn: (txn, options) => {
          if (!isCut || !isDeleteOf("/lost/", txn.request())) return client.startTxn(txn, options)
          txn.troubled(Effect.fail(lost))
          return { cancel: constVoid, isSent: () => true }
        }
      })
      const told: Array<string> = []
      const one = yield* enter(session, "/lost/", () => told.push("lost"))
      const other = yield* enter(session, "/q/", () => told.push("other"))
      isCut = true
      yield* etcd.stall({ streams: false })
      yield* whileTimePasses(Effect.zip(one.giveUp, other.giveUp))
      yield* pass("3 seconds")
      yield* etcd.resume
      yield* pass("3 seconds")
      assert.deepStrictEqual(told, ["other"])
      isCut = false
      yield* pass("3 seconds")
      assert.deepStrictEqual(told, ["other", "lost"])
      assert.deepStrictEqual(yield* keys, [])
    }).pipe(scenario))
})
