/** What callers without types may pass in is refused at once, by name, before anything is read or sent. */
import * as Either from "effect/Either"
import { InvalidArgument } from "../../EtcdError.js"
import type { Compare } from "../../Txn.js"
import * as numbers from "../numbers.js"
import * as validate from "../validate.js"
import type { GuardOptions, Version, WriteOptions } from "./model.js"

type Checked<A> = Either.Either<A, InvalidArgument>

/** What is in an object nobody needs to see, and may be a secret. */
const shown = (value: unknown): string =>
  typeof value === "function" ? "a function" : typeof value === "object" && value !== null ? "an object" : String(value)

export const check = (argument: string, value: unknown, isRight: boolean, problem: string): Checked<void> =>
  isRight ? Either.void : Either.left(new InvalidArgument({ argument, value: shown(value), problem }))

export const callback = (argument: string, value: unknown): Checked<void> =>
  check(argument, value, value === undefined || typeof value === "function", "must be a function")

/** What a text or a number has in place of options would be passed over. */
export const options = <O>(options: O): Checked<O> =>
  validate.isOptions(options) ? Either.right(options) : Either.left(validate.noOptions(options))

const isCompare = (value: unknown): boolean => {
  if (typeof value !== "object" || value === null) return false
  const { key, operand, target }: Partial<Record<keyof Compare, unknown>> = value
  return (typeof key === "string" || key instanceof Uint8Array) &&
    (target === "value"
      ? typeof operand === "string" || operand instanceof Uint8Array
      : typeof target === "string" && typeof operand === "bigint")
}

const isGuards = (guard: unknown): boolean =>
  guard === undefined || (Array.isArray(guard) ? guard.every(isCompare) : isCompare(guard))

export const guarded = <O extends GuardOptions>(given: O): Checked<O> =>
  Either.flatMap(options(given), ({ guard }) =>
    Either.map(
      check(
        "guard",
        guard,
        isGuards(guard),
        "must be a condition of a transaction, such as the guard of a lock, or an array of them"
      ),
      () => given
    ))

export const lease = (lease: bigint | undefined): Checked<void> =>
  check(
    "lease",
    lease,
    lease === undefined || typeof lease === "bigint" && numbers.ofNumber("lease", lease) === undefined,
    "must be a bigint that fits into 64 bits"
  )

export const writing = <O extends WriteOptions>(options: O): Checked<O> =>
  Either.flatMap(guarded(options), (options) => Either.map(lease(options.lease), () => options))

export const version = (argument: string, version: Version): Checked<void> =>
  check(
    argument,
    version,
    typeof version === "bigint" && version >= 0n,
    "must be a bigint, 0 (no value) or above"
  )
