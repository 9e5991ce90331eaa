/**
 * Finds the programs `etcd` and `etcdctl` that the tests run, and fetches them when the machine has none.
 *
 * In this order: the file that `ETCD_BIN` names; `etcd` on the `PATH`, unless `ETCD_VERSION` asks for another version;
 * the cache folder; the packages of Debian or Ubuntu; the official release archive. What was fetched is kept in
 * `$XDG_CACHE_HOME/effect-coord/etcd` (`~/.cache/effect-coord/etcd`), one folder for each version that was asked for.
 */
import { constants } from "node:fs"
import { access, mkdir, mkdtemp, realpath, rename, rm } from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { fetchFromPackages } from "./etcd/debian.js"
import { etcdEnvironment, exec } from "./etcd/exec.js"
import { fetchFromRelease } from "./etcd/release.js"
import { isSupported, matchesVersion } from "./etcd/version.js"

/** Programs of one version of etcd. */
export interface EtcdBinary {
  /** The path of the server program. */
  readonly etcd: string
  /** The path of the command-line client, when there is one beside the server program or on the `PATH`. */
  readonly etcdctl: string | undefined
  /** The server's version, for example `3.5.16`. */
  readonly version: string
  /** Whether the server can run without waiting for the disk, which tests want. */
  readonly supportsNoFsync: boolean
}

/** No etcd could be found or fetched; the message is one sentence that says what to do. */
export class EtcdNotFoundError extends Error {
  override readonly name = "EtcdNotFoundError"
}

/** What {@link resolve} takes from elsewhere in tests of its own. */
export interface ResolveOptions {
  /** The version wanted: `3.5`, `3.5.16`. Default: `ETCD_VERSION`, else any that is supported. */
  readonly version?: string | undefined
  /** The environment. Default: that of the process. */
  readonly env?: NodeJS.ProcessEnv | undefined
  /** Where release archives are downloaded from. Default: etcd's releases on GitHub. */
  readonly baseUrl?: string | undefined
  /** Whether packages are tried before release archives. Default: `true`. */
  readonly packages?: boolean | undefined
}

/** The folder in which fetched programs are kept. */
export const cacheFolder = (env: NodeJS.ProcessEnv = process.env): string => {
  const base = env.XDG_CACHE_HOME || Path.join(Os.homedir(), ".cache")
  return Path.join(base, "effect-coord", "etcd", `${process.platform}-${process.arch}`)
}

const executable = async (file: string): Promise<boolean> => {
  try {
    await access(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}

const onPath = async (program: string, env: NodeJS.ProcessEnv): Promise<string | undefined> => {
  for (const folder of (env.PATH ?? "").split(Path.delimiter).filter((one) => one !== "")) {
    const file = Path.join(folder, program)
    if (await executable(file)) {
      return file
    }
  }
  return undefined
}

const inspect = async (etcd: string, env: NodeJS.ProcessEnv): Promise<EtcdBinary | undefined> => {
  try {
    const options = { env: etcdEnvironment() }
    const version = /etcd Version: (\S+)/.exec(await exec(etcd, ["--version"], options))?.[1]
    if (version === undefined) {
      return undefined
    }
    const help = await exec("sh", ["-c", "\"$1\" --help 2>&1", "sh", etcd], options)
    const besides = [etcd, await realpath(etcd)].map((file) => Path.join(Path.dirname(file), "etcdctl"))
    const beside = await executable(besides[0]) ? besides[0] : await executable(besides[1]) ? besides[1] : undefined
    return {
      etcd,
      etcdctl: beside ?? await onPath("etcdctl", env),
      version,
      supportsNoFsync: help.includes("--unsafe-no-fsync")
    }
  } catch {
    return undefined
  }
}

const fetchInto = async (target: string, wanted: string | undefined, options: ResolveOptions): Promise<void> => {
  await mkdir(Path.dirname(target), { recursive: true })
  const folder = await mkdtemp(Path.join(Path.dirname(target), ".fetch-"))
  try {
    const fresh = Path.join(folder, "bin")
    const task = { wanted, target: fresh, env: options.env ?? process.env, baseUrl: options.baseUrl }
    const reasons: Array<string> = []
    for (const [name, fetchFrom] of [["packages", fetchFromPackages], ["release", fetchFromRelease]] as const) {
      if (name === "packages" && options.packages === false) {
        continue
      }
      const reason = await fetchFrom({ ...task, folder: Path.join(folder, name) })
      if (reason === undefined) {
        // Another process may have been faster: what it put there is as good.
        await rename(fresh, target).catch(async (error: unknown) => {
          if (!await executable(Path.join(target, "etcd"))) {
            throw error
          }
        })
        return
      }
      reasons.push(reason)
    }
    throw new EtcdNotFoundError(
      `No etcd${
        wanted === undefined ? "" : ` ${wanted}`
      } could be found or fetched: set ETCD_BIN to an etcd program, ` +
        `or install etcd so that it is on the PATH (${reasons.join("; ")}).`
    )
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Finds etcd, or fetches it; rejects with {@link EtcdNotFoundError}. */
export const resolve = async (options: ResolveOptions = {}): Promise<EtcdBinary> => {
  const env = options.env ?? process.env
  const wanted = options.version ?? (env.ETCD_VERSION?.replace(/^v/, "") || undefined)
  const fits = ({ version }: EtcdBinary) =>
    wanted === undefined ? isSupported(version) : matchesVersion(version, wanted)

  if (env.ETCD_BIN) {
    const given = await inspect(Path.resolve(env.ETCD_BIN), env)
    if (given === undefined) {
      throw new EtcdNotFoundError(
        `ETCD_BIN=${env.ETCD_BIN} is not an etcd that runs: set it to the path of the program.`
      )
    }
    if (fits(given)) {
      return given
    }
    if (options.version === undefined) {
      throw new EtcdNotFoundError(
        `ETCD_BIN is etcd ${given.version} but ${wanted ?? "3.4 or later"} is needed: set ETCD_BIN to one, or unset it.`
      )
    }
  }
  const installed = await onPath("etcd", env)
  const found = installed === undefined ? undefined : await inspect(installed, env)
  if (found !== undefined && fits(found)) {
    return found
  }
  const target = Path.join(cacheFolder(env), wanted ?? "default")
  const etcd = Path.join(target, "etcd")
  const present = await executable(etcd)
  const cached = present ? await inspect(etcd, env) : undefined
  if (cached !== undefined && fits(cached)) {
    return cached
  }
  if (present) {
    await rm(target, { recursive: true, force: true })
  }
  await fetchInto(target, wanted, options)
  const fetched = await inspect(etcd, env)
  if (fetched === undefined) {
    throw new EtcdNotFoundError(
      `The etcd that was fetched for this machine does not run on it: set ETCD_BIN to an etcd program that does.`
    )
  }
  return fetched
}
