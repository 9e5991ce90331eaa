/**
 * The settings below a prefix as one tree, whether they stand under keys of their own or in JSON: `database/host` and the
 * field `host` of `database` are the same place. What stands under the longer key counts.
 */
import * as Option from "effect/Option"
import type { KeyValue } from "../../Txn.js"
import { textOf } from "./codec.js"
import * as Json from "./json.js"

export interface Node {
  /** The value, if it is a single one: as Effect's `Config` reads it. */
  text: string | undefined
  /** What stands here that is no single value. */
  other: string | undefined
  /** Whether a value says what is here: else it is only on the way to others. */
  decided: boolean
  readonly children: Map<string, Node>
}

/** Deeper than any setting. */
const maxDepth = 256

const node = (): Node => ({ text: undefined, other: undefined, decided: false, children: new Map() })

export const empty: Node = node()

const child = (parent: Node, name: string): Node => {
  const known = parent.children.get(name)
  if (known !== undefined) return known
  const made = node()
  parent.children.set(name, made)
  return made
}

/** What Effect's `Config` calls the items of a list. */
const itemName = (index: number): string => `[${index}]`

const itemPattern = /^\[\d+\]$/

export const isList = (names: Iterable<string>): boolean => Array.from(names).some((name) => itemPattern.test(name))

const clear = (at: Node): void => {
  at.text = undefined
  at.other = undefined
  at.children.clear()
}

const set = (at: Node, value: unknown, depth: number): void => {
  clear(at)
  // The same as no value.
  at.decided = value !== null
  if (typeof value !== "object" || value === null) {
    if (value !== null) at.text = String(value)
    return
  }
  const fields = Array.isArray(value)
    ? value.map((item, index) => [itemName(index), item] as const)
    : Object.entries(value)
  if (fields.length > 0) at.other = Array.isArray(value) ? "a list" : "an object"
  if (depth > maxDepth) return
  for (const [name, item] of fields) set(child(at, name), item, depth + 1)
}

/** Numbers and the like keep the digits they were written with. */
const contentOf = (text: string): unknown =>
  Option.match(Json.parse(text), {
    onNone: () => text,
    onSome: (json) => typeof json === "number" || typeof json === "boolean" ? text.trim() : json
  })

/** `hosts[0]` is the first item of `hosts`. */
const namesOf = (key: string): ReadonlyArray<string> =>
  key.split("/").flatMap((segment) => {
    const [, name, index] = /^(.+)(\[\d+\])$/.exec(segment) ?? [undefined, segment, undefined]
    return index === undefined ? [name] : [name, index]
  })

/**
 * @param kvs in the order of their keys, so that longer ones come later
 * @param nameOf what stands in a key after the prefix
 */
export const make = (kvs: Iterable<KeyValue>, nameOf: (key: Uint8Array) => string): Node => {
  const root = node()
  for (const { key, value } of kvs) {
    const at = namesOf(nameOf(key)).reduce(child, root)
    const text = textOf(value)
    if (Option.isSome(text)) set(at, contentOf(text.value), 0)
    else {
      clear(at)
      at.decided = true
      at.other = "bytes that are not UTF-8"
    }
  }
  return root
}

/** A name may be several segments: `database/host`. */
export const find = (root: Node, path: ReadonlyArray<string>): Node | undefined => {
  let at: Node | undefined = root
  for (const name of path) {
    at = at.children.get(name) ?? (name.includes("/") ? find(at, name.split("/")) : undefined)
    if (at === undefined) return undefined
  }
  return at
}
