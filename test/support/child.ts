/** The side of `processes.ts` that runs in the processes which a test starts. */
import { Cause, Effect, Exit, Logger, Mailbox } from "effect"
import type { Scope } from "effect"
import { writeSync } from "node:fs"
import { createInterface } from "node:readline"

/** Tells the test. It is on its way when this returns: a process that is killed afterwards has told it. */
export const tell = (report: unknown): Effect.Effect<void> =>
  Effect.sync(() => void writeSync(1, `${JSON.stringify(report)}\n`))

/** The time by a clock that all processes of the machine share, in nanoseconds, as text. */
export const now = (): string => String(process.hrtime.bigint())

/** When the process did not run: from one turn of its event loop to the next, and to the one after. */
export interface Stall {
  readonly from: string
  readonly to: string
  readonly next: string
}

/** Notes from now on when the process does not run for more than 100 ms. What was to happen then happens in its first turn. */
export const watchStalls = (told: (stall: Stall) => void): void => {
  let turns: ReadonlyArray<bigint> = []
  setInterval(() => {
    turns = [...turns.slice(-2), process.hrtime.bigint()]
    const [from, to, next] = turns
    if (turns.length === 3 && to - from > 100_000_000n) told({ from: String(from), to: String(to), next: String(next) })
  }, 10).unref()
}

/**
 * Runs the program with its arguments and with the orders that the test sends. The process ends with it, and also when the
 * test process is gone; SIGTERM interrupts it.
 */
export const run = <Order>(
  program: (
    args: ReadonlyArray<string>,
    orders: Mailbox.ReadonlyMailbox<Order>
  ) => Effect.Effect<void, unknown, Scope.Scope>
): void => {
  const main = Effect.gen(function*() {
    const orders = yield* Mailbox.make<Order>()
    createInterface({ input: process.stdin })
      .on("line", (line) => orders.unsafeOffer(JSON.parse(line) as Order))
      .on("close", () => process.exit(1))
    yield* program(process.argv.slice(2), orders)
  })
  // What is told goes to stdout, and nothing else.
  const logs = Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger))
  const fiber = Effect.runFork(Effect.scoped(main).pipe(Effect.provide(logs)))
  process.once("SIGTERM", () => fiber.unsafeInterruptAsFork(fiber.id()))
  fiber.addObserver((exit) => {
    if (Exit.isFailure(exit) && !Cause.isInterruptedOnly(exit.cause)) {
      console.error(Cause.pretty(exit.cause))
      process.exit(1)
    }
    process.exit(0)
  })
}
