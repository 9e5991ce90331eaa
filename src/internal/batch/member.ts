/** A request of one caller, from when it comes to its lane until it is answered or given up. */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import { constVoid } from "effect/Function"
import { EtcdError } from "../../EtcdError.js"
import type { Header, Op, OpResponse } from "../../Txn.js"
import type { Rest } from "../retry.js"
import type { CallOptions, Cancel, Done, Settled } from "../transport.js"
import type { Flight } from "./flight.js"
import type { Footprint } from "./footprint.js"
import { nothing as noFootprint } from "./footprint.js"

/** A request as a part of a larger one. */
export interface Part {
  readonly ops: ReadonlyArray<Op>
  /** How much of the limit on operations it needs below its own level. */
  readonly nested: number
  /** About so many bytes. */
  readonly weight: number
  readonly footprint: Footprint
}

/** A request in the forms in which it can leave. */
export interface Request<A> {
  /** Whether it may share a transaction at all. */
  readonly shares: boolean
  /** How errors name it. */
  readonly operation: string
  readonly key: () => string | undefined
  /** Made when it is about to leave: a request that waits is small. */
  readonly part: () => Part
  /** Its answer, from those to its part. */
  readonly answer: (responses: ReadonlyArray<OpResponse>, header: Header) => A
  /** By itself, as an effect. */
  readonly alone: (options: CallOptions) => Effect.Effect<A, EtcdError>
  /** By itself, without a fibre of the caller. */
  readonly start: (options: CallOptions, done: Done<A>) => Cancel
}

/** A request that waits for its turn or for its answer. */
export interface Waiting {
  readonly shares: boolean
  readonly part: () => Part
  /** The operations of its part, once it is in a batch. */
  operations: number
  /** On the monotonic clock, in milliseconds. */
  readonly deadline: number
  /** Sends it by itself; `landed` is called when it is answered. */
  readonly leave: (options: CallOptions, landed: () => void) => Cancel
  readonly succeed: (responses: ReadonlyArray<OpResponse>, header: Header) => void
  readonly fail: (error: EtcdError) => void
  /** Something is broken that is nobody's error. */
  readonly die: (cause: Cause.Cause<never>) => void
  /** Nobody wants to hear of it any more. */
  readonly giveUp: () => void
  /** Answered, or given up. */
  readonly isOver: boolean
  /** It cannot share a call, or could not share the last one: it does not wait for others. */
  isEager: boolean
  flight: Flight | undefined
}

/** What a member needs of its lane. */
interface Lane {
  readonly enter: (member: Waiting) => void
  /** Ends a call that nobody waits for any more. */
  readonly cancelIfIdle: (flight: Flight | undefined) => void
}

const nothing: Part = { ops: [], nested: 0, weight: 0, footprint: noFootprint }

/** The request of one caller, with the way to tell it. */
export class Member<A> implements Waiting {
  readonly shares: boolean
  readonly deadline: number
  operations = 0
  isOver = false
  isEager: boolean
  flight: Flight | undefined = undefined
  readonly #lane: Lane
  #request: Request<A> | undefined
  #rest: Rest<A> | undefined
  #caller: Settled<A> | undefined = undefined

  constructor(lane: Lane, request: Request<A>, deadline: number, rest?: Rest<A>) {
    this.shares = request.shares
    this.deadline = deadline
    this.isEager = !request.shares
    this.#lane = lane
    this.#request = request
    this.#rest = rest
  }

  begin(caller: Settled<A>): void {
    this.#caller = caller
    this.#lane.enter(this)
  }

  part(): Part {
    return this.#request === undefined ? nothing : this.#request.part()
  }

  leave(options: CallOptions, landed: () => void): Cancel {
    const request = this.#request
    return request === undefined ? constVoid : request.start(options, (exit) => {
      this.#settle(exit)
      landed()
    })
  }

  succeed(responses: ReadonlyArray<OpResponse>, header: Header): void {
    this.#settle(this.#answer(responses, header))
  }

  fail({ cause: _, key: __, ...error }: EtcdError): void {
    if (this.#request === undefined) return
    const { operation } = this.#request
    const key = this.#request.key()
    this.#settle(Exit.fail(new EtcdError({ ...error, operation, ...(key === undefined ? {} : { key }) })))
  }

  die(cause: Cause.Cause<never>): void {
    this.#settle(Exit.failCause(cause))
  }

  /**
   * What is over lets go of what it held. Objects of a busy program outlive collections of the young, and are then garbage
   * among the old, which would keep alive whatever they still point to.
   */
  giveUp(): void {
    this.isOver = true
    if (this.flight !== undefined) this.flight.waiting--
    this.#request = undefined
    this.#caller = undefined
  }

  isSent(): boolean {
    return this.flight !== undefined
  }

  /** What follows after a failure; after an interruption nobody waits for it any more. */
  failed(cause: Cause.Cause<EtcdError>): Effect.Effect<A, EtcdError> {
    const rest = this.#rest
    this.#rest = undefined
    this.cancel()
    return rest === undefined ? Effect.failCause(cause) : rest.goOn(cause)
  }

  cancel(): void {
    if (this.isOver) return
    this.giveUp()
    this.#lane.cancelIfIdle(this.flight)
  }

  #answer(responses: ReadonlyArray<OpResponse>, header: Header): Exit.Exit<A, EtcdError> {
    if (this.#request === undefined) return Exit.interrupt(FiberId.none)
    try {
      return Exit.succeed(this.#request.answer(responses, header))
    } catch (defect) {
      return Exit.die(defect)
    }
  }

  #settle(exit: Exit.Exit<A, EtcdError>): void {
    const caller = this.#caller
    if (this.isOver || caller === undefined) return
    this.giveUp()
    if (Exit.isSuccess(exit)) this.#rest = undefined
    caller.settled(exit)
  }
}

/** A fibre that waits. */
class Resumed<A> implements Settled<A> {
  readonly settled: (exit: Exit.Exit<A, EtcdError>) => void

  constructor(resume: (exit: Exit.Exit<A, EtcdError>) => void) {
    this.settled = resume
  }
}

/**
 * V8 allocates a closure that is assigned to a property among the old, and `Effect.async` assigns one that keeps hold of
 * what it was given. So it is given the member alone, which lets go of the rest.
 */
export const outcomeOf = <A>(member: Member<A>): Effect.Effect<A, EtcdError> =>
  Effect.async((resume) => member.begin(new Resumed(resume)))
