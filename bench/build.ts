/**
 * What the processes run: the library and the peers' modules, compiled, so that no loader's work is measured. A build of
 * its own for every run, in a folder of its own: edits and builds that go on meanwhile do not disturb it.
 */
import { Effect } from "effect"
import type { Scope } from "effect"
import { access, mkdir, mkdtemp, rm, stat } from "node:fs/promises"
import * as Path from "node:path"
import { bin, root, run, runOrThrow, temporary } from "../scripts/lib/project.js"
import type { BenchError } from "./errors.js"
import { because } from "./errors.js"

export interface Build {
  /** The compiled library. */
  readonly library: string
  /** The compiled modules of the peers. */
  readonly peers: string
}

/** Types are not checked, which saves most of the time. */
export const make: Effect.Effect<Build, BenchError, Scope.Scope> = Effect.gen(function*() {
  const folder = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      await mkdir(temporary, { recursive: true })
      return mkdtemp(Path.join(temporary, "bench-"))
    }),
    (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
  )
  yield* Effect.tryPromise({
    try: () => runOrThrow(bin("tsc"), ["-p", Path.join(root, "bench", "tsconfig.workers.json"), "--outDir", folder]),
    catch: because
  })
  return { library: Path.join(folder, "src"), peers: Path.join(folder, "bench", "peers") }
})

const modified = async (file: string): Promise<number> => (await stat(file).catch(() => undefined))?.mtimeMs ?? 0

/** Builds the Go program, which is kept for the next time; a reason when that is not possible. */
export const goProgram = (source: string): Effect.Effect<{ readonly file: string } | { readonly missing: string }> =>
  Effect.promise(async () => {
    const script = Path.join(source, "build.sh")
    const folder = Path.join(temporary, "gobench")
    const file = Path.join(folder, "gobench")
    const written = await modified(Path.join(source, "main.go"))
    if (written === 0 || await access(script).then(() => false, () => true)) {
      return { missing: "its source is not there" }
    }
    if (await modified(file) > written) return { file }
    const { code, stderr } = await run("bash", [script, folder])
    return code === 0 ? { file } : { missing: `it cannot be built: ${stderr.trim().split("\n").pop() ?? ""}` }
  })
