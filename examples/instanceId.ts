/**
 * Snowflake ids: every instance of a service has a number of its own, and ends its work when it loses that number.
 *
 *     npx tsx examples/instanceId.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/instanceId.ts
 */
import { Clock, Effect, Fiber } from "effect"
import { EtcdClient, InstanceId } from "effect-coord"
import { run, runName } from "./support.js"

const service = `${runName}/orders`

/** 41 bits of time, 10 bits for the instance, 12 bits for a counter; time goes on a little earlier when that is full. */
const snowflakes = (instance: number) => {
  let last = 0n
  let counter = 0n
  return Effect.map(Clock.currentTimeMillis, (now) => {
    const millis = counter < 4_095n ? last : last + 1n
    const next = BigInt(now) > millis ? BigInt(now) : millis
    counter = next > last ? 0n : counter + 1n
    last = next
    return last << 22n | BigInt(instance) << 12n | counter
  })
}

/** Numbers orders for as long as the instance's number is its own, and not a moment longer. */
const instance = (name: string) =>
  Effect.scoped(Effect.gen(function*() {
    const { etcdKey, id, lost } = yield* InstanceId.allocate(service, { maxId: 1023, ttl: "5 seconds" })
    const nextId = snowflakes(id)
    yield* Effect.log(`${name} is instance ${id} (${etcdKey})`)
    const work = Effect.forever(Effect.zipRight(
      Effect.flatMap(nextId, (order) => Effect.log(`${name}: order ${order}`)),
      Effect.sleep("200 millis")
    ))
    return yield* Effect.raceFirst(work, lost)
  }))

run(Effect.gen(function*() {
  const etcd = yield* EtcdClient.EtcdClient
  const alice = yield* Effect.fork(Effect.flip(instance("alice")))
  yield* Effect.sleep("100 millis")
  const bob = yield* Effect.fork(instance("bob"))
  yield* Effect.sleep("500 millis")

  const [first] = yield* InstanceId.inspect(service)
  yield* Effect.log("somebody deletes alice's key")
  yield* etcd.delete({ key: first.etcdKey })
  yield* Effect.log((yield* Fiber.join(alice)).message)

  yield* Effect.scoped(Effect.flatMap(
    InstanceId.allocate(service, { maxId: 1023 }),
    ({ id }) => Effect.log(`carol is instance ${id}, the lowest that is free`)
  ))
  const error = yield* Effect.flip(Effect.scoped(
    Effect.zipRight(
      InstanceId.allocate(service, { maxId: 2 }),
      InstanceId.allocate(service, { maxId: 2 })
    )
  ))
  yield* Effect.log(error.message)
  yield* Fiber.interrupt(bob)
  yield* Effect.log(`taken in the end: ${(yield* InstanceId.inspect(service)).length}`)
}))
