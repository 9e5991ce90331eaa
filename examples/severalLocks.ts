/**
 * Several locks at once: transfers between accounts, in all directions, none of which waits for one that waits for it.
 *
 *     npx tsx examples/severalLocks.ts
 *     ETCD_ENDPOINTS=127.0.0.1:2379 npx tsx examples/severalLocks.ts
 */
import { Effect, Schema } from "effect"
import { Config, EtcdClient, Lock, Txn } from "effect-coord"
import { run, runName } from "./support.js"

const names = ["alice", "bob", "carol"]
const account = (name: string) => `${runName}/accounts/${name}`
const balance = (name: string) => Config.get(account(name), Schema.Int)

/** Waits until both accounts are free, and changes both or none: only if both locks are held when etcd writes. */
const transfer = (amount: number, from: string, to: string) =>
  Lock.withLocks([account(from), account(to)], { ttl: "5 seconds", timeout: "10 seconds" })((locks) =>
    Effect.gen(function*() {
      const etcd = yield* EtcdClient.EtcdClient
      const [source, target] = yield* Effect.all([balance(from), balance(to)])
      const { succeeded } = yield* etcd.txn({
        compare: locks.guards,
        success: [
          Txn.put({ key: `/config/${account(from)}`, value: String(source - amount) }),
          Txn.put({ key: `/config/${account(to)}`, value: String(target + amount) })
        ]
      })
      // Refused: the loss is known any moment now.
      if (!succeeded) return yield* locks.lost
      yield* Effect.log(`${amount} from ${from} to ${to}, with token ${locks.fencingToken}`)
    })
  )

run(Effect.gen(function*() {
  yield* Effect.forEach(names, (name) => Config.set(account(name), Schema.Int, 100))

  // Each holds what the next one wants, if they are taken one by one.
  yield* Effect.all(
    [
      transfer(10, "alice", "bob"),
      transfer(20, "bob", "carol"),
      transfer(30, "carol", "alice"),
      transfer(5, "bob", "alice")
    ],
    { concurrency: "unbounded", discard: true }
  )
  const balances = yield* Effect.forEach(names, balance)
  yield* Effect.log(`in the end: ${names.map((name, index) => `${name} ${balances[index]}`).join(", ")}`)

  // All or none: the failure says which one was not free.
  const error = yield* Effect.scoped(Effect.zipRight(
    Lock.acquire(account("carol"), { ttl: "5 seconds" }),
    Effect.flip(Lock.withLocks(names.map(account), { timeout: "300 millis" })(Effect.void))
  ))
  yield* Effect.log(error.message)
}))
