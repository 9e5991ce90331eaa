/**
 * Generates `src/internal/proto` from etcd's protocol definitions, which the package `etcd3` carries.
 *
 *     npm run codegen          writes the files
 *     npm run codegen:check    generates into a temporary folder and fails when the checked-in files differ
 */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import * as Path from "node:path"
import { bin, main, root, runOrThrow, temporary } from "./lib/project.js"
import { protoSubset } from "./lib/protoSubset.js"

/** The calls that the library makes; everything else of etcd's interface is left out. */
const calls = {
  KV: ["Range", "Put", "DeleteRange", "Txn", "Compact"],
  Watch: ["Watch"],
  Lease: ["LeaseGrant", "LeaseRevoke", "LeaseKeepAlive", "LeaseTimeToLive", "LeaseLeases"],
  Cluster: ["MemberList"],
  Maintenance: ["Alarm", "Status"],
  Auth: ["AuthStatus", "Authenticate"]
}

const options = [
  "annotateFilesWithVersion=false",
  "enumsAsLiterals=true",
  "env=browser",
  "esModuleInterop=true",
  "exportCommonSymbols=false",
  "forceLong=bigint",
  "importSuffix=.js",
  "oneof=unions-value",
  "outputJsonMethods=false",
  "outputServices=generic-definitions",
  "unrecognizedEnum=false",
  "useExactTypes=false",
  "useReadonlyTypes=true"
]

const source = Path.join(root, "node_modules", "etcd3", "proto")
const target = Path.join(root, "src", "internal", "proto")

const readAll = async (folder: string): Promise<Map<string, string>> => {
  const files = new Map<string, string>()
  for (const name of (await readdir(folder).catch(() => [])).sort()) {
    files.set(name, await readFile(Path.join(folder, name), "utf8"))
  }
  return files
}

/** Lets callers pass `undefined` for a field they leave out, which `exactOptionalPropertyTypes` would refuse. */
const allowUndefined = (code: string): string =>
  code.replaceAll("{ [K in keyof T]?: DeepPartial<T[K]> }", "{ [K in keyof T]?: DeepPartial<T[K]> | undefined }")

const generate = async (): Promise<Map<string, string>> => {
  await mkdir(temporary, { recursive: true })
  const folder = await mkdtemp(Path.join(temporary, "codegen-"))
  try {
    await mkdir(Path.join(folder, "proto"))
    for (const [name, text] of protoSubset(await readAll(source), calls)) {
      await writeFile(Path.join(folder, "proto", name), text)
    }
    const plugin = { local: bin("protoc-gen-ts_proto"), out: "out", strategy: "all", opt: options }
    await writeFile(Path.join(folder, "buf.yaml"), JSON.stringify({ version: "v2", modules: [{ path: "proto" }] }))
    await writeFile(Path.join(folder, "buf.gen.yaml"), JSON.stringify({ version: "v2", plugins: [plugin] }))
    const env = { ...process.env, BUF_CACHE_DIR: Path.join(folder, "cache") }
    await runOrThrow(bin("buf"), ["generate"], { cwd: folder, env })
    const generated = await readAll(Path.join(folder, "out"))
    return new Map(Array.from(generated, ([name, code]) => [name, allowUndefined(code)]))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

main(async () => {
  const generated = await generate()
  const present = await readAll(target)
  const names = new Set([...generated.keys(), ...present.keys()])
  const stale = Array.from(names).filter((name) => generated.get(name) !== present.get(name))
  if (process.argv.includes("--check")) {
    if (stale.length > 0) {
      throw new Error(`src/internal/proto is stale: ${stale.join(", ")}. Run "npm run codegen" and commit the result.`)
    }
    console.log(`src/internal/proto is up to date (${generated.size} files)`)
    return
  }
  await mkdir(target, { recursive: true })
  for (const name of stale) {
    const code = generated.get(name)
    await (code === undefined ? rm(Path.join(target, name)) : writeFile(Path.join(target, name), code))
  }
  console.log(`src/internal/proto: ${generated.size} files, ${stale.length} changed`)
})
