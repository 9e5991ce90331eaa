/** A lock from the moment it is won: what its holder can ask, and how its loss is noticed. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { constVoid } from "effect/Function"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { EtcdClient } from "../../EtcdClient.js"
import type { Guard, LockHandle } from "../../Lock.js"
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
  /**
   * The user's handle, made when somebody wants it.
   *
   * @param scope closed when the handle is told to release
   */
  readonly lock: (scope?: Scope.CloseableScope) => Handle
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
  readonly client: EtcdClient["Type"]
  readonly kind: Kind
  readonly key: string
  readonly entry: Entry
  readonly session: Session
  readonly #own: Obligations
  readonly #debug: boolean
  readonly #guard: { readonly end: () => void }
  readonly #endSession: () => void
  /** Most are heard by one: the others are in the bag. */
  #listener: ((error: LockExpired) => void) | undefined = undefined
  #others: Bag<(error: LockExpired) => void> | undefined = undefined
  #loss: LockExpired | undefined = undefined
  #released = false

  constructor(
    client: EtcdClient["Type"],
    kind: Kind,
    key: string,
    { entry, session }: Won,
    own: Obligations,
    debug: boolean
  ) {
    this.client = client
    this.kind = kind
    this.key = key
    this.entry = entry
    this.session = session
    this.#own = own
    this.#debug = debug
    this.#guard = session.guardKey(this)
    this.#endSession = session.onEnd((error) => this.overBy(error))
  }

  readonly lock = (scope?: Scope.CloseableScope): LockHandle => new EntryHandle(this, scope)

  get check(): Effect.Effect<void, LockExpired> {
    return Effect.suspend(() => {
      if (this.#loss !== undefined) return Effect.fail(this.#loss)
      return this.session.isOver()
        ? Effect.mapError(this.session.check, (error) => this.overBy(error))
        : Effect.void
    })
  }

  readonly onLost = (notify: (error: LockExpired) => void): () => void => {
    if (this.#loss !== undefined) {
      notify(this.#loss)
      return constVoid
    }
    if (this.#listener !== undefined) {
      const place = (this.#others ??= new Bag()).add(notify)
      return () => place.leave()
    }
    this.#listener = notify
    return () => {
      if (this.#listener === notify) this.#listener = undefined
    }
  }

  readonly isLost = (): boolean => this.#loss !== undefined || this.session.isOver()

  get close(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#released) return Effect.void
      this.#released = true
      this.#guard.end()
      this.#endSession()
      this.#listener = undefined
      this.#others = undefined
      return this.#debug
        ? Effect.zipRight(this.#own.settle(), this.log(`${this.kind} released`))
        : this.#own.settle()
    })
  }

  /** To be told when it is held. */
  get announce(): Effect.Effect<void> {
    return this.#debug ? this.log(`${this.kind} acquired`) : Effect.void
  }

  log(message: string): Effect.Effect<void> {
    return Effect.annotateLogs(Effect.logDebug(message), {
      [this.kind]: this.key,
      lease: leaseHex(this.entry.lease),
      fencingToken: String(this.entry.createRevision)
    })
  }

  onDeleted(): void {
    this.lose("deleted")
  }

  lose(reason: LockExpired["reason"]): LockExpired {
    if (this.#loss === undefined) {
      const loss = this.#loss = this.#expired(reason)
      const others = this.#others?.values() ?? []
      this.#listener?.(loss)
      for (const notify of others) notify(loss)
    }
    return this.#loss
  }

  get isReleased(): boolean {
    return this.#released
  }

  /** As `check`, for its holder: also after it was given back, while its lease lives on for others. */
  get stillHeld(): Effect.Effect<void, LockExpired> {
    return Effect.suspend(() => this.#released ? Effect.fail(this.givenBack()) : this.check)
  }

  overBy({ reason }: SessionExpired): LockExpired {
    return this.lose(reason)
  }

  /** What those are told who use it after it was given back. */
  givenBack(): LockExpired {
    return this.#expired("released")
  }

  #expired(reason: LockExpired["reason"]): LockExpired {
    return new LockExpired({ kind: this.kind, key: this.key, fencingToken: this.entry.createRevision, reason })
  }
}

/**
 * The user's handle. Its effects are made when they are asked for: thousands of handles may be held, and most of them are
 * asked for nothing.
 */
class EntryHandle implements LockHandle {
  readonly #held: HeldEntry
  readonly #scope: Scope.CloseableScope | undefined

  constructor(held: HeldEntry, scope: Scope.CloseableScope | undefined) {
    this.#held = held
    this.#scope = scope
  }

  get key(): string {
    return this.#held.key
  }

  get etcdKey(): string {
    return this.#held.entry.key
  }

  get fencingToken(): bigint {
    return this.#held.entry.createRevision
  }

  get guard(): Guard {
    const held = this.#held
    return {
      key: this.etcdKey,
      target: "create",
      result: "=",
      operand: this.fencingToken,
      check: held.stillHeld,
      refused: Effect.suspend(() => Effect.fail(held.isReleased ? held.givenBack() : held.lose("deleted")))
    }
  }

  get lost(): LockHandle["lost"] {
    return Effect.async((resume) => Effect.sync(this.#held.onLost((error) => resume(Effect.fail(error)))))
  }

  get ttl(): LockHandle["ttl"] {
    const { client, session, stillHeld } = this.#held
    return Effect.flatMap(
      Effect.zipRight(
        stillHeld,
        Effect.mapError(session.lease, (error) => error._tag === "EtcdError" ? error : this.#held.overBy(error))
      ),
      (lease) =>
        client.leaseTimeToLive(lease).pipe(
          Effect.map(({ remaining }) => remaining),
          Effect.catchIf((error) => error.reason === "LeaseNotFound", () => Effect.fail(this.#held.lose("revoked")))
        )
    )
  }

  get renew(): LockHandle["renew"] {
    const { session, stillHeld } = this.#held
    return Effect.zipRight(
      stillHeld,
      Effect.catchTag(session.renew, "SessionExpired", (error) => Effect.fail(this.#held.overBy(error)))
    )
  }

  get isExpired(): LockHandle["isExpired"] {
    const held = this.#held
    return Effect.suspend(() =>
      held.isReleased ? Effect.succeed(true) : Effect.matchEffect(held.check, {
        onFailure: () => Effect.succeed(true),
        onSuccess: () =>
          Effect.map(
            held.client.get(this.etcdKey),
            (kv) => Option.isNone(kv) || kv.value.createRevision !== this.fencingToken
          )
      })
    )
  }

  get release(): LockHandle["release"] {
    const held = this.#held
    const notHeld = () => new LockNotHeld({ kind: held.kind, key: held.key })
    const released = Effect.suspend(() =>
      held.isReleased
        ? Effect.fail(notHeld())
        : Effect.flatMap(Effect.isSuccess(held.check), (isHeld) =>
          Effect.zipRight(held.close, isHeld ? Effect.void : Effect.fail(notHeld())))
    )
    const scope = this.#scope
    return Effect.uninterruptible(
      scope === undefined ? released : Effect.ensuring(released, Scope.close(scope, Exit.void))
    )
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
): HeldEntry => new HeldEntry(client, kind, key, won, own, debug)
