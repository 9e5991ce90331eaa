/**
 * JSON that reads back as exactly what was written. Unlike `JSON.stringify` it refuses what it would change or leave out,
 * and keeps the sign of zero.
 */
import * as Either from "effect/Either"
import * as Option from "effect/Option"

/** Something JSON does not have, and where. */
export interface NotJson {
  readonly _tag: "NotJson"
  readonly path: ReadonlyArray<string>
  readonly problem: string
}

export const notJson = (path: ReadonlyArray<string>, problem: string): NotJson => ({ _tag: "NotJson", path, problem })

/** Deeper than any setting; a value that contains itself ends here. */
const maxDepth = 512

/** To assign a property of this name gives an object another prototype. */
export const poison = "__proto__"

const isPlainArray = (value: ReadonlyArray<unknown>): boolean => {
  const prototype: object = Object.getPrototypeOf(value)
  // An array of another realm has that realm's Array.prototype, which is an array itself.
  return prototype === Array.prototype || (Array.isArray(prototype) && Object.hasOwn(prototype, "flatMap"))
}

const isPlain = (value: object): boolean => {
  const prototype: object | null = Object.getPrototypeOf(value)
  if (prototype === null || prototype === Object.prototype) return true
  // An object of another realm (a vm context) has that realm's Object.prototype.
  return Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, "isPrototypeOf")
}

const nameOf = (value: object): string => {
  const constructor: unknown = value.constructor
  return typeof constructor === "function" && constructor.name !== "" && constructor !== Object
    ? `an object of the class ${constructor.name}`
    : "an object that is not plain"
}

/**
 * @param mayBeLeftOut whether a property with the value `undefined`, at this path, means the same as none
 */
export const stringify = (
  value: unknown,
  mayBeLeftOut: (path: ReadonlyArray<string>) => boolean
): Either.Either<string, NotJson> => {
  const path: Array<string | number> = []
  let found: NotJson | undefined

  const refuse = (problem: string): string => {
    found ??= notJson(path.map(String), problem)
    return ""
  }

  const child = (name: string | number, value: unknown): string => {
    path.push(name)
    const text = write(value)
    path.pop()
    return text
  }

  const writeArray = (items: ReadonlyArray<unknown>): string => {
    if (!isPlainArray(items)) return refuse("an array that is not plain")
    if (Object.keys(items).length > items.length) return refuse("an array with named properties")
    let text = ""
    for (let index = 0; index < items.length; index++) {
      text += index === 0 ? child(index, items[index]) : `,${child(index, items[index])}`
    }
    return `[${text}]`
  }

  const writeObject = (value: object): string => {
    if (path.length > maxDepth) return refuse(`more than ${maxDepth} levels (or a value that contains itself)`)
    if (Array.isArray(value)) return writeArray(value)
    if (!isPlain(value)) return refuse(nameOf(value))
    if (Object.getOwnPropertySymbols(value).length > 0) return refuse("a property named by a symbol")
    let text = ""
    for (const [name, item] of Object.entries(value)) {
      if (item === undefined && mayBeLeftOut([...path.map(String), name])) continue
      text += `${text === "" ? "" : ","}${JSON.stringify(name)}:${child(name, item)}`
    }
    return `{${text}}`
  }

  const write = (value: unknown): string => {
    if (found !== undefined) return ""
    switch (typeof value) {
      case "string":
        return JSON.stringify(value)
      case "number":
        return !Number.isFinite(value) ? refuse(String(value)) : Object.is(value, -0) ? "-0" : String(value)
      case "boolean":
        return String(value)
      case "object":
        return value === null ? "null" : writeObject(value)
      default:
        return refuse(typeof value)
    }
  }

  try {
    const text = write(value)
    return found === undefined ? Either.right(text) : Either.left(found)
  } catch {
    // A property that is computed, a proxy.
    return Either.left(notJson(path.map(String), "something that throws when it is read"))
  }
}

/** Whether a property of that name is in what is made of arrays and plain objects. */
export const isPoisoned = (value: unknown): boolean =>
  typeof value === "object" && value !== null && (Array.isArray(value) || isPlain(value)) &&
  (Object.hasOwn(value, poison) || Object.values(value).some(isPoisoned))

export const parse = (text: string): Option.Option<unknown> => {
  try {
    const value: unknown = JSON.parse(text)
    return Option.some(value)
  } catch {
    return Option.none()
  }
}
