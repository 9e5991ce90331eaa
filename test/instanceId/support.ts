/** What the suites of instance IDs share. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as InstanceId from "../../src/InstanceId.js"
import { TestEtcd } from "../../src/testing.js"
import type { KeyValue } from "../../src/Txn.js"
import { process, text } from "../support/memory.js"

export const folder = "/im-infra/allocators/orders/ids/"

/** A process of its own on the same etcd. */
export const another = (connection: string) =>
  Layer.build(InstanceId.layer().pipe(Layer.provideMerge(process({ connection }))))

/** Everything in etcd, as a person with `etcdctl` sees it. */
export const stored = Effect.flatMap(TestEtcd, ({ snapshot }) => snapshot)

export const idOf = ({ key }: KeyValue): number => Number(text(key).slice(folder.length))

/** The numbers that are taken, in their order. */
export const taken = Effect.map(
  stored,
  (kvs) => kvs.filter(({ key }) => text(key).startsWith(folder)).map(idOf).sort((one, other) => one - other)
)

/** Allocates in a scope of its own, to be closed by hand. */
export const hold = (maxId = 1_023) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const allocated = yield* Scope.extend(InstanceId.allocate("orders", { maxId }), scope)
    return { ...allocated, close: Scope.close(scope, Exit.void) }
  })
