/** Holding what is free, and passing by what is taken. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Body, WithLockOptions } from "../../Lock.js"
import type { LockConflict, LockExpired } from "../../LockError.js"
import { masked } from "../masked.js"
import type { Held } from "./handle.js"
import type { Holding, Win } from "./holding.js"
import { protect } from "./holding.js"

/** Held for as long as the body runs; none, without running it, at a conflict. */
export const aroundIfAvailable = <E, A, E2, R>(
  holding: Holding,
  operation: string,
  key: string,
  win: Win<E | LockConflict>,
  body: Body<A, E2, R>,
  onLost: WithLockOptions["onLost"]
): Effect.Effect<Option.Option<A>, Exclude<E, { readonly _tag: "LockConflict" }> | E2 | LockExpired, R> =>
  masked((mask) =>
    holding.hold(operation, key, win, mask).pipe(
      Effect.asSome,
      Effect.catchTag("LockConflict", () => Effect.succeed(Option.none<Held>())),
      Effect.flatMap((held) => Effect.transposeOption(Option.map(held, (held) => protect(held, body, onLost, mask))))
    )
  )
