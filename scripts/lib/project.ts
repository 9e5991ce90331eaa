/**
 * What the scripts of this folder share: the project's root and running a program.
 */
import { spawn } from "node:child_process"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

/** The root folder of the project. */
export const root = Path.resolve(Path.dirname(fileURLToPath(import.meta.url)), "..", "..")

/** The folder for temporary files that have to lie inside the project; git ignores it. */
export const temporary = Path.join(root, ".tmp")

/** The path of a program that a development dependency brings. */
export const bin = (name: string): string => Path.join(root, "node_modules", ".bin", name)

/** What a program printed and how it ended. */
export interface Run {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program to its end and collects what it prints. */
export const run = (
  command: string,
  args: ReadonlyArray<string>,
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {}
): Promise<Run> =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd ?? root,
      env: options.env ?? process.env,
      stdio: ["ignore", "pipe", "pipe"]
    })
    let stdout = ""
    let stderr = ""
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      stdout += chunk
    })
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      stderr += chunk
    })
    child.on("error", reject)
    child.on("close", (code) => resolve({ code: code ?? 1, stdout, stderr }))
  })

/** Runs a program as {@link run} does and fails with its output when it does not end with 0. */
export const runOrThrow = async (
  command: string,
  args: ReadonlyArray<string>,
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {}
): Promise<string> => {
  const result = await run(command, args, options)
  if (result.code !== 0) {
    throw new Error(`${command} ${args.join(" ")} ended with ${result.code}\n${result.stdout}${result.stderr}`)
  }
  return result.stdout
}

/** Runs a script's body; a failure is printed as its message and makes the process end with 1. */
export const main = (body: () => Promise<void>): void => {
  body().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error)
    process.exitCode = 1
  })
}
