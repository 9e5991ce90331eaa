/**
 * All watchers of a client over one stream.
 *
 * The hub owns the connection: it opens the stream when somebody watches, creates the watches without waiting for one
 * after another, and after a break creates each of them again at the revision after the last one it handed over whole.
 * So nothing is lost and nothing comes twice, wherever the stream was cut. A watcher whose consumer is slow keeps what it
 * has buffered, gives up its watch on the server, and asks again from where it stopped once the buffer is empty.
 *
 * Messages arrive in the transport's own turn and are routed there, without a fibre; what needs an effect (reconnecting,
 * heart-beats, checking for a new history) happens in the hub's one fibre.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Subscribable from "effect/Subscribable"
import type { WatchConnection, WatchError, WatchEvent, WatchRequest } from "../EtcdClient.js"
import { EtcdError, WatchCompacted, WatchNewEpoch } from "../EtcdError.js"
import type { Header } from "../Txn.js"
import { inBackground } from "./background.js"
import { toText } from "./bytes.js"
import * as Cell from "./cell.js"
import { classify } from "./etcdErrors.js"
import type { DuplexStream, Transport, WatchRequest as WireRequest, WatchResponse } from "./transport.js"

export interface HubWatch {
  /** The revision at which the server created the watch: changes above it arrive. */
  readonly created: Effect.Effect<bigint, WatchError>
  /** What has arrived since, waiting for something if need be: whole revisions, in order. For one consumer. */
  readonly pull: Effect.Effect<ReadonlyArray<WatchEvent>, WatchError>
  /** Before its scope does. */
  readonly close: Effect.Effect<void>
}

export interface HubOptions {
  /** After this long without a message the server is asked for one; after `silenceMillis` more the stream is given up. */
  readonly heartbeatMillis: number
  readonly silenceMillis: number
  readonly requestTimeoutMillis: number
  /** A watcher that lags buffers at most about this much. */
  readonly maxBufferedEvents: number
  readonly maxBufferedBytes: number
}

export interface WatchHub {
  /** Before the first watch: disconnected. */
  readonly connection: Subscribable.Subscribable<WatchConnection>
  /** Waits until a stream stands that is another one than this. */
  readonly reconnected: (since: WatchConnection) => Effect.Effect<WatchConnection>
  readonly open: (options: WatchRequest) => Effect.Effect<HubWatch, never, Scope.Scope>
}

const neverConnected = "nothing was watched yet"

/**
 * - `idle`: not known to the server (no connection, or not yet asked for)
 * - `creating`, `live`: asked for, and answered
 * - `lagging`: given up on the server until the consumer has caught up
 * - `done`: closed by its owner, or failed
 */
type Phase = "idle" | "creating" | "live" | "lagging" | "done"

interface Watcher {
  readonly request: WatchRequest
  readonly created: Deferred.Deferred<bigint, WatchError>
  phase: Phase
  id: bigint | undefined
  /** The next revision to deliver; `0n` until a watch from "now" was created. */
  resume: bigint
  /** The stream whose token was not accepted for it, the last time it was asked for. */
  refusedOn: Connection | undefined
  /** The stream on which the server accepted it first. */
  origin: Connection | undefined
  buffer: Array<WatchEvent>
  bufferedBytes: number
  /** Events of a revision whose last fragment has not come yet. */
  held: ReadonlyArray<WatchEvent>
  failure: WatchError | undefined
  waiting: Deferred.Deferred<void> | undefined
}

interface Connection {
  readonly stream: DuplexStream<WireRequest>
  /** Creations are answered in order; a refused one comes back with an id that says nothing. */
  readonly pending: Array<Watcher>
  readonly byId: Map<bigint, Watcher>
  readonly ended: Deferred.Deferred<never, EtcdError>
  /** Watchers whose server seems to be behind what they have seen. */
  readonly suspects: Queue.Queue<Watcher>
  messages: number
  /** Done by the first message: only then is it known that somebody is there. */
  readonly answered: Deferred.Deferred<void>
}

const newWatcher = (request: WatchRequest): Watcher => ({
  request,
  created: Deferred.unsafeMake(FiberId.none),
  phase: "idle",
  id: undefined,
  resume: request.startRevision ?? 0n,
  refusedOn: undefined,
  origin: undefined,
  buffer: [],
  bufferedBytes: 0,
  held: [],
  failure: undefined,
  waiting: undefined
})

const sizeOf = ({ kv, prevKv }: WatchEvent): number =>
  kv.key.length + kv.value.length + (prevKv === undefined ? 0 : prevKv.value.length)

const refusal = (watcher: Watcher, endpoint: string, reason: string): EtcdError => {
  const denied = /permission denied/.test(reason)
  // Older servers give the text alone, or wrapped in another error's.
  const code = denied ? 7 : /auth|user name is empty/.test(reason) ? 16 : 3
  return new EtcdError({
    operation: "watch",
    reason: classify(code, reason),
    code,
    endpoint,
    key: toText(watcher.request.key),
    mayBeApplied: false,
    detail: reason === "" ? "the server cancelled the watch" : reason
  })
}

/** Splits off what may not be whole: the last revision of a message that is continued by the next one. */
const splitFragment = (
  events: ReadonlyArray<WatchEvent>,
  fragment: boolean
): readonly [whole: ReadonlyArray<WatchEvent>, held: ReadonlyArray<WatchEvent>] => {
  if (!fragment || events.length === 0) return [events, []]
  const last = events[events.length - 1].kv.modRevision
  const cut = events.findIndex(({ kv }) => kv.modRevision === last)
  return [events.slice(0, cut), events.slice(cut)]
}

export const make = (transport: Transport, options: HubOptions): Effect.Effect<WatchHub, never, Scope.Scope> =>
  Effect.gen(function*() {
    const watchers = new Set<Watcher>()
    const wanted = yield* Effect.makeLatch(false)
    const connectionState = Cell.make<WatchConnection>({
      _tag: "Disconnected",
      sinceMillis: yield* Clock.currentTimeMillis,
      reason: neverConnected
    }, (a, b) => a === b)
    /** Replaced with every connection that is answered: light enough for thousands to wait on. */
    let standing = Deferred.unsafeMake<void>(FiberId.none)
    let connection: Connection | undefined
    /** Of the last header that can be trusted; a new stream that shows less is suspected of a new history. */
    let history: Pick<Header, "clusterId" | "raftTerm"> | undefined

    const differs = ({ clusterId, raftTerm }: Header): boolean =>
      history !== undefined && (clusterId !== history.clusterId || raftTerm < history.raftTerm)

    const wake = (watcher: Watcher): void => {
      const waiting = watcher.waiting
      if (waiting === undefined) return
      watcher.waiting = undefined
      Deferred.unsafeDone(waiting, Effect.void)
    }

    const detach = (watcher: Watcher): void => {
      if (watcher.id !== undefined) {
        connection?.byId.delete(watcher.id)
        connection?.stream.send({ _tag: "Cancel", watchId: watcher.id })
      }
      watcher.id = undefined
      watcher.held = []
    }

    const forget = (watcher: Watcher): void => {
      detach(watcher)
      watcher.phase = "done"
      watchers.delete(watcher)
      if (watchers.size === 0) wanted.unsafeClose()
    }

    const fail = (watcher: Watcher, error: WatchError): void => {
      if (watcher.phase === "done") return
      forget(watcher)
      watcher.failure = error
      Deferred.unsafeDone(watcher.created, Effect.fail(error))
      wake(watcher)
    }

    const close = (watcher: Watcher): void => {
      if (watcher.phase !== "done") forget(watcher)
      watcher.buffer = []
    }

    const create = (watcher: Watcher): void => {
      if (connection === undefined) return
      const { key, noDelete, noPut, prevKv, rangeEnd } = watcher.request
      watcher.phase = "creating"
      connection.pending.push(watcher)
      connection.stream.send({
        _tag: "Create",
        key,
        rangeEnd,
        startRevision: watcher.resume,
        prevKv: prevKv ?? false,
        noPut: noPut ?? false,
        noDelete: noDelete ?? false
      })
    }

    const reconnect = (from: Connection, error: EtcdError): void => {
      Deferred.unsafeDone(from.ended, Effect.fail(error))
    }

    const refused = (from: Connection, watcher: Watcher, reason: string): void => {
      const error = refusal(watcher, from.stream.endpoint, reason)
      if (error.reason !== "Unauthenticated") return fail(watcher, error)
      // With a token that was just made, too: there is nothing to be gained by another one.
      if (watcher.refusedOn !== undefined && watcher.refusedOn !== from) return fail(watcher, error)
      watcher.refusedOn = from
      // It is the stream's token that is not accepted: all its watchers need a stream with a new one.
      from.stream.suspect("unauthenticated")
      reconnect(from, error)
    }

    const onCreated = (from: Connection, message: WatchResponse): void => {
      const watcher = from.pending.shift()
      if (watcher === undefined) return
      if (message.canceled && message.compactRevision === 0n) return refused(from, watcher, message.cancelReason)
      if (watcher.phase !== "creating") return from.stream.send({ _tag: "Cancel", watchId: message.watchId })
      const { clusterId, raftTerm, revision } = message.header
      watcher.phase = "live"
      watcher.id = message.watchId
      from.byId.set(message.watchId, watcher)
      const replaced = differs(message.header)
      if (watcher.resume === 0n) watcher.resume = revision + 1n
      else if (revision < watcher.resume - 1n || (replaced && watcher.origin !== undefined)) {
        from.suspects.unsafeOffer(watcher)
      }
      if (!replaced) history = { clusterId, raftTerm }
      watcher.origin ??= from
      watcher.refusedOn = undefined
      Deferred.unsafeDone(watcher.created, Effect.succeed(revision))
    }

    const onCanceled = (from: Connection, message: WatchResponse): void => {
      const watcher = from.byId.get(message.watchId)
      if (watcher === undefined) return
      from.byId.delete(message.watchId)
      watcher.id = undefined
      if (message.compactRevision === 0n) return refused(from, watcher, message.cancelReason)
      const { compactRevision } = message
      // etcd 3.5 keeps a watch that it cancelled itself until it is told so, and answers no progress request meanwhile.
      from.stream.send({ _tag: "Cancel", watchId: message.watchId })
      fail(watcher, new WatchCompacted({ startRevision: watcher.resume, compactRevision }))
    }

    const onEvents = (from: Connection, message: WatchResponse): void => {
      const watcher = from.byId.get(message.watchId)
      if (watcher === undefined) return
      const arrived = watcher.held.length === 0 ? message.events : [...watcher.held, ...message.events]
      const [whole, held] = splitFragment(arrived, message.fragment)
      watcher.held = held
      let added = 0
      for (const event of whole) {
        // Servers have repeated events after a resume; the resume revision says what was delivered.
        if (event.kv.modRevision < watcher.resume) continue
        watcher.buffer.push(event)
        watcher.bufferedBytes += sizeOf(event)
        added++
      }
      if (added === 0) return
      watcher.resume = whole[whole.length - 1].kv.modRevision + 1n
      if (watcher.buffer.length > options.maxBufferedEvents || watcher.bufferedBytes > options.maxBufferedBytes) {
        detach(watcher)
        watcher.phase = "lagging"
      }
      wake(watcher)
    }

    const onMessage = (from: Connection, message: WatchResponse): void => {
      if (from.messages++ === 0) Deferred.unsafeDone(from.answered, Effect.void)
      if (message.created) onCreated(from, message)
      if (message.canceled) onCanceled(from, message)
      else if (message.events.length > 0) onEvents(from, message)
    }

    const silence = (endpoint: string): EtcdError =>
      new EtcdError({
        operation: "watch",
        reason: "DeadlineExceeded",
        code: 4,
        endpoint,
        mayBeApplied: false,
        detail: `no message for ${options.heartbeatMillis + options.silenceMillis} ms`
      })

    /**
     * Asks a stream that has been idle for a sign of life: a watch that nobody listens to, cancelled when it is created.
     * A progress request would be the obvious question, but depending on its version and on what else is watched, etcd
     * does not answer it.
     */
    const heartbeat = (from: Connection): Effect.Effect<never, EtcdError> =>
      Effect.gen(function*() {
        const seen = from.messages
        yield* Effect.sleep(Duration.millis(options.heartbeatMillis))
        if (from.messages !== seen || (from.byId.size === 0 && from.pending.length === 0)) return
        const question = newWatcher({ key: "\0", noPut: true, noDelete: true })
        create(question)
        question.phase = "done"
        yield* Effect.sleep(Duration.millis(options.silenceMillis))
        if (from.messages !== seen) return
        from.stream.suspect("silent")
        return yield* silence(from.stream.endpoint)
      }).pipe(Effect.forever)

    /** A member may lag behind the others, which is harmless; only the quorum can say that the history is another one. */
    const checkHistory = (from: Connection): Effect.Effect<never> =>
      Queue.take(from.suspects).pipe(
        Effect.flatMap((watcher) =>
          transport.range(
            { key: watcher.request.key, rangeEnd: watcher.request.rangeEnd, countOnly: true },
            { timeoutMillis: options.requestTimeoutMillis }
          ).pipe(
            Effect.map(({ header }) => {
              const { clusterId, raftTerm, revision } = header
              const replaced = differs(header)
              history = { clusterId, raftTerm }
              if (!replaced && revision >= watcher.resume - 1n) return
              // Whoever has seen events of the old history must hear of it, whatever the numbers say.
              for (const other of Array.from(watchers)) {
                if (other === watcher || (other.origin !== undefined && other.origin !== from)) {
                  fail(other, new WatchNewEpoch({ startRevision: other.resume, revision }))
                }
              }
            }),
            Effect.catchAll(() => Effect.zipRight(Effect.sleep("1 second"), Queue.offer(from.suspects, watcher)))
          )
        ),
        Effect.forever
      )

    const connect: Effect.Effect<never, EtcdError> = Effect.scoped(Effect.gen(function*() {
      const ended = yield* Deferred.make<never, EtcdError>()
      const answered = yield* Deferred.make<void>()
      const suspects = yield* Queue.unbounded<Watcher>()
      const stream = yield* transport.openWatch({
        onMessage: (message) => {
          if (connection !== undefined && connection.ended === ended) onMessage(connection, message)
        },
        onEnd: (error) => Deferred.unsafeDone(ended, Effect.fail(error))
      })
      const from: Connection = { stream, pending: [], byId: new Map(), ended, suspects, messages: 0, answered }
      connection = from
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          connection = undefined
          for (const watcher of watchers) {
            watcher.id = undefined
            watcher.held = []
            if (watcher.phase === "creating" || watcher.phase === "live") watcher.phase = "idle"
          }
        })
      )
      for (const watcher of watchers) {
        if (watcher.phase === "idle") create(watcher)
      }
      const connected = Effect.zipRight(
        Deferred.await(answered),
        Effect.sync(() => {
          connectionState.set({ _tag: "Connected", endpoint: stream.endpoint })
          const waiting = standing
          standing = Deferred.unsafeMake(FiberId.none)
          Deferred.unsafeDone(waiting, Effect.void)
        })
      )
      return yield* Effect.all([connected, Deferred.await(ended), heartbeat(from), checkHistory(from)], {
        concurrency: "unbounded",
        discard: true
      }).pipe(Effect.zipRight(Effect.never))
    }))

    const disconnected = (error: EtcdError): Effect.Effect<void> =>
      Effect.map(Clock.currentTimeMillis, (sinceMillis) => {
        const present = connectionState.get()
        if (present._tag === "Connected" || present.reason === neverConnected) {
          connectionState.set({ _tag: "Disconnected", sinceMillis, reason: error.message })
        }
      })

    const backoff = Schedule.exponential("50 millis").pipe(
      Schedule.either(Schedule.spaced("1 second")),
      Schedule.jittered,
      // A connection that stood for a while starts the back-off anew.
      Schedule.resetAfter("5 seconds")
    )

    yield* wanted.await.pipe(
      Effect.zipRight(connect),
      Effect.tapError((error) => {
        // Wrong credentials do not get better by trying, nor does a message over the client's own limit (which does not
        // say whose it was): tell the watchers. Whoever wants may watch again.
        const isRefused = error.operation === "authenticate" && error.reason === "Unauthenticated"
        if (isRefused || error.reason === "TooLarge") {
          for (const watcher of Array.from(watchers)) fail(watcher, error)
        }
        return Effect.zipRight(disconnected(error), Effect.logDebug(`watch stream ended: ${error.message}`))
      }),
      Effect.retry(backoff),
      inBackground("watch-hub"),
      // Also for whoever makes it in a region that cannot be interrupted.
      Effect.interruptible,
      Effect.forkScoped
    )

    const open: WatchHub["open"] = (request) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const watcher = newWatcher(request)
          watchers.add(watcher)
          wanted.unsafeOpen()
          create(watcher)
          return watcher
        }),
        (watcher) => Effect.sync(() => close(watcher))
      ).pipe(Effect.map((watcher) => {
        const pull: HubWatch["pull"] = Effect.suspend(() => {
          if (watcher.buffer.length > 0) {
            const events = watcher.buffer
            watcher.buffer = []
            watcher.bufferedBytes = 0
            if (watcher.phase === "lagging") {
              watcher.phase = "idle"
              create(watcher)
            }
            return Effect.succeed(events)
          }
          if (watcher.failure !== undefined) return Effect.fail(watcher.failure)
          watcher.waiting ??= Deferred.unsafeMake(FiberId.none)
          return Effect.zipRight(Deferred.await(watcher.waiting), pull)
        })
        return { created: Deferred.await(watcher.created), pull, close: Effect.sync(() => close(watcher)) }
      }))

    const reconnected: WatchHub["reconnected"] = (since) =>
      Effect.suspend(() => {
        const present = connectionState.get()
        return present._tag === "Connected" && present !== since
          ? Effect.succeed(present)
          : Effect.zipRight(Deferred.await(standing), reconnected(since))
      })

    const connectionSubscribable = Subscribable.make({
      get: Effect.sync(connectionState.get),
      changes: connectionState.changes
    })
    return { connection: connectionSubscribable, reconnected, open }
  })
