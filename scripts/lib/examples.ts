/**
 * Finds the TypeScript examples of the documentation.
 */

/** An example and where it comes from. */
export interface Example {
  readonly file: string
  /** The line, from 1, on which its code begins. */
  readonly line: number
  readonly code: string
}

interface Line {
  readonly number: number
  readonly text: string
}

const fence = /^(\s*)(`{3,}|~{3,})\s*([\w-]*)/

/** The blocks marked `ts` or `typescript` of Markdown that is given as lines. */
const blocksOf = (file: string, lines: ReadonlyArray<Line>): ReadonlyArray<Example> => {
  const examples: Array<Example> = []
  let open: { readonly mark: string; readonly language: string; readonly line: number } | undefined
  let code: Array<string> = []
  for (const { number, text } of lines) {
    const [, , mark, language] = fence.exec(text) ?? []
    if (open === undefined) {
      if (mark !== undefined) {
        open = { mark, language: language.toLowerCase(), line: number + 1 }
        code = []
      }
    } else if (mark !== undefined && mark.startsWith(open.mark) && language === "") {
      if (open.language === "ts" || open.language === "typescript") {
        examples.push({ file, line: open.line, code: code.join("\n") })
      }
      open = undefined
    } else {
      code.push(text)
    }
  }
  if (open !== undefined) {
    throw new Error(`${file}:${open.line - 1}: the block of code is not closed`)
  }
  return examples
}

const linesOf = (source: string): ReadonlyArray<Line> =>
  source.split("\n").map((text, index) => ({ number: index + 1, text }))

/** The TypeScript blocks of a Markdown file. */
export const markdownExamples = (file: string, source: string): ReadonlyArray<Example> =>
  blocksOf(file, linesOf(source))

/** The TypeScript blocks in the doc comments of a source file, those under `@example` and all others. */
export const commentExamples = (file: string, source: string): ReadonlyArray<Example> => {
  const examples: Array<Example> = []
  let comment: Array<Line> | undefined
  for (const { number, text } of linesOf(source)) {
    if (comment === undefined && /^\s*\/\*\*/.test(text)) {
      comment = []
    }
    comment?.push({ number, text: text.replace(/^\s*(\/\*\*|\*\/|\*) ?/, "").replace(/\*\/\s*$/, "") })
    if (comment !== undefined && text.includes("*/")) {
      examples.push(...blocksOf(file, comment))
      comment = undefined
    }
  }
  return examples
}
