/** Effect's own `Config` over a mirror: the copy is followed, and every reading is of the newest. */
import * as EffectConfig from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import * as ConfigProvider from "effect/ConfigProvider"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError, InvalidArgument } from "../../EtcdError.js"
import * as Mirror from "../../Mirror.js"
import { toText } from "../bytes.js"
import * as First from "../mirror/first.js"
import { sorted } from "../mirror/log.js"
import * as validate from "../validate.js"
import * as Input from "./input.js"
import * as Names from "./names.js"
import * as Provider from "./provider.js"
import * as Tree from "./providerTree.js"

/**
 * @since 0.1.0
 * @category options
 */
export interface ProviderOptions {
  /** How long the start waits for the first copy, if etcd does not answer. Default 5 seconds. */
  readonly timeout?: Duration.DurationInput | undefined
  /**
   * Asked for what etcd has no value for; and for everything until there is a copy, if etcd is away at the start. Default:
   * none, and then a start without etcd fails.
   */
  readonly orElse?: ConfigProvider.ConfigProvider | undefined
  /** What all keys begin with in etcd. Default: that of the `Config` that is provided, if one is; else `/config`. */
  readonly configPrefix?: string | undefined
}

export type Placed = ProviderOptions & { readonly configPrefix: string }

interface Followed {
  readonly mirror: Mirror.Mirror
  readonly source: Provider.Source
  readonly treeOf: (snapshot: Mirror.Snapshot) => Tree.Node
  /** The present tree; the empty one as long as there is no copy. */
  readonly tree: Effect.Effect<Tree.Node>
}

const follow = (
  prefix: string,
  { configPrefix, orElse, timeout = "5 seconds" }: Placed
): Effect.Effect<Followed, InvalidArgument | EtcdError, EtcdClient | Scope.Scope> =>
  Effect.gen(function*() {
    const client = yield* EtcdClient
    const names = yield* Names.make(configPrefix, "configPrefix")
    const range = yield* names.below(prefix)
    yield* Input.check(
      "orElse",
      orElse,
      orElse === undefined || Predicate.hasProperty(orElse, ConfigProvider.ConfigProviderTypeId),
      "must be a config provider"
    )
    const patience: Duration.Duration = yield* validate.positiveDuration("timeout", timeout)
    const mirror = yield* Mirror.make(range)

    let known: { readonly entries: Mirror.Snapshot["entries"]; readonly tree: Tree.Node } | undefined
    const treeOf = ({ entries }: Mirror.Snapshot): Tree.Node => {
      if (known === undefined || known.entries !== entries) {
        known = { entries, tree: Tree.make(sorted(entries), (key) => toText(key).slice(range.key.length)) }
      }
      return known.tree
    }

    yield* First.within(client, mirror, mirror.ready, patience, range.key).pipe(
      Effect.catchAll((error) =>
        orElse === undefined ? error : Effect.logWarning(
          `no settings below ${
            JSON.stringify(prefix)
          } could be read yet, those of the other provider count: ${error.message}`
        )
      )
    )

    return {
      mirror,
      source: { place: range.key, orElse: orElse === undefined ? undefined : Provider.flatOf(orElse) },
      treeOf,
      tree: Effect.flatMap(mirror.state, ({ _tag }) =>
        _tag === "Loading" ? Effect.succeed(Tree.empty) : Effect.orDie(Effect.map(mirror.snapshot, treeOf)))
    }
  })

export const provider = (
  prefix: string,
  options: Placed
): Effect.Effect<ConfigProvider.ConfigProvider, InvalidArgument | EtcdError, EtcdClient | Scope.Scope> =>
  Effect.map(follow(prefix, options), ({ source, tree }) => Provider.make(tree, source))

export const changes = <A>(
  prefix: string,
  config: EffectConfig.Config<A>,
  options: Placed
): Stream.Stream<Either.Either<A, ConfigError.ConfigError>, InvalidArgument | EtcdError, EtcdClient> =>
  Stream.unwrapScoped(Effect.gen(function*() {
    yield* Input.check(
      "config",
      config,
      Predicate.hasProperty(config, EffectConfig.ConfigTypeId),
      "must be a Config of effect"
    )
    const { mirror, source, tree, treeOf } = yield* follow(prefix, options)
    // What another provider says until there is a copy, or the first copy.
    return Stream.concat(
      Stream.fromEffect(tree),
      // Refused at first: the mirror tries again, with pauses.
      Stream.map(Stream.retry(mirror.snapshots, Schedule.forever), treeOf)
    ).pipe(
      Stream.mapEffect((present) => Provider.evaluate(config, present, source)),
      Stream.changesWith((a, b) => a.reads === b.reads),
      Stream.map(({ result }) => result)
    )
  }))
