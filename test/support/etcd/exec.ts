import { execFile } from "node:child_process"
import * as Path from "node:path"

/** A program that could not be started or did not end with 0; `message` ends with what it printed. */
export class ExecError extends Error {
  override readonly name = "ExecError"
  readonly code: number | string | undefined
  constructor(message: string, code: number | string | undefined) {
    super(message)
    this.code = code
  }
}

/** Runs a program to its end and returns its standard output. */
export const exec = (
  command: string,
  args: ReadonlyArray<string>,
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv; readonly signal?: AbortSignal } = {}
): Promise<string> =>
  new Promise((resolve, reject) => {
    execFile(command, args, { ...options, maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error === null) {
        resolve(stdout)
      } else {
        const output = stderr.trim() || error.message
        reject(new ExecError(`${Path.basename(command)}: ${output}`, error.code ?? undefined))
      }
    })
  })

/**
 * The environment for etcd and etcdctl: without the variables that they would take for flags, `ETCD_VERSION` among them,
 * and with the one that lets old versions run on ARM.
 */
export const etcdEnvironment = (): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^ETCD(CTL)?_/.test(name))),
  ...process.arch === "arm64" ? { ETCD_UNSUPPORTED_ARCH: "arm64" } : {},
  ETCDCTL_API: "3"
})
