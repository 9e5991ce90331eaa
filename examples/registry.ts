/**
 * Services that register for as long as they live, and somebody who follows them.
 *
 *     npx tsx examples/registry.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/registry.ts
 */
import { Effect, Stream } from "effect"
import { EtcdClient, Registry } from "effect-coord"
import { run, runName } from "./support.js"

const service = `${runName}/user`

const instance = (id: string, port: number) =>
  Registry.register(
    { id, name: service, address: "127.0.0.1", port, metadata: { version: "1.0.0" } },
    { ttl: "5 seconds" }
  )

const show = (service: Registry.ServiceInfo) =>
  `${service.id} at ${service.address}:${service.port}, version ${service.metadata.version}` +
  `, weight ${Registry.weight(service)}${Registry.isDraining(service) ? ", draining" : ""}`

const shortPause = Effect.sleep("200 millis")

run(Effect.gen(function*() {
  // The whole list, whenever it changes. `Registry.watch` tells the single changes instead.
  yield* Effect.forkScoped(
    Stream.runForEach(
      Registry.instances(service),
      (instances) => Effect.log(instances.length === 0 ? "no instances" : instances.map(show).join("; "))
    )
  )
  yield* shortPause

  const registration = yield* instance("user-1", 8081)
  yield* shortPause

  // A second instance, for the time of a scope.
  yield* Effect.scoped(Effect.zipRight(instance("user-2", 8082), shortPause))
  yield* shortPause

  yield* registration.update({ version: "1.1.0" })
  yield* shortPause

  // Somebody deletes the entry. It comes back by itself, and before the list would have become empty.
  const etcd = yield* EtcdClient.EtcdClient
  yield* etcd.delete({ key: registration.key })
  yield* shortPause
  yield* Effect.log(`status: ${(yield* registration.status)._tag}`)

  // Callers that balance by weight send fewer calls, and then no new ones.
  yield* registration.setWeight(0.5)
  yield* shortPause
  yield* registration.drain
  yield* shortPause
  yield* registration.resume

  const found = yield* Registry.discover(service)
  yield* Effect.log(`the quorum knows ${found.length} instance; services: ${(yield* Registry.services).join(", ")}`)
}))
