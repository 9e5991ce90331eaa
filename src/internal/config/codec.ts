/**
 * Values as they stand in etcd: a string raw, unless it would parse as JSON, and anything else as JSON.
 *
 * Reading takes the bytes for JSON if they parse *and* that decodes by the schema, and for plain text otherwise. So what
 * was set comes back equal, and so does what others wrote: `123` is a number to one schema and a text to another.
 */
import * as Cause from "effect/Cause"
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
  /** Whether it is one of the schema's values. */
  readonly check: (value: unknown) => Effect.Effect<void, ParseResult.ParseError, R>
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

const threw = (defect: unknown): string => {
  try {
    return `the schema threw ${String(defect)}`
  } catch {
    return "the schema threw something that cannot be shown"
  }
}

/**
 * What the functions of a schema throw is a failure of this value, and so is an effect of theirs that interrupts itself: it
 * must not end a stream of others. Where this fibre is interrupted itself, no failure is looked at any more.
 */
const attempt = <A, R>(
  parse: () => Effect.Effect<A, ParseResult.ParseIssue, R>,
  failed: (problem: string) => ParseResult.ParseIssue
): Effect.Effect<A, ParseResult.ParseIssue, R> => {
  try {
    const parsed = parse()
    return Either.isEither(parsed) ? parsed : Effect.catchAllCause(parsed, (cause) =>
      Effect.fail(
        Either.getOrElse(Either.flip(Cause.failureOrCause(cause)), (cause) =>
          failed(Option.match(Cause.dieOption(cause), {
            onNone: () =>
              "the schema interrupted itself",
            onSome: threw
          })))
      ))
  } catch (defect) {
    return Either.left(failed(threw(defect)))
  }
}

/** What is there at once needs no step of a fibre. */
export const isDone = <A, E, R>(
  parsed: Effect.Effect<A, E, R>
): parsed is Effect.Effect<A, E, R> & Either.Right<never, A> => Either.isEither(parsed) && Either.isRight(parsed)

export const make = <A, I, R>(schema: Schema.Schema<A, I, R>): Either.Either<Codec<A, R>, Json.NotJson> => {
  const shape = Shape.of(schema.ast)
  if (shape.notJson !== undefined) return Either.left(shape.notJson)

  const failure = (issue: ParseResult.ParseIssue): ParseResult.ParseError => {
    try {
      if (shape.isSecret) return hide(issue, shape.ast)
      const error = ParseResult.parseError(issue)
      return error.message.length > maxMessageLength ? hide(issue, shape.ast) : error
    } catch {
      // Issues are nested as deeply as the value, and are walked by recursion; and values may not let themselves be shown.
      return ParseResult.parseError(
        new ParseResult.Type(shape.ast, undefined, "something is wrong that cannot be shown")
      )
    }
  }
  const encode = ParseResult.encode(schema)
  const decode = ParseResult.decodeUnknown(schema)
  const validate = ParseResult.validate(schema)
  const mayBeLeftOut = (path: ReadonlyArray<string>): boolean => {
    try {
      return Shape.mayBeLeftOut(shape.ast, path)
    } catch {
      // The schema throws at what is undefined: it does not read that as nothing.
      return false
    }
  }
  const failed = (problem: string): ParseResult.ParseIssue => new ParseResult.Type(shape.ast, undefined, problem)
  const isPoisoned = (value: unknown): boolean => {
    try {
      return shape.hasRecords && Json.isPoisoned(value)
    } catch {
      // Too deep, or something that throws when it is read: refused for that.
      return false
    }
  }
  const decoded = (input: unknown) =>
    isPoisoned(input)
      ? Either.left(failed(`Expected no property ${Json.poison}`))
      : attempt(() => decode(input), failed)

  const decodeText = (text: string): Effect.Effect<A, ParseResult.ParseIssue, R> => {
    const json = Json.parse(text)
    if (Option.isNone(json)) return decoded(text)
    const asJson = decoded(json.value)
    return isDone(asJson)
      ? asJson
      : Effect.catchAll(asJson, (asJson) => Effect.mapError(decoded(text), (asText) => shape.isText ? asText : asJson))
  }

  return Either.right({
    encode: (value) =>
      isPoisoned(value)
        ? Either.left(Json.notJson([], `a property ${Json.poison}`))
        : Effect.flatMap(
          Effect.mapError(attempt(() => encode(value), failed), failure),
          (encoded) => store(encoded, mayBeLeftOut)
        ),
    decode: (bytes): Effect.Effect<A, ParseResult.ParseError, R> => {
      const text = textOf(bytes)
      if (Option.isNone(text)) {
        return Either.left(failure(failed("Expected text, actual bytes that are not UTF-8")))
      }
      const value = decodeText(text.value)
      return isDone(value) ? Either.right(value.right) : Effect.mapError(value, failure)
    },
    check: (value) => Effect.asVoid(Effect.mapError(attempt(() => validate(value), failed), failure))
  })
}
