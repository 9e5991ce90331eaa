/**
 * Names and keys: what is accepted as the name of a lock, a service or a setting, and which range of etcd's keys a prefix is.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import { InvalidArgument } from "./EtcdError.js"
import { toBinary } from "./internal/bytes.js"
import * as keyRange from "./internal/keyRange.js"
import { render } from "./internal/validate.js"
import type { Bytes, KeyRange } from "./Txn.js"

/**
 * The first key after all that begin with `prefix`.
 *
 * @since 0.1.0
 * @category ranges
 */
export const prefixEnd: (prefix: Bytes) => Uint8Array = keyRange.prefixEnd

/**
 * All keys that begin with `prefix`; every key for the empty prefix.
 *
 * @since 0.1.0
 * @category ranges
 */
export const prefix: (value: Bytes) => KeyRange = keyRange.prefix

/**
 * Exactly this key.
 *
 * @since 0.1.0
 * @category ranges
 */
export const single = (key: Bytes): KeyRange => ({ key })

/** What is wrong with a name, if anything. */
const problemOf = (name: string): string | undefined => {
  // Of a caller without types.
  if (typeof name !== "string") return "must be a text"
  if (name === "") return "must not be empty"

  if (/[\u0000-\u001f\u007f-\u009f]/.test(name)) return "must not contain control characters"
  if (/\p{Surrogate}/u.test(name)) return "must be well-formed Unicode: it contains a lone surrogate"
  const segments = name.split("/")
  if (segments.includes("")) return "must not begin or end with a slash or contain an empty segment"
  if (segments.includes("..") || segments.includes(".")) return "must not contain . or .. as a segment"
  return undefined
}

const accept = (argument: string, name: string, problem: string | undefined): Either.Either<string, InvalidArgument> =>
  problem === undefined
    ? Either.right(name)
    : Either.left(new InvalidArgument({ argument, value: render(name), problem }))

/**
 * A name of one or more segments separated by slashes: no empty segment, no `.` or `..`, no control characters. So it
 * cannot reach outside the prefix it is put under.
 *
 * @param argument what the error calls it
 * @since 0.1.0
 * @category validation
 */
export const validate = (argument: string, name: string): Either.Either<string, InvalidArgument> =>
  accept(argument, name, problemOf(name))

/**
 * A name of a single segment.
 *
 * @since 0.1.0
 * @category validation
 */
export const validateSegment = (argument: string, name: string): Either.Either<string, InvalidArgument> =>
  accept(argument, name, problemOf(name) ?? (name.includes("/") ? "must not contain a slash" : undefined))

/**
 * A prefix of names: like a name, but it may be empty (everything) and may end with a slash.
 *
 * @since 0.1.0
 * @category validation
 */
export const validatePrefix = (argument: string, name: string): Either.Either<string, InvalidArgument> => {
  const bare = typeof name === "string" && name.endsWith("/") ? name.slice(0, -1) : name
  return accept(argument, name, name === "" ? undefined : problemOf(bare))
}

/**
 * Whether `key` stands directly below `folder` (which ends with a slash): `/locks/a/1` does below `/locks/a/`, and
 * `/locks/a/b/1` does not.
 *
 * @since 0.1.0
 * @category utilities
 */
export const isDirectChild = (folder: string, key: Uint8Array): boolean => {
  const binary = toBinary(key)
  const start = toBinary(folder)
  return binary.startsWith(start) && binary.length > start.length && binary.indexOf("/", start.length) === -1
}
