/**
 * Values in a form that anybody may see. A value is shown only where the schema says what it is, and that it is no secret:
 * whoever writes a layer does not know the schema, and may have put anything anywhere.
 */
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as AST from "effect/SchemaAST"
import * as Shape from "../config/shape.js"
import { isObject } from "./merge.js"

const redacted = "<redacted>"
const undeclared = "<undeclared>"

/** One of the types that the schema has at a place of the encoded side, or that it may be a secret. */
type Place =
  | { readonly _tag: "Secret" }
  | { readonly _tag: "Whole"; readonly ast: AST.AST }
  | { readonly _tag: "Array"; readonly ast: AST.TupleType }
  | { readonly _tag: "Object"; readonly ast: AST.TypeLiteral; readonly secrets: ReadonlySet<PropertyKey> }

const secret: Place = { _tag: "Secret" }
const secretAst = Schema.RedactedFromSelf(Schema.Unknown).ast

const holdsSecret = (ast: AST.AST): boolean => Shape.of(ast).isSecret

/** The properties that are plain in an encoded object, and a secret in what it is decoded to. */
const becomingSecret = (
  from: AST.TypeLiteral,
  to: AST.AST,
  changes: ReadonlyArray<AST.PropertySignatureTransformation>
): ReadonlySet<PropertyKey> => {
  const decoded = new Map(AST.isTypeLiteral(to) ? to.propertySignatures.map(({ name, type }) => [name, type]) : [])
  return new Set(from.propertySignatures.flatMap(({ name, type }) => {
    const become = decoded.get(changes.find((change) => change.from === name)?.to ?? name)
    return become !== undefined && holdsSecret(become) && !holdsSecret(type) ? [name] : []
  }))
}

const objectBehind = ({ from, to, transformation }: AST.Transformation): Place =>
  // Where a secret comes out, nobody can say what it is made of; unless property becomes property.
  AST.isTypeLiteralTransformation(transformation) && AST.isTypeLiteral(from)
    ? { _tag: "Object", ast: from, secrets: becomingSecret(from, to, transformation.propertySignatureTransformations) }
    : secret

/** Each type once: those of a recursive union would be more at every level. */
const placesOf = (asts: ReadonlyArray<AST.AST>): ReadonlyArray<Place> => {
  const seen = new Set<AST.AST>()
  const places = (ast: AST.AST): ReadonlyArray<Place> => {
    if (seen.has(ast)) return []
    seen.add(ast)
    switch (ast._tag) {
      case "Union":
        return ast.types.flatMap(places)
      case "Suspend":
        return places(ast.f())
      case "Refinement":
        return places(ast.from)
      case "Transformation": {
        // What a class is decoded to has the properties of its fields.
        const fields = AST.getAnnotation<AST.AST>(AST.SurrogateAnnotationId)(ast)
        return Option.isSome(fields)
          ? places(fields.value)
          : holdsSecret(ast.to)
          ? [objectBehind(ast)]
          : places(ast.from)
      }
      case "TupleType":
        return [{ _tag: "Array", ast }]
      case "TypeLiteral":
        return [{ _tag: "Object", ast, secrets: new Set() }]
      default:
        return [holdsSecret(ast) ? secret : { _tag: "Whole", ast }]
    }
  }
  return asts.flatMap(places)
}

/** Whether it says that anything may be in it. */
const isOpen = (ast: AST.AST): boolean => AST.isUnknownKeyword(ast) || AST.isAnyKeyword(ast) || AST.isObjectKeyword(ast)

const childrenOf = (place: Place, name: string): ReadonlyArray<AST.AST> => {
  switch (place._tag) {
    case "Secret":
      return [secretAst]
    case "Whole":
      return isOpen(place.ast) ? [AST.unknownKeyword] : []
    case "Array": {
      const element = place.ast.elements[Number(name)]
      return (element === undefined ? place.ast.rest : [element]).map(({ type }) => type)
    }
    case "Object": {
      const own = place.ast.propertySignatures.find((property) => property.name === name)
      if (own === undefined) return place.ast.indexSignatures.map(({ type }) => type)
      return [place.secrets.has(name) ? secretAst : own.type]
    }
  }
}

const within = (places: ReadonlyArray<Place>, name: string): ReadonlyArray<Place> =>
  placesOf(places.flatMap((place) => childrenOf(place, name)))

/** Whether it is of this type; what its own functions throw is a no. */
const isOf = (ast: AST.AST, value: unknown): boolean => {
  try {
    return ParseResult.is(Schema.make(ast))(value)
  } catch {
    return false
  }
}

const show = (value: unknown, places: ReadonlyArray<Place>): string => {
  if (places.length === 0) return undeclared
  if (places.includes(secret)) return redacted
  if (value === null) return "null"
  if (places.some((place) => place._tag === "Whole" && isOf(place.ast, value))) return JSON.stringify(value)
  if (Array.isArray(value) && places.some(({ _tag }) => _tag === "Array")) {
    return `[${value.map((item, index) => show(item, within(places, String(index)))).join(",")}]`
  }
  if (isObject(value) && places.some(({ _tag }) => _tag === "Object")) {
    const properties = Object.entries(value).map(([name, item]) =>
      `${JSON.stringify(name)}:${show(item, within(places, name))}`
    )
    return `{${properties.join(",")}}`
  }
  // Not what the schema has here: it may be what the schema has elsewhere.
  return redacted
}

/** @param path where the value stands on the encoded side of the schema */
export const shown = (schema: AST.AST, path: ReadonlyArray<string>, value: unknown): string =>
  value === null ? "<removed>" : show(value, path.reduce(within, placesOf([schema])))
