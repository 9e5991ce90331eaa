import { assert, describe, it } from "@effect/vitest"
import { createHash } from "node:crypto"
import { once } from "node:events"
import { existsSync } from "node:fs"
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterEach, beforeEach } from "vitest"
import { fetchFromPackages, origins } from "./etcd/debian.js"
import { exec } from "./etcd/exec.js"
import { archiveName, fetchFromRelease } from "./etcd/release.js"
import { matchesVersion } from "./etcd/version.js"
import * as EtcdBinary from "./EtcdBinary.js"

let folder: string
let server: Http.Server
let files: Map<string, Buffer>
let baseUrl: string

beforeEach(async () => {
  folder = await mkdtemp(Path.join(Os.tmpdir(), "effect-coord-test-"))
  files = new Map()
  server = Http.createServer((request, response) => {
    const content = files.get(request.url ?? "")
    response.writeHead(content === undefined ? 404 : 200).end(content)
  })
  await once(server.listen(0, "127.0.0.1"), "listening")
  baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})

afterEach(async () => {
  server.close()
  await rm(folder, { recursive: true, force: true })
})

/** A program that says that it is etcd. */
const fakeEtcd = async (file: string, version: string): Promise<string> => {
  await mkdir(Path.dirname(file), { recursive: true })
  await writeFile(file, `#!/bin/sh\necho "etcd Version: ${version}"\n`)
  await chmod(file, 0o755)
  return file
}

/** An environment without any etcd, in which only basic programs are found. */
const bareEnv = (more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => ({
  PATH: Path.join(folder, "path"),
  XDG_CACHE_HOME: Path.join(folder, "cache"),
  ...more
})

/** Serves a release whose programs say that they are of this version. */
const publish = async (version: string, archive: string, checksum?: string): Promise<void> => {
  const name = archive.replace(/\.(tar\.gz|zip)$/, "")
  await fakeEtcd(Path.join(folder, name, "etcd"), version)
  await fakeEtcd(Path.join(folder, name, "etcdctl"), version)
  await exec("tar", ["-czf", archive, name], { cwd: folder })
  const content = await readFile(Path.join(folder, archive))
  const sum = checksum ?? createHash("sha256").update(content).digest("hex")
  files.set(`/v${version}/SHA256SUMS`, Buffer.from(`${"0".repeat(64)}  other.zip\n${sum}  ${archive}\n`))
  files.set(`/v${version}/${archive}`, content)
}

const here = (version: string): string => archiveName(version, process.platform, process.arch) ?? ""

const failure = async (promise: Promise<unknown>): Promise<string> => {
  try {
    await promise
  } catch (error) {
    assert.instanceOf(error, EtcdBinary.EtcdNotFoundError)
    return error.message
  }
  throw new Error("expected a failure")
}

describe("EtcdBinary", () => {
  it("takes ETCD_BIN, and etcdctl beside it", async () => {
    const etcd = await fakeEtcd(Path.join(folder, "given", "etcd"), "3.5.9")
    const etcdctl = await fakeEtcd(Path.join(folder, "given", "etcdctl"), "3.5.9")
    const found = await EtcdBinary.resolve({ env: bareEnv({ ETCD_BIN: etcd }) })
    assert.deepStrictEqual(found, { etcd, etcdctl, version: "3.5.9", supportsNoFsync: false })
  })

  it("says what is wrong with ETCD_BIN", async () => {
    const env = bareEnv({ ETCD_BIN: Path.join(folder, "none") })
    assert.match(await failure(EtcdBinary.resolve({ env })), /ETCD_BIN=.*none is not an etcd that runs/)
    const old = bareEnv({ ETCD_BIN: await fakeEtcd(Path.join(folder, "old"), "3.3.27") })
    assert.match(await failure(EtcdBinary.resolve({ env: old })), /is etcd 3\.3\.27 but 3\.4 or later is needed/)
    assert.match(await failure(EtcdBinary.resolve({ env: { ...old, ETCD_VERSION: "3.5" } })), /but 3\.5 is needed/)
  })

  it("takes etcd from the PATH unless another version is wanted", async () => {
    const env = bareEnv()
    const etcd = await fakeEtcd(Path.join(folder, "path", "etcd"), "3.4.30")
    assert.strictEqual((await EtcdBinary.resolve({ env })).etcd, etcd)
    await publish("3.5.16", here("3.5.16"))
    const other = await EtcdBinary.resolve({
      env: { ...env, ETCD_VERSION: "v3.5.16" },
      baseUrl,
      packages: false
    })
    assert.strictEqual(other.version, "3.5.16")
  })

  it("fetches a release once, into the cache, whoever is first", async () => {
    await publish("3.5.31", here("3.5.31"))
    const options = { env: bareEnv(), baseUrl, packages: false }
    const found = await Promise.all(Array.from({ length: 4 }, () => EtcdBinary.resolve(options)))
    const cache = EtcdBinary.cacheFolder(options.env)
    for (const one of found) {
      assert.strictEqual(one.version, "3.5.31")
      assert.strictEqual(one.etcd, Path.join(cache, "default", "etcd"))
      assert.strictEqual(one.etcdctl, Path.join(cache, "default", "etcdctl"))
    }
    assert.deepStrictEqual(await readdir(cache), ["default"])
    files.clear()
    assert.strictEqual((await EtcdBinary.resolve(options)).version, "3.5.31")
  })

  it("replaces a broken program in the cache", async () => {
    const options = { env: bareEnv({ ETCD_VERSION: "3.5.16" }), baseUrl, packages: false }
    await fakeEtcd(Path.join(EtcdBinary.cacheFolder(options.env), "3.5.16", "etcd"), "0")
    await publish("3.5.16", here("3.5.16"))
    assert.strictEqual((await EtcdBinary.resolve(options)).version, "3.5.16")
  })

  it("says in one sentence what to do when there is none", async () => {
    const message = await failure(EtcdBinary.resolve({ env: bareEnv(), baseUrl, version: "3.9" }))
    assert.match(message, /^No etcd 3\.9 could be found or fetched: set ETCD_BIN .*, or install etcd .*\.$/)
    assert.notInclude(message, "\n")
    assert.deepStrictEqual(await readdir(EtcdBinary.cacheFolder(bareEnv())), [])
  })
})

describe("release archives", () => {
  const fetch = (options: { readonly wanted: string; readonly platform?: string; readonly architecture?: string }) =>
    fetchFromRelease({ ...options, baseUrl, target: Path.join(folder, "to"), folder: Path.join(folder, "work") })

  it("are named as etcd names them", () => {
    assert.strictEqual(archiveName("3.5.16", "linux", "x64"), "etcd-v3.5.16-linux-amd64.tar.gz")
    assert.strictEqual(archiveName("3.5.16", "darwin", "arm64"), "etcd-v3.5.16-darwin-arm64.zip")
    assert.isUndefined(archiveName("3.5.16", "sunos", "x64"))
  })

  it("are refused when the checksum differs", async () => {
    await publish("3.5.16", "etcd-v3.5.16-linux-amd64.tar.gz", "f".repeat(64))
    const reason = await fetch({ wanted: "3.5.16", platform: "linux", architecture: "x64" })
    assert.match(reason ?? "", /has the checksum [0-9a-f]{64} instead of f{64}/)
  })

  it("are reported when they are missing", async () => {
    const reason = await fetch({ wanted: "3.5.16", platform: "linux", architecture: "x64" })
    assert.match(reason ?? "", /3\.5\.16 cannot be had .*SHA256SUMS answered 404/)
  })
})

describe("packages", () => {
  const sources = async (name: string, content: string): Promise<NodeJS.ProcessEnv> => {
    const parts = Path.join(folder, "parts")
    await mkdir(parts, { recursive: true })
    await writeFile(Path.join(parts, name), content)
    const config = Path.join(folder, "apt.conf")
    await writeFile(config, `Dir::Etc::SourceList "/dev/null";\nDir::Etc::SourceParts "${parts}";\n`)
    return { ...process.env, APT_CONFIG: config }
  }
  const hasApt = existsSync("/usr/bin/apt-get")

  it.runIf(hasApt)("come from the mirror that sources in one line name", async () => {
    const env = await sources(
      "a.list",
      "deb https://example.org/other stable main\n" +
        "deb [arch=arm64 signed-by=/keys/ubuntu.gpg] http://mirror.example/ubuntu noble main universe\n"
    )
    const [first, second] = await origins(env)
    assert.strictEqual(first.uri, "http://mirror.example/ubuntu/")
    assert.strictEqual(first.component, "universe")
    assert.strictEqual(first.architecture, "arm64")
    assert.strictEqual(first.keyring, "/keys/ubuntu.gpg")
    assert.deepStrictEqual(first.releases.slice(0, 2), ["noble", "jammy"])
    assert.strictEqual(second.uri, "https://example.org/other/")
  })

  it.runIf(hasApt)("come from the mirror that sources in stanzas name", async () => {
    const env = await sources(
      "a.sources",
      "Types: deb\nURIs: https://mirror.example/debian\nSuites: trixie trixie-updates\nComponents: main contrib\n" +
        "Architectures: amd64\nSigned-By: /keys/debian.pgp\n"
    )
    assert.deepStrictEqual(await origins(env), [{
      uri: "https://mirror.example/debian/",
      component: "main",
      architecture: "amd64",
      releases: ["trixie", "bookworm", "forky", "sid"],
      keyring: "/keys/debian.pgp"
    }])
  })

  it("are told to be missing where there is no apt", async () => {
    const reason = await fetchFromPackages({ wanted: "3.5", target: folder, folder, env: { PATH: folder } })
    assert.strictEqual(reason, "no source of Debian's or Ubuntu's packages")
  })
})

describe("versions", () => {
  it("match by their beginning, number by number", () => {
    assert.isTrue(matchesVersion("3.5.16-4", "3.5"))
    assert.isTrue(matchesVersion("3.5.16", "3.5.16"))
    assert.isFalse(matchesVersion("3.5.16", "3.5.1"))
    assert.isFalse(matchesVersion("3.4.23", "3.5"))
  })
})
