/** Where a live setting stands. */
import * as Either from "effect/Either"
import { InvalidArgument } from "../../EtcdError.js"
import * as Key from "../../Key.js"
import type { Id } from "./model.js"

/** What the Go module's manager puts before its keys, once more after the prefix of all configuration. */
const goSegment = "config"

export const keyOf = ({ component, env, service }: Id): Either.Either<string, InvalidArgument> =>
  Either.gen(function*() {
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
