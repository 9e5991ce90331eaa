/**
 * A live setting at work: one fibre takes what etcd has, or what the snapshot had, through all phases, one update at a
 * time. What arrives meanwhile is not queued: when the update is over, the newest is next.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { EtcdClient } from "../../EtcdClient.js"
import type { EtcdError } from "../../EtcdError.js"
import { toBytes } from "../bytes.js"
import type { Codec } from "../config/codec.js"
import { textOf } from "../config/codec.js"
import type { Version } from "../config/model.js"
import { firstOf } from "../firstOf.js"
import { pauses } from "../keyWatch.js"
import * as Latest from "../latest.js"
import * as Attempt from "./attempt.js"
import { goKeyOf } from "./keys.js"
import type { ConfigManager, Rejection, Reloaded, Source as Origin, Status } from "./model.js"
import { reasonOf } from "./reason.js"
import type { SnapshotFile } from "./snapshotFile.js"
import * as Source from "./source.js"

export interface Settings<A, R> extends Attempt.Steps<A, R> {
  /** What all keys in etcd begin with, slash included. */
  readonly root: string
  readonly key: string
  readonly goKey: boolean
  readonly codec: Codec<A, R>
  readonly isSecret: boolean
  readonly default: A
  readonly startTimeout: Duration.Duration
  readonly updateTimeout: Duration.Duration
  readonly snapshotFile: SnapshotFile | undefined
}

/** What there is to apply: a version of the value, or none. */
interface Target {
  readonly source: Origin
  readonly key: string
  readonly version: Version
  readonly bytes: Uint8Array | undefined
}

interface State<A> {
  readonly value: A
  /** Grows with every value that is applied. */
  readonly turn: number
  readonly target: Target
  readonly appliedAtMillis: number
  readonly rejected: { readonly target: Target; readonly rejection: Rejection } | undefined
}

/** The bytes count as well: another history of etcd may give the same version to another value. */
const isSame = (a: Target, b: Target): boolean =>
  a.bytes === undefined || b.bytes === undefined
    ? a.bytes === b.bytes
    : a.key === b.key && a.version === b.version && Buffer.compare(a.bytes, b.bytes) === 0

const describe = ({ key, source, version }: Target): string =>
  version === 0n ? `the default of config "${key}"` : `config "${key}" (version ${version}, from ${source})`

type Waiting<A> = Deferred.Deferred<Reloaded<A>, EtcdError>

export const make = <A, R>(
  settings: Settings<A, R>
): Effect.Effect<ConfigManager<A>, never, R | EtcdClient | Scope.Scope> =>
  Effect.gen(function*() {
    const { codec, isSecret, key, snapshotFile } = settings
    const news = yield* Queue.sliding<void>(1)
    const doubts = yield* Queue.sliding<void>(1)
    const wake = (): void => void news.unsafeOffer(undefined)

    const none: Target = { source: "default", key, version: 0n, bytes: undefined }
    const cell = Latest.make<State<A>>({
      value: settings.default,
      turn: 0,
      target: none,
      appliedAtMillis: yield* Clock.currentTimeMillis,
      rejected: undefined
    })
    let applying: { readonly version: Version; readonly sinceMillis: number } | undefined
    /** Reloads that wait for their turn, and those that wait for the update under way. */
    let reloads: ReadonlyArray<Waiting<A>> = []
    let served: ReadonlyArray<Waiting<A>> = []
    /** Whether what is in force is what etcd had. */
    let isConfirmed = false
    let snapshot: Target | undefined
    let isClosed = false

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        isClosed = true
        for (const waiting of [...reloads, ...served]) Deferred.unsafeDone(waiting, Effect.interrupt)
        cell.end()
      })
    )

    const source = yield* Source.make(settings.root, settings.goKey ? [key, goKeyOf(key)] : [key], wake)

    /** What etcd has is in force. */
    const confirm = (target: Target): void => {
      isConfirmed = true
      const text = target.bytes === undefined ? Option.none() : textOf(target.bytes)
      snapshotFile?.save(
        Option.getOrUndefined(Option.map(text, (value) => ({ key: target.key, version: target.version, value })))
      )
    }

    const accept = (target: Target, value: A): Effect.Effect<Reloaded<A>> =>
      Effect.gen(function*() {
        const previous = cell.get()
        cell.set({
          value,
          turn: previous.turn + 1,
          target,
          appliedAtMillis: yield* Clock.currentTimeMillis,
          // What the snapshot had does not make up for what etcd has.
          rejected: target.source === "snapshot" ? previous.rejected : undefined
        })
        if (target.source !== "snapshot") confirm(target)
        yield* Effect.logDebug(`${describe(target)} was applied`)
        return { _tag: "Applied", value, version: target.version, previous: previous.value }
      })

    const unchanged = (target: Target): Reloaded<A> => {
      const state = cell.get()
      if (target.source !== "snapshot") {
        if (state.rejected !== undefined || state.target.source !== target.source) {
          cell.set({ ...state, target, rejected: undefined })
        }
        if (!isConfirmed) confirm(target)
      }
      return { _tag: "Unchanged", value: state.value, version: target.version }
    }

    const reject = (
      target: Target,
      { cause, phase }: Exclude<Attempt.Verdict<A>, { readonly _tag: "Accepted" }>
    ): Effect.Effect<Reloaded<A>> =>
      Effect.gen(function*() {
        const state = cell.get()
        const rejection: Rejection = {
          phase,
          source: target.source,
          key: target.key,
          version: target.version,
          atMillis: yield* Clock.currentTimeMillis,
          reason: cause === undefined
            ? `it was not over within ${Duration.format(settings.updateTimeout)}`
            : reasonOf(phase, cause, isSecret),
          cause: cause ?? Redacted.make(Cause.empty)
        }
        // What etcd has says more than what the snapshot had.
        if (target.source !== "snapshot" || state.rejected === undefined) {
          cell.set({ ...state, rejected: { target, rejection } })
        }
        yield* Effect.logWarning(
          `${describe(target)} was refused by ${phase}: ${rejection.reason}; ${describe(state.target)} stays in force`
        )
        return { _tag: "Rejected", rejection }
      })

    const decoded = ({ bytes }: Target): Effect.Effect<A, unknown, R> =>
      bytes === undefined ? Effect.succeed(settings.default) : codec.decode(bytes)

    const attempt = (target: Target) =>
      Attempt.run(decoded(target), settings, cell.get().value, settings.updateTimeout).pipe(
        Effect.tap(({ verdict }) =>
          Effect.annotateCurrentSpan("config.outcome", verdict._tag === "Accepted" ? "applied" : verdict.phase)
        ),
        // Nobody waits for it: it belongs to no span that was open when the manager was made.
        Effect.withSpan("ConfigManager.apply", {
          root: true,
          captureStackTrace: false,
          attributes: { "config.key": target.key, "config.version": String(target.version) }
        })
      )

    /** @param again whether to try once more what was refused before */
    const handle = (
      target: Target,
      waiting: ReadonlyArray<Waiting<A>>,
      again: boolean
    ): Effect.Effect<void, never, R> =>
      Effect.gen(function*() {
        const tell = (outcome: Reloaded<A>): void => {
          for (const one of waiting) Deferred.unsafeDone(one, Effect.succeed(outcome))
        }
        const { rejected, target: inForce } = cell.get()
        if (isSame(target, inForce)) return tell(unchanged(target))
        if (!again && rejected !== undefined && rejected.target.source === target.source) {
          if (isSame(target, rejected.target)) return tell({ _tag: "Rejected", rejection: rejected.rejection })
        }
        applying = { version: target.version, sinceMillis: yield* Clock.currentTimeMillis }
        const { ended, verdict } = yield* attempt(target)
        tell(yield* verdict._tag === "Accepted" ? accept(target, verdict.value) : reject(target, verdict))
        // There is never more than one under way.
        yield* ended
        applying = undefined
      })

    /** What is known of etcd for the first time: that it has something, or refuses to tell. */
    const found = yield* Deferred.make<EtcdError | undefined>()
    const handled = yield* Deferred.make<Reloaded<A>, EtcdError>()
    const snapshotHandled = yield* Deferred.make<Reloaded<A>, EtcdError>()

    const step: Effect.Effect<void, never, R> = Effect.gen(function*() {
      yield* Queue.take(news)
      const knowledge = yield* source.now
      switch (knowledge._tag) {
        case "Known": {
          const { key, kv } = knowledge
          served = reloads
          reloads = []
          Deferred.unsafeDone(found, Effect.succeed(undefined))
          yield* handle(
            kv === undefined ? none : { source: "etcd", key, version: kv.modRevision, bytes: kv.value },
            [...served, handled],
            served.length > 0
          )
          break
        }
        case "Unsure":
          doubts.unsafeOffer(undefined)
          break
        case "Unknown":
          if (knowledge.refused !== undefined) Deferred.unsafeDone(found, Effect.succeed(knowledge.refused))
      }
      if (snapshot !== undefined) {
        const target = snapshot
        snapshot = undefined
        if (!isConfirmed) yield* handle(target, [snapshotHandled], false)
        Deferred.unsafeDone(snapshotHandled, Effect.interrupt)
      }
    })
    yield* Effect.forkScoped(Effect.interruptible(Effect.forever(step)))

    /** Reads all keys together, with pauses, for as long as that is needed. */
    const resolving = source.read.pipe(
      Effect.tapError((error) =>
        Effect.sync(() => {
          for (const waiting of reloads) Deferred.unsafeDone(waiting, Effect.fail(error))
          reloads = []
        })
      ),
      Effect.retry({ schedule: pauses, while: () => Effect.map(source.now, ({ _tag }) => _tag === "Unsure") }),
      Effect.ignore
    )
    yield* Queue.take(doubts).pipe(
      Effect.zipRight(resolving),
      Effect.forever,
      Effect.interruptible,
      Effect.forkScoped
    )

    /** Until there is something that is known to be etcd's, or the time is up; then the snapshot, if there is one. */
    const start = Effect.gen(function*() {
      const reached = yield* firstOf(
        Effect.asSome(Deferred.await(found)),
        Effect.as(Effect.sleep(settings.startTimeout), Option.none<EtcdError | undefined>())
      )
      const problem = Option.match(reached, {
        onNone: () => `nothing was heard of etcd within ${Duration.format(settings.startTimeout)}`,
        onSome: (refused) => refused?.message
      })
      if (problem === undefined) {
        const outcome = yield* Effect.orDie(Effect.interruptible(Deferred.await(handled)))
        if (outcome._tag !== "Rejected") return
      }
      const saved = snapshotFile?.saved()
      if (saved !== undefined) {
        snapshot = { source: "snapshot", key: saved.key, version: saved.version, bytes: toBytes(saved.value) }
        wake()
        // Its turn comes late where what etcd had cannot be interrupted.
        yield* firstOf(Effect.exit(Deferred.await(snapshotHandled)), Effect.sleep(settings.updateTimeout))
      }
      if (problem !== undefined && !isConfirmed) {
        yield* Effect.logWarning(`${problem}: starts with ${describe(cell.get().target)}`)
      }
    })
    yield* start

    const reload = Effect.gen(function*() {
      yield* source.read
      const waiting = yield* Deferred.make<Reloaded<A>, EtcdError>()
      if (isClosed) return yield* Effect.interrupt
      reloads = [...reloads, waiting]
      wake()
      return yield* Effect.onInterrupt(Deferred.await(waiting), () =>
        Effect.sync(() => {
          reloads = reloads.filter((one) => one !== waiting)
        }))
    }).pipe(
      Effect.tap(({ _tag }) => Effect.annotateCurrentSpan("config.outcome", _tag)),
      Effect.withSpan("ConfigManager.reload", {
        kind: "client",
        captureStackTrace: false,
        attributes: { "config.key": key }
      })
    )

    const status = Effect.gen(function*() {
      const connection = yield* source.connection
      const now = yield* Clock.currentTimeMillis
      const { appliedAtMillis, rejected, target, value } = cell.get()
      const present: Status<A> = {
        value,
        source: target.source,
        key: target.key,
        version: target.version,
        appliedAtMillis,
        rejected: Option.map(Option.fromNullable(rejected), ({ rejection }) => rejection),
        applying: Option.fromNullable(applying),
        connection,
        snapshot: Option.map(Option.fromNullable(snapshotFile), (file) => ({
          file: file.file,
          saved: Option.map(Option.fromNullable(file.saved()), ({ atMillis, version }) => ({
            version,
            atMillis,
            age: Duration.millis(Math.max(0, now - atMillis))
          })),
          problem: Option.fromNullable(file.problem())
        }))
      }
      return present
    })

    return {
      key,
      current: Effect.sync(() => cell.get().value),
      changes: Stream.map(cell.stream((state) => state, (a, b) => a.turn === b.turn), ({ value }) => value),
      reload,
      status
    }
  })
