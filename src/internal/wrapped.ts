/** Options given as Effect's `Config`. */
import * as Config from "effect/Config"

const toConfig = (wrapped: unknown): Config.Config<unknown> => {
  if (Config.isConfig(wrapped)) return wrapped
  const given = Object.entries(wrapped ?? {}).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, toConfig(value)] as const]
  )
  return given.length === 0 ? Config.succeed({}) : Config.all(Object.fromEntries(given))
}

/**
 * As `Config.unwrap`, which throws at an explicit `undefined` and at a record without fields: the one is the same as an
 * option that is left out, the other a record of defaults.
 */
export const unwrap = <A>(wrapped: Config.Config.Wrap<A>): Config.Config<A> => toConfig(wrapped) as Config.Config<A>
