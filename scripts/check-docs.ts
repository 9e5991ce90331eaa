/**
 * Type-checks the examples of the documentation: the `ts` blocks of README.md and docs/*.md, and those in the doc
 * comments of the public modules. Each block is a module of its own that imports the library by its name.
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

/** Puts the places of the examples into the compiler's output, instead of those of the files that were compiled. */
const relocate = (output: string, examples: ReadonlyArray<Example>): string =>
  output.replace(/^.*?example-(\d+)\.ts\((\d+),(\d+)\)/gm, (_, index: string, line: string, column: string) => {
    const example = examples[Number(index)]
    return `${example.file}:${example.line + Number(line) - 1}:${column}`
  })

main(async () => {
  const examples = await collect()
  await mkdir(temporary, { recursive: true })
  const folder = await mkdtemp(Path.join(temporary, "docs-"))
  try {
    for (const [index, { code }] of examples.entries()) {
      await writeFile(Path.join(folder, `example-${index}.ts`), `${code}\n`)
    }
    const config = {
      extends: "../../tsconfig.json",
      compilerOptions: { rootDir: "../..", noUnusedLocals: false },
      include: ["."]
    }
    await writeFile(Path.join(folder, "tsconfig.json"), JSON.stringify(config))
    if (examples.length > 0) {
      const { code, stderr, stdout } = await run(bin("tsc"), ["-p", folder, "--pretty", "false"])
      if (code !== 0) {
        throw new Error(`Examples of the documentation do not compile:\n${relocate(stdout + stderr, examples)}`)
      }
    }
    console.log(`${examples.length} examples compile`)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
