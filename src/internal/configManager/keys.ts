/** Where a live setting stands. */
import * as Either from "effect/Either"
import { InvalidArgument } from "../../EtcdError.js"
import * as Key from "../../Key.js"
import * as Input from "../config/input.js"
import type { Id } from "./model.js"

/** What the Go module's manager puts before its keys, once more after the prefix of all configuration. */
const goSegment = "config"

export const keyOf = (id: Id): Either.Either<string, InvalidArgument> =>
  Either.gen(function*() {
    const { component, env, service } = yield* Input.options(id)
    const segments = [
      yield* Key.validateSegment("env", env),
      yield* Key.validateSegment("service", service),
      yield* Key.validateSegment("component", component)
    ]
    if (env === goSegment) {
      return yield* Either.left(
        new InvalidArgument({
          argument: "env",
          value: env,
          problem: "the manager of the Go module keeps its settings there: the two could not be told apart"
        })
      )
    }
    return segments.join("/")
  })

/** Where the Go module's manager really keeps what stands under `key`. */
export const goKeyOf = (key: string): string => `${goSegment}/${key}`
