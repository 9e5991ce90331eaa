/** Local copies of settings: shared by all of this process who watch them, and read by `cached`. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as RcMap from "effect/RcMap"
import type * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import type { DecodeError } from "../../ConfigError.js"
import { NotFound } from "../../ConfigError.js"
import { EtcdClient } from "../../EtcdClient.js"
import * as Key from "../../Key.js"
import type { Snapshot } from "../../Mirror.js"
import * as Mirror from "../../Mirror.js"
import { inBackground } from "../background.js"
import * as Entries from "./entries.js"
import type { Cached, ReadError, Version } from "./model.js"
import type { Names } from "./names.js"
import type { Wrote } from "./writes.js"

export interface Copies {
  /** The copy of a key, or of all below a prefix (which ends with a slash), for as long as the scope is open. */
  readonly follow: (name: string) => Effect.Effect<Mirror.Mirror, never, Scope.Scope>
  readonly cached: <A, I, R>(
    key: string,
    schema: Schema.Schema<A, I, R>
  ) => Effect.Effect<Cached<A>, NotFound | ReadError, R>
  /** What this process has written need not come back by the watch to be known. */
  readonly wrote: Wrote
}

/** What nobody has read for so long is left; at the latest after twice as long. */
const idle = "5 minutes"

type Read<A> = Exit.Exit<Cached<A>, NotFound | DecodeError>

/** What a schema made of a value. */
interface Decoded<A> {
  readonly stored: Entries.Stored
  readonly read: Read<A>
}

/** A key that is read from the copy. */
class Followed {
  mirror: Mirror.Mirror | undefined
  isUsed = true
  /** Whether what this process wrote or saw before cannot be newer than what is known here. */
  isConfirmed = false
  /** The outage in which etcd was asked in vain for what may be newer: since when it lasts. */
  askedInVain: number | undefined
  readonly scope: Scope.CloseableScope
  readonly name: string
  /** Newer than the copy: what this process has written, or read from the quorum. */
  #ahead:
    | { readonly revision: Version; readonly epoch: number; readonly stored: Entries.Stored | undefined }
    | undefined
  #seen: Snapshot | undefined
  #stored: Entries.Stored | undefined
  readonly #decoded = new WeakMap<object, unknown>()

  constructor(name: string, scope: Scope.CloseableScope) {
    this.name = name
    this.scope = scope
  }

  learn(revision: Version, stored: Entries.Stored | undefined): void {
    const epoch = this.#seen?.epoch ?? 0
    const known = this.#ahead?.epoch === epoch ? this.#ahead.revision : 0n
    if (revision > known) this.#ahead = { revision, epoch, stored }
  }

  /** What is there, as far as this process knows. */
  present(snapshot: Snapshot): Entries.Stored | undefined {
    if (snapshot !== this.#seen) {
      // What was learnt since the new history began is taken for that of the old one.
      if (snapshot.epoch !== (this.#seen?.epoch ?? 0)) this.isConfirmed = false
      this.#seen = snapshot
      this.#stored = Option.getOrUndefined(HashMap.get(snapshot.entries, Mirror.indexKey(this.name)))
    }
    const ahead = this.#ahead
    if (ahead === undefined) return this.#stored
    if (ahead.epoch === snapshot.epoch && ahead.revision > snapshot.revision) return ahead.stored
    this.#ahead = undefined
    return this.#stored
  }

  decoded<A, I, R>(schema: Schema.Schema<A, I, R>, stored: Entries.Stored): Read<A> | undefined {
    // What is kept under a schema was decoded by it.
    const known = this.#decoded.get(schema) as Decoded<A> | undefined
    return known !== undefined && known.stored === stored ? known.read : undefined
  }

  keep<A, I, R>(schema: Schema.Schema<A, I, R>, decoded: Decoded<A>): void {
    this.#decoded.set(schema, decoded)
  }
}

export const make = (
  client: EtcdClient["Type"],
  names: Names
): Effect.Effect<Copies, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const mirrors = yield* RcMap.make({
      lookup: (name: string) =>
        Effect.provideService(
          Mirror.make(name.endsWith("/") ? Key.prefix(name) : Key.single(name)),
          EtcdClient,
          client
        )
    })
    const all = new Map<string, Followed>()
    /** The newest that this process has written, of any key. */
    let written: Version = 0n
    let isSweeping = false

    const leaveUnused = Effect.suspend(() =>
      Effect.forEach(Array.from(all).filter(([, { isUsed }]) => !isUsed), ([key, followed]) => {
        all.delete(key)
        return Scope.close(followed.scope, Exit.void)
      }, { discard: true })
    )

    const sweep: Effect.Effect<void> = Effect.suspend(() => {
      isSweeping = all.size > 0
      if (!isSweeping) return Effect.void
      for (const followed of all.values()) followed.isUsed = false
      return Effect.sleep(idle).pipe(Effect.zipRight(leaveUnused), Effect.zipRight(sweep))
    })

    const sweeping: Effect.Effect<void> = Effect.suspend(() => {
      if (isSweeping) return Effect.void
      isSweeping = true
      return sweep.pipe(inBackground("cached"), Effect.interruptible, Effect.forkIn(scope), Effect.asVoid)
    })

    /** The copy that has the key already, the narrowest first; else one of the key alone. */
    const copyWith = (name: string): Effect.Effect<string> => {
      const segments = name.split("/")
      const folders = segments.slice(1).map((_, index) => `${segments.slice(0, -1 - index).join("/")}/`)
      return Effect.map(
        Effect.filter([name, ...folders], (candidate) => RcMap.has(mirrors, candidate)),
        ([narrowest = name]) => narrowest
      )
    }

    const begin = (key: string, name: string): Effect.Effect<Followed> =>
      Effect.uninterruptible(Effect.flatMap(Scope.fork(scope, ExecutionStrategy.sequential), (own) => {
        const other = all.get(key)
        if (other !== undefined) return Effect.as(Scope.close(own, Exit.void), other)
        const followed = new Followed(name, own)
        all.set(key, followed)
        return copyWith(name).pipe(
          Effect.flatMap((name) => Scope.extend(RcMap.get(mirrors, name), own)),
          Effect.map((mirror) => {
            followed.mirror = mirror
            return followed
          }),
          Effect.zipLeft(sweeping)
        )
      }))

    const decode = <A, I, R>(
      key: string,
      schema: Schema.Schema<A, I, R>,
      followed: Followed,
      stored: Entries.Stored | undefined
    ): Effect.Effect<Cached<A>, NotFound | ReadError, R> => {
      if (stored === undefined) return new NotFound({ key })
      const known = followed.decoded(schema, stored)
      if (known !== undefined) return known
      return Effect.flatMap(Entries.codecFor(key, schema), (codec) =>
        Effect.flatMap(
          Effect.exit(
            Effect.map(Entries.read(key, codec, stored), (read) => ({ ...read, staleSinceMillis: undefined }))
          ),
          (read) => {
            if (Exit.isSuccess(read) || Cause.isFailType(read.cause)) followed.keep(schema, { stored, read })
            return read
          }
        ))
    }

    const fromQuorum = <A, I, R>(
      key: string,
      schema: Schema.Schema<A, I, R>,
      followed: Followed
    ): Effect.Effect<Cached<A>, NotFound | ReadError, R> =>
      Effect.flatMap(client.range({ key: followed.name }), ({ header, kvs }) => {
        // A copy of its own: what was decoded is a view into the whole message, and would keep that in memory.
        const stored = kvs.length === 0
          ? undefined
          : { value: new Uint8Array(kvs[0].value), modRevision: kvs[0].modRevision }
        followed.learn(header.revision, stored)
        followed.isConfirmed = true
        return decode(key, schema, followed, stored)
      })

    const read = <A, I, R>(
      key: string,
      schema: Schema.Schema<A, I, R>,
      followed: Followed
    ): Effect.Effect<Cached<A>, NotFound | ReadError, R> => {
      followed.isUsed = true
      const { mirror } = followed
      if (mirror === undefined) return fromQuorum(key, schema, followed)
      return Effect.flatMap(mirror.state, (state) => {
        // There is no copy yet, or etcd refuses one.
        if (state._tag === "Loading") return fromQuorum(key, schema, followed)
        return Effect.flatMap(mirror.snapshot, (snapshot) => {
          const present = followed.present(snapshot)
          if (state._tag === "Following") {
            return followed.isConfirmed
              ? decode(key, schema, followed, present)
              : fromQuorum(key, schema, followed)
          }
          const { sinceMillis: staleSinceMillis } = state
          const known = Effect.map(decode(key, schema, followed, present), (known) => ({ ...known, staleSinceMillis }))
          // The copy may lack what was written here, as calls go on without watches. If they do not, the last known value
          // stands, and who reads again in this outage need not wait for that again.
          return followed.isConfirmed || snapshot.revision >= written || followed.askedInVain === staleSinceMillis
            ? known
            : Effect.catchTag(fromQuorum(key, schema, followed), "EtcdError", () => {
              followed.askedInVain = staleSinceMillis
              return known
            })
        })
      })
    }

    return {
      follow: (name) => RcMap.get(mirrors, name),
      wrote: (name, revision, value) => {
        if (revision > written) written = revision
        if (all.size === 0) return
        all.get(names.of(name))?.learn(revision, value === undefined ? undefined : { value, modRevision: revision })
      },
      cached: (key, schema) =>
        Effect.suspend(() => {
          const followed = all.get(key)
          if (followed !== undefined) return read(key, schema, followed)
          return Effect.gen(function*() {
            const name = yield* names.key(key)
            yield* Entries.codecFor(key, schema)
            return yield* read(key, schema, yield* begin(key, name))
          })
        })
    }
  })
