/**
 * Where requests wait for each other, to leave as one call.
 *
 * A request of an idle lane leaves at once, by itself. While calls are under way, those that come in are gathered, and go
 * together as soon as fewer than two are: nothing waits for a timer, and the busier etcd is the more goes into one call.
 * Requests that write the same key are answered in the order in which they came.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import { constVoid } from "effect/Function"
import type { Cancelable } from "../../EtcdClient.js"
import { EtcdError } from "../../EtcdError.js"
import type { Op, TxnResponse } from "../../Txn.js"
import { Bag } from "../bag.js"
import { Code, Statuses } from "../etcdErrors.js"
import type { Masked } from "../masked.js"
import { masked, restored } from "../masked.js"
import type { Rest } from "../retry.js"
import type { CallOptions, Cancel, Done, Settled } from "../transport.js"
import { Flight } from "./flight.js"
import { Footprints } from "./footprint.js"
import type { Part, Request, Waiting } from "./member.js"
import { Member, outcomeOf } from "./member.js"

export interface LaneOptions {
  readonly kind: "read" | "write"
  /** Operations in one transaction: etcd's limit, or less. */
  readonly maxOperations: number
  /** What goes into one call, unless a single request is larger. */
  readonly maxBytes: number
  readonly clock: Clock.Clock
  readonly commit: (ops: ReadonlyArray<Op>, options: CallOptions, done: Done<TxnResponse>) => Cancel
  /** Runs what belongs to no caller's fibre; ends with the client. */
  readonly run: (effect: Effect.Effect<void>) => Fiber.RuntimeFiber<void>
}

/** So many calls are under way before requests are gathered: while one is answered, the next is being worked on. */
const gathersFrom = 2
/** Requests that cannot share a call do not wait for one, up to so many calls. */
const maxFlights = 64
/** After so many that could not join, the rest of the queue is not looked at. */
const maxPassedOver = 32

/** Refusals that one member alone can be the reason of: each gets its own answer, by itself. */
const ofOneMember: ReadonlySet<EtcdError["reason"]> = new Set<EtcdError["reason"]>([
  "PermissionDenied",
  "LeaseNotFound",
  "TooLarge",
  "Compacted",
  "FutureRevision",
  "DuplicateKey",
  "InvalidRequest"
])

const problem = (reason: EtcdError["reason"], code: number, detail: string, mayBeApplied: boolean): EtcdError =>
  new EtcdError({ operation: "txn", reason, code, mayBeApplied, detail })

const closed = (mayBeApplied: boolean): EtcdError =>
  problem("Unavailable", Code.Unavailable, "the client was closed", mayBeApplied)

const tooLate: EtcdError = problem(
  "DeadlineExceeded",
  Code.DeadlineExceeded,
  "the deadline passed before it could be sent: earlier calls of this client were not answered",
  false
)

/** What leaves together: first those that remove keys, then those that may have to see them gone. */
class Batch {
  readonly members: Array<Waiting> = []
  readonly ops: Array<Op> = []
  #removing = 0
  readonly footprints = new Footprints()
  #nested = 0
  #bytes = 0

  /** How much of etcd's limit it needs: its own operations, and the largest of those nested in it. */
  get operations(): number {
    return this.ops.length + this.#nested
  }

  add(member: Waiting, { footprint, nested, ops, weight }: Part): void {
    member.operations = ops.length
    if (footprint.removals.length > 0) {
      // Such a part is one operation.
      this.members.splice(this.#removing, 0, member)
      this.ops.splice(this.#removing, 0, ...ops)
      this.#removing++
    } else {
      this.members.push(member)
      for (const op of ops) this.ops.push(op)
    }
    this.footprints.add(footprint)
    this.#nested = Math.max(this.#nested, nested)
    this.#bytes += weight
  }

  hasSpaceFor({ nested, ops, weight }: Part, limits: { readonly operations: number; readonly bytes: number }): boolean {
    return this.ops.length + ops.length + Math.max(this.#nested, nested) <= limits.operations &&
      this.#bytes + weight <= limits.bytes
  }

  suits(member: Waiting, { footprint }: Part): boolean {
    return member.shares && this.members[0].shares && this.footprints.areIndependentOf(footprint)
  }
}

const footprintsOf = ({ footprint }: Part): Footprints => {
  const footprints = new Footprints()
  footprints.add(footprint)
  return footprints
}

/** Those who leave together because they did so before. */
const batchOf = (members: ReadonlyArray<Waiting>): Batch => {
  const batch = new Batch()
  for (const member of members) batch.add(member, member.part())
  return batch
}

const answer = (members: ReadonlyArray<Waiting>, { header, responses }: TxnResponse): void => {
  let next = 0
  for (const member of members) {
    const begin = next
    next += member.operations
    member.succeed(responses.slice(begin, next), header)
  }
}

export class Lane {
  readonly #options: LaneOptions
  readonly #flights = new Bag<Flight>()
  #queue: Array<Waiting> = []
  /** How many in the queue are eager. */
  #eager = 0
  #flushing = false
  #closed = false
  /** Wakes up for the deadlines of those who wait; it may be early. */
  #alarm: { readonly time: number; readonly fiber: Fiber.RuntimeFiber<void> } | undefined
  /** Becomes smaller than the option where the server allows less. */
  #maxOperations: number
  /** So many operations were not too many. */
  #accepted = 1

  constructor(options: LaneOptions) {
    this.#options = options
    this.#maxOperations = options.maxOperations
  }

  /** @param rest what follows after a failure, if something does */
  submit<A>(request: Request<A>, options: CallOptions, rest?: Rest<A>): Effect.Effect<A, EtcdError> {
    return masked((mask) =>
      this.#closed || this.#flights.size === 0 && this.#queue.length === 0
        ? this.#leave(request, options, rest, mask)
        : this.#queued(new Member<A>(this, request, this.#now() + options.timeoutMillis, rest), mask)
    )
  }

  /** The same without a fibre of the caller, who is told the outcome unless the request was given up before. */
  start<A>(request: Request<A>, { timeoutMillis }: CallOptions, caller: Settled<A>): Cancelable {
    const member = new Member<A>(this, request, this.#now() + timeoutMillis)
    member.begin(caller)
    return member
  }

  enter(member: Waiting): void {
    if (this.#closed) return member.fail(closed(false))
    this.#queue.push(member)
    if (member.isEager) this.#eager++
    this.#flushSoon()
  }

  /** What still waits for its turn is not sent any more; nobody is left without an answer. */
  close(): void {
    this.#closed = true
    const queue = this.#queue
    this.#queue = []
    for (const member of queue) member.fail(closed(false))
    for (const { cancel, members } of this.#flights.values()) {
      for (const member of members) member.fail(closed(this.#options.kind === "write"))
      cancel()
    }
  }

  /** At once, in the fibre of the caller: an idle lane costs next to nothing. */
  #leave<A>(
    request: Request<A>,
    options: CallOptions,
    rest: Rest<A> | undefined,
    mask: Masked
  ): Effect.Effect<A, EtcdError> {
    // Where it cannot be interrupted any more: nobody would end the flight, and it would be in the way of all others.
    return Effect.suspend(() => {
      const flight = new Flight(this.#now() + options.timeoutMillis, [], () => footprintsOf(request.part()))
      flight.place = this.#flights.add(flight)
      return Effect.matchCauseEffect(restored(mask, request.alone(options)), {
        onFailure: (cause) => {
          this.#landed(flight)
          return rest === undefined ? Effect.failCause(cause) : restored(mask, rest.goOn(cause))
        },
        onSuccess: (answer) => {
          this.#landed(flight)
          return Effect.succeed(answer)
        }
      })
    })
  }

  #queued<A>(member: Member<A>, mask: Masked): Effect.Effect<A, EtcdError> {
    return Effect.matchCauseEffect(restored(mask, outcomeOf(member)), {
      onFailure: (cause) => restored(mask, member.failed(cause)),
      onSuccess: Effect.succeed
    })
  }

  #now(): number {
    return Number(this.#options.clock.unsafeCurrentTimeNanos()) / 1e6
  }

  /** Not at once: those whose answers came together go on together, and shall find room in one call. */
  #flushSoon(): void {
    if (this.#flushing) return
    this.#flushing = true
    queueMicrotask(() => {
      this.#flushing = false
      this.#flush()
    })
  }

  #flush(): void {
    while (this.#flights.size < gathersFrom || this.#eager > 0) {
      const batch = this.#gather()
      if (batch.members.length === 0) break
      this.#launch(batch)
    }
    this.#setAlarm()
  }

  /** Takes those from the queue that can leave together. */
  #gather(): Batch {
    const now = this.#now()
    const limits = { operations: this.#maxOperations, bytes: this.#options.maxBytes }
    const batch = new Batch()
    const passedOver: Array<Waiting> = []
    const before = new Footprints()
    const passOver = (member: Waiting, { footprint }: Part): void => {
      passedOver.push(member)
      before.add(footprint)
    }
    const take = (member: Waiting, part: Part): void => {
      this.#forget(member)
      batch.add(member, part)
    }
    let next = 0
    for (; next < this.#queue.length && passedOver.length < maxPassedOver; next++) {
      const member = this.#queue[next]
      if (member.isOver || member.deadline <= now) {
        this.#forget(member)
        if (!member.isOver) member.fail(tooLate)
        continue
      }
      const part = member.part()
      if (this.#mustFollow(part, before)) {
        passOver(member, part)
      } else if (batch.members.length === 0) {
        if (this.#flights.size < (member.isEager ? maxFlights : gathersFrom)) take(member, part)
        else passOver(member, part)
      } else if (!batch.hasSpaceFor(part, limits)) {
        break
      } else if (batch.suits(member, part)) {
        take(member, part)
      } else {
        passOver(member, part)
        if (!member.isEager) {
          member.isEager = true
          this.#eager++
        }
      }
    }
    this.#queue = next === 0 ? this.#queue : [...passedOver, ...this.#queue.slice(next)]
    return batch
  }

  /** It leaves the queue. */
  #forget(member: Waiting): void {
    if (member.isEager) this.#eager--
  }

  /** Whether something that came before and is not done writes what the member writes. */
  #mustFollow({ footprint }: Part, before: Footprints): boolean {
    if (before.writeSame(footprint)) return true
    for (const flight of this.#flights.values()) {
      if (flight.writesSame(footprint)) return true
    }
    return false
  }

  #launch(batch: Batch): void {
    const { footprints, members, operations, ops } = batch
    if (members.length === 1) return this.#launchAlone(members[0])
    let deadline = 0
    for (const member of members) deadline = Math.max(deadline, member.deadline)
    const flight = new Flight(deadline, members, () => footprints)
    for (const member of members) member.flight = flight
    flight.place = this.#flights.add(flight)
    flight.cancel = this.#options.commit(ops, this.#until(deadline), (exit) => {
      if (Exit.isSuccess(exit)) {
        this.#accepted = Math.max(this.#accepted, operations)
        answer(members, exit.value)
      } else {
        this.#refuse(members, operations, exit.cause)
      }
      this.#landed(flight)
    })
  }

  #launchAlone(member: Waiting): void {
    const flight = new Flight(member.deadline, [member], () => footprintsOf(member.part()))
    member.flight = flight
    flight.place = this.#flights.add(flight)
    flight.cancel = member.leave(this.#until(member.deadline), () => this.#landed(flight))
  }

  #until(deadline: number): CallOptions {
    return { timeoutMillis: Math.max(1, deadline - this.#now()) }
  }

  #refuse(members: ReadonlyArray<Waiting>, operations: number, cause: Cause.Cause<EtcdError>): void {
    const failure = Cause.failureOrCause(cause)
    if (Either.isRight(failure)) {
      for (const member of members) member.die(failure.right)
      return
    }
    const error = failure.left
    // Where the outcome is unknown, or nothing was sent, every member has its own way to go on.
    if (error.mayBeApplied || !ofOneMember.has(error.reason)) {
      for (const member of members) member.fail(error)
      return
    }
    /** What was given up meanwhile is not sent once more: whoever gave it up may have undone it. */
    const again = (some: ReadonlyArray<Waiting>): void => {
      const waiting = some.filter(({ isOver }) => !isOver)
      if (waiting.length > 0) this.#launch(batchOf(waiting))
    }
    if (error.detail === Statuses.tooManyOps.details) {
      const half = members.length >> 1
      const fewer = Math.min(this.#maxOperations, operations >> 1)
      this.#maxOperations = Math.max(this.#accepted, fewer)
      again(members.slice(0, half))
      again(members.slice(half))
    } else {
      for (const member of members) again([member])
    }
  }

  #landed(flight: Flight): void {
    flight.place?.leave()
    flight.members = []
    flight.cancel = constVoid
    if (this.#queue.length > 0) this.#flushSoon()
  }

  /** A call has time until the last of its members has none; those with less are told by the alarm. */
  #setAlarm(): void {
    let nearest = Infinity
    const look = ({ deadline, isOver }: Waiting): void => {
      if (!isOver && deadline < nearest) nearest = deadline
    }
    this.#queue.forEach(look)
    for (const { deadline, members } of this.#flights.values()) {
      for (const member of members) if (member.deadline < deadline) look(member)
    }
    if (nearest === Infinity || this.#alarm !== undefined && this.#alarm.time <= nearest) return
    this.#alarm?.fiber.unsafeInterruptAsFork(FiberId.none)
    this.#alarm = {
      time: nearest,
      fiber: this.#options.run(Effect.zipRight(
        Effect.sleep(Duration.millis(Math.max(1, Math.ceil(nearest - this.#now())))),
        Effect.sync(() => this.#ring())
      ))
    }
  }

  #ring(): void {
    this.#alarm = undefined
    const now = this.#now()
    for (const member of this.#queue) if (!member.isOver && member.deadline <= now) member.fail(tooLate)
    for (const flight of this.#flights.values()) {
      for (const member of flight.members) {
        if (member.isOver || member.deadline > now) continue
        member.fail(problem(
          "DeadlineExceeded",
          Code.DeadlineExceeded,
          "the deadline passed before the answer came",
          this.#options.kind === "write"
        ))
        this.cancelIfIdle(flight)
      }
    }
    this.#flush()
  }

  /** A call that nobody waits for any more. */
  cancelIfIdle(flight: Flight | undefined): void {
    if (flight === undefined || flight.waiting > 0) return
    flight.cancel()
    this.#landed(flight)
  }
}
