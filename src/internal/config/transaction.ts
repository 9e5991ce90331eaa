/** Several keys changed together, or not at all. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { EncodeError, UnsupportedSchema } from "../../ConfigError.js"
import { TransactionConflict, VersionConflict } from "../../ConfigError.js"
import { InvalidArgument } from "../../EtcdError.js"
import type { Op } from "../../Txn.js"
import * as Txn from "../../Txn.js"
import { toBytes } from "../bytes.js"
import * as Guards from "./guard.js"
import * as Input from "./input.js"
import type { GuardOptions, Step, Version, WriteError } from "./model.js"
import type { Names } from "./names.js"
import type { Writes, Wrote } from "./writes.js"
import { versionOf } from "./writes.js"

/** etcd takes 128 operations by default, and one more goes along with each transaction. */
const maxSteps = 127

interface Prepared {
  readonly key: string
  readonly name: string
  readonly version: Version | undefined
  readonly op: Op | undefined
  /** What the key has afterwards, unless it stays as it is. */
  readonly left: { readonly value: Uint8Array | undefined } | undefined
}

const prepared = <R>(
  name: string,
  step: Step<R>
): Effect.Effect<Omit<Prepared, "key" | "name">, InvalidArgument | UnsupportedSchema | EncodeError, R> =>
  Effect.gen(function*() {
    if (step._tag === "Check") {
      // Left out, as a caller without types may do, it would check nothing.
      yield* Input.version("version", step.version)
      return { version: step.version, op: undefined, left: undefined }
    }
    const { version } = yield* Input.options(step.options)
    if (version !== undefined) yield* Input.version("version", version)
    if (step._tag === "Remove") return { version, op: Txn.del({ key: name }), left: { value: undefined } }
    const { lease } = step.options
    yield* Input.lease(lease)
    const text = yield* step.encoded
    return { version, op: Txn.put({ key: name, value: text, lease }), left: { value: toBytes(text) } }
  })

const isStep = (step: unknown): boolean =>
  typeof step === "object" && step !== null && "_tag" in step &&
  (step._tag === "Put" || step._tag === "Remove" || step._tag === "Check")

/** The steps, if that is what they are. */
export const check = <R>(steps: ReadonlyArray<Step<R>>): Either.Either<ReadonlyArray<Step<R>>, InvalidArgument> =>
  Either.map(
    Input.check(
      "steps",
      steps,
      Array.isArray(steps) && steps.every(isStep),
      "must be an array of what put, remove and check make"
    ),
    () => steps
  )

/** Everything else that can be refused before anything is sent. */
const prepare = <R>(names: Names, steps: ReadonlyArray<Step<R>>, guards: number) =>
  Effect.gen(function*() {
    const refuse = (problem: string) => new InvalidArgument({ argument: "steps", value: String(steps.length), problem })
    if (steps.length === 0) return yield* refuse("must be one or more")
    if (steps.length + guards > maxSteps) {
      return yield* refuse(`with the guards must be ${maxSteps} or less, as etcd takes no more in one transaction`)
    }
    const seen = new Set<string>()
    return yield* Effect.forEach(steps, (step) =>
      Effect.gen(function*() {
        const { key } = step
        const name = yield* names.key(key)
        if (seen.has(key)) {
          return yield* new InvalidArgument({
            argument: "steps",
            value: key,
            problem: "must not have two steps of one key: a put or a remove may have a version of its own"
          })
        }
        seen.add(key)
        return { key, name, ...yield* prepared(name, step) }
      }))
  })

export const make = (names: Names, { commit }: Writes, wrote: Wrote) =>
<R>(
  steps: ReadonlyArray<Step<R>>,
  options: GuardOptions
): Effect.Effect<Version, TransactionConflict | WriteError, R> =>
  Effect.gen(function*() {
    const { guard } = yield* Input.guarded(options)
    const prepared = yield* prepare(names, steps, Guards.comparesOf(guard).length)
    const conditions = prepared.flatMap(({ key, name, version }) =>
      version === undefined ? [] : [{ key, name, version }]
    )
    const outcome = yield* commit({
      compare: conditions.map(({ name, version }) => Txn.modRevision(name, "=", version)),
      success: prepared.flatMap(({ op }) => op === undefined ? [] : [op]),
      reads: conditions.map(({ name }) => Txn.range({ key: name, keysOnly: true })),
      guard
    })
    if (outcome.applied) {
      for (const { left, name } of prepared) if (left !== undefined) wrote(name, outcome.revision, left.value)
      return outcome.revision
    }
    const conflicts = conditions.flatMap(({ key, version }, index) => {
      const actual = versionOf(outcome.reads[index])
      return actual === version ? [] : [new VersionConflict({ key, expected: version, actual })]
    })
    return conflicts.length === 0 && outcome.guards.length > 0
      ? yield* Guards.failed(prepared.map(({ key }) => key).join(", "), outcome.guards)
      : yield* new TransactionConflict({ conflicts })
  })
