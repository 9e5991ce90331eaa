/** Waiting for the first copy of a mirror, for so long and no longer. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { EtcdClient } from "../../EtcdClient.js"
import { EtcdError } from "../../EtcdError.js"
import type { Mirror } from "../../Mirror.js"
import { firstOf } from "../firstOf.js"

/**
 * Waits for something that needs the first copy. Fails with what has kept the mirror from reading, as far as that is known.
 *
 * @param key what the error names
 */
export const within = <A, E>(
  client: EtcdClient["Type"],
  mirror: Mirror,
  waiting: Effect.Effect<A, E>,
  timeout: Duration.Duration,
  key: string
): Effect.Effect<A, E | EtcdError> => {
  const late = Effect.gen(function*() {
    yield* Effect.sleep(timeout)
    const state = yield* mirror.state
    if (state._tag === "Loading" && Option.isSome(state.error)) return yield* state.error.value
    const connection = yield* client.watchConnection.get
    return yield* new EtcdError({
      operation: "range",
      reason: "DeadlineExceeded",
      code: 4,
      key,
      mayBeApplied: false,
      detail: `not read within ${Duration.format(timeout)}${
        connection._tag === "Disconnected" ? ` (${connection.reason})` : ""
      }`
    })
  })
  return firstOf(waiting, late)
}
