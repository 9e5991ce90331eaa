/**
 * Several real Node processes in one test, for what must hold when each of them can be killed, stopped, or cut off from
 * etcd on its own. Nothing of them is left when the scope closes or when the test process ends, however it ends.
 *
 * The program is a module in `fixtures` beside the test, and speaks to it by means of `child.ts`:
 *
 *     Child.run<Order>(([endpoint], orders) => Effect.gen(function*() {
 *       yield* Child.tell({ _tag: "Ready" })
 *       const order = yield* orders.take
 *       ...
 *     }))
 *
 * The test compiles it once (a bundle starts eight times faster than a loader) and starts as many as it likes:
 *
 *     const program = yield* Processes.compile<Order, Report>(new URL("./fixtures/worker.ts", import.meta.url))
 *     const one = yield* program.start(etcd.endpoint)
 *     yield* one.send({ _tag: "Acquire" })
 *     const report = yield* one.next
 *     yield* one.kill
 *
 * For a history, let the program tell `process.hrtime.bigint()` as text: that clock is the same for all processes of a
 * machine. What was told before a SIGKILL arrives.
 */
import type { Scope } from "effect"
import { Data, Effect, Exit, Mailbox } from "effect"
import { build } from "esbuild"
import { spawn } from "node:child_process"
import { mkdtemp } from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import type { Watchdog } from "./etcd/process.js"
import { startWatchdog, stopped } from "./etcd/process.js"

/** There is nothing more to hear from the process: it has ended. The message holds what it printed to its stderr. */
export class ProcessEnded extends Data.TaggedError("ProcessEnded")<{ readonly message: string }> {}

/** How a process ended. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** A process; it gets orders and tells reports, each a line of JSON. */
export interface Process<Order, Report> {
  readonly pid: number
  readonly send: (order: Order) => Effect.Effect<void>
  /** Waits for the next report that was not taken yet. */
  readonly next: Effect.Effect<Report, ProcessEnded>
  /** All reports that have arrived, those that were taken too. */
  readonly reports: Effect.Effect<ReadonlyArray<Report>>
  /** `SIGKILL`, `SIGSTOP`, `SIGCONT`, …; waits until it has stopped. */
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Ends it at once (SIGKILL) and waits for that. */
  readonly kill: Effect.Effect<Ended>
  /** Waits for its end; all reports have arrived then. */
  readonly ended: Effect.Effect<Ended>
}

/** A program that is ready to be started. */
export interface Program<Order, Report> {
  /** Starts a process with these arguments; the end of the scope kills it. */
  readonly start: (...args: ReadonlyArray<string>) => Effect.Effect<Process<Order, Report>, never, Scope.Scope>
}

const maxLog = 16 * 1024

/** Processes that run, for the watchdog. */
class Running {
  readonly #pids = new Set<number>()
  readonly #watchdog: Watchdog

  constructor(watchdog: Watchdog) {
    this.#watchdog = watchdog
  }

  add(pid: number): void {
    this.#pids.add(pid)
    this.#watchdog.watch(...this.#pids)
  }

  delete(pid: number): void {
    this.#pids.delete(pid)
    this.#watchdog.watch(...this.#pids)
  }
}

const start = <Order, Report>(
  file: string,
  args: ReadonlyArray<string>,
  running: Running
): Effect.Effect<Process<Order, Report>> =>
  Effect.gen(function*() {
    const mailbox = yield* Mailbox.make<Report, ProcessEnded>()
    const child = spawn(process.execPath, ["--enable-source-maps", file, ...args], { stdio: ["pipe", "pipe", "pipe"] })
    const { pid } = child
    if (pid === undefined) return yield* Effect.dieMessage("node cannot be started")
    running.add(pid)
    child.once("exit", () => running.delete(pid))
    // It may have ended when something is sent to it.
    child.stdin.on("error", () => {})

    let log = ""
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      log = (log + chunk).slice(-maxLog)
    })
    const reports: Array<Report> = []
    let rest = ""
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n")
      rest = lines.pop() ?? ""
      for (const line of lines) {
        const report = JSON.parse(line) as Report
        reports.push(report)
        mailbox.unsafeOffer(report)
      }
    })
    const closed = new Promise<Ended>((resolve) => {
      // Not "exit": what it told may still be on its way then.
      child.once("close", (code, signal) => {
        const message = `the process ended with ${code ?? signal}\n${log}`.trim()
        mailbox.unsafeDone(Exit.fail(new ProcessEnded({ message })))
        resolve({ code, signal })
      })
    })

    const signal = (name: NodeJS.Signals) =>
      Effect.zipRight(
        Effect.sync(() => void child.kill(name)),
        name === "SIGSTOP" ? Effect.promise(() => stopped(pid)) : Effect.void
      )
    const ended = Effect.promise(() => closed)
    return {
      pid,
      send: (order) => Effect.sync(() => void child.stdin.write(`${JSON.stringify(order)}\n`)),
      next: Effect.catchTag(
        mailbox.take,
        "NoSuchElementException",
        () => Effect.dieMessage("a mailbox ends with the process only")
      ),
      reports: Effect.sync(() => reports.slice()),
      signal,
      kill: Effect.zipRight(signal("SIGKILL"), ended),
      ended
    }
  })

/** Bundles a program, its imports included. The end of the scope kills its processes, if there are any left. */
export const compile = <Order, Report>(fixture: URL): Effect.Effect<Program<Order, Report>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const folder = yield* Effect.promise(() => mkdtemp(Path.join(Os.tmpdir(), "effect-coord-processes-")))
    const watchdog = yield* Effect.acquireRelease(
      Effect.sync(() => startWatchdog(folder)),
      (watchdog) => Effect.sync(() => watchdog.close())
    )
    const running = new Running(watchdog)
    const file = Path.join(folder, "program.mjs")
    yield* Effect.promise(() =>
      build({
        entryPoints: [fileURLToPath(fixture)],
        outfile: file,
        bundle: true,
        platform: "node",
        target: "node20",
        format: "esm",
        sourcemap: "linked",
        logLevel: "error",
        // Some packages in the bundle are CommonJS and require Node's modules.
        banner: { js: "import { createRequire } from \"node:module\"; const require = createRequire(import.meta.url);" }
      })
    )
    return {
      start: (...args) => Effect.acquireRelease(start<Order, Report>(file, args, running), (started) => started.kill)
    }
  })
