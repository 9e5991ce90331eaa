/**
 * The calls of one connection that wait for an answer: each is one turn to etcd and one back, with the faults of the
 * link in between.
 */
import * as Effect from "effect/Effect"
import type { EtcdError } from "../../EtcdError.js"
import type { Status } from "../etcdErrors.js"
import { deadlineExceeded, dropped, notConnected, toError } from "./errors.js"
import type { Link } from "./Link.js"
import type { Request } from "./model.js"
import { Refusal } from "./refusal.js"
import type { Turns } from "./Turns.js"

export interface CallSpec<A> {
  readonly request: Request
  /** The key that stands for the request in errors. */
  readonly key: string | undefined
  readonly isRead: boolean
  readonly timeoutMillis: number
  /** What etcd does. */
  readonly apply: () => A
}

interface Pending {
  readonly fail: (status: Status) => void
  /** What goes on when a stall ends. */
  held: (() => void) | undefined
}

export class Calls {
  readonly #turns: Turns
  readonly #link: Link
  readonly #pending = new Set<Pending>()

  constructor(turns: Turns, link: Link) {
    this.#turns = turns
    this.#link = link
  }

  get size(): number {
    return this.#pending.size
  }

  cut(status: Status): void {
    this.#pending.forEach((pending) => pending.fail(status))
  }

  resume(): void {
    for (const pending of this.#pending) {
      const step = pending.held
      if (step !== undefined) {
        pending.held = undefined
        this.#turns.post(step)
      }
    }
  }

  run<A>(spec: CallSpec<A>): Effect.Effect<A, EtcdError> {
    return Effect.async<A, EtcdError>((resume) => {
      const link = this.#link
      const started = this.#turns.now()
      const error = (status: Status) => Effect.fail(toError(spec.request.operation, status, spec.isRead, spec.key))
      let settled = false
      let abandoned = false
      let forgetDeadline: (() => void) | undefined
      const settle = (answer: Effect.Effect<A, EtcdError>) => {
        if (!settled) {
          settled = true
          forgetDeadline?.()
          this.#pending.delete(pending)
          resume(answer)
        }
      }
      const pending: Pending = { fail: (status) => settle(error(status)), held: undefined }
      /** Only a call that is held can outlive its deadline, so only such a one needs an alarm. */
      const hold = (step: () => void) => {
        if (abandoned) {
          return
        }
        pending.held = step
        if (!Number.isFinite(spec.timeoutMillis)) {
          return
        }
        forgetDeadline ??= this.#turns.at(
          started + BigInt(Math.ceil(spec.timeoutMillis * 1_000_000)),
          () => pending.fail(deadlineExceeded(spec.timeoutMillis))
        )
      }
      const respond = (answer: Effect.Effect<A, EtcdError>) => {
        if (settled) {
          return
        }
        if (link.holdsResponses) {
          return hold(() => respond(answer))
        }
        settle(answer)
      }
      const arrive = () => {
        if (settled) {
          return
        }
        if (link.holdsRequests) {
          return hold(arrive)
        }
        const fault = link.takeFault(spec.request)
        if (fault?._tag === "LoseRequest") {
          return pending.fail(dropped)
        }
        const answer = fault?._tag === "Refuse" ? error(fault.status) : this.#apply(spec, error)
        if (fault?._tag === "LoseResponse") {
          return pending.fail(dropped)
        }
        this.#turns.post(() => respond(answer))
      }
      link.count(spec.request.operation)
      this.#pending.add(pending)
      if (link.isDown) {
        this.#turns.post(() => pending.fail(notConnected))
      } else {
        this.#turns.post(arrive)
      }
      // the request is on its way already: an interrupted caller does not wait for the answer, but etcd may still act
      return Effect.sync(() => {
        abandoned = true
        forgetDeadline?.()
        this.#pending.delete(pending)
      })
    })
  }

  #apply<A>(
    spec: CallSpec<A>,
    error: (status: Status) => Effect.Effect<never, EtcdError>
  ): Effect.Effect<A, EtcdError> {
    try {
      return Effect.succeed(spec.apply())
    } catch (thrown) {
      return thrown instanceof Refusal ? error(thrown.status) : Effect.die(thrown)
    }
  }
}
