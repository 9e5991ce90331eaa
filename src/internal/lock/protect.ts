/** Work under a lock: in a fibre of its own, interrupted at the loss. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as Runtime from "effect/Runtime"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as RuntimeFlagsPatch from "effect/RuntimeFlagsPatch"
import type { Body, WithLockOptions } from "../../Lock.js"
import type { LockExpired } from "../../LockError.js"
import type { Held } from "./handle.js"

const { RuntimeMetrics } = RuntimeFlags
const counted = RuntimeFlagsPatch.enable(RuntimeMetrics)

/** Where a body comes from: it finds the references and flags of its caller. */
export interface Caller {
  readonly fiber: Fiber.RuntimeFiber<unknown, unknown>
  readonly flags: RuntimeFlags.RuntimeFlags
}

interface Forked<A, E> {
  readonly fiber: Fiber.RuntimeFiber<A, E>
  /** The references that it began with. */
  readonly before: FiberRefs.FiberRefs
}

/**
 * Starts an effect at once, in a fibre that does not appear in Effect's metrics of fibres, as it is nobody's but ours, and
 * as those would double what it costs; what runs in it, and the fibres started there, are as they would be.
 */
const forkNow = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  { fiber, flags }: Caller,
  context: Context.Context<R>
): Forked<A, E> => {
  let before = fiber.getFiberRefs()
  const runtime = Runtime.make({
    context,
    runtimeFlags: RuntimeFlags.disable(flags, RuntimeMetrics),
    fiberRefs: before
  })
  const counting = RuntimeFlags.isEnabled(flags, RuntimeMetrics)
    ? Effect.withRuntimeFlagsPatch(effect, counted)
    : effect
  return { fiber: Runtime.runFork(runtime, counting, { updateRefs: (refs) => before = refs }), before }
}

/** Hands fibre references on that the fibre has changed, as a join does. Most change none, and then this costs less. */
const inherit = ({ before, fiber }: Forked<unknown, unknown>): Effect.Effect<void> => {
  let isSame = true
  fiber.getFiberRefs().locals.forEach((stack, ref) => {
    // The flags are its own, and are always among those that were set.
    if (!isSame || ref === FiberRef.currentRuntimeFlags) return
    isSame = stack === before.locals.get(ref) || Equal.equals(stack[0][1], FiberRefs.getOrDefault(before, ref))
  })
  return isSame ? Effect.void : Fiber.inheritAll(fiber)
}

/** How a body ended, or the loss. */
export type Outcome<A, E> = Effect.Effect<Exit.Exit<A, E | LockExpired>>

/**
 * A body from before its lock is won until the lock is given back. It is started by whatever brings the news that it may
 * run, an answer of etcd for example: that saves the caller's fibre a turn.
 *
 * A race of the body and the loss would be as right and take two fibres more.
 */
export class Protected<A, E, R, Handle> {
  readonly #body: Body<A, E, R, Handle>
  readonly #onLost: WithLockOptions["onLost"]
  readonly #caller: Caller
  readonly #context: Context.Context<R>
  #fiber: Fiber.RuntimeFiber<A, E> | undefined = undefined

  constructor(
    body: Body<A, E, R, Handle>,
    onLost: WithLockOptions["onLost"],
    caller: Caller,
    context: Context.Context<R>
  ) {
    this.#body = body
    this.#onLost = onLost
    this.#caller = caller
    this.#context = context
  }

  /** Runs the body to its end or to the loss; it is over then, if it is not abandoned. */
  start(held: Held<Handle>, resume: (outcome: Outcome<A, E>) => void): void {
    const body = this.#body
    const forked = forkNow(
      Effect.isEffect(body) ? body : Effect.suspend(() => body(held.lock())),
      this.#caller,
      this.#context
    )
    const fiber = this.#fiber = forked.fiber
    const ended = (exit: Exit.Exit<A, E>): Outcome<A, E> => {
      if (Exit.isFailure(exit)) return Effect.succeed(exit)
      // A body that ends after the loss was not protected to its end either.
      return held.isLost() ? Effect.exit(Effect.zipRight(held.check, exit)) : Effect.as(inherit(forked), exit)
    }
    const exit = fiber.unsafePoll()
    if (exit !== null) return resume(ended(exit))
    // Nothing is taken back: whoever comes too late is not heard.
    fiber.addObserver((exit) => resume(Effect.suspend(() => ended(exit))))
    held.onLost((error) => {
      const lost = Exit.fail(error)
      const stop = Effect.suspend(() => {
        fiber.unsafeInterruptAsFork(fiber.id())
        return this.#onLost === "abandon" ? Effect.succeed(lost) : Effect.as(Fiber.await(fiber), lost)
      })
      // Those who wait for `lost` inside the body hear of it before they are interrupted with it.
      resume(Effect.zipRight(Effect.yieldNow(), stop))
    })
  }

  /** The same as an effect; to stop the body is left to {@link Protected.stop}. */
  run(held: Held<Handle>): Outcome<A, E> {
    return Effect.async((resume) => this.start(held, resume))
  }

  /** After its end. */
  protected forget(): void {
    this.#fiber = undefined
  }

  /** Ends the body, if it was started. */
  get stop(): Effect.Effect<void> {
    return Effect.suspend(() => this.#fiber === undefined ? Effect.void : Effect.asVoid(Fiber.interrupt(this.#fiber)))
  }
}
