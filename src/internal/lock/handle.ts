/** A lock from the moment it is won: what its holder can ask and do, and how its loss is noticed. */
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import { constVoid } from "effect/Function"
import * as Option from "effect/Option"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as RuntimeFlagsPatch from "effect/RuntimeFlagsPatch"
import type { EtcdClient } from "../../EtcdClient.js"
import type { Body, LockHandle, WithLockOptions } from "../../Lock.js"
import type { Kind } from "../../LockError.js"
import { LockExpired, LockNotHeld } from "../../LockError.js"
import type { Entry, Session, SessionExpired } from "../../Session.js"
import { Bag } from "../bag.js"
import { leaseHex } from "../ids.js"
import type { Obligations } from "../obligations.js"

/** A queue entry whose turn it is. */
export interface Won {
  readonly session: Session
  readonly entry: Entry
}

/** A held lock as the library sees it. */
export interface Held<Handle = LockHandle> {
  /** The user's handle, made when somebody wants it. */
  readonly lock: () => Handle
  /** Succeeds while nothing is known to be lost; looks at the clock. */
  readonly check: Effect.Effect<void, LockExpired>
  /** What `check` would find. */
  readonly isLost: () => boolean
  /** Calls `notify` at the loss, at once if it has happened; the function that is returned takes it back. */
  readonly onLost: (notify: (error: LockExpired) => void) => () => void
  /** Leaves the queue; nothing the second time. To be run where it cannot be interrupted. */
  readonly close: Effect.Effect<void>
}

/** What was won, from then on until it is given back. */
class HeldEntry implements Held {
  readonly #client: EtcdClient["Type"]
  readonly #kind: Kind
  readonly #key: string
  readonly #entry: Entry
  readonly #session: Session
  readonly #own: Obligations
  readonly #debug: boolean
  readonly #endGuard: () => void
  readonly #endSession: () => void
  /** Most are heard by one: the others are in the bag. */
  #listener: ((error: LockExpired) => void) | undefined = undefined
  #others: Bag<(error: LockExpired) => void> | undefined = undefined
  #loss: LockExpired | undefined = undefined
  #released = false
  #lock: LockHandle | undefined = undefined

  constructor(
    client: EtcdClient["Type"],
    kind: Kind,
    key: string,
    { entry, session }: Won,
    own: Obligations,
    debug: boolean
  ) {
    this.#client = client
    this.#kind = kind
    this.#key = key
    this.#entry = entry
    this.#session = session
    this.#own = own
    this.#debug = debug
    this.#endGuard = session.guardKey({
      key: entry.key,
      createRevision: entry.createRevision,
      onDeleted: () => this.#lose("deleted")
    })
    this.#endSession = session.onEnd((error) => this.#overBy(error))
  }

  readonly lock = (): LockHandle => this.#lock ??= this.#makeLock()

  get check(): Effect.Effect<void, LockExpired> {
    return Effect.suspend(() => {
      if (this.#loss !== undefined) return Effect.fail(this.#loss)
      return this.#session.isOver()
        ? Effect.mapError(this.#session.check, (error) => this.#overBy(error))
        : Effect.void
    })
  }

  readonly onLost = (notify: (error: LockExpired) => void): () => void => {
    if (this.#loss !== undefined) {
      notify(this.#loss)
      return constVoid
    }
    if (this.#listener !== undefined) return (this.#others ??= new Bag()).add(notify)
    this.#listener = notify
    return () => {
      if (this.#listener === notify) this.#listener = undefined
    }
  }

  readonly isLost = (): boolean => this.#loss !== undefined || this.#session.isOver()

  get close(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#released) return Effect.void
      this.#released = true
      this.#endGuard()
      this.#endSession()
      this.#listener = undefined
      this.#others = undefined
      return this.#debug
        ? Effect.zipRight(this.#own.settle(), this.log(`${this.#kind} released`))
        : this.#own.settle()
    })
  }

  log(message: string): Effect.Effect<void> {
    return Effect.annotateLogs(Effect.logDebug(message), {
      [this.#kind]: this.#key,
      lease: leaseHex(this.#entry.lease),
      fencingToken: String(this.#entry.createRevision)
    })
  }

  #lose(reason: LockExpired["reason"]): LockExpired {
    if (this.#loss === undefined) {
      const fencingToken = this.#entry.createRevision
      const loss = this.#loss = new LockExpired({ kind: this.#kind, key: this.#key, fencingToken, reason })
      const others = this.#others?.values() ?? []
      this.#listener?.(loss)
      for (const notify of others) notify(loss)
    }
    return this.#loss
  }

  #overBy({ reason }: SessionExpired): LockExpired {
    return this.#lose(reason)
  }

  #makeLock(): LockHandle {
    const client = this.#client
    const entry = this.#entry
    const session = this.#session
    const fencingToken = entry.createRevision
    const notHeld = () => new LockNotHeld({ kind: this.#kind, key: this.#key })
    const givenBack = () => new LockExpired({ kind: this.#kind, key: this.#key, fencingToken, reason: "released" })
    return {
      key: this.#key,
      etcdKey: entry.key,
      fencingToken,
      guard: {
        key: entry.key,
        target: "create",
        result: "=",
        operand: fencingToken,
        check: Effect.suspend(() => this.#released ? Effect.fail(givenBack()) : this.check),
        refused: Effect.suspend(() => Effect.fail(this.#released ? givenBack() : this.#lose("deleted")))
      },
      lost: Effect.async((resume) => Effect.sync(this.onLost((error) => resume(Effect.fail(error))))),
      ttl: Effect.flatMap(
        Effect.zipRight(
          this.check,
          Effect.mapError(session.lease, (error) => error._tag === "EtcdError" ? error : this.#overBy(error))
        ),
        (lease) =>
          client.leaseTimeToLive(lease).pipe(
            Effect.map(({ remaining }) => remaining),
            Effect.catchIf((error) => error.reason === "LeaseNotFound", () => Effect.fail(this.#lose("revoked")))
          )
      ),
      renew: Effect.zipRight(
        this.check,
        Effect.catchTag(session.renew, "SessionExpired", (error) => Effect.fail(this.#overBy(error)))
      ),
      isExpired: Effect.suspend(() =>
        this.#released ? Effect.succeed(true) : Effect.matchEffect(this.check, {
          onFailure: () => Effect.succeed(true),
          onSuccess: () =>
            Effect.map(client.get(entry.key), (kv) => Option.isNone(kv) || kv.value.createRevision !== fencingToken)
        })
      ),
      release: Effect.uninterruptible(Effect.suspend(() =>
        this.#released
          ? Effect.fail(notHeld())
          : Effect.flatMap(Effect.isSuccess(this.check), (held) =>
            Effect.zipRight(this.close, held ? Effect.void : Effect.fail(notHeld())))
      ))
    }
  }
}

/**
 * @param kind what is held, for errors and logs
 * @param own what the stay in the queue owes: settled when it is given back
 * @param debug whether debug logs are seen
 */
export const make = (
  client: EtcdClient["Type"],
  kind: Kind,
  key: string,
  won: Won,
  own: Obligations,
  debug: boolean
): Effect.Effect<Held> => {
  const held = new HeldEntry(client, kind, key, won, own, debug)
  return debug ? Effect.as(held.log(`${kind} acquired`), held) : Effect.succeed(held)
}

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
