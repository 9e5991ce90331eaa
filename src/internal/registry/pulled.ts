/** Streams of which there are thousands: as few layers as there can be, as each of them takes kilobytes. */
import * as Channel from "effect/Channel"
import type * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

type Emitting<A, E, R> = Channel.Channel<Chunk.Chunk<A>, unknown, E, unknown, void, unknown, R>

const repeat = <A, E, R>(pull: Effect.Effect<Chunk.Chunk<A>, E, R>): Emitting<A, E, R> =>
  Channel.flatMap(Channel.fromEffect(pull), (chunk) => Channel.flatMap(Channel.write(chunk), () => repeat(pull)))

/** What is opened is run again and again, until the stream ends and the scope is closed. */
export const stream = <A, E, E2, R, R2>(
  open: Effect.Effect<Effect.Effect<Chunk.Chunk<A>, E2, R2>, E, R>
): Stream.Stream<A, E | E2, Exclude<R, Scope.Scope> | R2> =>
  Stream.fromChannel(
    Channel.suspend(() => {
      // Not a bracket, which would take another kilobyte.
      let scope: Scope.CloseableScope | undefined
      const opened = Effect.flatMap(Scope.make(), (made) => {
        scope = made
        return Scope.extend(open, made)
      })
      return Channel.ensuringWith(
        Channel.flatMap(Channel.fromEffect(opened), (pull): Emitting<A, E | E2, R2> => repeat(pull)),
        (exit) => scope === undefined ? Effect.void : Scope.close(scope, exit)
      )
    })
  )

/** The stream of a service, without a layer of its own. */
export const from = <S, A, E, R, E2, R2>(
  service: Effect.Effect<S, E2, R2>,
  of: (service: S) => Stream.Stream<A, E, R>
): Stream.Stream<A, E | E2, R | R2> =>
  Stream.fromChannel(Channel.flatMap(Channel.fromEffect(service), (service) => Stream.toChannel(of(service))))
