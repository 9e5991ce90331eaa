/** Ranges of keys as etcd writes them. */
import type { Bytes, KeyRange } from "../Txn.js"
import { toBytes } from "./bytes.js"

/** The end of a range that has no upper bound. */
const open = Uint8Array.of(0)

/** The first key after all that begin with `prefix`; the open end when there is none. */
export const prefixEnd = (prefix: Bytes): Uint8Array => {
  const bytes = toBytes(prefix)
  for (let i = bytes.length - 1; i >= 0; i--) {
    if (bytes[i] < 0xff) {
      const end = Uint8Array.from(bytes.subarray(0, i + 1))
      end[i]++
      return end
    }
  }
  return open
}

/** All keys that begin with `prefix`; every key for the empty prefix. */
export const prefix = (value: Bytes): KeyRange =>
  value.length === 0 ? { key: open, rangeEnd: open } : { key: value, rangeEnd: folderEnd(value) ?? prefixEnd(value) }

/** The end of the commonest prefix, that of a folder, as text: many are made, and bytes are dear. */
const folderEnd = (value: Bytes): string | undefined =>
  typeof value === "string" && value.endsWith("/") ? `${value.slice(0, -1)}0` : undefined

/** The smallest key above `key`. */
export const successor = (key: Uint8Array): Uint8Array => Buffer.concat([key, open])
