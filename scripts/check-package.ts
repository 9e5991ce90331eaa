/**
 * Checks the package as users get it: packs it, lints the tarball (publint, attw), installs it into an empty project
 * beside its peers, imports every entry of `exports` with plain Node, and type-checks a consumer of all of them.
 */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { bin, main, root, run, runOrThrow, temporary } from "./lib/project.js"

interface Manifest {
  readonly name: string
  readonly version: string
  readonly exports: Readonly<Record<string, unknown>>
  readonly peerDependencies: Readonly<Record<string, string>>
}

const readManifest = async (folder: string): Promise<Manifest> =>
  JSON.parse(await readFile(Path.join(folder, "package.json"), "utf8")) as Manifest

/** Every module of `src` is public, and has to be listed. */
const checkExports = async (manifest: Manifest): Promise<void> => {
  const modules = (await readdir(Path.join(root, "src"))).filter((name) => name.endsWith(".ts"))
  const expected = modules.map((name) => name === "index.ts" ? "." : `./${Path.basename(name, ".ts")}`)
  const listed = Object.keys(manifest.exports).filter((entry) => !entry.endsWith(".json"))
  const differing = [
    ...expected.filter((entry) => !listed.includes(entry)).map((entry) => `${entry} is missing`),
    ...listed.filter((entry) => !expected.includes(entry)).map((entry) => `${entry} has no module in src`)
  ]
  if (differing.length > 0) {
    throw new Error(`the exports of package.json do not fit: ${differing.join(", ")}`)
  }
}

const pack = async (folder: string): Promise<string> => {
  const output = await runOrThrow("npm", ["pack", "--json", "--pack-destination", folder])
  const report = JSON.parse(output) as unknown
  const [entry] = (Array.isArray(report) ? report : Object.values(report as object)) as ReadonlyArray<
    { readonly filename: string; readonly size: number; readonly files: ReadonlyArray<unknown> }
  >
  console.log(`${entry.filename}: ${entry.files.length} files, ${Math.round(entry.size / 1024)} KiB`)
  return Path.join(folder, entry.filename)
}

const lint = async (tarball: string): Promise<void> => {
  for (
    const [name, args] of [["publint", ["run", tarball, "--strict"]], ["attw", [
      tarball,
      "--profile",
      "esm-only"
    ]]] as const
  ) {
    const { code, stderr, stdout } = await run(bin(name), args)
    if (code !== 0) {
      throw new Error(`${name} found problems in the package:\n${stdout}${stderr}`)
    }
    console.log(`${name}: no problems`)
  }
}

/** The versions of the peers that this project has installed. */
const peers = async (manifest: Manifest): Promise<ReadonlyArray<string>> =>
  Promise.all(
    [...Object.keys(manifest.peerDependencies), "@types/node"].map(async (name) =>
      `${name}@${(await readManifest(Path.join(root, "node_modules", name))).version}`
    )
  )

const compilerOptions = {
  module: "NodeNext",
  target: "ES2022",
  lib: ["ES2022"],
  types: ["node"],
  strict: true,
  exactOptionalPropertyTypes: true,
  skipLibCheck: true,
  noEmit: true
}

const consume = async (folder: string, manifest: Manifest, tarball: string): Promise<void> => {
  await writeFile(
    Path.join(folder, "package.json"),
    JSON.stringify({ name: "consumer", private: true, type: "module" })
  )
  const packages = [tarball, ...await peers(manifest)]
  await runOrThrow("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", ...packages], { cwd: folder })

  const entries = Object.keys(manifest.exports)
    .filter((entry) => !entry.endsWith(".json"))
    .map((entry) => entry.replace(/^\./, manifest.name))
  const imports = entries.map((entry) => `await import(${JSON.stringify(entry)})`)
  const script = `for (const module of [${imports.join(", ")}]) if (Object.keys(module).length === 0) process.exit(2)`
  await writeFile(Path.join(folder, "imports.mjs"), script)
  await runOrThrow(process.execPath, ["imports.mjs"], { cwd: folder })
  console.log(`plain Node imports ${entries.length} entries`)

  const lines = entries.map((entry, index) => `import * as Module${index} from ${JSON.stringify(entry)}`)
  const used = entries.map((_, index) => `Module${index}`).join(", ")
  await writeFile(Path.join(folder, "consumer.ts"), `${lines.join("\n")}\nexport const modules = [${used}]\n`)
  await writeFile(Path.join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["consumer.ts"] }))
  await runOrThrow(bin("tsc"), ["-p", folder], { cwd: folder })
  console.log("a consumer of all entries compiles")
}

main(async () => {
  const manifest = await readManifest(root)
  await checkExports(manifest)
  await mkdir(temporary, { recursive: true })
  const packed = await mkdtemp(Path.join(temporary, "package-"))
  const consumer = await mkdtemp(Path.join(Os.tmpdir(), "effect-coord-consumer-"))
  try {
    const tarball = await pack(packed)
    await lint(tarball)
    await consume(consumer, manifest, tarball)
  } finally {
    await rm(packed, { recursive: true, force: true })
    await rm(consumer, { recursive: true, force: true })
  }
})
