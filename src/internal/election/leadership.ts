/** What a leader can ask and do. */
import * as Effect from "effect/Effect"
import type { Leadership } from "../../Election.js"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import type { LockHandle } from "../../Lock.js"
import type { LockExpired } from "../../LockError.js"
import * as Txn from "../../Txn.js"
import { toBytes } from "../bytes.js"
import { firstOf } from "../firstOf.js"
import * as InTurn from "../inTurn.js"
import * as LockQueue from "../lock/queue.js"
import { traced } from "../traced.js"
import { validateValue } from "./candidate.js"

export const make = (client: EtcdClient["Type"], name: string, held: LockHandle): Leadership => {
  const { etcdKey, fencingToken: term, guard, isExpired, lost, release: resign, renew, ttl } = held
  const inTurn = InTurn.make()
  /** The revision of the version that was last seen under the key. */
  let seen = term

  const put = (value: string): Effect.Effect<void, LockExpired | EtcdError> =>
    Effect.zipRight(
      guard.check,
      Effect.suspend(() =>
        client.txn({
          // The version as well: an earlier value that is still on its way must not come after a later one.
          compare: [guard, Txn.modRevision(etcdKey, "=", seen)],
          success: [Txn.put({ key: etcdKey, value, ignoreLease: true })],
          failure: [Txn.range({ key: etcdKey })]
        }, { idempotent: true })
      )
    ).pipe(
      Effect.flatMap(({ header, responses, succeeded }) => {
        if (succeeded) {
          seen = header.revision
          return Effect.void
        }
        const there = LockQueue.kvsOf(responses[0])[0]
        if (there?.createRevision !== term) return guard.refused
        seen = there.modRevision
        // Else put by an earlier sending of this, whose answer was lost.
        return Buffer.compare(there.value, toBytes(value)) === 0 ? Effect.void : put(value)
      })
    )

  const proclaim: Leadership["proclaim"] = (value) =>
    Effect.zipRight(
      validateValue(value),
      Effect.withFiberRuntime<void, LockExpired | EtcdError>((fiber) =>
        traced(
          fiber,
          "Election.proclaim",
          { "lock.key": name },
          // Without the loss, an etcd that does not answer would be waited for long after it.
          firstOf(lost, inTurn(put(value)))
        )
      )
    )

  return { name, etcdKey, term, guard, lost, ttl, renew, isExpired, proclaim, resign }
}
