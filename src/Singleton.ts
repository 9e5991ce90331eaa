/**
 * Singletons: what runs on one node of many, and on another when that node goes.
 *
 * A singleton is a layer. Every node has it among its layers, all of them are candidates of one election, and the one that
 * leads builds it.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { CandidateOptions, Leadership } from "./Election.js"
import { Election } from "./Election.js"
import type { InvalidArgument } from "./EtcdError.js"
import * as Candidate from "./internal/election/candidate.js"
import { firstOf } from "./internal/firstOf.js"
import * as validate from "./internal/validate.js"

/**
 * @since 0.1.0
 * @category options
 */
export interface Options extends CandidateOptions {
  /**
   * When to stand again after the layer failed, the leadership was lost, or etcd refused the candidate. It starts over
   * whenever the layer was built; when it ends, this node stands no more. Default: for ever, after 100 milliseconds at first
   * and 30 seconds in the end, with jitter.
   */
  readonly retry?: Schedule.Schedule<unknown, Cause.Cause<unknown>> | undefined
  /**
   * How long the layer may take to close. Then the leadership is given up all the same, and this node does not stand again
   * before it is closed. Default 10 seconds. A build has no such limit, nor what it tidies up when it fails: give it its own.
   */
  readonly closeTimeout?: Duration.DurationInput | undefined
}

/**
 * What the layer of a singleton may know of its term: above all `guard` and `term`, to have what it writes refused when it
 * is late. It cannot resign: to be done for good is not what singletons do.
 *
 * @since 0.1.0
 * @category models
 */
export type Term = Omit<Leadership, "resign">

const pauses: Schedule.Schedule<unknown> = Schedule.exponential("100 millis").pipe(
  Schedule.either(Schedule.spaced("30 seconds")),
  Schedule.jittered
)

/**
 * A layer that builds `layer` while this node leads the election `name`, and closes it when the leadership is lost or this
 * layer is closed. It is up at once, whoever leads, and with etcd away too. Fails with `InvalidArgument` when the name or an
 * option cannot work; all that goes wrong later is logged, and this node stands again.
 *
 * - Each term builds anew, and shares nothing with the layers around: what is to be shared comes from those, as what
 *   `layer` requires.
 * - When this layer is closed, `layer` is closed first and the leadership is given up then, so that the next one starts
 *   after the last one's finalizers. When the leadership is lost they begin to run before etcd gives it to somebody else, a
 *   tenth of the time to live (1 second at most) ahead; use `guard` for what must not be written later.
 * - A `layer` that fails to build gives the leadership up, so that another node can try. Once it is built, a fibre of it
 *   that fails is its own concern: use `Election.withLeadership` for an effect that is to be run again.
 *
 * `Election.observe(name)` tells where it runs, if `value` says who this node is.
 *
 * @example
 * ```ts
 * import { Effect, Layer, Schedule } from "effect"
 * import { Coord, Singleton } from "effect-coord"
 *
 * const Cleaner = Layer.scopedDiscard(
 *   Effect.log("removing what is old").pipe(Effect.repeat(Schedule.spaced("1 minute")), Effect.forkScoped)
 * )
 *
 * const live = Singleton.layer("cleaner", Cleaner, { ttl: "10 seconds", value: "node-1" }).pipe(
 *   Layer.provide(Coord.layer({ endpoints: "etcd:2379" }))
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <ROut, E, RIn>(
  name: string,
  layer: Layer.Layer<ROut, E, RIn> | ((term: Term) => Layer.Layer<ROut, E, RIn>),
  options: Options = {}
): Layer.Layer<never, InvalidArgument, Election | RIn> =>
  Layer.scopedDiscard(Effect.gen(function*() {
    const election = yield* Election
    const problem = Candidate.badInput(name, options) ?? Candidate.badRetry(options.retry)
    if (problem !== undefined) return yield* problem
    const closeTimeout = yield* validate.positiveDuration("closeTimeout", options.closeTimeout ?? "10 seconds")
    const driver = yield* Schedule.driver(options.retry ?? pauses)
    let closing: Fiber.Fiber<void> = Fiber.void

    const annotated = (term?: bigint) =>
      Effect.annotateLogs({ singleton: name, ...term === undefined ? {} : { term: String(term) } })

    /** Runs for ever. */
    const run = (leadership: Leadership): Effect.Effect<never, E, RIn> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function*() {
          const scope = yield* Scope.make()
          const built = Effect.suspend(() =>
            Layer.buildWithScope(typeof layer === "function" ? layer(leadership) : layer, scope)
          )
          // Neither a build nor a finalizer that hangs may keep the leadership: they are waited for from outside.
          const building = yield* Effect.forkDaemon(Effect.interruptible(built))
          const exit = yield* Effect.flatten(Fiber.await(building)).pipe(
            Effect.zipRight(driver.reset),
            Effect.zipRight(Effect.logInfo(`the singleton ${name} runs here`)),
            Effect.zipRight(Effect.never),
            restore,
            Effect.exit
          )
          closing = yield* Effect.forkDaemon(Effect.zipRight(Fiber.interrupt(building), Scope.close(scope, exit)))
          const closed = yield* firstOf(
            Effect.as(Fiber.await(closing), true),
            Effect.as(Effect.sleep(closeTimeout), false)
          )
          yield* closed
            ? Effect.logInfo(`the singleton ${name} has closed here`)
            : Effect.logWarning(
              `the singleton ${name} has not closed within ${Duration.format(closeTimeout)}: left behind`
            )
          return yield* exit
        })
      ).pipe(annotated(leadership.term))

    const stand: Effect.Effect<void, never, RIn> = Effect.suspend(() => Fiber.await(closing)).pipe(
      Effect.zipRight(
        election.withLeadership(name, { ttl: options.ttl, value: options.value, retry: Schedule.stop })(run)
      ),
      Effect.tapErrorCause((cause) => annotated()(Effect.logWarning(`the singleton ${name} does not run here`, cause))),
      Effect.catchAllCause((cause) =>
        Effect.matchEffect(driver.next(cause), {
          onFailure: () => annotated()(Effect.logError(`the singleton ${name} stands here no more`, cause)),
          onSuccess: () => stand
        })
      )
    )

    yield* Effect.forkScoped(Effect.interruptible(stand))
  }))
