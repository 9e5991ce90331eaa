/**
 * etcd from its official release archives, verified against the release's list of checksums.
 */
import { createHash } from "node:crypto"
import { chmod, copyFile, mkdir, writeFile } from "node:fs/promises"
import * as Path from "node:path"
import { exec } from "./exec.js"

/** The release that a version without a patch number stands for. */
const releases: Readonly<Record<string, string>> = { "3.4": "3.4.45", "3.5": "3.5.31", "3.6": "3.6.12" }

/** The release taken when no version is asked for. */
const defaultRelease = "3.5"

const defaultBaseUrl = "https://github.com/etcd-io/etcd/releases/download"

const architectures: Readonly<Record<string, string>> = {
  x64: "amd64",
  arm64: "arm64",
  ppc64: "ppc64le",
  s390x: "s390x"
}

/** The name of the archive for a machine, or `undefined` where etcd offers none. */
export const archiveName = (version: string, platform: string, architecture: string): string | undefined => {
  const arch = architectures[architecture]
  if (arch === undefined) {
    return undefined
  }
  switch (platform) {
    case "linux":
      return `etcd-v${version}-linux-${arch}.tar.gz`
    case "darwin":
      return `etcd-v${version}-darwin-${arch}.zip`
    default:
      return undefined
  }
}

const download = async (url: string): Promise<Buffer> => {
  const response = await fetch(url, { signal: AbortSignal.timeout(300_000) })
  if (!response.ok) {
    throw new Error(`${url} answered ${response.status}`)
  }
  return Buffer.from(await response.arrayBuffer())
}

const describe = (error: unknown): string => {
  const cause = error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : ""
  return `${error instanceof Error ? error.message : String(error)}${cause}`
}

/**
 * Unpacks `etcd` and `etcdctl` of the wanted version into `target`, using `folder` for temporary files; returns a reason
 * when that is not possible.
 */
export const fetchFromRelease = async (options: {
  readonly wanted: string | undefined
  readonly target: string
  readonly folder: string
  readonly baseUrl?: string | undefined
  readonly platform?: string | undefined
  readonly architecture?: string | undefined
}): Promise<string | undefined> => {
  const wanted = options.wanted ?? defaultRelease
  const version = releases[wanted] ?? wanted
  const platform = options.platform ?? process.platform
  const architecture = options.architecture ?? process.arch
  if (!/^\d+\.\d+\.\d+/.test(version)) {
    return `no release is known for "${wanted}"`
  }
  const archive = archiveName(version, platform, architecture)
  if (archive === undefined) {
    return `there is no release archive for ${platform} on ${architecture}`
  }
  try {
    const base = `${options.baseUrl ?? defaultBaseUrl}/v${version}`
    const sums = (await download(`${base}/SHA256SUMS`)).toString("utf8")
    const expected = sums.split("\n").map((line) => line.trim().split(/\s+\*?/)).find(([, name]) => name === archive)
      ?.[0]
    if (expected === undefined) {
      return `the release ${version} has no checksum for ${archive}`
    }
    const content = await download(`${base}/${archive}`)
    const actual = createHash("sha256").update(content).digest("hex")
    if (actual !== expected) {
      return `${archive} has the checksum ${actual} instead of ${expected}`
    }
    await mkdir(options.folder, { recursive: true })
    await mkdir(options.target, { recursive: true })
    await writeFile(Path.join(options.folder, archive), content)
    await exec("tar", ["-xf", archive], { cwd: options.folder })
    const unpacked = Path.join(options.folder, archive.replace(/\.(tar\.gz|zip)$/, ""))
    for (const program of ["etcd", "etcdctl"]) {
      await copyFile(Path.join(unpacked, program), Path.join(options.target, program))
      await chmod(Path.join(options.target, program), 0o755)
    }
    return undefined
  } catch (error) {
    return `the release ${version} cannot be had (${describe(error)})`
  }
}
