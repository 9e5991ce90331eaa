/**
 * etcd from the packages of Debian or Ubuntu, unpacked into a folder: nothing is installed and no root is needed.
 *
 * apt does the work, on state of its own in a temporary folder. So the mirror, the component and the architecture are
 * those of the machine's own sources, in whatever form they are written, and signatures and checksums are verified.
 */
import { copyFile, mkdir, mkdtemp, readdir, readFile, writeFile } from "node:fs/promises"
import * as Path from "node:path"
import { exec } from "./exec.js"
import { isSupported, matchesVersion } from "./version.js"

/** A distribution whose packages of etcd are known, with its releases from old to new. */
interface Distribution {
  readonly component: string
  readonly releases: ReadonlyArray<string>
  readonly aliases: ReadonlyArray<string>
  readonly keyring: string
}

const distributions: ReadonlyArray<Distribution> = [
  {
    component: "main",
    releases: ["bookworm", "trixie", "forky", "sid"],
    aliases: ["oldstable", "stable", "testing", "unstable"],
    keyring: "/usr/share/keyrings/debian-archive-keyring.gpg"
  },
  {
    component: "universe",
    releases: ["jammy", "noble", "plucky", "questing", "resolute"],
    aliases: [],
    keyring: "/usr/share/keyrings/ubuntu-archive-keyring.gpg"
  }
]

/** Where the machine's own packages come from. */
export interface Origin {
  readonly uri: string
  readonly component: string
  readonly architecture: string
  /** The releases to look into, the machine's own one first. */
  readonly releases: ReadonlyArray<string>
  /** The file of keys that the packages are signed with, when the sources name one. */
  readonly keyring: string | undefined
}

const readable = (file: string): Promise<string | undefined> => readFile(file, "utf8").catch(() => undefined)

const keyringOf = async (entry: string, fallback: string): Promise<string | undefined> => {
  const source = await readable(entry.replace(/:\d+$/, ""))
  const named = source?.match(/^Signed-By:\s*(\/\S+)/mi)?.[1] ?? source?.match(/signed-by=(\/[^\s\],]+)/i)?.[1]
  if (named !== undefined) {
    return named
  }
  return await readable(fallback) === undefined ? undefined : fallback
}

/** Repositories of other software may have a release and a component of the same names. */
const isArchive = (uri: string): boolean => /\/(debian|ubuntu|ubuntu-ports)\/?$/.test(uri)

/** Asks apt for the machine's own sources that may hold etcd, the likeliest first; none where there is no apt. */
export const origins = async (env: NodeJS.ProcessEnv = process.env): Promise<ReadonlyArray<Origin>> => {
  const format = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ARCHITECTURE)|$(SOURCESENTRY)"
  const args = ["indextargets", "--no-release-info", "--format", format, "Identifier: Packages"]
  const targets = await exec("apt-get", args, { env }).catch(() => "")
  const found: Array<Origin> = []
  for (const line of targets.split("\n")) {
    const [uri, release, component, architecture, entry = ""] = line.split("|")
    const distribution = distributions.find((one) =>
      one.component === component && (one.releases.includes(release) || one.aliases.includes(release))
    )
    if (distribution !== undefined && architecture !== "all") {
      const keyring = await keyringOf(entry, distribution.keyring)
      const releases = [release, ...distribution.releases.filter((other) => other !== release)]
      found.push({ uri, component, architecture, releases, keyring })
    }
  }
  return found.sort((one, other) => Number(isArchive(other.uri)) - Number(isArchive(one.uri)))
}

/** Runs apt on sources and state that lie in `folder` only. */
const privateApt = async (folder: string, source: string, env: NodeJS.ProcessEnv) => {
  await mkdir(Path.join(folder, "lists", "partial"), { recursive: true })
  await mkdir(Path.join(folder, "cache", "archives", "partial"), { recursive: true })
  await writeFile(Path.join(folder, "apt.list"), source)
  await writeFile(Path.join(folder, "status"), "")
  const settings: Record<string, string> = {
    "Dir::Etc::SourceList": Path.join(folder, "apt.list"),
    "Dir::Etc::SourceParts": "/dev/null",
    "Dir::Etc::Preferences": "/dev/null",
    "Dir::Etc::PreferencesParts": "/dev/null",
    "Dir::State": folder,
    "Dir::State::Lists": Path.join(folder, "lists"),
    "Dir::State::status": Path.join(folder, "status"),
    "Dir::Cache": Path.join(folder, "cache"),
    "APT::Sandbox::User": "",
    "Acquire::Languages": "none",
    "Acquire::Retries": "2",
    "APT::Update::Error-Mode": "any"
  }
  const options = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`])
  return (command: string, args: ReadonlyArray<string>) =>
    exec(command, [...options, "-qq", ...args], { cwd: folder, env })
}

/** The newest version of a package that matches, in the form that apt wants it named. */
const findVersion = (madison: string, wanted: string | undefined): string | undefined =>
  madison.split("\n")
    .map((line) => line.split("|").map((part) => part.trim())[1] ?? "")
    .find((version) => wanted === undefined ? isSupported(version) : matchesVersion(version, wanted))

/** What to fetch, and where to. */
interface Task {
  readonly wanted: string | undefined
  readonly target: string
  readonly folder: string
  readonly env: NodeJS.ProcessEnv
}

/** Unpacks the programs if this release has a version that is wanted. */
const fetchFrom = async (from: Origin, release: string, task: Task): Promise<boolean> => {
  await mkdir(task.folder, { recursive: true })
  const folder = await mkdtemp(Path.join(task.folder, `${release}-`))
  const keyring = from.keyring === undefined ? "" : ` signed-by=${from.keyring}`
  const source = `deb [arch=${from.architecture}${keyring}] ${from.uri} ${release} ${from.component}\n`
  const apt = await privateApt(folder, source, task.env)
  await apt("apt-get", ["update"])
  const version = findVersion(await apt("apt-cache", ["madison", "etcd-server"]), task.wanted)
  if (version === undefined) {
    return false
  }
  await apt("apt-get", ["download", `etcd-server=${version}`, `etcd-client=${version}`])
  for (const file of (await readdir(folder)).filter((name) => name.endsWith(".deb"))) {
    await exec("dpkg-deb", ["-x", file, "unpacked"], { cwd: folder })
  }
  await mkdir(task.target, { recursive: true })
  for (const program of ["etcd", "etcdctl"]) {
    await copyFile(Path.join(folder, "unpacked", "usr", "bin", program), Path.join(task.target, program))
  }
  return true
}

/**
 * Unpacks `etcd` and `etcdctl` of the wanted version into `target`, using `folder` for temporary files. Looks into the
 * machine's own release first and then into the others of its distribution; returns a reason when there is none.
 */
export const fetchFromPackages = async (task: Task): Promise<string | undefined> => {
  const candidates = await origins(task.env)
  const reasons = new Set(candidates.length === 0 ? ["no source of Debian's or Ubuntu's packages"] : [])
  for (const from of candidates) {
    for (const release of from.releases) {
      try {
        if (await fetchFrom(from, release, task)) {
          return undefined
        }
        reasons.add(`not in ${release}`)
      } catch (error) {
        reasons.add(`${release}: ${String(error).split("\n")[0]}`)
      }
    }
  }
  return Array.from(reasons).join(", ")
}
