/** What the suites of the configuration centre run over. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Config from "../../src/Config.js"
import * as EtcdClient from "../../src/EtcdClient.js"
import * as TestEtcd from "../../src/testing.js"
import * as EtcdServer from "../support/EtcdServer.js"

/** One process: a client and its configuration. */
export const process = (options?: TestEtcd.ClientOptions) =>
  Layer.provideMerge(Config.layer(), TestEtcd.client(options))

/** One process and its etcd. */
export const embedded = (options?: TestEtcd.ClientOptions) => Layer.provideMerge(process(options), TestEtcd.layer())

/** Every nth transaction, for a fault. */
export const everyTxn = (n: number) => {
  let sent = 0
  return ({ operation }: TestEtcd.Request) => operation === "txn" && ++sent % n === 0
}

/** A real etcd. */
export const real = Layer.provideMerge(
  Config.layer(),
  Layer.unwrapScoped(Effect.map(EtcdServer.make(), ({ endpoint }) => EtcdClient.layer({ endpoints: endpoint })))
)
