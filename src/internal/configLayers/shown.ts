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

const placesBehind = (ast: AST.Transformation): ReadonlyArray<Place> => {
  // What a class is decoded to has the properties of its fields.
  const fields = AST.getAnnotation<AST.AST>(AST.SurrogateAnnotationId)(ast)
  if (Option.isSome(fields)) return placesOf(fields.value)
  const { from, to, transformation } = ast
  if (!holdsSecret(to)) return placesOf(from)
  // Where a secret comes out, nobody can say what it is made of; unless property becomes property.
  return AST.isTypeLiteralTransformation(transformation) && AST.isTypeLiteral(from)
    ? [{
      _tag: "Object",
      ast: from,
      secrets: becomingSecret(from, to, transformation.propertySignatureTransformations)
    }]
    : [secret]
}

const placesOf = (ast: AST.AST): ReadonlyArray<Place> => {
  switch (ast._tag) {
    case "Union":
      return ast.types.flatMap(placesOf)
    case "Suspend":
      return placesOf(ast.f())
    case "Refinement":
      return placesOf(ast.from)
    case "Transformation":
      return placesBehind(ast)
    case "TupleType":
      return [{ _tag: "Array", ast }]
    case "TypeLiteral":
      return [{ _tag: "Object", ast, secrets: new Set() }]
    default:
      return [holdsSecret(ast) ? secret : { _tag: "Whole", ast }]
  }
}

/** Whether it says that anything may be in it. */
const isOpen = (ast: AST.AST): boolean => AST.isUnknownKeyword(ast) || AST.isAnyKeyword(ast) || AST.isObjectKeyword(ast)

const childrenOf = (place: Place, name: string): ReadonlyArray<Place> => {
  switch (place._tag) {
    case "Secret":
      return [secret]
    case "Whole":
      return isOpen(place.ast) ? [{ _tag: "Whole", ast: AST.unknownKeyword }] : []
    case "Array": {
      const element = place.ast.elements[Number(name)]
      return (element === undefined ? place.ast.rest : [element]).flatMap(({ type }) => placesOf(type))
    }
    case "Object": {
      const own = place.ast.propertySignatures.find((property) => property.name === name)
      if (own === undefined) return place.ast.indexSignatures.flatMap(({ type }) => placesOf(type))
      return place.secrets.has(name) ? [secret] : placesOf(own.type)
    }
  }
}

const within = (places: ReadonlyArray<Place>, name: string): ReadonlyArray<Place> =>
  places.flatMap((place) => childrenOf(place, name))

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
  value === null ? "<removed>" : show(value, path.reduce(within, placesOf(schema)))
