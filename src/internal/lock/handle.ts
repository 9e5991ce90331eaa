/** A lock from the moment it is won: what its holder can ask and do, and how its loss is noticed. */
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as Option from "effect/Option"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as RuntimeFlagsPatch from "effect/RuntimeFlagsPatch"
import type { EtcdClient } from "../../EtcdClient.js"
import type { Body, LockHandle, WithLockOptions } from "../../Lock.js"
import type { Kind } from "../../LockError.js"
import { LockExpired, LockNotHeld } from "../../LockError.js"
import type { Entry, Session, SessionExpired } from "../../Session.js"
import * as Txn from "../../Txn.js"
import { Bag } from "../bag.js"
import { leaseHex } from "../ids.js"
import type { Obligations } from "../obligations.js"

/** A queue entry whose turn it is. */
export interface Won {
  readonly session: Session
  readonly entry: Entry
}

/** What `uninterruptibleMask` gives. */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** A held lock as the library sees it. */
export interface Held {
  /** The user's handle, made when somebody wants it. */
  readonly lock: () => LockHandle
  /** Succeeds while nothing is known to be lost; looks at the clock. */
  readonly check: Effect.Effect<void, LockExpired>
  /** Calls `notify` at the loss, at once if it has happened; the function that is returned takes it back. */
  readonly onLost: (notify: (error: LockExpired) => void) => () => void
  /** Leaves the queue; nothing the second time. To be run where it cannot be interrupted. */
  readonly close: Effect.Effect<void>
}

/**
 * @param kind what is held, for errors and logs
 * @param own what the stay in the queue owes: settled when the lock is released
 * @param debug whether debug logs are seen
 */
export const make = (
  client: EtcdClient["Type"],
  kind: Kind,
  key: string,
  { entry, session }: Won,
  own: Obligations,
  debug: boolean
): Effect.Effect<Held> => {
  const fencingToken = entry.createRevision
  const listeners = new Bag<(error: LockExpired) => void>()
  let loss: LockExpired | undefined
  let released = false
  const logging = <A>(message: string, result: A): Effect.Effect<A> =>
    debug
      ? Effect.annotateLogs(Effect.as(Effect.logDebug(message), result), {
        [kind]: key,
        lease: leaseHex(entry.lease),
        fencingToken: String(fencingToken)
      })
      : Effect.succeed(result)
  const lose = (reason: LockExpired["reason"]): LockExpired => {
    if (loss === undefined) {
      loss = new LockExpired({ kind, key, fencingToken, reason })
      for (const notify of listeners.values()) notify(loss)
    }
    return loss
  }
  const overBy = ({ reason }: SessionExpired): LockExpired => lose(reason)

  const endGuard = session.guardKey({ key: entry.key, createRevision: fencingToken, onDeleted: () => lose("deleted") })
  const endSession = session.onEnd(overBy)

  const close: Held["close"] = Effect.suspend(() => {
    if (released) return Effect.void
    released = true
    endGuard()
    endSession()
    return debug ? Effect.zipRight(own.settle(), logging(`${kind} released`, undefined)) : own.settle()
  })

  const onLost: Held["onLost"] = (notify) => {
    if (loss !== undefined) {
      notify(loss)
      return () => {}
    }
    return listeners.add(notify)
  }

  const check: Held["check"] = Effect.suspend(() => {
    if (loss !== undefined) return Effect.fail(loss)
    return session.isOver() ? Effect.mapError(session.check, overBy) : Effect.void
  })

  const makeLock = (): LockHandle => ({
    key,
    etcdKey: entry.key,
    fencingToken,
    guard: Txn.createRevision(entry.key, "=", fencingToken),
    lost: Effect.async((resume) => Effect.sync(onLost((error) => resume(Effect.fail(error))))),
    ttl: Effect.flatMap(
      Effect.zipRight(
        check,
        Effect.mapError(session.lease, (error) => error._tag === "EtcdError" ? error : overBy(error))
      ),
      (lease) =>
        client.leaseTimeToLive(lease).pipe(
          Effect.map(({ remaining }) => remaining),
          Effect.catchIf((error) => error.reason === "LeaseNotFound", () => Effect.fail(lose("revoked")))
        )
    ),
    renew: Effect.zipRight(
      check,
      Effect.catchTag(session.renew, "SessionExpired", (error) => Effect.fail(overBy(error)))
    ),
    isExpired: Effect.suspend(() =>
      released ? Effect.succeed(true) : Effect.matchEffect(check, {
        onFailure: () => Effect.succeed(true),
        onSuccess: () =>
          Effect.map(client.get(entry.key), (kv) => Option.isNone(kv) || kv.value.createRevision !== fencingToken)
      })
    ),
    release: Effect.uninterruptible(Effect.suspend(() =>
      released
        ? Effect.fail(new LockNotHeld({ kind, key }))
        : Effect.flatMap(Effect.isSuccess(check), (held) =>
          Effect.zipRight(close, held ? Effect.void : Effect.fail(new LockNotHeld({ kind, key }))))
    ))
  })

  let lock: LockHandle | undefined
  return logging(`${kind} acquired`, { lock: () => lock ??= makeLock(), check, onLost, close })
}

const counted = RuntimeFlagsPatch.enable(RuntimeFlags.RuntimeMetrics)
const uncounted = RuntimeFlagsPatch.disable(RuntimeFlags.RuntimeMetrics)

/**
 * A fibre that does not appear in Effect's metrics of fibres, as it is nobody's but ours, and as those would double what it
 * costs; what runs in it, and the fibres started there, are as they would be.
 */
const forkUncounted = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Fiber.RuntimeFiber<A, E>, never, R> =>
  Effect.withFiberRuntime((_, { runtimeFlags }) =>
    RuntimeFlags.isEnabled(runtimeFlags, RuntimeFlags.RuntimeMetrics)
      ? Effect.withRuntimeFlagsPatch(Effect.forkDaemon(Effect.withRuntimeFlagsPatch(effect, counted)), uncounted)
      : Effect.forkDaemon(effect)
  )

/** Hands fibre references on that the fibre has changed, as a join does. Most change none, and then this costs less. */
const inherit = (fiber: Fiber.RuntimeFiber<unknown, unknown>): Effect.Effect<void> =>
  Effect.withFiberRuntime((own) => {
    const before = own.getFiberRefs()
    const after = fiber.getFiberRefs()
    for (const [ref, stack] of after.locals) {
      if (stack === before.locals.get(ref) || ref === FiberRef.currentRuntimeFlags) continue
      const isSame = Equal.equals(FiberRefs.getOrDefault(after, ref), FiberRefs.getOrDefault(before, ref))
      if (!isSame) return Fiber.inheritAll(fiber)
    }
    return Effect.void
  })

/**
 * Runs the body, interrupted at the loss of the lock, and releases the lock in the end. A body that ends after the loss was
 * not protected to its end either.
 *
 * A race of the two would be as right and take two fibres more.
 */
export const protect = <A, E, R>(
  held: Held,
  body: Body<A, E, R>,
  onLost: WithLockOptions["onLost"],
  restore: Restore
): Effect.Effect<A, E | LockExpired, R> =>
  Effect.flatMap(
    forkUncounted(restore(Effect.isEffect(body) ? body : Effect.suspend(() => body(held.lock())))),
    (fiber) => {
      const after = <B, E2>(exit: Exit.Exit<B, E2>): Effect.Effect<B, E2> => Effect.flatMap(held.close, () => exit)
      // Nothing is taken back when this is interrupted: whoever comes too late is not heard.
      const outcome = Effect.async<Exit.Exit<A, E | LockExpired>>((resume) => {
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
      return Effect.flatMap(
        Effect.exit(restore(outcome)),
        (waited) => {
          if (Exit.isFailure(waited)) {
            return Effect.zipRight(Fiber.interrupt(fiber), after(Exit.failCause(waited.cause)))
          }
          const exit = waited.value
          if (Exit.isFailure(exit)) return after(exit)
          return Effect.flatMap(Effect.exit(held.check), (checked) =>
            Exit.isFailure(checked)
              ? after(Exit.failCause(checked.cause))
              : Effect.flatMap(inherit(fiber), () => after(exit)))
        }
      )
    }
  )
