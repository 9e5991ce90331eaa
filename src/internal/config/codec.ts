/**
 * Values as they stand in etcd: a string raw, unless it would parse as JSON, and anything else as JSON.
 *
 * Reading takes the bytes for JSON if they parse *and* that decodes by the schema, and for plain text otherwise. So what
 * was set comes back equal, and so does what others wrote: `123` is a number to one schema and a text to another.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import type * as Schema from "effect/Schema"
import { hide } from "./hide.js"
import * as Json from "./json.js"
import * as Shape from "./shape.js"

export interface Codec<A, R> {
  readonly encode: (value: A) => Effect.Effect<string, ParseResult.ParseError | Json.NotJson, R>
  readonly decode: (bytes: Uint8Array) => Effect.Effect<A, ParseResult.ParseError, R>
}

/** What is longer is a whole document in an error message rather than a hint. */
const maxMessageLength = 4_000

// A byte order mark is a part of the text, as any other character.
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

export const textOf = (bytes: Uint8Array): Option.Option<string> => {
  try {
    return Option.some(utf8.decode(bytes))
  } catch {
    return Option.none()
  }
}

/** Whether the text would not come back from its UTF-8 form. */
const isIllFormed = (text: string): boolean => /\p{Surrogate}/u.test(text)

/** The stored form of what a schema encoded a value to. */
export const store = (
  encoded: unknown,
  mayBeLeftOut: (path: ReadonlyArray<string>) => boolean
): Either.Either<string, Json.NotJson> =>
  typeof encoded === "string" && !isIllFormed(encoded) && Option.isNone(Json.parse(encoded))
    ? Either.right(encoded)
    : Json.stringify(encoded, mayBeLeftOut)

export const make = <A, I, R>(schema: Schema.Schema<A, I, R>): Either.Either<Codec<A, R>, Json.NotJson> => {
  const shape = Shape.of(schema.ast)
  if (shape.notJson !== undefined) return Either.left(shape.notJson)

  const failure = (issue: ParseResult.ParseIssue): ParseResult.ParseError => {
    if (shape.isSecret) return hide(issue, shape.ast)
    const error = ParseResult.parseError(issue)
    return error.message.length > maxMessageLength ? hide(issue, shape.ast) : error
  }
  const encode = ParseResult.encode(schema)
  const decode = ParseResult.decodeUnknown(schema)
  const mayBeLeftOut = (path: ReadonlyArray<string>): boolean => Shape.declares(shape.ast, path)

  const decodeText = (text: string): Effect.Effect<A, ParseResult.ParseIssue, R> =>
    Option.match(Json.parse(text), {
      onNone: () => decode(text),
      onSome: (json) =>
        Effect.catchAll(decode(json), (asJson) =>
          Effect.mapError(decode(text), (asText) => shape.isText ? asText : asJson))
    })

  return Either.right({
    encode: (value) =>
      Effect.flatMap(Effect.mapError(encode(value), failure), (encoded) => store(encoded, mayBeLeftOut)),
    decode: (bytes) =>
      Option.match(textOf(bytes), {
        onNone: () =>
          Effect.fail(new ParseResult.Type(shape.ast, undefined, "Expected text, actual bytes that are not UTF-8")),
        onSome: decodeText
      }).pipe(Effect.mapError(failure))
  })
}
