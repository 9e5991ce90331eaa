/** The end of a session, as those hear of it who depended on it. */
import * as Schema from "effect/Schema"
import { leaseHex } from "../ids.js"
import { withoutBigints } from "../plain.js"

/**
 * A session ended while something depended on it.
 *
 * - `expired`: no keep-alive was acknowledged in time; etcd deletes the keys about now
 * - `revoked`: etcd does not know the lease any more; the keys are gone
 * - `closed`: the session was closed by its owner
 *
 * @since 0.1.0
 * @category errors
 */
export class SessionExpired extends Schema.TaggedError<SessionExpired>("effect-coord/SessionExpired")(
  "SessionExpired",
  {
    lease: Schema.BigIntFromSelf,
    reason: Schema.Literal("expired", "revoked", "closed")
  }
) {
  override get message(): string {
    return `the session with lease ${leaseHex(this.lease)} is over: ${this.reason}`
  }

  /** For JSON, which has no bigints: as texts. */
  override toJSON(): unknown {
    return withoutBigints(super.toJSON())
  }
}
