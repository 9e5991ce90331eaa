/** What the suites of the client over etcd3 share: instances, clients over them, and a server that answers nothing. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { IOptions } from "etcd3"
import { Etcd3 } from "etcd3"
import { fromEtcd3, instanceOptions, type Options } from "../../src/etcd3.js"
import type { Client } from "../grpc/support.js"

/** An instance of the application's, which closes it at the end. */
export const instance = (
  endpoints: string | ReadonlyArray<string>,
  options: Partial<IOptions> = {}
): Effect.Effect<Etcd3, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const hosts = [endpoints].flat().map((endpoint) => `http://${endpoint}`)
      return new Etcd3({ hosts, ...instanceOptions, ...options })
    }),
    (etcd) => Effect.sync(() => etcd.close())
  )

/** As etcd3 is without `instanceOptions`. */
export const withItsPolicies: Partial<IOptions> = { faultHandling: {}, grpcOptions: {}, defaultCallOptions: {} }

/** A client over it; its options are known to be right. */
export const over = (etcd: Etcd3, options: Options = {}): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.orDie(fromEtcd3(etcd, options))

/** What the application does with its instance by itself. */
export const applicationReads = (etcd: Etcd3, key: string): Effect.Effect<string | null> =>
  Effect.promise(async () => etcd.get(key).string())
