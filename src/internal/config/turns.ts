/**
 * Those of one process who change the same key take turns: against each other they could only lose time. It is a courtesy
 * and not a lock, etcd alone decides what is applied; so nobody waits long for one who makes no progress.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import type * as Scope from "effect/Scope"
import { inBackground } from "../background.js"
import type { Stored } from "./entries.js"

export interface Turn {
  /** What the one before has written, if that is as new to this one as a read of its own. */
  readonly known: () => Stored | undefined
  /** Something is sent now; what it writes is for those who wait already. */
  readonly sending: () => void
  readonly wrote: (stored: Stored) => void
  /** etcd does not answer: the others need not find that out one after another. */
  readonly open: () => void
}

export interface Turns {
  readonly inTurn: <A, E, R>(key: string, use: (turn: Turn) => Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** How many keys somebody has a turn for. */
  readonly size: () => number
}

/** So long one who does not come to an end is waited for: who runs on a value that stands still anyhow, or waits for others. */
const patience = "1 second"

interface Ticket {
  readonly number: number
  readonly called: Deferred.Deferred<void>
}

/** Those who want to change one key. */
class Line {
  /** Those who wait, first come first. */
  readonly waiting = new Set<Ticket>()
  isWatched = false
  /** Whom the others wait for. */
  holder: Ticket | undefined
  /** How many are here, those who are not waited for any more included. */
  #present = 0
  #arrivals = 0
  #known: { readonly stored: Stored; readonly arrivals: number } | undefined

  enter(): Ticket {
    const ticket = { number: ++this.#arrivals, called: Deferred.unsafeMake<void>(FiberId.none) }
    this.#present++
    this.waiting.add(ticket)
    if (this.holder === undefined) this.call()
    return ticket
  }

  /** The next one has its turn. */
  call(): void {
    const [next] = this.waiting
    this.holder = next
    if (next === undefined) return
    this.waiting.delete(next)
    Deferred.unsafeDone(next.called, Effect.void)
  }

  callAll(): void {
    while (this.waiting.size > 0) this.call()
  }

  /** Whether nobody is left. */
  leave(ticket: Ticket): boolean {
    this.waiting.delete(ticket)
    if (this.holder === ticket) this.call()
    return --this.#present === 0
  }

  turn({ number }: Ticket): Turn {
    let sentAfter = 0
    return {
      // What was written before somebody came may be overtaken by what that one has heard of.
      known: () => this.#known !== undefined && number <= this.#known.arrivals ? this.#known.stored : undefined,
      sending: () => {
        sentAfter = this.#arrivals
      },
      wrote: (stored) => {
        this.#known = { stored, arrivals: sentAfter }
      },
      open: () => this.callAll()
    }
  }
}

export const make: Effect.Effect<Turns, never, Scope.Scope> = Effect.map(Effect.scope, (scope) => {
  const lines = new Map<string, Line>()

  const lineOf = (key: string): Line => {
    const present = lines.get(key)
    if (present !== undefined) return present
    const line = new Line()
    lines.set(key, line)
    return line
  }

  /** Calls the next one when nobody has been for a while, for as long as somebody waits. */
  const watch = (line: Line): Effect.Effect<void> =>
    Effect.suspend(() => {
      const before = line.holder
      return Effect.flatMap(Effect.sleep(patience), () => {
        if (line.waiting.size === 0) {
          line.isWatched = false
          return Effect.void
        }
        if (line.holder === before) line.call()
        return watch(line)
      })
    })

  /** Not to be interrupted in between: the line would count as watched, and nobody would watch it. */
  const watching = (line: Line): Effect.Effect<unknown> =>
    Effect.uninterruptible(Effect.suspend(() => {
      if (line.isWatched) return Effect.void
      line.isWatched = true
      return watch(line).pipe(inBackground("turns"), Effect.interruptible, Effect.forkIn(scope))
    }))

  const called = (line: Line, ticket: Ticket): Effect.Effect<void> =>
    Effect.suspend(() =>
      line.waiting.has(ticket) ? Effect.zipRight(watching(line), Deferred.await(ticket.called)) : Effect.void
    )

  return {
    inTurn: (key, use) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.suspend(() => {
          const line = lineOf(key)
          const ticket = line.enter()
          const leave = Effect.sync(() => {
            if (line.leave(ticket)) lines.delete(key)
          })
          return Effect.ensuring(
            restore(Effect.flatMap(called(line, ticket), () => use(line.turn(ticket)))),
            leave
          )
        })
      ),
    size: () => lines.size
  }
})
