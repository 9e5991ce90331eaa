/** What a schema tells about its values without one: whether its encoded side is JSON, and whether it holds secrets. */
import * as Option from "effect/Option"
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
}

/** The types of Effect and of JavaScript that have a schema `…FromSelf`: none of them is JSON. */
const knownDeclarations: ReadonlySet<string> = new Set(["URL", "Uint8Array", "Date", "ReadonlyMap", "ReadonlySet"])

const typeConstructor = (ast: AST.Declaration): string | undefined =>
  Option.getOrUndefined(Option.map(AST.getTypeConstructorAnnotation(ast), ({ _tag }) => _tag))

/** Any index of an array, any name of a record. */
const any = "[]"

/** Recursive schemas are visited once; ones that never repeat are given up after this many nodes. */
const maxNodes = 100_000

/**
 * The encoded side is walked through `from` rather than built by `AST.encodedAST`, which makes a new tree at every turn of
 * a recursive schema.
 */
const findNotJson = (root: AST.AST): NotJson | undefined => {
  const seen = { value: new Set<AST.AST>(), property: new Set<AST.AST>() }

  const first = <A>(items: ReadonlyArray<A>, find: (item: A, index: number) => NotJson | undefined) => {
    for (const [index, item] of items.entries()) {
      const found = find(item, index)
      if (found !== undefined) return found
    }
    return undefined
  }

  /** A property that is undefined reads back as one that is not there: the same to a schema that allows it. */
  const go = (ast: AST.AST, path: ReadonlyArray<string>, as: "value" | "property"): NotJson | undefined => {
    if (seen[as].has(ast) || seen[as].size > maxNodes) return undefined
    seen[as].add(ast)
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
        return first(ast.elements, ({ type }, index) => go(type, [...path, String(index)], "value")) ??
          first(ast.rest, ({ type }) => go(type, [...path, any], "value"))
      case "TypeLiteral":
        return first(ast.propertySignatures, ({ name, type }) =>
          typeof name === "symbol"
            ? notJson(path, "a property named by a symbol")
            : go(type, [...path, String(name)], "property")) ??
          first(ast.indexSignatures, ({ parameter, type }) =>
            AST.isSymbolKeyword(AST.encodedAST(parameter))
              ? notJson(path, "properties named by symbols")
              : go(type, [...path, any], "value"))
      case "Union":
        return first(ast.types, (type) => go(type, path, as))
      case "Suspend":
        return go(ast.f(), path, as)
      case "Refinement":
      case "Transformation":
        return go(ast.from, path, as)
      default:
        return undefined
    }
  }
  return go(root, [], "value")
}

const isSecret = (root: AST.AST): boolean => {
  const seen = new Set<AST.AST>()
  const go = (ast: AST.AST): boolean => {
    if (seen.has(ast) || seen.size > maxNodes) return false
    seen.add(ast)
    switch (ast._tag) {
      case "Declaration":
        return typeConstructor(ast) === "effect/Redacted" || ast.typeParameters.some(go)
      case "TupleType":
        return ast.elements.some(({ type }) => go(type)) || ast.rest.some(({ type }) => go(type))
      case "TypeLiteral":
        return ast.propertySignatures.some(({ type }) => go(type)) || ast.indexSignatures.some(({ type }) => go(type))
      case "Union":
        return ast.types.some(go)
      case "Suspend":
        return go(ast.f())
      case "Refinement":
        return go(ast.from)
      case "Transformation":
        return go(ast.from) || go(ast.to)
      default:
        return false
    }
  }
  return go(root)
}

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

/** The schemas that may stand at a path of the encoded side, without unions and transformations around them. */
const at = (root: AST.AST, path: ReadonlyArray<string>): ReadonlyArray<AST.AST> => {
  const flatten = (ast: AST.AST): ReadonlyArray<AST.AST> => {
    switch (ast._tag) {
      case "Union":
        return ast.types.flatMap(flatten)
      case "Suspend":
        return flatten(ast.f())
      case "Refinement":
      case "Transformation":
        return flatten(ast.from)
      default:
        return [ast]
    }
  }
  const children = (ast: AST.AST, name: string): ReadonlyArray<AST.AST> => {
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
  return path.reduce<ReadonlyArray<AST.AST>>(
    (asts, name) => asts.flatMap((ast) => children(ast, name)).flatMap(flatten),
    flatten(root)
  )
}

/** Whether the schema declares a property at this path, so that one that is undefined may be left out. */
export const declares = (root: AST.AST, path: ReadonlyArray<string>): boolean =>
  at(root, path.slice(0, -1)).some((ast) =>
    ast._tag === "TypeLiteral" &&
    ast.propertySignatures.some(({ name }) => String(name) === path[path.length - 1])
  )

const shapes = new WeakMap<AST.AST, Shape>()

export const of = (ast: AST.AST): Shape => {
  const known = shapes.get(ast)
  if (known !== undefined) return known
  const shape = { ast, notJson: findNotJson(ast), isSecret: isSecret(ast), isText: isText(ast) }
  shapes.set(ast, shape)
  return shape
}
