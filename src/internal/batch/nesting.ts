/** Whether transactions may be nested, where that depends on the version of the servers. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { EtcdError } from "../../EtcdError.js"
import { checksNested } from "../serverVersion.js"

/** Servers are asked again after so long: they may have been upgraded, or the opposite. */
const validFor = Duration.minutes(5)
const askAgainAfter = Duration.seconds(10)

/**
 * Before etcd 3.4.42, 3.5.28 and 3.6.9, what is nested in a transaction escapes the check of the user's roles
 * (CVE-2026-33343): with credentials, nothing is nested until all members are known to have a version that checks it.
 *
 * Never waits: while the answer is not known it is no.
 */
export const make = (
  versions: Effect.Effect<ReadonlyArray<string>, EtcdError>,
  clock: { readonly unsafeCurrentTimeNanos: () => bigint },
  run: (effect: Effect.Effect<void>) => void
): () => boolean => {
  let safe = false
  let asking = false
  let askAt = 0n

  const ask = versions.pipe(
    Effect.matchCause({
      onFailure: () => {
        safe = false
        return askAgainAfter
      },
      onSuccess: (all) => {
        safe = all.every(checksNested)
        return validFor
      }
    }),
    Effect.map((wait) => {
      asking = false
      askAt = clock.unsafeCurrentTimeNanos() + BigInt(Duration.toMillis(wait)) * 1_000_000n
    })
  )

  return () => {
    if (!asking && clock.unsafeCurrentTimeNanos() >= askAt) {
      asking = true
      run(ask)
    }
    return safe
  }
}
