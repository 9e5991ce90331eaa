/**
 * Layers as JSON, and what they come to together: JSON Merge Patch (RFC 7386), each layer a patch to those below it.
 *
 * Objects are merged, anything else replaces what was there, and `null` removes it.
 */
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { textOf } from "../config/codec.js"
import * as Json from "../config/json.js"

export interface JsonObject {
  readonly [name: string]: unknown
}

/** What is wrong with a layer, and where; nothing of what it says. */
export interface Problem {
  readonly path: ReadonlyArray<string>
  readonly problem: string
}

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Deeper than any setting, and not too deep for functions that call themselves. */
const maxDepth = 256

const problemIn = (value: unknown, path: ReadonlyArray<string>): Problem | undefined => {
  if (typeof value !== "object" || value === null) return undefined
  if (path.length >= maxDepth) return { path: [], problem: `it has more than ${maxDepth} levels` }
  for (const [name, item] of Object.entries(value)) {
    // Decoders assign properties by name.
    if (name === Json.poison) return { path, problem: `it has a property ${Json.poison}` }
    const found = problemIn(item, [...path, name])
    if (found !== undefined) return found
  }
  return undefined
}

export const parse = (bytes: Uint8Array): Either.Either<JsonObject, Problem> => {
  const json = Option.flatMap(textOf(bytes), Json.parse)
  if (Option.isNone(json)) return Either.left({ path: [], problem: "it is not JSON" })
  if (!isObject(json.value)) return Either.left({ path: [], problem: "it is not a JSON object" })
  const problem = problemIn(json.value, [])
  return problem === undefined ? Either.right(json.value) : Either.left(problem)
}

const patched = (target: unknown, patch: JsonObject): JsonObject => {
  const merged = new Map(isObject(target) ? Object.entries(target) : [])
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) merged.delete(name)
    else merged.set(name, isObject(value) ? patched(merged.get(name), value) : value)
  }
  return Object.fromEntries(merged)
}

/** @param layers the lowest first */
export const merge = (layers: Iterable<JsonObject>): JsonObject => {
  let merged: JsonObject = {}
  for (const layer of layers) merged = patched(merged, layer)
  return merged
}

/** What a layer says of a place, or of one that the place is in. */
export interface Statement {
  readonly value: unknown
  /** The place it is about: the path, or the beginning of it. */
  readonly about: ReadonlyArray<string>
}

/** What a layer says of a place: the value there, or one further out that leaves no room for it. */
export const statement = (layer: JsonObject, path: ReadonlyArray<string>): Statement | undefined => {
  let value: unknown = layer
  for (const [depth, name] of path.entries()) {
    if (!isObject(value)) return { value, about: path.slice(0, depth) }
    if (!Object.hasOwn(value, name)) return undefined
    value = value[name]
  }
  return { value, about: path }
}
