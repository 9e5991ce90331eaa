/** etcd's services over the channel, with the token of an authenticated user on every call. */
import * as grpc from "@grpc/grpc-js"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { EtcdError } from "../../EtcdError.js"
import { toText } from "../bytes.js"
import * as rpc from "../proto/rpc.js"
import type { CallOptions, DuplexStream, StreamHandlers, Transport } from "../transport.js"
import { firstKey, isReadOnly } from "../txnShape.js"
import * as Channel from "./channel.js"
import * as codec from "./codec.js"

export interface Auth {
  readonly username: string
  readonly password: Redacted.Redacted<string>
}

const methods = {
  range: Channel.method("/etcdserverpb.KV/Range", "range", "read", rpc.RangeRequest, rpc.RangeResponse),
  put: Channel.method("/etcdserverpb.KV/Put", "put", "write", rpc.PutRequest, rpc.PutResponse),
  del: Channel.method(
    "/etcdserverpb.KV/DeleteRange",
    "delete",
    "write",
    rpc.DeleteRangeRequest,
    rpc.DeleteRangeResponse
  ),
  txn: Channel.method("/etcdserverpb.KV/Txn", "txn", "write", rpc.TxnRequest, rpc.TxnResponse),
  readOnlyTxn: Channel.method("/etcdserverpb.KV/Txn", "txn", "read", rpc.TxnRequest, rpc.TxnResponse),
  compact: Channel.method(
    "/etcdserverpb.KV/Compact",
    "compact",
    "write",
    rpc.CompactionRequest,
    rpc.CompactionResponse
  ),
  watch: Channel.method("/etcdserverpb.Watch/Watch", "watch", "read", rpc.WatchRequest, rpc.WatchResponse),
  grant: Channel.method(
    "/etcdserverpb.Lease/LeaseGrant",
    "leaseGrant",
    "write",
    rpc.LeaseGrantRequest,
    rpc.LeaseGrantResponse
  ),
  revoke: Channel.method(
    "/etcdserverpb.Lease/LeaseRevoke",
    "leaseRevoke",
    "write",
    rpc.LeaseRevokeRequest,
    rpc.LeaseRevokeResponse
  ),
  timeToLive: Channel.method(
    "/etcdserverpb.Lease/LeaseTimeToLive",
    "leaseTimeToLive",
    "read",
    rpc.LeaseTimeToLiveRequest,
    rpc.LeaseTimeToLiveResponse
  ),
  keepAlive: Channel.method(
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "leaseKeepAlive",
    "read",
    rpc.LeaseKeepAliveRequest,
    rpc.LeaseKeepAliveResponse
  ),
  status: Channel.method("/etcdserverpb.Maintenance/Status", "status", "read", rpc.StatusRequest, rpc.StatusResponse),
  authenticate: Channel.method(
    "/etcdserverpb.Auth/Authenticate",
    "authenticate",
    "read",
    rpc.AuthenticateRequest,
    rpc.AuthenticateResponse
  )
}

/** Metadata for unary calls and for streams; replaced as a pair when the token is. */
interface Credentials {
  readonly unary: grpc.Metadata
  readonly stream: grpc.Metadata
}

const credentials = (token: string | undefined): Credentials => {
  const unary = new grpc.Metadata()
  const stream = new grpc.Metadata()
  if (token !== undefined) {
    unary.set("token", token)
    stream.set("token", token)
  }
  // A member cut off from its leader ends the stream instead of feeding it silence.
  stream.set("hasleader", "true")
  return { unary, stream }
}

export const make = (
  options: Channel.ChannelOptions & {
    readonly auth: Auth | undefined
    readonly authTimeoutMillis: number
    /** Whether the client shows a certificate. */
    readonly certified: boolean
  }
): Effect.Effect<Transport, never, Scope.Scope> =>
  Effect.gen(function*() {
    const channel = yield* Channel.make(options)
    const anonymous = credentials(undefined)
    const auth = options.auth
    let present: Credentials | undefined
    /** The token that somebody asks for now; it ends with what is wrong with the user, or nothing. */
    let refreshing: Deferred.Deferred<EtcdError | undefined> | undefined

    const authenticate = (user: Auth, deadline: number): Effect.Effect<Credentials, EtcdError> =>
      channel.unary(
        methods.authenticate,
        methods.authenticate.serialize({ name: user.username, password: Redacted.value(user.password) }),
        { metadata: anonymous.unary, deadline }
      ).pipe(
        Effect.map(({ token }) => credentials(token)),
        // A cluster that does not (yet) ask for credentials is served without them.
        Effect.catchIf(
          (error) => error.detail.includes("authentication is not enabled"),
          () => Effect.succeed(anonymous)
        ),
        Effect.mapError((error) =>
          new EtcdError({ ...error, detail: `${error.detail} (user ${JSON.stringify(user.username)})` })
        )
      )

    const noToken = (): EtcdError =>
      new EtcdError({
        operation: "authenticate",
        reason: "DeadlineExceeded",
        code: grpc.status.DEADLINE_EXCEEDED,
        mayBeApplied: false,
        detail: "the deadline passed while waiting for a token"
      })

    /** The credentials in force; a token is asked for once, however many calls wait for it. */
    const login = (deadline: number): Effect.Effect<Credentials, EtcdError> =>
      Effect.suspend(() => {
        if (auth === undefined) return Effect.succeed(anonymous)
        if (present !== undefined) return Effect.succeed(present)
        if (refreshing !== undefined) {
          return Deferred.await(refreshing).pipe(
            Effect.timeoutFail({ duration: Math.max(0, deadline - Date.now()), onTimeout: noToken }),
            Effect.flatMap((refused) => refused === undefined ? login(deadline) : Effect.fail(refused))
          )
        }
        // Whoever waits for it must not wait for somebody who was interrupted between this and the end of it.
        return Effect.uninterruptibleMask((restore) => {
          const own = refreshing = Deferred.unsafeMake<EtcdError | undefined, never>(FiberId.none)
          let refused: EtcdError | undefined
          return restore(authenticate(auth, deadline)).pipe(
            Effect.tapBoth({
              onSuccess: (fresh) =>
                Effect.sync(() => {
                  present = fresh
                }),
              onFailure: (error) =>
                Effect.sync(() => {
                  if (error.reason === "Unauthenticated") refused = error
                })
            }),
            Effect.ensuring(Effect.suspend(() => {
              refreshing = undefined
              return Deferred.succeed(own, refused)
            }))
          )
        })
      })

    const forget = (used: Credentials): void => {
      if (present === used) present = undefined
    }

    const unary = <Request, Response>(
      call: Channel.Method<Request, Response>,
      request: Request,
      { timeoutMillis }: CallOptions,
      key?: string,
      endpoint?: string
    ): Effect.Effect<Response, EtcdError> => {
      const context = (used: Credentials, deadline: number): Channel.CallContext => ({
        metadata: used.unary,
        deadline,
        key,
        endpoint
      })
      const written = call.serialize(request)
      return Effect.suspend(() => {
        const deadline = Channel.deadlineIn(timeoutMillis)
        if (auth === undefined) return channel.unary(call, written, context(anonymous, deadline))
        const once = Effect.flatMap(login(deadline), (used) =>
          Effect.tapError(
            channel.unary(call, written, context(used, deadline)),
            (error) => Effect.sync(() => error.reason === "Unauthenticated" && forget(used))
          ))
        // A token may have expired, or been forgotten by a restarted member. The refusal was definite: once more is safe.
        return Effect.catchIf(once, (error) =>
          error.reason === "Unauthenticated" && error.operation !== "authenticate", () =>
          once)
      })
    }

    const open = <Request, Response>(
      call: Channel.Method<Request, Response>,
      handlers: StreamHandlers<Response>
    ): Effect.Effect<DuplexStream<Request>, EtcdError, Scope.Scope> =>
      Effect.flatMap(
        Effect.suspend(() =>
          login(Channel.deadlineIn(options.authTimeoutMillis))
        ),
        (used) =>
          channel.duplex<Request, Response>(call, {
            onMessage: handlers.onMessage,
            onEnd: (error) => {
              if (error.reason === "Unauthenticated") {
                forget(used)
              }
              handlers.onEnd(error)
            }
          }, used.stream).pipe(Effect.map((stream) => ({
            ...stream,
            suspect: (why) => {
              if (why === "unauthenticated") {
                forget(used)
              }
              stream.suspect(why)
            }
          })))
      )

    return {
      endpoints: options.endpoints.map(({ name }) => name),
      identified: auth !== undefined || options.certified,
      range: (request, call) =>
        Effect.map(
          unary(methods.range, codec.rangeRequest(request), call, toText(request.key)),
          codec.rangeResponse
        ),
      put: (request, call) =>
        Effect.map(unary(methods.put, codec.putRequest(request), call, toText(request.key)), codec.putResponse),
      del: (request, call) =>
        Effect.map(unary(methods.del, codec.deleteRequest(request), call, toText(request.key)), codec.deleteResponse),
      txn: (request, call) =>
        Effect.map(
          unary(
            isReadOnly(request) ? methods.readOnlyTxn : methods.txn,
            codec.txnRequest(request),
            call,
            firstKey(request)
          ),
          codec.txnResponse
        ),
      startTxn: (request, { timeoutMillis }, done) => {
        if (auth !== undefined) return undefined
        const method = isReadOnly(request) ? methods.readOnlyTxn : methods.txn
        const context = {
          metadata: anonymous.unary,
          deadline: Channel.deadlineIn(timeoutMillis),
          key: firstKey(request)
        }
        return channel.start(
          method,
          method.serialize(codec.txnRequest(request)),
          context,
          (exit) => done(Exit.map(exit, codec.txnResponse))
        )
      },
      leaseGrant: ({ id, ttl }, call) =>
        Effect.map(unary(methods.grant, { ID: id, TTL: ttl }, call), (granted) => ({
          header: codec.header(granted.header),
          id: granted.ID,
          ttl: granted.TTL
        })),
      leaseRevoke: (id, call) =>
        Effect.map(unary(methods.revoke, { ID: id }, call), ({ header }) => codec.header(header)),
      leaseTimeToLive: ({ id, keys }, call) =>
        Effect.map(unary(methods.timeToLive, { ID: id, keys }, call), (answer) => ({
          header: codec.header(answer.header),
          id: answer.ID,
          ttl: answer.TTL,
          grantedTtl: answer.grantedTTL,
          keys: answer.keys
        })),
      compact: (revision, physical, call) =>
        Effect.map(unary(methods.compact, { revision, physical }, call), ({ header }) => codec.header(header)),
      status: (endpoint, call) =>
        Effect.map(unary(methods.status, {}, call, undefined, endpoint), (answer) => ({
          header: codec.header(answer.header),
          version: answer.version,
          dbSize: answer.dbSize,
          leader: answer.leader,
          raftIndex: answer.raftIndex,
          raftTerm: answer.raftTerm
        })),
      openWatch: (handlers) =>
        Effect.map(
          open(methods.watch, {
            onMessage: (message: rpc.WatchResponse) => handlers.onMessage(codec.watchResponse(message)),
            onEnd: handlers.onEnd
          }),
          ({ endpoint, send, suspect }) => ({
            endpoint,
            suspect,
            send: (request) => send(codec.watchRequest(request))
          })
        ),
      openLease: (handlers) =>
        Effect.map(
          open(methods.keepAlive, {
            onMessage: (message: rpc.LeaseKeepAliveResponse) =>
              handlers.onMessage({ header: codec.header(message.header), id: message.ID, ttl: message.TTL }),
            onEnd: handlers.onEnd
          }),
          ({ endpoint, send, suspect }) => ({ endpoint, suspect, send: (id) => send({ ID: id }) })
        )
    }
  })
