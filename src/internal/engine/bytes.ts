/**
 * Spans of keys, which inside the engine are "binary strings", one character for each byte: the order of JavaScript
 * strings is then the order of bytes, and they can be keys of a `Map`.
 */
import type { Bytes, KeyRange } from "../../Txn.js"
import { toBinary } from "../bytes.js"

/** A fresh array: what leaves the engine may be changed by whoever gets it. */
export const fromBinary = (binary: string): Uint8Array => new Uint8Array(Buffer.from(binary, "latin1"))

/** A fresh array: what enters the engine may be changed later by whoever gave it. */
export const copyBytes = (bytes: Bytes): Uint8Array =>
  typeof bytes === "string" ? new Uint8Array(Buffer.from(bytes, "utf8")) : new Uint8Array(bytes)

/** Byte order. */
export const compareBytes = (left: Uint8Array, right: Uint8Array): number => Buffer.compare(left, right)

/** One key, or the keys from `start` up to and without `end`. */
export interface Span {
  readonly start: string
  /** `undefined`: only the key `start`. Empty: no upper end. */
  readonly end: string | undefined
}

export const spanOf = (range: KeyRange): Span => {
  const end = range.rangeEnd === undefined ? "" : toBinary(range.rangeEnd)
  return { start: toBinary(range.key), end: end === "" ? undefined : end === "\0" ? "" : end }
}

export const inSpan = (span: Span, key: string): boolean => {
  if (span.end === undefined) {
    return key === span.start
  }
  return key >= span.start && (span.end === "" || key < span.end)
}
