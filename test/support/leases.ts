/** The leases of an etcd, by its own tool. */
import * as Effect from "effect/Effect"
import type { EtcdctlError } from "./Etcdctl.js"
import type { EtcdServerService } from "./EtcdServer.js"

/** A member lists what it knows, and it may be behind the others; after a read by the quorum it is not. */
export const leasesOf = ({ etcdctl }: EtcdServerService): Effect.Effect<ReadonlyArray<bigint>, EtcdctlError> =>
  Effect.zipRight(etcdctl(["get", "any"]), etcdctl(["lease", "list"])).pipe(
    Effect.map((printed) => Array.from(printed.matchAll(/^[0-9a-f]{8,16}$/gm), ([id]) => BigInt(`0x${id}`)))
  )
