/**
 * Running a server program: started and signalled by its own process id, and never left behind.
 */
import { spawn } from "node:child_process"
import { readFile } from "node:fs/promises"
import type { Socket } from "node:net"
import { etcdEnvironment } from "./exec.js"

/** A program that runs. */
export interface ServerProcess {
  readonly pid: number | undefined
  /** Whether it has not ended yet. */
  readonly isRunning: () => boolean
  /** The last lines that it printed. */
  readonly log: () => string
  /** Resolves when it has ended. */
  readonly exited: Promise<void>
  readonly signal: (signal: NodeJS.Signals) => void
}

/** Cleans up after this process. */
export interface Watchdog {
  /** The processes to kill; `undefined` stands for none at the moment. */
  readonly watch: (...pids: ReadonlyArray<number | undefined>) => void
  /** Ends the watchdog, which removes the folder. */
  readonly close: () => void
}

/**
 * Starts a shell that waits for the end of this process, however it comes, and then kills what is watched and removes
 * its folder. It learns of the end from its standard input, and belongs to a session of its own so that Ctrl-C does not end
 * it first.
 */
export const startWatchdog = (folder: string): Watchdog => {
  const script = "while read -r line; do pids=$line; done; [ -z \"$pids\" ] || kill -9 $pids; rm -rf \"$1\""
  const shell = spawn("sh", ["-c", script, "watchdog", folder], { stdio: ["pipe", "ignore", "ignore"], detached: true })
  shell.unref()
  const input = shell.stdin as Socket
  input.unref()
  input.on("error", () => {})
  return {
    watch: (...pids) => input.write(`${pids.join(" ")}\n`),
    close: () => input.end("\n")
  }
}

/**
 * Resolves when a signal to stop has reached the process, or when that has ended: on a busy machine it goes on for a while.
 * Elsewhere than on Linux nobody can tell.
 */
export const stopped = async (pid: number): Promise<void> => {
  const goesOn = (): Promise<boolean> =>
    readFile(`/proc/${pid}/stat`, "latin1").then((stat) => !/\) [TZ] /.test(stat), () => false)
  while (await goesOn()) await new Promise((resolve) => setImmediate(resolve))
}

const maxLog = 64 * 1024

/** Starts a program. */
export const startProcess = (command: string, args: ReadonlyArray<string>, watchdog: Watchdog): ServerProcess => {
  const child = spawn(command, args, { env: etcdEnvironment(), stdio: ["ignore", "pipe", "pipe"] })
  watchdog.watch(child.pid)
  let running = true
  let log = ""
  const append = (chunk: string) => {
    log = (log + chunk).slice(-maxLog)
  }
  child.stdout.setEncoding("utf8").on("data", append)
  child.stderr.setEncoding("utf8").on("data", append)
  const exited = new Promise<void>((resolve) => {
    const ended = () => {
      running = false
      watchdog.watch(undefined)
      resolve()
    }
    child.once("exit", ended)
    child.once("error", (error) => {
      append(error.message)
      ended()
    })
  })
  return {
    pid: child.pid,
    isRunning: () => running,
    log: () => log,
    exited,
    signal: (signal) => {
      if (running) {
        child.kill(signal)
      }
    }
  }
}
