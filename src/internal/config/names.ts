/** The names of settings, and the keys in etcd that they stand for. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { InvalidArgument } from "../../EtcdError.js"
import * as Key from "../../Key.js"
import type { Bytes, KeyRange } from "../../Txn.js"
import { toText } from "../bytes.js"
import * as validate from "../validate.js"

export interface Names {
  /** @param argument what the error calls it */
  readonly key: (name: string, argument?: string) => Either.Either<string, InvalidArgument>
  /** All that stand below a prefix of names, which ends at a segment. */
  readonly below: (prefix: string) => Either.Either<KeyRange & { readonly key: string }, InvalidArgument>
  readonly of: (key: Bytes) => string
}

/**
 * @param prefix what all keys begin with
 * @param argument what the error calls that
 */
export const make = (prefix: string, argument = "prefix"): Effect.Effect<Names, InvalidArgument> =>
  Effect.map(validate.keyPrefix(argument, prefix), (prefix) => {
    const root = `${prefix}/`
    return {
      key: (name, argument = "key") => Either.map(Key.validate(argument, name), (name) => root + name),
      below: (prefix) =>
        Either.map(Key.validatePrefix("prefix", prefix), (prefix) => {
          const key = root + (prefix === "" || prefix.endsWith("/") ? prefix : `${prefix}/`)
          return { ...Key.prefix(key), key }
        }),
      of: (key) => toText(key).slice(root.length)
    }
  })
