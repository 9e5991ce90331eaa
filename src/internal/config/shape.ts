/** What a schema tells about its values without one: whether its encoded side is JSON, and whether it holds secrets. */
import * as Either from "effect/Either"
import * as Equal from "effect/Equal"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as AST from "effect/SchemaAST"
import type { NotJson } from "./json.js"
import { notJson } from "./json.js"

export interface Shape {
  readonly ast: AST.AST
  /** What cannot be JSON on the encoded side; where only a value can tell (`Unknown`, declarations), nothing. */
  readonly notJson: NotJson | undefined
  /** Whether a `Schema.Redacted` is in it. */
  readonly isSecret: boolean
  /** Whether the encoded side is nothing but text. */
  readonly isText: boolean
  /** Whether there are properties that the schema does not name. */
  readonly hasRecords: boolean
}

/** The types of Effect and of JavaScript that have a schema `…FromSelf`: none of them is JSON. */
const knownDeclarations: ReadonlySet<string> = new Set(["URL", "Uint8Array", "Date", "ReadonlyMap", "ReadonlySet"])

const typeConstructor = (ast: AST.Declaration): string | undefined =>
  Option.getOrUndefined(Option.map(AST.getTypeConstructorAnnotation(ast), ({ _tag }) => _tag))

/** Any index of an array, any name of a record. */
const any = "[]"

/**
 * Where a walk stands. Recursive schemas are not finite trees: `typeAST` and `encodedAST` make new nodes at every turn, so a
 * turn is known by the annotations that the copies of a `Suspend` share, and what has no end otherwise is given up.
 */
interface Trail {
  readonly depth: number
  readonly turns: ReadonlyArray<AST.Annotations>
}

const start: Trail = { depth: 0, turns: [] }
const maxDepth = 200
const maxNodes = 20_000

type Visit = "new" | "known" | "endless"

/** Enters a node once. */
const entering = () => {
  const seen = new Set<AST.AST>()
  return (ast: AST.AST, { depth, turns }: Trail): Visit => {
    if (seen.has(ast) || (AST.isSuspend(ast) && turns.includes(ast.annotations))) return "known"
    if (depth > maxDepth || seen.size > maxNodes) return "endless"
    seen.add(ast)
    return "new"
  }
}

const below = (ast: AST.AST, { depth, turns }: Trail): Trail => ({
  depth: depth + 1,
  turns: AST.isSuspend(ast) ? [...turns, ast.annotations] : turns
})

const findNotJson = (root: AST.AST): NotJson | undefined => {
  const enter = { value: entering(), property: entering() }

  /** A property that is undefined reads back as one that is not there: the same to a schema that allows it. */
  const go = (
    ast: AST.AST,
    trail: Trail,
    path: ReadonlyArray<string>,
    as: "value" | "property"
  ): NotJson | undefined => {
    // What is given up here is left to the values.
    if (enter[as](ast, trail) !== "new") return undefined
    const inner = (type: AST.AST, name: ReadonlyArray<string>, as: "value" | "property") =>
      go(type, below(ast, trail), [...path, ...name], as)
    switch (ast._tag) {
      case "UndefinedKeyword":
      case "VoidKeyword":
        return as === "property" ? undefined : notJson(path, "undefined")
      case "BigIntKeyword":
        return notJson(path, "bigint")
      case "SymbolKeyword":
      case "UniqueSymbol":
        return notJson(path, "symbol")
      case "Literal":
        return typeof ast.literal === "bigint"
          ? notJson(path, "bigint")
          : typeof ast.literal === "number" && !Number.isFinite(ast.literal)
          ? notJson(path, String(ast.literal))
          : undefined
      case "Declaration": {
        const name = typeConstructor(ast)
        return name !== undefined && (name.startsWith("effect/") || knownDeclarations.has(name))
          ? notJson(path, name.replace("effect/", ""))
          : undefined
      }
      case "TupleType":
        return first(ast.elements, ({ type }, index) => inner(type, [String(index)], "value")) ??
          first(ast.rest, ({ type }) => inner(type, [any], "value"))
      case "TypeLiteral":
        return first(ast.propertySignatures, ({ name, type }) =>
          typeof name === "symbol"
            ? notJson(path, "a property named by a symbol")
            : inner(type, [String(name)], "property")) ??
          first(ast.indexSignatures, ({ parameter, type }) =>
            AST.isSymbolKeyword(AST.encodedAST(parameter))
              ? notJson(path, "properties named by symbols")
              : inner(type, [any], "value"))
      case "Union":
        return first(ast.types, (type) => inner(type, [], as))
      case "Suspend":
        return inner(ast.f(), [], as)
      case "Refinement":
      case "Transformation":
        return inner(ast.from, [], as)
      default:
        return undefined
    }
  }
  return go(root, start, [], "value")
}

const first = <A>(
  items: ReadonlyArray<A>,
  find: (item: A, index: number) => NotJson | undefined
): NotJson | undefined => {
  for (const [index, item] of items.entries()) {
    const found = find(item, index)
    if (found !== undefined) return found
  }
  return undefined
}

/** Everything a schema is made of, on both of its sides. */
const parts = (ast: AST.AST): ReadonlyArray<AST.AST> => {
  switch (ast._tag) {
    case "Declaration":
      return ast.typeParameters
    case "TupleType":
      return [...ast.elements, ...ast.rest].map(({ type }) => type)
    case "TypeLiteral":
      return [...ast.propertySignatures, ...ast.indexSignatures].map(({ type }) => type)
    case "Union":
      return ast.types
    case "Suspend":
      return [ast.f()]
    case "Refinement":
      return [ast.from]
    case "Transformation":
      return [ast.from, ast.to]
    default:
      return []
  }
}

const holds = (root: AST.AST, isOne: (ast: AST.AST) => boolean): boolean => {
  const enter = entering()
  const go = (ast: AST.AST, trail: Trail): boolean => {
    const visit = enter(ast, trail)
    // What cannot be seen to its end may hold one.
    if (visit !== "new") return visit === "endless"
    return isOne(ast) || parts(ast).some((part) => go(part, below(ast, trail)))
  }
  return go(root, start)
}

const isRedacted = (ast: AST.AST): boolean => AST.isDeclaration(ast) && typeConstructor(ast) === "effect/Redacted"

const isRecord = (ast: AST.AST): boolean => AST.isTypeLiteral(ast) && ast.indexSignatures.length > 0

const isText = (ast: AST.AST): boolean => {
  switch (ast._tag) {
    case "StringKeyword":
    case "TemplateLiteral":
      return true
    case "Refinement":
    case "Transformation":
      return isText(ast.from)
    default:
      return false
  }
}

/** One of the schemas that may stand somewhere, and what becomes of its properties next. */
interface Candidate {
  readonly ast: AST.AST
  readonly changes: ReadonlyArray<AST.PropertySignatureTransformation> | undefined
}

/** The schemas that may stand at a path of the encoded side, without unions and transformations around them. */
const at = (root: AST.AST, path: ReadonlyArray<string>): ReadonlyArray<Candidate> => {
  const flatten = (ast: AST.AST): ReadonlyArray<Candidate> => {
    switch (ast._tag) {
      case "Union":
        return ast.types.flatMap(flatten)
      case "Suspend":
        return flatten(ast.f())
      case "Refinement":
        return flatten(ast.from)
      case "Transformation": {
        const { from, transformation } = ast
        const next = AST.isTypeLiteralTransformation(transformation)
          ? transformation.propertySignatureTransformations
          : []
        return flatten(from).map(({ ast, changes = next }) => ({ ast, changes }))
      }
      default:
        return [{ ast, changes: undefined }]
    }
  }
  const children = ({ ast }: Candidate, name: string): ReadonlyArray<AST.AST> => {
    switch (ast._tag) {
      case "TypeLiteral": {
        const own = ast.propertySignatures.filter((property) => String(property.name) === name)
        return own.length > 0 ? own.map(({ type }) => type) : ast.indexSignatures.map(({ type }) => type)
      }
      case "TupleType": {
        const element = ast.elements[Number(name)]
        return element === undefined ? ast.rest.map(({ type }) => type) : [element.type]
      }
      default:
        return []
    }
  }
  return path.reduce<ReadonlyArray<Candidate>>(
    // Each once: those of a recursive union would be more at every level.
    (candidates, name) => [...new Set(candidates.flatMap((candidate) => children(candidate, name)))].flatMap(flatten),
    flatten(root)
  )
}

const isNothing = (value: Option.Option<unknown>): boolean => Option.isNone(value) || value.value === undefined

/** Whether both are nothing, or both are something; the somethings may be made anew each time, as defaults are. */
const alike = (one: Option.Option<unknown>, other: Option.Option<unknown>): boolean =>
  Option.isSome(one) && Option.isSome(other) && Option.isOption(one.value) && Option.isOption(other.value)
    ? Option.isSome(one.value) === Option.isSome(other.value)
    : isNothing(one) === isNothing(other)

/** Whether an optional property that is undefined is read as one that is not there. */
const readsAlike = (
  { name, type }: AST.PropertySignature,
  changes: ReadonlyArray<AST.PropertySignatureTransformation> = []
): boolean => {
  const read = ParseResult.decodeUnknownEither(Schema.make(type))(undefined)
  if (Either.isLeft(read)) return false
  const change = changes.find(({ from }) => from === name)
  if (change === undefined) return read.right === undefined
  const [undefinedAs, absentAs] = [change.decode(Option.some(read.right)), change.decode(Option.none())]
  return read.right === undefined ? alike(undefinedAs, absentAs) : Equal.equals(undefinedAs, absentAs)
}

/** Whether a property at this path that is undefined says the same as none: the schema has it, and reads both alike. */
export const mayBeLeftOut = (root: AST.AST, path: ReadonlyArray<string>): boolean => {
  const declared = at(root, path.slice(0, -1)).flatMap(({ ast, changes }) =>
    AST.isTypeLiteral(ast)
      ? ast.propertySignatures
        .filter(({ name }) => String(name) === path[path.length - 1])
        .map((property) => !property.isOptional || readsAlike(property, changes))
      : []
  )
  return declared.length > 0 && declared.every(Boolean)
}

const shapes = new WeakMap<AST.AST, Shape>()

export const of = (ast: AST.AST): Shape => {
  const known = shapes.get(ast)
  if (known !== undefined) return known
  const shape = {
    ast,
    notJson: findNotJson(ast),
    isSecret: holds(ast, isRedacted),
    isText: isText(ast),
    hasRecords: holds(ast, isRecord)
  }
  shapes.set(ast, shape)
  return shape
}
