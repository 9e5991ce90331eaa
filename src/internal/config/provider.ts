/** Effect's own `Config`, read from a tree of settings. */
import type * as EffectConfig from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as ConfigProvider from "effect/ConfigProvider"
import * as PathPatch from "effect/ConfigProviderPathPatch"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as HashSet from "effect/HashSet"
import * as Tree from "./providerTree.js"

type Flat = ConfigProvider.ConfigProvider.Flat

/** Told of everything that is read: the path, and all that counts of what is there. */
export type OnRead = (path: ReadonlyArray<string>, found: ReadonlyArray<string | boolean | undefined>) => void

export interface Source {
  /** Where the tree stands, for errors. */
  readonly place: string
  /** What is asked for what the tree does not have. */
  readonly orElse: Flat | undefined
}

/** A provider for those that only know paths: what it does to them itself is done. */
export const flatOf = (provider: ConfigProvider.ConfigProvider): Flat =>
  ConfigProvider.orElse(ConfigProvider.fromMap(new Map()), () => provider).flattened

const flat = (tree: Effect.Effect<Tree.Node>, { orElse, place }: Source, onRead: OnRead): Flat => {
  const load = <A>(
    root: Tree.Node,
    path: ReadonlyArray<string>,
    primitive: EffectConfig.Config.Primitive<A>,
    split: boolean
  ): Effect.Effect<Array<A>, ConfigError.ConfigError> => {
    const found = Tree.find(root, path)
    onRead(path, [found?.text, found?.other, found?.decided === true])
    if (found?.text !== undefined) {
      // Commas separate what is a list only by them: an item of a list is whole.
      const texts = split && !Tree.isList(path) ? found.text.split(",").map((item) => item.trim()) : [found.text]
      return Either.mapLeft(Either.all(texts.map((text) => primitive.parse(text))), ConfigError.prefixed([...path]))
    }
    if (found?.other !== undefined) {
      const problem = `Expected a single value, and ${place}${path.join("/")} has ${found.other}`
      return Effect.fail(ConfigError.InvalidData([...path], problem))
    }
    const missing = ConfigError.MissingData([...path], `Expected ${place}${path.join("/")} to exist in etcd`)
    return orElse === undefined || found?.decided === true
      ? Effect.fail(missing)
      : Effect.mapError(
        orElse.load(path, primitive, split),
        // What `flatOf` asks first has nothing.
        (error) => ConfigError.Or(missing, ConfigError.isOr(error) ? error.right : error)
      )
  }

  const enumerateChildren = (
    root: Tree.Node,
    path: ReadonlyArray<string>
  ): Effect.Effect<HashSet.HashSet<string>, ConfigError.ConfigError> => {
    const found = Tree.find(root, path)
    const names = Array.from(found?.children.keys() ?? [])
    onRead(path, [found?.decided === true, ...names])
    const own = HashSet.fromIterable(names)
    // Lists are not mixed.
    return orElse === undefined || found?.decided === true || Tree.isList(names)
      ? Effect.succeed(own)
      : Effect.map(
        orElse.enumerateChildren(path),
        (others) => names.length > 0 && Tree.isList(others) ? own : HashSet.union(own, others)
      )
  }

  return ConfigProvider.makeFlat({
    patch: PathPatch.empty,
    load: (path, primitive, split) => Effect.flatMap(tree, (root) => load(root, path, primitive, split)),
    enumerateChildren: (path) => Effect.flatMap(tree, (root) => enumerateChildren(root, path))
  })
}

/** Reads everything from one tree. */
const load = <A>(
  config: EffectConfig.Config<A>,
  tree: Tree.Node,
  source: Source,
  onRead: OnRead
): Effect.Effect<A, ConfigError.ConfigError> =>
  ConfigProvider.fromFlat(flat(Effect.succeed(tree), source, onRead)).load(config)

/** All that one `Config` reads is of one state of the tree; the next one reads the newest. */
export const make = (tree: Effect.Effect<Tree.Node>, source: Source): ConfigProvider.ConfigProvider => {
  const ignore: OnRead = () => undefined
  return ConfigProvider.make({
    load: (config) => Effect.flatMap(tree, (present) => load(config, present, source, ignore)),
    flattened: flat(tree, source, ignore)
  })
}

export interface Evaluation<A> {
  readonly result: Either.Either<A, ConfigError.ConfigError>
  /** All that was read: what is the same here gives the same result. */
  readonly reads: string
}

/** What that says may be a secret. */
const threw = ConfigError.InvalidData([], "a function of the Config threw an error")

/** What a `Config` says of a tree. */
export const evaluate = <A>(
  config: EffectConfig.Config<A>,
  tree: Tree.Node,
  source: Source
): Effect.Effect<Evaluation<A>> =>
  Effect.suspend(() => {
    const reads: Array<unknown> = []
    const onRead: OnRead = (path, found) => {
      reads.push(path, found)
    }
    return Effect.suspend(() => load(config, tree, source, onRead)).pipe(
      Effect.catchAllDefect(() => Effect.fail(threw)),
      Effect.either,
      Effect.map((result) => ({ result, reads: JSON.stringify(reads) }))
    )
  })
