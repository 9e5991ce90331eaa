/** The client service over a transport: retry, namespace, leases, watches. The same for every transport. */
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { constTrue, constVoid } from "effect/Function"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type {
  CallOptions,
  Cancelable,
  EtcdClient,
  Lease,
  StartedTxn,
  WatchConnection,
  WatchRequest
} from "../EtcdClient.js"
import { EtcdError } from "../EtcdError.js"
import type { KeyRange, TxnResponse } from "../Txn.js"
import * as Batcher from "./batch/batcher.js"
import { byteLength, toText } from "./bytes.js"
import { randomLeaseId } from "./ids.js"
import { successor } from "./keyRange.js"
import * as LeaseStream from "./leaseStream.js"
import * as Namespace from "./namespace.js"
import * as numbers from "./numbers.js"
import type { ClientOptions } from "./options.js"
import type { Repeatable, Rest, RetryOptions } from "./retry.js"
import { Calling, Course, retrying } from "./retry.js"
import type { Settled, Transport } from "./transport.js"
import { firstKey, isReadOnly } from "./txnShape.js"
import * as WatchHub from "./watchHub.js"

type Client = EtcdClient["Type"]

/** What a watcher may hold back for a slow consumer before it gives its watch up for a while. */
const maxBufferedEvents = 4_096
const maxBufferedBytes = 4 * 1024 * 1024

const defaultPageSize = 1_000

const refusal = (operation: string, detail: string, key?: string): EtcdError =>
  new EtcdError({
    operation,
    reason: "InvalidRequest",
    code: 3,
    ...(key === undefined ? {} : { key }),
    mayBeApplied: false,
    detail
  })

const watchProblem = (request: WatchRequest): string | undefined =>
  byteLength(request.key) === 0 ? "etcdserver: key is not provided" : numbers.ofStart(request.startRevision)

const leaseNotFound = (operation: string): EtcdError =>
  new EtcdError({
    operation,
    reason: "LeaseNotFound",
    code: 5,
    mayBeApplied: false,
    detail: "etcdserver: requested lease not found"
  })

/** The watch was asked for in vain: of whom, or why of nobody. */
const notCreated = (
  { key }: KeyRange,
  timeout: Duration.Duration,
  connection: WatchConnection
): EtcdError =>
  new EtcdError({
    operation: "watch",
    reason: "DeadlineExceeded",
    code: 4,
    ...(connection._tag === "Connected" ? { endpoint: connection.endpoint } : {}),
    key: toText(key),
    mayBeApplied: false,
    detail: `the watch was not created within ${Duration.format(timeout)}${
      connection._tag === "Connected" ? "" : ` (${connection.reason})`
    }`
  })

const nothingToCancel: Cancelable = { cancel: constVoid, isSent: constTrue }

/** A transaction that takes no fibre unless its first attempt fails. */
class StartedCourse extends Course<TxnResponse> implements Settled<TxnResponse> {
  readonly #kv: Batcher.BatchedKv
  readonly #started: StartedTxn

  constructor(
    options: RetryOptions,
    repeatable: Repeatable,
    timeoutMillis: number,
    kv: Batcher.BatchedKv,
    started: StartedTxn
  ) {
    super(options, repeatable, timeoutMillis)
    this.#kv = kv
    this.#started = started
  }

  attempt(timeoutMillis: number): Effect.Effect<TxnResponse, EtcdError> {
    return this.#kv.txn(this.#started.request(), { timeoutMillis })
  }

  settled(exit: Exit.Exit<TxnResponse, EtcdError>): void {
    if (Exit.isSuccess(exit)) this.#started.answered(exit.value)
    else this.#started.troubled(this.goOn(exit.cause))
  }
}

export const make = (transport: Transport, options: ClientOptions): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.gen(function*() {
    const hub = yield* WatchHub.make(transport, {
      heartbeatMillis: options.keepAliveTimeMillis,
      silenceMillis: Math.max(10_000, options.keepAliveTimeoutMillis),
      requestTimeoutMillis: options.requestTimeoutMillis,
      maxBufferedEvents,
      maxBufferedBytes
    })
    const leases = yield* LeaseStream.make(transport)
    const batched = options.batch ? yield* Batcher.make(transport, options) : undefined
    const kv = batched ?? Batcher.none(transport)
    const retry = { clock: yield* Effect.clock, schedule: options.retry, endpoints: transport.endpoints.length }

    const millisOf = (call: Pick<CallOptions, "timeout"> | undefined): number =>
      call?.timeout === undefined ? options.requestTimeoutMillis : Math.max(1, Duration.toMillis(call.timeout))

    const repeatableAs = (kind: "read" | "write", call: CallOptions | undefined): Repeatable =>
      kind === "write" && call?.idempotent === true ? "idempotent" : kind

    const calling = <A>(
      call: CallOptions | undefined,
      kind: "read" | "write",
      run: (options: { readonly timeoutMillis: number }) => Effect.Effect<A, EtcdError>
    ): Effect.Effect<A, EtcdError> => {
      return retrying(retry, repeatableAs(kind, call), millisOf(call), (timeoutMillis) => run({ timeoutMillis }))
    }

    /** The same for the key-value calls, which go on by themselves after an attempt. */
    const callingKv = <A>(
      call: CallOptions | undefined,
      kind: "read" | "write",
      run: (options: { readonly timeoutMillis: number }, rest?: Rest<A>) => Effect.Effect<A, EtcdError>
    ): Effect.Effect<A, EtcdError> =>
      Effect.suspend(() => {
        const course = new Calling<A>(
          retry,
          repeatableAs(kind, call),
          millisOf(call),
          (timeoutMillis) => run({ timeoutMillis })
        )
        return run({ timeoutMillis: course.time() }, course)
      })

    /** What cannot be sent is refused here, for every transport in the same words. */
    const checked = <A>(
      operation: string,
      problem: string | undefined,
      effect: () => Effect.Effect<A, EtcdError>,
      key?: KeyRange["key"]
    ): Effect.Effect<A, EtcdError> =>
      problem === undefined
        ? effect()
        : Effect.fail(refusal(operation, problem, key === undefined ? undefined : toText(key)))

    const withKey = <A>(
      operation: string,
      key: KeyRange["key"],
      effect: () => Effect.Effect<A, EtcdError>,
      problem?: string
    ): Effect.Effect<A, EtcdError> =>
      checked(operation, byteLength(key) === 0 ? "etcdserver: key is not provided" : problem, effect, key)

    const txn: Client["txn"] = (request, call) =>
      checked(
        "txn",
        numbers.ofTxn(request),
        () =>
          callingKv(call, isReadOnly(request) ? "read" : "write", (options, rest) => kv.txn(request, options, rest)),
        firstKey(request)
      )

    const startTxn: Client["startTxn"] = (started, call) => {
      const request = started.request()
      if (batched === undefined || numbers.ofTxn(request) !== undefined) {
        started.troubled(txn(request, call))
        return nothingToCancel
      }
      const repeatable = repeatableAs(isReadOnly(request) ? "read" : "write", call)
      const course = new StartedCourse(retry, repeatable, millisOf(call), batched, started)
      return batched.startTxn(started, request, { timeoutMillis: course.time() }, course)
    }

    const range: Client["range"] = (request, call) =>
      withKey(
        "range",
        request.key,
        () => callingKv(call, "read", (options, rest) => kv.range(request, options, rest)),
        numbers.ofRange(request)
      )

    const leaseGrant: Client["leaseGrant"] = (request, call) => {
      const seconds = Math.ceil(Duration.toSeconds(request.ttl))
      if (!(seconds > 0 && Number.isSafeInteger(seconds))) {
        return Effect.fail(refusal("leaseGrant", "the time to live must be above zero"))
      }
      const ttl = BigInt(seconds)
      // Whoever runs the effect again wants another lease.
      const granted = Effect.suspend(() => {
        const id = request.id ?? randomLeaseId()
        // The id is ours, so a second sending that finds the lease has found the first one's. How long that one was granted
        // is not said, but it is at least what was asked for.
        const own = (error: EtcdError, earlierMayBeApplied: boolean) =>
          error.reason === "LeaseExists" && earlierMayBeApplied
            ? Effect.succeed({ id, ttl })
            : Effect.fail(error)
        return retrying(retry, "idempotent", millisOf(call), (timeoutMillis, earlierMayBeApplied) =>
          Effect.catchAll(
            transport.leaseGrant({ id, ttl }, { timeoutMillis }),
            (error) => own(error, earlierMayBeApplied)
          ))
      })
      return checked("leaseGrant", numbers.ofNumber("id", request.id), () => granted).pipe(
        Effect.map((lease): Lease => ({ id: lease.id, ttl: Duration.seconds(Number(lease.ttl)) }))
      )
    }

    const leaseKeepAliveOnce: Client["leaseKeepAliveOnce"] = (id, call) =>
      Effect.map(
        checked("leaseKeepAlive", numbers.ofNumber("id", id), () => leases.keepAlive(id, millisOf(call))),
        ({ ttl }): Lease => ({ id, ttl: Duration.seconds(Number(ttl)) })
      )

    const openWatch: Client["openWatch"] = (request, call) => {
      const problem = watchProblem(request)
      if (problem !== undefined) return Effect.fail(refusal("watch", problem, toText(request.key)))
      const timeout = Duration.millis(millisOf(call))
      return Effect.flatMap(hub.open(request), ({ close, created, pull }) =>
        Effect.timeoutTo(created, {
          duration: timeout,
          onSuccess: Effect.succeed,
          onTimeout: () => Effect.flatMap(hub.connection.get, (connection) => notCreated(request, timeout, connection))
        }).pipe(
          Effect.flatten,
          // The scope may live on, and whoever tries again in it should not pile watches up.
          Effect.onError(() => close),
          Effect.map((revision) => ({ revision, next: pull }))
        ))
    }

    const status: Client["status"] = (endpoint, call) =>
      transport.endpoints.includes(endpoint)
        ? calling(call, "read", (options) => transport.status(endpoint, options)).pipe(Effect.map((answer) => ({
          endpoint,
          version: answer.version,
          memberId: answer.header.memberId,
          leader: answer.leader,
          revision: answer.header.revision,
          raftTerm: answer.raftTerm,
          dbSize: answer.dbSize
        })))
        : Effect.fail(refusal("status", `${endpoint} is none of the endpoints ${transport.endpoints.join(", ")}`))

    const [cachedVersion, forgetVersion] = yield* Effect.cachedInvalidateWithTTL(
      Effect.firstSuccessOf(transport.endpoints.map((endpoint) => status(endpoint))).pipe(
        Effect.map(({ version }) => version)
      ),
      "5 minutes"
    )
    // A failure is not kept: the next one asks again.
    const serverVersion = Effect.tapError(cachedVersion, () => forgetVersion)

    const client: Client = {
      endpoints: transport.endpoints,
      namespace: "",
      range,
      get: (key, call) => Effect.map(range({ key }, call), ({ kvs }) => Option.fromNullable(kvs[0])),
      pages: (request, call) =>
        Stream.paginateEffect(
          request,
          (page) =>
            Effect.map(range({ ...page, limit: call?.pageSize ?? defaultPageSize }, call), (response) => {
              const last = response.kvs[response.kvs.length - 1]
              return [
                response,
                response.more && last !== undefined
                  ? Option.some({
                    ...request,
                    key: successor(last.key),
                    revision: page.revision ?? response.header.revision
                  })
                  : Option.none()
              ]
            })
        ),
      put: (request, call) =>
        withKey(
          "put",
          request.key,
          () => callingKv(call, "write", (options, rest) => kv.put(request, options, rest)),
          numbers.ofNumber("lease", request.lease)
        ),
      delete: (request, call) =>
        withKey(
          "delete",
          request.key,
          () => callingKv(call, "write", (options, rest) => kv.del(request, options, rest))
        ),
      txn,
      startTxn,
      leaseGrant,
      leaseRevoke: (id, call) =>
        checked(
          "leaseRevoke",
          numbers.ofNumber("id", id),
          () => calling({ ...call, idempotent: true }, "write", (options) => transport.leaseRevoke(id, options))
        ).pipe(
          Effect.catchIf((error) => error.reason === "LeaseNotFound", () => Effect.void),
          Effect.asVoid
        ),
      leaseTimeToLive: (id, call) =>
        checked(
          "leaseTimeToLive",
          numbers.ofNumber("id", id),
          () =>
            calling(call, "read", (options) => transport.leaseTimeToLive({ id, keys: call?.keys ?? false }, options))
        ).pipe(
          // An unknown lease is no error on the wire, but a time of -1.
          Effect.filterOrFail(({ ttl }) => ttl >= 0n, () => leaseNotFound("leaseTimeToLive")),
          Effect.map((answer) => ({
            id,
            remaining: Duration.seconds(Number(answer.ttl)),
            granted: Duration.seconds(Number(answer.grantedTtl)),
            keys: answer.keys
          }))
        ),
      leaseKeepAliveOnce,
      leaseKeepAlive: (id) =>
        Stream.repeatEffectWithSchedule(
          leaseKeepAliveOnce(id),
          Schedule.identity<Lease>().pipe(Schedule.addDelay(({ ttl }) => Duration.times(ttl, 1 / 3)))
        ),
      watch: (request) => {
        const problem = watchProblem(request)
        return problem !== undefined
          ? Stream.fail(refusal("watch", problem, toText(request.key)))
          : Stream.unwrapScoped(
            Effect.map(
              hub.open(request),
              ({ pull }) => Stream.repeatEffectChunk(Effect.map(pull, Chunk.unsafeFromArray))
            )
          )
      },
      openWatch,
      watchConnection: hub.connection,
      watchReconnected: hub.reconnected,
      status,
      serverVersion,
      compact: (revision, call) =>
        checked(
          "compact",
          numbers.ofNumber("revision", revision),
          () => calling(call, "write", (options) => transport.compact(revision, call?.physical ?? false, options))
        )
    }
    return options.namespace === "" ? client : within(client, options.namespace)
  })

/** The client as seen from inside a namespace. */
const within = (client: Client, prefix: string): Client => {
  const namespace = Namespace.make(prefix)
  return {
    ...client,
    namespace: prefix,
    range: (request, call) => Effect.map(client.range(namespace.range(request), call), namespace.bareRange),
    get: (key, call) => Effect.map(client.get(namespace.key({ key }).key, call), Option.map(namespace.bareKv)),
    pages: (request, call) => Stream.map(client.pages(namespace.range(request), call), namespace.bareRange),
    put: (request, call) =>
      Effect.map(client.put(namespace.key(request), call), ({ header, prevKv }) => ({
        header,
        prevKv: prevKv === undefined ? undefined : namespace.bareKv(prevKv)
      })),
    delete: (request, call) =>
      Effect.map(client.delete(namespace.range(request), call), (response) => ({
        ...response,
        prevKvs: response.prevKvs.map(namespace.bareKv)
      })),
    txn: (request, call) => Effect.map(client.txn(namespace.txn(request), call), namespace.bareTxn),
    startTxn: (started, call) =>
      client.startTxn({
        request: () => namespace.txn(started.request()),
        answered: (response) => started.answered(namespace.bareTxn(response)),
        troubled: (rest) => started.troubled(Effect.map(rest, namespace.bareTxn))
      }, call),
    leaseTimeToLive: (id, call) =>
      Effect.map(client.leaseTimeToLive(id, call), (lease) => ({
        ...lease,
        keys: lease.keys.filter(namespace.contains).map(namespace.bareKey)
      })),
    watch: (request) => Stream.map(client.watch(namespace.range(request)), namespace.bareEvent),
    openWatch: (request, call) =>
      Effect.map(client.openWatch(namespace.range(request), call), ({ next, revision }) => ({
        revision,
        next: Effect.map(next, (events) => events.map(namespace.bareEvent))
      }))
  }
}
