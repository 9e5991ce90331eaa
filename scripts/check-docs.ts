/**
 * Type-checks the examples of the documentation: the `ts` blocks of README.md and docs/*.md, and those in the doc
 * comments of the public modules. Each block is a module of its own that imports the library by its name. Those that are
 * tests are run.
 */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import * as Path from "node:path"
import type { Example } from "./lib/examples.js"
import { commentExamples, markdownExamples } from "./lib/examples.js"
import { bin, main, root, run, temporary } from "./lib/project.js"

const filesIn = async (folder: string, extension: string): Promise<ReadonlyArray<string>> => {
  const names = await readdir(Path.join(root, folder)).catch(() => [])
  return names.filter((name) => name.endsWith(extension)).sort().map((name) => Path.join(folder, name))
}

const collect = async (): Promise<ReadonlyArray<Example>> => {
  const documents = [...await filesIn("", "README.md"), ...await filesIn("docs", ".md")]
  const examples: Array<Example> = []
  for (const file of documents) {
    examples.push(...markdownExamples(file, await readFile(Path.join(root, file), "utf8")))
  }
  for (const file of await filesIn("src", ".ts")) {
    examples.push(...commentExamples(file, await readFile(Path.join(root, file), "utf8")))
  }
  return examples
}

const isTest = ({ code }: Example): boolean => code.includes("from \"@effect/vitest\"")

/** Puts the places of the examples into what a program has printed, instead of those of the files that it was given. */
const relocate = (output: string, examples: ReadonlyArray<Example>): string =>
  output.replace(
    /(?:\S*\/)?example-(\d+)(?:\.test)?\.ts[(:](\d+)[,:](\d+)\)?/g,
    (_, index: string, line: string, column: string) => {
      const example = examples[Number(index)]
      return `${example.file}:${example.line + Number(line) - 1}:${column}`
    }
  )

/** Runs the examples that are tests. The library is that of the sources, as for the project's own tests. */
const vitestConfig = `
import project from "../../vitest.config.js"
export default { resolve: project.resolve, test: { include: ["*.test.ts"], testTimeout: project.test.testTimeout } }
`

main(async () => {
  const examples = await collect()
  await mkdir(temporary, { recursive: true })
  const folder = await mkdtemp(Path.join(temporary, "docs-"))
  try {
    for (const [index, example] of examples.entries()) {
      await writeFile(Path.join(folder, `example-${index}${isTest(example) ? ".test" : ""}.ts`), `${example.code}\n`)
    }
    await writeFile(Path.join(folder, "vitest.config.ts"), vitestConfig)
    const config = {
      extends: "../../tsconfig.json",
      compilerOptions: { rootDir: "../..", noUnusedLocals: false },
      include: ["example-*"]
    }
    await writeFile(Path.join(folder, "tsconfig.json"), JSON.stringify(config))
    const check = async (problem: string, program: string, args: ReadonlyArray<string>) => {
      const { code, stderr, stdout } = await run(bin(program), args, { env: { ...process.env, NO_COLOR: "1" } })
      if (code !== 0) throw new Error(`${problem}:\n${relocate(stdout + stderr, examples)}`)
    }
    await check("Examples of the documentation do not compile", "tsc", ["-p", folder, "--pretty", "false"])
    await check("Tests of the documentation fail", "vitest", ["run", "--root", folder])
    console.log(`${examples.length} examples compile, and ${examples.filter(isTest).length} of them pass as tests`)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
