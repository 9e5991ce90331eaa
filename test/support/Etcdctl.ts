/**
 * `etcdctl`, etcd's own client, run against a server: another party in tests of interoperation.
 */
import { Data, Effect, Queue } from "effect"
import type { Scope } from "effect"
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { etcdEnvironment, exec } from "./etcd/exec.js"

/** `etcdctl` could not be run or did not end with 0; the message holds what it printed. */
export class EtcdctlError extends Data.TaggedError("EtcdctlError")<{ readonly message: string }> {}

/** A command of `etcdctl` that goes on running, such as `lock` or `watch`. */
export interface EtcdctlProcess {
  readonly pid: number
  /** Waits for the next line that it prints. */
  readonly nextLine: Effect.Effect<string>
  /** Sends a signal, for example `SIGINT`, on which `etcdctl lock` gives the lock back. */
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Waits for its end; the code is `null` when a signal ended it. */
  readonly exit: Effect.Effect<number | null>
}

/** Commands against one server or cluster. */
export interface Etcdctl {
  /** Runs a command to its end and returns what it printed. */
  readonly run: (args: ReadonlyArray<string>) => Effect.Effect<string, EtcdctlError>
  /** Starts a command that goes on running; the end of the scope kills it. */
  readonly start: (args: ReadonlyArray<string>) => Effect.Effect<EtcdctlProcess, EtcdctlError, Scope.Scope>
}

const startProcess = (program: string, args: ReadonlyArray<string>, env: NodeJS.ProcessEnv) =>
  Effect.gen(function*() {
    const lines = yield* Queue.unbounded<string>()
    const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "inherit"] })
    const pid = child.pid
    if (pid === undefined) {
      child.once("error", () => {})
      return yield* new EtcdctlError({ message: `${program} cannot be started` })
    }
    createInterface({ input: child.stdout }).on("line", (line) => lines.unsafeOffer(line))
    const exited = new Promise<number | null>((resolve) => child.once("exit", resolve))
    const process: EtcdctlProcess = {
      pid,
      nextLine: Queue.take(lines),
      signal: (signal) => Effect.sync(() => void child.kill(signal)),
      exit: Effect.promise(() => exited)
    }
    return process
  })

/** Makes the commands of the program `program`, which connect to `endpoints` with the given flags. */
export const make = (options: {
  readonly program: string | undefined
  readonly endpoints: ReadonlyArray<string>
  readonly flags?: ReadonlyArray<string> | undefined
}): Etcdctl => {
  const env = etcdEnvironment()
  const all = (args: ReadonlyArray<string>) => [
    `--endpoints=${options.endpoints.join(",")}`,
    // Its own 2 and 5 seconds can be too short on a busy machine.
    "--dial-timeout=20s",
    "--command-timeout=20s",
    ...options.flags ?? [],
    ...args
  ]
  const program = options.program === undefined
    ? Effect.fail(
      new EtcdctlError({ message: "There is no etcdctl beside this etcd or on the PATH: install it there." })
    )
    : Effect.succeed(options.program)
  return {
    run: (args) =>
      Effect.flatMap(program, (path) =>
        Effect.tryPromise({
          try: (signal) => exec(path, all(args), { env, signal }),
          catch: (error) => new EtcdctlError({ message: error instanceof Error ? error.message : String(error) })
        })),
    start: (args) =>
      Effect.acquireRelease(
        Effect.flatMap(program, (path) => startProcess(path, all(args), env)),
        (running) => Effect.zipRight(running.signal("SIGKILL"), running.exit)
      )
  }
}
