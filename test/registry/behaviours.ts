/** What a registry does, whatever etcd is under it. */
import { assert } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { EtcdClient } from "../../src/EtcdClient.js"
import * as Key from "../../src/Key.js"
import * as Registry from "../../src/Registry.js"
import { Sessions } from "../../src/Session.js"
import type { Process } from "./backend.js"
import { Backend, passing, process, running, text, until } from "./backend.js"

type Test = Effect.Effect<void, unknown, Backend | Scope.Scope>

const registryOf = (process: Process) => Context.get(process, Registry.Registry)
const clientOf = (process: Process) => Context.get(process, EtcdClient)

const user = (id: string, metadata: Record<string, string> = {}): Registry.ServiceInfo => ({
  id,
  name: "user",
  address: "127.0.0.1",
  port: 8080,
  metadata
})

const ttl: Duration.DurationInput = "3 seconds"

const find = (admin: Process, key: string) =>
  Effect.map(clientOf(admin).get(key), Option.map((kv) => ({ ...kv, text: text(kv.value) })))

const stands = (admin: Process, key: string) => Effect.map(find(admin, key), Option.isSome)

const isRegistered = (registration: Registry.Registration) =>
  Effect.map(registration.status, ({ _tag }) => _tag === "Registered")

const hasStatus = (registration: Registry.Registration, tag: Registry.RegistrationStatus["_tag"]) =>
  Effect.map(registration.status, ({ _tag }) => _tag === tag)

/** What a stream has emitted so far, oldest first. */
const collect = <A, E>(stream: Stream.Stream<A, E>) =>
  Effect.gen(function*() {
    const seen = yield* Ref.make<ReadonlyArray<A>>([])
    yield* Effect.forkScoped(Stream.runForEach(stream, (a) => Ref.update(seen, (all) => [...all, a])))
    return Ref.get(seen)
  })

const show = (events: ReadonlyArray<Registry.ServiceEvent>) =>
  events.map(({ _tag, service }) => `${_tag === "Put" ? "+" : "-"}${service.id}:${service.port}`)

const idsOf = (services: ReadonlyArray<Registry.ServiceInfo>) => services.map(({ id }) => id).join()

export const behaviours: Record<string, Test> = {
  "writes what Go reads, and reads what Go writes": Effect.gen(function*() {
    const one = yield* process
    const { discover, register } = registryOf(one)
    const { value: registration } = yield* running(
      register({ ...user("u1"), metadata: { version: "1.0.0", "10": "ten", "9": "nine", a: "<&>" } })
    )
    assert.strictEqual(registration.key, "/services/user/u1")
    assert.strictEqual(
      Option.getOrThrow(yield* find(one, "/services/user/u1")).text,
      "{\"id\":\"u1\",\"name\":\"user\",\"address\":\"127.0.0.1\",\"port\":8080," +
        "\"metadata\":{\"10\":\"ten\",\"9\":\"nine\",\"a\":\"<&>\",\"version\":\"1.0.0\"}}"
    )
    yield* running(register(user("u2")))
    assert.strictEqual(
      Option.getOrThrow(yield* find(one, "/services/user/u2")).text,
      "{\"id\":\"u2\",\"name\":\"user\",\"address\":\"127.0.0.1\",\"port\":8080}"
    )
    const { put } = clientOf(one)
    yield* put({
      key: "/services/go/b",
      value: "{\"id\":\"b\",\"name\":\"go\",\"address\":\"h\",\"port\":1,\"metadata\":null,\"new\":true}"
    })
    yield* put({
      key: "/services/go/a",
      value: "{\"id\":\"a\",\"name\":\"go\",\"address\":\"h\",\"port\":1,\"metadata\":{\"x\":\"\\u003c\"}}"
    })
    yield* put({ key: "/services/go/c", value: "{\"id\":\"c\",\"name\":\"go\",\"address\":\"h\",\"port\":65536}" })
    yield* put({ key: "/services/go/d", value: "not JSON" })
    yield* put({
      key: "/services/go/sub/e",
      value: "{\"id\":\"e\",\"name\":\"go/sub\",\"address\":\"h\",\"port\":1}"
    })
    assert.deepStrictEqual(yield* discover("go"), [
      { id: "a", name: "go", address: "h", port: 1, metadata: { x: "<" } },
      { id: "b", name: "go", address: "h", port: 1, metadata: {} }
    ])
    assert.strictEqual(idsOf(yield* discover("go/sub")), "e")
    assert.deepStrictEqual(yield* registryOf(one).services, ["go", "go/sub", "user"])
    assert.deepStrictEqual(yield* discover("nobody"), [])
  }),

  "registers until the scope closes, on one lease for all": Effect.gen(function*() {
    const one = yield* process
    const { register } = registryOf(one)
    const first = yield* running(register(user("u1"), { ttl }))
    const second = yield* running(register(user("u2"), { ttl }))
    const leases = [
      Option.getOrThrow(yield* find(one, "/services/user/u1")).lease,
      Option.getOrThrow(yield* find(one, "/services/user/u2")).lease
    ]
    assert.strictEqual(leases[0], leases[1])
    assert.deepStrictEqual(yield* first.value.status, { _tag: "Registered", lease: leases[0] })
    const { pass } = yield* Backend
    yield* pass("7 seconds")
    assert.isTrue(yield* stands(one, "/services/user/u1"))
    yield* passing(first.close)
    assert.isFalse(yield* stands(one, "/services/user/u1"))
    assert.isTrue(yield* stands(one, "/services/user/u2"))
    assert.deepStrictEqual(yield* first.value.status, { _tag: "Unregistered" })
    // The stream of a registration that is over ends.
    assert.deepStrictEqual(Chunk.toArray(yield* Stream.runCollect(first.value.statuses)), [{ _tag: "Unregistered" }])
    yield* passing(second.value.unregister)
    assert.isFalse(yield* stands(one, "/services/user/u2"))
    yield* second.value.unregister
    assert.strictEqual((yield* Effect.flip(second.value.update({})))._tag, "NotFound")
  }),

  "puts back a key that somebody deleted": Effect.gen(function*() {
    const one = yield* process
    const admin = yield* process
    const { value: registration } = yield* running(registryOf(one).register(user("u1"), { ttl }))
    const statuses = yield* collect(registration.statuses)
    for (let round = 0; round < 3; round++) {
      const before = Option.getOrThrow(yield* find(admin, registration.key))
      yield* clientOf(admin).delete({ key: registration.key })
      yield* until(
        "registered again",
        Effect.map(
          find(admin, registration.key),
          (kv) =>
            Option.isSome(kv) && kv.value.createRevision > before.createRevision && kv.value.lease === before.lease
        ),
        "2 seconds"
      )
      yield* until("status", isRegistered(registration))
    }
    assert.include(
      (yield* statuses).map((status) => status._tag === "Reconnecting" ? status.reason : ""),
      "the entry was deleted"
    )
  }),

  "puts back what somebody without a lease wrote over": Effect.gen(function*() {
    const one = yield* process
    const admin = yield* process
    const { value: registration } = yield* running(registryOf(one).register(user("u1"), { ttl }))
    yield* clientOf(admin).put({ key: registration.key, value: "by hand" })
    yield* until(
      "registered again",
      Effect.map(
        find(admin, registration.key),
        (kv) => Option.isSome(kv) && kv.value.text !== "by hand" && kv.value.lease !== 0n
      ),
      "2 seconds"
    )
  }),

  "takes another lease at once when its own is revoked": Effect.gen(function*() {
    const one = yield* process
    const admin = yield* process
    const registrations = yield* Effect.forEach(
      ["u1", "u2"],
      (id) => registryOf(one).register(user(id), { ttl: "30 seconds" })
    )
    const { lease } = Option.getOrThrow(yield* find(admin, "/services/user/u1"))
    yield* clientOf(admin).leaseRevoke(lease)
    for (const { key } of registrations) {
      yield* until(
        "registered again",
        Effect.map(find(admin, key), (kv) => Option.isSome(kv) && kv.value.lease !== lease),
        "2 seconds"
      )
    }
    const leases = yield* Effect.forEach(
      registrations,
      ({ key }) => Effect.map(find(admin, key), (kv) => Option.getOrThrow(kv).lease)
    )
    assert.strictEqual(leases[0], leases[1])
    yield* until("status", isRegistered(registrations[0]))
    assert.deepStrictEqual(yield* registrations[0].status, { _tag: "Registered", lease: leases[0] })
  }),

  "comes back after an outage longer than its time to live, and readers keep the last list": Effect.gen(function*() {
    const { pass, start, stop } = yield* Backend
    const one = yield* process
    const reader = yield* process
    const registration = yield* registryOf(one).register(user("u1"), { ttl })
    const lists = yield* collect(registryOf(reader).instances("user"))
    yield* until("the first list", Effect.map(lists, ({ length }) => length === 1))
    yield* stop
    yield* until("the loss is told", hasStatus(registration, "Reconnecting"), "6 seconds")
    // Three times to live.
    yield* pass("9 seconds")
    const { instances, state } = yield* registryOf(reader).instancesState("user")
    assert.strictEqual(idsOf(instances), "u1")
    assert.strictEqual(state._tag, "Stale")
    yield* start
    yield* until("registered again", isRegistered(registration), ttl)
    yield* until("in etcd again", stands(reader, registration.key), ttl)
    yield* pass("4 seconds")
    assert.deepStrictEqual((yield* lists).map(idsOf).filter((ids) => ids !== "u1"), [])
    yield* until(
      "fresh again",
      Effect.map(
        registryOf(reader).instancesState("user"),
        ({ instances, state }) => state._tag === "Following" && idsOf(instances) === "u1"
      )
    )
  }),

  "comes back when etcd restarts with its data, keeping its lease": Effect.gen(function*() {
    const { start, stop } = yield* Backend
    const one = yield* process
    const registration = yield* registryOf(one).register(user("u1"), { ttl: "30 seconds" })
    const { lease } = Option.getOrThrow(yield* find(one, registration.key))
    yield* stop
    yield* start
    yield* until("answers", stands(one, registration.key))
    assert.strictEqual(Option.getOrThrow(yield* find(one, registration.key)).lease, lease)
    // Still kept: it is put back when it goes.
    yield* passing(clientOf(one).delete({ key: registration.key }))
    yield* until("registered again", stands(one, registration.key), "3 seconds")
  }),

  "comes back when etcd restarts without its data": Effect.gen(function*() {
    const { startWithoutData, stop } = yield* Backend
    const one = yield* process
    const reader = yield* process
    // So that the new history is behind the old one.
    yield* Effect.forEach(Array.from({ length: 10 }), () => clientOf(reader).put({ key: "x", value: "" }))
    const registration = yield* registryOf(one).register(user("u1"), { ttl: "60 seconds" })
    const events = yield* collect(registryOf(reader).watch("user"))
    const lists = yield* collect(registryOf(reader).instances("user"))
    yield* until("watched", Effect.map(events, ({ length }) => length === 1))
    for (let round = 0; round < 2; round++) {
      yield* stop
      yield* startWithoutData
      // Long before the session hears of it by its next keep-alive.
      yield* until("in etcd again", stands(reader, registration.key), "5 seconds")
      yield* until("registered again", isRegistered(registration))
    }
    yield* until(
      "watchers end with it",
      Effect.map(
        registryOf(reader).instancesState("user"),
        ({ instances, state }) => state._tag === "Following" && idsOf(instances) === "u1"
      )
    )
    assert.strictEqual((yield* events).at(-1)?._tag, "Put")
    assert.deepStrictEqual((yield* lists).map(idsOf).filter((ids) => ids !== "u1"), [])
  }),

  "comes back when etcd was away for three times to live and has lost its data": Effect.gen(function*() {
    const { pass, startWithoutData, stop } = yield* Backend
    const one = yield* process
    const reader = yield* process
    const ids = ["u1", "u2", "u3", "u4", "u5", "u6"]
    const registrations = yield* Effect.forEach(ids, (id) => registryOf(one).register(user(id), { ttl }))
    const lists = yield* collect(registryOf(reader).instances("user"))
    yield* until("the first list", Effect.map(lists, ({ length }) => length === 1))
    yield* stop
    yield* pass("9 seconds")
    yield* startWithoutData
    yield* until(
      "all are in etcd again",
      Effect.map(registryOf(reader).discover("user"), ({ length }) => length === ids.length),
      ttl
    )
    yield* Effect.forEach(registrations, (registration) => until("status", isRegistered(registration)))
    yield* pass("2 seconds")
    assert.deepStrictEqual((yield* lists).map(idsOf).filter((list) => list !== ids.join()), [])
  }),

  "gives way to a successor, leaves its entry alone, and comes back when it goes": Effect.gen(function*() {
    const admin = yield* process
    const old = yield* process
    const next = yield* process
    const { value: mine, ...predecessor } = yield* running(registryOf(old).register(user("u1", { v: "1" }), { ttl }))
    const successor = yield* running(registryOf(next).register(user("u1", { v: "2" }), { ttl }))
    yield* until("told", hasStatus(mine, "Replaced"))
    const status = yield* mine.status
    assert.isTrue(status._tag === "Replaced" && Option.getOrThrow(status.by).metadata.v === "2")
    const version = () =>
      Effect.map(registryOf(admin).discover("user"), (services) => services.map(({ metadata }) => metadata.v))
    const { pass } = yield* Backend
    yield* pass("1 seconds")
    assert.deepStrictEqual(yield* version(), ["2"])
    assert.isTrue(yield* isRegistered(successor.value))
    yield* passing(successor.close)
    yield* until("back", isRegistered(mine))
    assert.deepStrictEqual(yield* version(), ["1"])
    // And the other way round: the one that was replaced goes first.
    yield* registryOf(next).register(user("u1", { v: "3" }), { ttl })
    yield* until("told again", hasStatus(mine, "Replaced"))
    const before = yield* find(admin, mine.key)
    yield* passing(predecessor.close)
    assert.deepStrictEqual(yield* version(), ["3"])
    assert.deepStrictEqual(yield* find(admin, mine.key), before)
  }),

  "does the same for two of one process": Effect.gen(function*() {
    const one = yield* process
    const { discover, register } = registryOf(one)
    const first = yield* running(register(user("u1", { v: "1" }), { ttl }))
    const second = yield* running(register(user("u1", { v: "2" }), { ttl }))
    yield* until("told", hasStatus(first.value, "Replaced"))
    assert.strictEqual((yield* discover("user"))[0].metadata.v, "2")
    yield* passing(second.close)
    yield* until("back", isRegistered(first.value))
    assert.strictEqual((yield* discover("user"))[0].metadata.v, "1")
    const third = yield* running(register(user("u1", { v: "3" }), { ttl }))
    yield* passing(first.close)
    assert.strictEqual((yield* discover("user"))[0].metadata.v, "3")
    // Not even the same contents make one entry of two.
    const fourth = yield* running(register(user("u1", { v: "3" }), { ttl }))
    yield* until("told as well", hasStatus(third.value, "Replaced"))
    const before = yield* find(one, "/services/user/u1")
    yield* passing(third.close)
    assert.deepStrictEqual(yield* find(one, "/services/user/u1"), before)
    yield* passing(fourth.close)
    assert.deepStrictEqual(yield* discover("user"), [])
  }),

  "updates the metadata in place": Effect.gen(function*() {
    const one = yield* process
    const registration = yield* registryOf(one).register(user("u1", { v: "1" }), { ttl })
    const events = yield* collect(registryOf(one).watch("user"))
    yield* until("watched", Effect.map(events, ({ length }) => length === 1))
    const before = Option.getOrThrow(yield* find(one, registration.key))
    yield* passing(registration.update({ v: "2" }))
    const after = Option.getOrThrow(yield* find(one, registration.key))
    assert.strictEqual(after.createRevision, before.createRevision)
    assert.include(after.text, "\"metadata\":{\"v\":\"2\"}")
    assert.deepStrictEqual(registration.service.metadata, { v: "2" })
    yield* until("seen", Effect.map(events, ({ length }) => length === 2))
    assert.deepStrictEqual((yield* events).map(({ service }) => service.metadata.v), ["1", "2"])
    // The new ones are what is put back.
    yield* clientOf(one).delete({ key: registration.key })
    yield* until("back", stands(one, registration.key))
    assert.include(Option.getOrThrow(yield* find(one, registration.key)).text, "\"2\"")
    // What etcd cannot take is refused, and changes nothing.
    const error = yield* Effect.flip(passing(registration.update({ v: "x".repeat(2 * 1024 * 1024) })))
    assert.isTrue(error._tag === "EtcdError" && error.reason === "TooLarge")
    assert.deepStrictEqual(registration.service.metadata, { v: "2" })
    assert.isTrue(yield* isRegistered(registration))
  }),

  "unregisters by id, by id and name, and says when there is none": Effect.gen(function*() {
    const one = yield* process
    const other = yield* process
    const { register, unregister } = registryOf(one)
    const own = yield* register(user("u1"), { ttl })
    const { pass } = yield* Backend
    yield* passing(unregister("u1"))
    assert.isFalse(yield* stands(one, own.key))
    assert.deepStrictEqual(yield* own.status, { _tag: "Unregistered" })
    yield* pass("1 seconds")
    assert.isFalse(yield* stands(one, own.key))
    const again = yield* register(user("u1"), { ttl })
    yield* passing(unregister("u1", "user"))
    assert.isFalse(yield* stands(one, again.key))
    // Entries that no process of ours keeps.
    for (const key of ["/services/go/a", "/services/go/b", "/services/go/deep/b"]) {
      yield* clientOf(other).put({ key, value: "{\"id\":\"?\",\"name\":\"go\",\"address\":\"h\",\"port\":1}" })
    }
    yield* unregister("a", "go")
    yield* unregister("b")
    assert.strictEqual((yield* clientOf(one).range(Key.prefix("/services/"))).count, 0n)
    const byName = yield* Effect.flip(unregister("a", "go"))
    assert.deepInclude(byName, { _tag: "NotFound", what: "service", id: "a", name: "go" })
    assert.strictEqual((yield* Effect.flip(unregister("a")))._tag, "NotFound")
    assert.strictEqual((yield* Effect.flip(unregister("a/b")))._tag, "InvalidArgument")
  }),

  "watches without a gap, with the whole service on deletes, past entries that are none": Effect.gen(function*() {
    const one = yield* process
    const { delete: del, put } = clientOf(one)
    const go = (id: string, port: number) =>
      put({ key: `/services/go/${id}`, value: JSON.stringify({ id, name: "go", address: "h", port }) })
    yield* go("a", 1)
    yield* put({ key: "/services/go/bad", value: "{}" })
    const events = yield* collect(registryOf(one).watch("go"))
    const lists = yield* collect(registryOf(one).instances("go"))
    yield* until("watched", Effect.map(events, ({ length }) => length === 1))
    yield* until("listed", Effect.map(lists, ({ length }) => length === 1))
    yield* go("b", 2)
    yield* go("a", 3)
    yield* put({ key: "/services/go/b", value: "null" })
    yield* put({ key: "/services/go/b", value: "still nothing" })
    yield* go("sub/c", 1)
    yield* del({ key: "/services/go/b" })
    yield* del({ key: "/services/go/bad" })
    yield* go("b", 4)
    yield* del({ key: "/services/go/a" })
    const expected = ["+a:1", "+b:2", "+a:3", "-b:2", "+b:4", "-a:3"]
    yield* until("all events", Effect.map(events, ({ length }) => length >= expected.length))
    assert.deepStrictEqual(show(yield* events), expected)
    yield* until("the last list", Effect.map(lists, (all) => idsOf(all.at(-1) ?? []) === "b"))
    const ports = (yield* lists).map((list) => list.map(({ id, port }) => `${id}:${port}`).join())
    assert.strictEqual(ports[0], "a:1")
    assert.strictEqual(ports.at(-1), "b:4")
    assert.strictEqual(new Set(ports).size, ports.length)
    // A late watcher begins with what is there.
    const late = yield* Stream.runHead(registryOf(one).watch("go"))
    assert.deepStrictEqual(show(Option.toArray(late)), ["+b:4"])
    // An empty list is a list. Who drained leaves without grace.
    const last = { id: "b", name: "go", address: "h", port: 4, metadata: { "coord.draining": "true" } }
    yield* put({ key: "/services/go/b", value: JSON.stringify(last) })
    yield* until("draining", Effect.map(lists, (all) => all.at(-1)?.every(Registry.isDraining) === true))
    yield* del({ key: "/services/go/b" })
    yield* until("none", Effect.map(lists, (all) => all.at(-1)?.length === 0))
  }),

  "closes in bounded time while etcd is away, and leaves no ghost on a lease that lives on": Effect.gen(function*() {
    const { start, stop } = yield* Backend
    const one = yield* process
    const { register } = registryOf(one)
    const gone = yield* running(register(user("u1"), { ttl: "60 seconds" }))
    yield* register(user("u2"), { ttl: "60 seconds" })
    yield* stop
    yield* passing(gone.close, "3 seconds")
    yield* start
    yield* until("deleted", Effect.map(stands(one, "/services/user/u1"), (stands) => !stands))
    assert.isTrue(yield* stands(one, "/services/user/u2"))
    const sessions = yield* Context.get(one, Sessions).all
    assert.strictEqual(sessions.length, 1)
  }),

  "fails in bounded time when etcd is away from the beginning": Effect.gen(function*() {
    const { start, stop } = yield* Backend
    const one = yield* process
    yield* stop
    const failing = yield* Effect.fork(Effect.flip(registryOf(one).register(user("u1"), { ttl })))
    yield* until("failed", Effect.map(failing.poll, Option.isSome), "11 seconds")
    const error = yield* Fiber.join(failing)
    assert.strictEqual(error._tag, "EtcdError")
    yield* start
    yield* until("answers", Effect.isSuccess(clientOf(one).get("x")))
    assert.isFalse(yield* stands(one, "/services/user/u1"))
  })
}
