/** Work under a lock: in a fibre of its own, interrupted at the loss. */
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as RuntimeFlagsPatch from "effect/RuntimeFlagsPatch"
import type { Body, WithLockOptions } from "../../Lock.js"
import type { LockExpired } from "../../LockError.js"
import type { Held } from "./handle.js"

const { disable, enable } = RuntimeFlagsPatch
const { Interruption, RuntimeMetrics } = RuntimeFlags
const uncounted = disable(RuntimeMetrics)
/** What the body shall find in its fibre again. */
const asBefore: Record<"counted" | "interruptible" | "both", RuntimeFlagsPatch.RuntimeFlagsPatch> = {
  counted: enable(RuntimeMetrics),
  interruptible: enable(Interruption),
  both: RuntimeFlagsPatch.andThen(enable(RuntimeMetrics), enable(Interruption))
}

/**
 * Starts the body in a fibre that does not appear in Effect's metrics of fibres, as it is nobody's but ours, and as those
 * would double what it costs; what runs in it, and the fibres started there, are as they would be.
 */
const forkUncounted = <A, E, R>(
  body: Effect.Effect<A, E, R>,
  interruptible: boolean
): Effect.Effect<Fiber.RuntimeFiber<A, E>, never, R> =>
  Effect.withFiberRuntime((_, { runtimeFlags }) => {
    if (!RuntimeFlags.isEnabled(runtimeFlags, RuntimeMetrics)) {
      return Effect.forkDaemon(interruptible ? Effect.withRuntimeFlagsPatch(body, asBefore.interruptible) : body)
    }
    const patch = interruptible ? asBefore.both : asBefore.counted
    return Effect.withRuntimeFlagsPatch(Effect.forkDaemon(Effect.withRuntimeFlagsPatch(body, patch)), uncounted)
  })

/** Hands fibre references on that the fibre has changed, as a join does. Most change none, and then this costs less. */
const inherit = (fiber: Fiber.RuntimeFiber<unknown, unknown>): Effect.Effect<void> =>
  Effect.withFiberRuntime((own) => {
    const after = fiber.getFiberRefs()
    let isSame = true
    // The flags are its own, and are always among those that were set.
    after.locals.forEach((_, ref) => {
      isSame &&= ref === FiberRef.currentRuntimeFlags ||
        Equal.equals(FiberRefs.getOrDefault(after, ref), own.getFiberRef(ref))
    })
    return isSame ? Effect.void : Fiber.inheritAll(fiber)
  })

/**
 * How the body ended, or the loss. Nothing is taken back when this is interrupted: whoever comes too late is not heard.
 */
const outcome = <A, E, Handle>(
  held: Held<Handle>,
  fiber: Fiber.RuntimeFiber<A, E>,
  onLost: WithLockOptions["onLost"]
): Effect.Effect<Exit.Exit<A, E | LockExpired>> =>
  Effect.async((resume) => {
    fiber.addObserver((exit) => resume(Effect.succeed(exit)))
    held.onLost((error) => {
      const lost = Exit.fail(error)
      const stop = Effect.suspend(() => {
        fiber.unsafeInterruptAsFork(fiber.id())
        return onLost === "abandon" ? Effect.succeed(lost) : Effect.as(Fiber.await(fiber), lost)
      })
      // Those who wait for `lost` inside the body hear of it before they are interrupted with it.
      resume(Effect.zipRight(Effect.yieldNow(), stop))
    })
  })

/** Runs the body to its end or to the loss; it is over then, if it is not abandoned. */
const run = <A, E, R, Handle>(
  held: Held<Handle>,
  body: Body<A, E, R, Handle>,
  onLost: WithLockOptions["onLost"],
  interruptible: boolean
): Effect.Effect<Exit.Exit<A, E | LockExpired>, never, R> =>
  Effect.flatMap(
    forkUncounted(Effect.isEffect(body) ? body : Effect.suspend(() => body(held.lock())), interruptible),
    (fiber) => {
      const waiting = outcome(held, fiber, onLost)
      return Effect.matchCauseEffect(interruptible ? Effect.interruptible(waiting) : waiting, {
        onFailure: (cause) => Effect.as(Fiber.interrupt(fiber), Exit.failCause(cause)),
        onSuccess: (exit): Effect.Effect<Exit.Exit<A, E | LockExpired>> => {
          if (Exit.isFailure(exit)) return Effect.succeed(exit)
          return held.isLost()
            ? Effect.exit(Effect.zipRight(held.check, exit))
            : Effect.as(inherit(fiber), exit)
        }
      })
    }
  )

/**
 * Runs the body, interrupted at the loss of the lock, and releases the lock in the end. A body that ends after the loss was
 * not protected to its end either. To be run where it cannot be interrupted.
 *
 * A race of the two would be as right and take two fibres more.
 *
 * @param interruptible whether the body can be interrupted from outside
 */
export const protect = <A, E, R, Handle>(
  held: Held<Handle>,
  body: Body<A, E, R, Handle>,
  onLost: WithLockOptions["onLost"],
  interruptible: boolean
): Effect.Effect<A, E | LockExpired, R> =>
  Effect.flatMap(run(held, body, onLost, interruptible), (exit) => Effect.flatMap(held.close, () => exit))
