/** Where each value of merged layers comes from. */
import type * as AST from "effect/SchemaAST"
import type { JsonObject, Statement } from "./merge.js"
import { isObject, statement } from "./merge.js"
import type { Explanation, LayerVersion, Said } from "./model.js"
import { shown } from "./shown.js"

/** A layer that is there, and can be read. */
export interface Content extends LayerVersion {
  readonly json: JsonObject
}

interface Speaker extends Statement {
  readonly layer: Content
}

/** All that say something of a place, the highest first. */
export const speakers = (layers: ReadonlyArray<Content>, path: ReadonlyArray<string>): ReadonlyArray<Speaker> =>
  layers.flatMap((layer) => {
    const found = statement(layer.json, path)
    return found === undefined ? [] : [{ layer, ...found }]
  }).reverse()

/** The places of a document that hold something other than further places. */
const leaves = (json: JsonObject, above: ReadonlyArray<string> = []): ReadonlyArray<ReadonlyArray<string>> =>
  Object.entries(json).flatMap(([name, value]) => {
    const path = [...above, name]
    return isObject(value) && Object.keys(value).length > 0 ? leaves(value, path) : [path]
  })

const isExactly = (path: ReadonlyArray<string>) => ({ about }: Statement): boolean => about.length === path.length

/** Whether the word that counts removes something, rather than nothing. */
const removes = (path: ReadonlyArray<string>, [first, ...others]: ReadonlyArray<Speaker>): boolean =>
  first.value === null && isExactly(path)(first) &&
  others.some((other) => other.value !== null && isExactly(path)(other))

const compare = (a: ReadonlyArray<string>, b: ReadonlyArray<string>): number => {
  const at = a.findIndex((name, index) => name !== b[index])
  if (at < 0) return a.length - b.length
  return b[at] === undefined || a[at] > b[at] ? 1 : -1
}

/** @param layers the lowest first */
export const explain = (
  schema: AST.AST,
  layers: ReadonlyArray<Content>,
  merged: JsonObject
): ReadonlyArray<Explanation> => {
  const said = ({ about, layer, value }: Speaker): Said => ({
    key: layer.key,
    version: layer.version,
    shown: shown(schema, about, value)
  })
  const explanation = (path: ReadonlyArray<string>, [first, ...others]: ReadonlyArray<Speaker>): Explanation => ({
    path,
    from: said(first),
    overrides: others.map(said)
  })

  const removed = new Map(
    layers.flatMap(({ json }) => leaves(json)).map((path) => [JSON.stringify(path), path] as const)
  )
  return [
    ...leaves(merged).map((path) => {
      const told = explanation(path, speakers(layers, path))
      return { ...told, from: { ...told.from, shown: shown(schema, path, statement(merged, path)?.value) } }
    }),
    ...Array.from(removed.values(), (path) => ({ path, all: speakers(layers, path) }))
      .filter(({ all, path }) => removes(path, all))
      .map(({ all, path }) => explanation(path, all))
  ].sort((a, b) => compare(a.path, b.path))
}

const name = (segment: string): string => /^[\w-]+$/.test(segment) ? segment : JSON.stringify(segment)

const where = ({ key, version }: LayerVersion): string => `${key} @${version}`

/** What is longer does not make its column wider, or one long text would be paid for on every line. */
const maxWidth = 60

/** One line for each value, in columns. */
export const format = (explanations: ReadonlyArray<Explanation>): string => {
  const rows = [
    ["setting", "value", "from", "overrides"],
    ...explanations.map(({ from, overrides, path }) => [
      path.map(name).join("."),
      from.shown,
      where(from),
      overrides.map((said) => `${said.shown} of ${where(said)}`).join(", ")
    ])
  ]
  const widths = rows[0].map((_, column) =>
    rows.reduce((width, row) => Math.max(width, Math.min(maxWidth, row[column].length)), 0)
  )
  return rows
    .map((row) => row.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd())
    .join("\n")
}
