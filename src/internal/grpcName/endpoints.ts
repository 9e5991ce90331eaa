/** Instances as the endpoints that grpc-js hands from the resolver to the balancer. */
import type * as grpc from "@grpc/grpc-js"
import * as Option from "effect/Option"
import { host } from "../registry/address.js"
import type { ServiceInfo } from "../registry/model.js"
import * as Traits from "../registry/traits.js"
import type { Construct } from "../socketsOpening.js"

/** An address, and what the balancer of our own wants to know. grpc-js passes the extra fields on as they are. */
export interface InstanceEndpoint extends grpc.experimental.Endpoint {
  readonly weight: number
  readonly zone: string | undefined
  readonly draining: boolean
}

export const isInstanceEndpoint = (endpoint: grpc.experimental.Endpoint): endpoint is InstanceEndpoint =>
  "weight" in endpoint && "draining" in endpoint

/**
 * One endpoint for each address. Where several instances have the same one, as after a crash and a restart on the same
 * port under another id, the address drains only if all of them do.
 *
 * @param construct is called with each socket that is opened to the addresses
 */
export const make = (services: ReadonlyArray<ServiceInfo>, construct: Construct): ReadonlyArray<InstanceEndpoint> => {
  const byAddress = new Map<string, InstanceEndpoint>()
  for (const service of services) {
    const address = { host: host(service.address), port: service.port }
    const key = JSON.stringify(address)
    if (byAddress.get(key)?.draining === false) continue
    byAddress.set(key, {
      addresses: [Object.assign({ construct }, address)],
      weight: Traits.weight(service),
      zone: Option.getOrUndefined(Traits.zone(service)),
      draining: Traits.isDraining(service)
    })
  }
  return Array.from(byAddress.values())
}

/** For balancers that know nothing of draining: without those who drain, unless nobody else is there. */
export const withoutDraining = (endpoints: ReadonlyArray<InstanceEndpoint>): ReadonlyArray<InstanceEndpoint> => {
  const others = endpoints.filter(({ draining }) => !draining)
  return others.length === 0 ? endpoints : others
}
