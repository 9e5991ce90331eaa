/** Settings from a reading of their layers. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { ParseError } from "effect/ParseResult"
import { ArrayFormatter } from "effect/ParseResult"
import type * as AST from "effect/SchemaAST"
import { LayersInvalid } from "../../ConfigError.js"
import type { Codec } from "../config/codec.js"
import * as Json from "../config/json.js"
import type { Content } from "./explain.js"
import { explain, speakers } from "./explain.js"
import type { JsonObject } from "./merge.js"
import type { Settings } from "./model.js"
import type { Reading } from "./reading.js"

/** How the sum of the layers becomes a value. */
export interface Decoder<A, R> {
  readonly ast: AST.AST
  readonly codec: Codec<A, R>
}

/** What cannot be used, and the layer whose word counts there. */
const problemAt = (contents: ReadonlyArray<Content>, path: ReadonlyArray<string>, problem: string) => {
  // The whole is what all have said.
  const [speaker] = path.length === 0 ? [] : speakers(contents, path)
  return { ...speaker === undefined ? {} : { key: speaker.layer.key, version: speaker.layer.version }, path, problem }
}

const isWithin = (outer: ReadonlyArray<PropertyKey>, inner: ReadonlyArray<PropertyKey>): boolean =>
  outer.length < inner.length && outer.every((name, index) => name === inner[index])

const undecodable = (error: ParseError, contents: ReadonlyArray<Content>) =>
  Effect.map(ArrayFormatter.formatError(error), (issues) =>
    issues
      // Where something further in is wrong, that the whole is not something else says nothing.
      .filter(({ path }) => !issues.some((other) => isWithin(path, other.path)))
      .map(({ message, path }) => problemAt(contents, path.map(String), message)))

export interface Resolved<A> {
  readonly settings: Settings<A>
  /** What it was decoded from: where that is the same, so is the value. */
  readonly json: JsonObject
}

export const resolve = <A, R>(
  { ast, codec }: Decoder<A, R>,
  { layers, merged, revision }: Reading
): Effect.Effect<Resolved<A>, LayersInvalid, R> =>
  Effect.gen(function*() {
    const { contents, json } = yield* merged
    // What JSON can write and JavaScript cannot hold: 1e999.
    const text = yield* Either.mapLeft(Json.stringify(json, () => false), ({ path, problem }) =>
      new LayersInvalid({ layers, revision, problems: [problemAt(contents, path, `it is ${problem}`)] }))
    const value = yield* Effect.catchAll(codec.decode(Buffer.from(text)), (cause) =>
      Effect.flatMap(undecodable(cause, contents), (problems) =>
        new LayersInvalid({ layers, revision, problems, cause })))
    return {
      settings: {
        value,
        revision,
        layers,
        explain: Effect.sync(() =>
          explain(ast, contents, json)
        )
      },
      json
    }
  })
