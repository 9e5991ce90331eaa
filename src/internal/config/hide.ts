/** Parse errors without the values they are about. */
import * as ParseResult from "effect/ParseResult"
import * as Redacted from "effect/Redacted"
import * as AST from "effect/SchemaAST"

type Issue = ParseResult.ParseIssue

interface Leaf {
  readonly path: ReadonlyArray<PropertyKey>
  readonly issue: ParseResult.Type | ParseResult.Missing | ParseResult.Unexpected | ParseResult.Forbidden
}

const leaves = (issue: Issue, path: ReadonlyArray<PropertyKey>): ReadonlyArray<Leaf> => {
  switch (issue._tag) {
    case "Pointer":
      return leaves(issue.issue, path.concat(issue.path))
    case "Composite":
      return [issue.issues].flat().flatMap((inner) => leaves(inner, path))
    case "Refinement":
    case "Transformation":
      return leaves(issue.issue, path)
    default:
      return [{ path, issue }]
  }
}

const expectation = (issue: Leaf["issue"]): string => {
  switch (issue._tag) {
    case "Type":
      return `Expected ${issue.ast}, actual <redacted>`
    case "Missing":
      return "is missing"
    case "Unexpected":
      return "is unexpected"
    case "Forbidden":
      return "is forbidden"
  }
}

/**
 * Where the value fails and what was expected there; nothing that was made from the value: the messages of schemas, which
 * often quote it, are left out, and so are the functions in their annotations, which would be given it.
 */
export const hide = (issue: Issue, ast: AST.AST): ParseResult.ParseError => {
  const actual = Redacted.make(undefined)
  const [first, ...rest] = leaves(issue, []).map(({ issue, path }): Issue => {
    const leaf = new ParseResult.Type(AST.unknownKeyword, actual, expectation(issue))
    const [name, ...names] = path
    return name === undefined ? leaf : new ParseResult.Pointer([name, ...names], actual, leaf)
  })
  const titled = AST.annotations(AST.unknownKeyword, { [AST.TitleAnnotationId]: String(ast) })
  return ParseResult.parseError(
    first === undefined
      ? new ParseResult.Type(titled, actual)
      : new ParseResult.Composite(titled, actual, [first, ...rest])
  )
}
