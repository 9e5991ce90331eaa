/** Keys and values between their forms: strings, bytes, and the binary strings that index them. */
import type { Bytes } from "../Txn.js"

export const empty: Uint8Array = new Uint8Array(0)

/** A string is sent as UTF-8. */
export const toBytes = (value: Bytes): Uint8Array => typeof value === "string" ? Buffer.from(value, "utf8") : value

const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** One character is one byte in both forms. */
const ascii = /^[\u0000-\u007f]*$/

/** One character a byte: compares as etcd orders keys, and is its own inverse through {@link fromBinary}. */
export const toBinary = (value: Bytes): string =>
  typeof value === "string" && ascii.test(value) ? value : asBuffer(toBytes(value)).toString("latin1")

export const fromBinary = (binary: string): Uint8Array => Buffer.from(binary, "latin1")

/** The text of a key, for people: what is not UTF-8 shows as U+FFFD. */
export const toText = (value: Bytes): string => typeof value === "string" ? value : asBuffer(value).toString("utf8")

export const byteLength = (value: Bytes): number => typeof value === "string" ? Buffer.byteLength(value) : value.length
