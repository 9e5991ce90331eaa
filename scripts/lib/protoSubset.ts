/**
 * Cuts a set of `.proto` files down to chosen calls and the messages that these need.
 *
 * Not a parser: it relies on definitions that start in the first column, as etcd's do, and fails when a chosen call is
 * not found.
 */

/** A top-level definition of a `.proto` file, with the comment above it. */
interface Definition {
  readonly kind: string
  readonly name: string
  readonly text: string
}

/** The end of the block whose opening brace is at `open`. */
const blockEnd = (source: string, open: number): number => {
  let depth = 0
  for (let index = open; index < source.length; index++) {
    if (source[index] === "{") {
      depth++
    } else if (source[index] === "}" && --depth === 0) {
      return index + 1
    }
  }
  throw new Error("a block of the .proto file is not closed")
}

const definitionPattern = /^(?:\/\/.*\n)*(message|enum|service) (\w+)\s*\{/gm

const definitionsOf = (source: string): ReadonlyArray<Definition> => {
  const definitions: Array<Definition> = []
  for (const match of source.matchAll(definitionPattern)) {
    const end = blockEnd(source, match.index + match[0].length - 1)
    definitions.push({ kind: match[1], name: match[2], text: source.slice(match.index, end) })
  }
  return definitions
}

const callPattern = /(?: *\/\/.*\n)* *rpc (\w+)\s*\(/g

/** The service with the chosen calls only and without the annotations for HTTP gateways. */
const trimService = (service: Definition, calls: ReadonlyArray<string>): Definition => {
  const found = Array.from(service.text.matchAll(callPattern))
  const kept = calls.map((call) => {
    const match = found.find((candidate) => candidate[1] === call)
    if (match === undefined) {
      throw new Error(`the service ${service.name} has no call ${call}`)
    }
    const body = service.text.indexOf("{", match.index)
    return `${service.text.slice(match.index, body).trimEnd()} {}`
  })
  return { ...service, text: `service ${service.name} {\n${kept.join("\n")}\n}` }
}

/**
 * Keeps, of `files` (name to source), the calls in `calls` (service to names) and every definition they reach.
 */
export const protoSubset = (
  files: ReadonlyMap<string, string>,
  calls: Readonly<Record<string, ReadonlyArray<string>>>
): ReadonlyMap<string, string> => {
  const definitions = new Map<string, Definition>()
  for (const source of files.values()) {
    for (const definition of definitionsOf(source)) {
      definitions.set(definition.name, definition)
    }
  }
  const kept = new Map<string, Definition>()
  const reach = (definition: Definition): void => {
    kept.set(definition.name, definition)
    const code = definition.text.replace(/\/\/.*$/gm, "")
    for (const [word] of code.matchAll(/\w+/g)) {
      const other = definitions.get(word)
      if (other !== undefined && !kept.has(word)) {
        reach(other)
      }
    }
  }
  for (const [name, names] of Object.entries(calls)) {
    const service = definitions.get(name)
    if (service === undefined) {
      throw new Error(`there is no service ${name}`)
    }
    reach(trimService(service, names))
  }
  const result = new Map<string, string>()
  for (const [file, source] of files) {
    const own = definitionsOf(source).flatMap((definition) => kept.get(definition.name) ?? [])
    if (own.length > 0) {
      const head = source.split("\n").filter((line) => /^(syntax|package) /.test(line))
      const imports = Array.from(source.matchAll(/^import "(?:\.\/)?(.+)";$/gm), (match) => match[1])
        .filter((other) => definitionsOf(files.get(other) ?? "").some(({ name }) => kept.has(name)))
        .map((other) => `import "${other}";`)
      result.set(file, [...head, ...imports, ...own.map(({ text }) => text), ""].join("\n"))
    }
  }
  return result
}
