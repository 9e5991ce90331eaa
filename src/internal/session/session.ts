/** A session, put together: a lease that is kept alive, and what holds keys with it. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import type * as Scope from "effect/Scope"
import type { EtcdClient } from "../../EtcdClient.js"
import type { Session } from "../../Session.js"
import * as Txn from "../../Txn.js"
import { Obligations } from "../obligations.js"
import type { Ground } from "./claim.js"
import * as Claim from "./claim.js"
import * as ClaimAll from "./claimAll.js"
import * as EntryNames from "./entryNames.js"
import type { SessionExpired } from "./expired.js"
import * as KeptLease from "./keptLease.js"
import * as KeyGuard from "./keyGuard.js"
import type * as Remover from "./remover.js"

/** A session that has left so many markers is not shared any further. */
const maxBars = 16

/** @param onWorn told when it should not get new users any more */
export const make = (
  client: EtcdClient["Type"],
  ttl: Duration.Duration,
  remover: Remover.Remover,
  onWorn: () => void
): Effect.Effect<Session, never, Scope.Scope> =>
  Effect.gen(function*() {
    const kept = yield* KeptLease.make(client, ttl)
    const { hasEnded, isMoot, leaseGone } = kept

    let bars = 0
    const isWorn = (): boolean => bars >= maxBars
    const wear = (): void => {
      bars++
      if (isWorn()) onWorn()
    }

    /** After the end of the session its keys go by themselves soon: nobody should have to wait to hear of its loss. */
    const removeUnlessMoot = (removal: Remover.Removal, wait = true): Effect.Effect<void> =>
      remover.remove(removal, isMoot, wait && !hasEnded())

    const undo: Session["undo"] = ({ bars, key, txn }) =>
      Effect.uninterruptible(
        Effect.suspend(() => removeUnlessMoot({ key, txn: () => txn, confirmed: bars === true ? wear : constVoid }))
      )

    const remove: Session["remove"] = ({ fence, key }) =>
      undo({ key, txn: { compare: fence === undefined ? [] : [fence], success: [Txn.del({ key })] } })

    const ground: Ground<SessionExpired> = {
      client,
      names: EntryNames.make(),
      leaseGone,
      remove: removeUnlessMoot,
      isMoot,
      isAnswered: () => !hasEnded() && !remover.isBehind(),
      barred: wear
    }

    const startClaim: Session["startClaim"] = (options, owe, claimant) => {
      const lease = kept.present()
      if (lease === undefined) claimant.troubled(Effect.zipRight(kept.lease, claim(options, owe)))
      else Claim.start(ground, lease, options, owe, claimant)
    }

    const claim: Session["claim"] = (options, owe) =>
      Effect.async((resume) =>
        startClaim(options, owe, { entered: (entered) => resume(Effect.succeed(entered)), troubled: resume })
      )

    const claimAll: Session["claimAll"] = (options, owe) =>
      Effect.flatMap(kept.lease, (lease) => ClaimAll.claimAll(ground, lease, options, owe))

    // The obligation to delete is there before the put, so that no interruption can fall between them.
    const enter: Session["enter"] = (options) =>
      Effect.suspend(() => {
        const obligations = new Obligations()
        return Effect.zipRight(Effect.addFinalizer(() => obligations.settle()), claim(options, obligations.owe))
      })

    const keys = yield* KeyGuard.make(client)

    return {
      ttl,
      lease: kept.lease,
      state: kept.state,
      states: kept.states,
      expired: kept.expired,
      check: kept.check,
      isOver: kept.isOver,
      isWorn,
      renew: kept.renew,
      enter,
      claim,
      startClaim,
      claimAll,
      guardKey: keys.add,
      onEnd: kept.onEnd,
      remove,
      undo
    }
  })
