/**
 * Connections to etcd's members, and calls over them.
 *
 * Every endpoint has a grpc-js client of its own, so that an error names the member it came from. Calls stick to one
 * member (serializable reads do not jump back in time) until it does not answer; then they move to the one whose last
 * failure is longest ago. Moving costs nothing and needs no timer.
 */
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { constVoid } from "effect/Function"
import type * as Scope from "effect/Scope"
import { EtcdError } from "../../EtcdError.js"
import { classify, mayBeApplied } from "../etcdErrors.js"
import type { Cancel, Done, DuplexStream, StreamHandlers } from "../transport.js"
import type { Endpoint } from "./endpoint.js"
import * as Handshake from "./handshake.js"
import { Client } from "./opening.js"

/** One generated message type, as far as we use it. */
interface Codec<A> {
  readonly encode: (message: A) => { readonly finish: () => Uint8Array }
  readonly decode: (input: Uint8Array) => A
}

/** A method of the protocol: where it is and how its messages are written. */
export interface Method<Request, Response> {
  readonly path: string
  /** The name used in errors. */
  readonly operation: string
  /** Whether a call that failed without an answer leaves everything as it was. */
  readonly readOnly: boolean
  readonly serialize: (request: Request) => Buffer
  readonly deserialize: (bytes: Buffer) => Response
}

/** A method, for a request that is written already. */
export type Written<Response> = Omit<Method<never, Response>, "serialize">

export const method = <Request, Response>(
  path: string,
  operation: string,
  kind: "read" | "write",
  request: Codec<Request>,
  response: Codec<Response>
): Method<Request, Response> => ({
  path,
  operation,
  readOnly: kind === "read",
  serialize: (message) => {
    const bytes = request.encode(message).finish()
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  },
  deserialize: (bytes) => response.decode(bytes)
})

export interface ChannelOptions {
  readonly endpoints: ReadonlyArray<Endpoint>
  readonly credentials: grpc.ChannelCredentials
  readonly serverName: string | undefined
  readonly connectTimeoutMillis: number
  readonly keepAliveTimeMillis: number
  readonly keepAliveTimeoutMillis: number
  readonly maxReceiveBytes: number
  readonly maxSendBytes: number
}

interface OpenStream {
  /** Whose connection it uses. */
  readonly client: grpc.Client
  readonly end: (code: number, details: string) => void
}

interface Peer {
  readonly endpoint: Endpoint
  client: grpc.Client
  readonly streams: Set<OpenStream>
  /** What is asked of it to see whether it is still there. */
  question: { readonly client: grpc.Client; readonly call: grpc.ClientUnaryCall } | undefined
  /** Since when somebody waits for its connection. */
  connectingSince: number | undefined
  /** The number of the failure after which it was left; 0 for none. */
  lastFailure: number
  /** When the latest write that it has answered was sent. */
  wroteAt: number
}

export interface CallContext {
  readonly metadata: grpc.Metadata
  /** When the call has to be over: see {@link deadlineIn}. */
  readonly deadline: number
  /** Shown in errors. */
  readonly key?: string | undefined
  /** This member and no other. */
  readonly endpoint?: string | undefined
}

export interface Channel {
  /** The request is written already: what it was written from need not be kept for as long as the call takes. */
  readonly unary: <Response>(
    method: Written<Response>,
    request: Buffer,
    context: CallContext
  ) => Effect.Effect<Response, EtcdError>
  /** The same without a fibre, if the connection stands; the member in use is asked and no other. */
  readonly start: <Response>(
    method: Written<Response>,
    request: Buffer,
    context: CallContext,
    done: Done<Response>
  ) => Cancel | undefined
  readonly duplex: <Request, Response>(
    method: Method<Request, Response>,
    handlers: StreamHandlers<Response>,
    metadata: grpc.Metadata
  ) => Effect.Effect<DuplexStream<Request>, EtcdError, Scope.Scope>
}

/** gRPC deadlines are wall-clock times of the real machine, whatever `Clock` the program runs under. */
export const deadlineIn = (millis: number): number => Date.now() + millis

/** For what has no gRPC deadline: setting the machine's clock must not end a connection that is being opened. */
const monotonic = (): number => performance.now()

/** Any answer will do, a refusal as well; etcd gives this one without asking its disk or other members. */
const healthCheck = "/grpc.health.v1.Health/Check"
const asIs = (bytes: Buffer): Buffer => bytes

const clientOptions = (options: ChannelOptions): grpc.ClientOptions => ({
  "grpc.keepalive_time_ms": options.keepAliveTimeMillis,
  "grpc.keepalive_timeout_ms": options.keepAliveTimeoutMillis,
  // etcd answers pings on a connection without calls with GOAWAY.
  "grpc.keepalive_permit_without_calls": 0,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1_000,
  "grpc.max_receive_message_length": options.maxReceiveBytes,
  "grpc.max_send_message_length": options.maxSendBytes,
  "grpc.enable_retries": 0,
  "grpc.enable_channelz": 0,
  "grpc.enable_http_proxy": 0,
  "grpc.service_config_disable_resolution": 1,
  // Two clients of one process share no connection: closing one must not depend on the other.
  "grpc.use_local_subchannel_pool": 1,
  ...(options.serverName === undefined ? {} : {
    "grpc.ssl_target_name_override": options.serverName,
    "grpc.default_authority": options.serverName
  })
})

export const make = (options: ChannelOptions): Effect.Effect<Channel, never, Scope.Scope> =>
  Effect.gen(function*() {
    const limit = (credentials: grpc.ChannelCredentials) =>
      Handshake.withTimeout(credentials, options.connectTimeoutMillis)
    const insecure = limit(grpc.credentials.createInsecure())
    const secure = limit(options.credentials)
    const makeClient = ({ target, tls }: Endpoint): grpc.Client =>
      new Client(target, tls ? secure : insecure, clientOptions(options))
    const peers = yield* Effect.acquireRelease(
      Effect.sync(() =>
        options.endpoints.map((endpoint): Peer => ({
          endpoint,
          client: makeClient(endpoint),
          streams: new Set(),
          question: undefined,
          connectingSince: undefined,
          lastFailure: 0,
          wroteAt: -Infinity
        }))
      ),
      (peers) =>
        Effect.sync(() =>
          peers.forEach(({ client, question }) => {
            question?.call.cancel()
            client.close()
          })
        )
    )
    // Every client starts somewhere else, so that many of them spread over the members.
    let current = peers[Math.floor(Math.random() * peers.length)]
    let failures = 0

    const leave = (peer: Peer): void => {
      peer.lastFailure = ++failures
      if (peer === current) {
        current = peers.reduce((best, next) => next.lastFailure < best.lastFailure ? next : best)
      }
    }

    /**
     * Whether the member has carried out a write that was sent later: then it, and its leader, are well again. A read proves
     * less, as some are answered without the others.
     */
    const isLostAlone = (peer: Peer, sentAt: number): boolean => peer.wroteAt > sentAt

    const failure = (
      peer: Peer,
      call: Written<unknown>,
      code: number,
      details: string,
      key: string | undefined,
      sentAt = Infinity
    ): EtcdError => {
      const reason = classify(code, details)
      if (reason === "Unavailable" || (reason === "DeadlineExceeded" && !isLostAlone(peer, sentAt))) leave(peer)
      return new EtcdError({
        operation: call.operation,
        reason,
        code,
        endpoint: peer.endpoint.name,
        ...(key === undefined ? {} : { key }),
        mayBeApplied: mayBeApplied(code, details, call.readOnly),
        // grpc-js ends some texts with a note that it has nothing to say about.
        detail: details.replace(/\.? Resolution note: $/, "")
      })
    }

    /** A new connection in place of one that leads nowhere; what still runs over the old one is not cut off. */
    const reconnect = (peer: Peer): void => {
      const { client } = peer
      peer.client = makeClient(peer.endpoint)
      peer.connectingSince = undefined
      // A question that has just been put would not even be sent.
      if (peer.question?.client !== client) client.close()
    }

    /**
     * A deadline that passed may be the fault of the request alone. Who does not answer this either, over the same connection,
     * is gone: its streams, which have no deadlines, move as the calls do, and do not wait for the pings of the connection.
     */
    const ask = (peer: Peer, client: grpc.Client): void => {
      if (peer.question !== undefined) return
      const withinMillis = options.keepAliveTimeoutMillis
      const answered = (error: grpc.ServiceError | null): void => {
        peer.question = undefined
        if (peer.client !== client) client.close()
        if (error?.code !== grpc.status.DEADLINE_EXCEEDED) return
        if (peer.client === client) reconnect(peer)
        for (const stream of Array.from(peer.streams)) {
          if (stream.client === client) stream.end(grpc.status.UNAVAILABLE, `no answer within ${withinMillis} ms`)
        }
      }
      try {
        const call = client.makeUnaryRequest(
          healthCheck,
          asIs,
          asIs,
          Buffer.alloc(0),
          { deadline: deadlineIn(withinMillis) },
          answered
        )
        peer.question = { client, call }
      } catch {
        // Closed in the meantime.
      }
    }

    const stateOf = (peer: Peer): grpc.connectivityState => {
      const state = peer.client.getChannel().getConnectivityState(true)
      if (state === grpc.connectivityState.READY || state === grpc.connectivityState.TRANSIENT_FAILURE) {
        peer.connectingSince = undefined
        return state
      }
      // grpc-js has no time limit for the opening of a TCP connection, and the system a very long one.
      if (peer.connectingSince !== undefined && monotonic() - peer.connectingSince >= options.connectTimeoutMillis) {
        reconnect(peer)
      }
      peer.connectingSince ??= monotonic()
      return state
    }

    const isReady = (peer: Peer): boolean => stateOf(peer) === grpc.connectivityState.READY

    /**
     * Resolves once the connection stands or is known to fail (the call that follows then fails at once, and says why).
     * A member that does not even answer the connection is left at the deadline, with nothing sent.
     */
    const connected = (
      peer: Peer,
      call: Written<unknown>,
      deadline: number,
      key: string | undefined
    ): Effect.Effect<void, EtcdError> =>
      Effect.async<void, EtcdError>((resume) => {
        const begin = Date.now()
        let done = false
        const check = (): void => {
          if (done) return
          const state = stateOf(peer)
          if (state === grpc.connectivityState.READY || state === grpc.connectivityState.TRANSIENT_FAILURE) {
            return resume(Effect.void)
          }
          if (Date.now() >= deadline) {
            const details = `No connection established within ${deadline - begin} ms`
            return resume(Effect.suspend(() => Effect.fail(failure(peer, call, grpc.status.UNAVAILABLE, details, key))))
          }
          const channel = peer.client.getChannel()
          channel.watchConnectivityState(channel.getConnectivityState(true), deadline, check)
        }
        check()
        return Effect.sync(() => {
          done = true
        })
      })

    const startAt = <Response>(
      peer: Peer,
      call: Written<Response>,
      request: Buffer,
      context: CallContext,
      done: Done<Response>
    ): Cancel => {
      let cancelled = false
      const { client } = peer
      const sentAt = monotonic()
      try {
        const sent = client.makeUnaryRequest(
          call.path,
          written,
          call.deserialize,
          request,
          context.metadata,
          { deadline: context.deadline },
          (error, response) => {
            // The end of a call that was cancelled says nothing about its member.
            if (cancelled) return
            if (response !== undefined && error === null) {
              if (!call.readOnly) peer.wroteAt = Math.max(peer.wroteAt, sentAt)
              return done(Exit.succeed(response))
            }
            const code = error?.code ?? grpc.status.UNKNOWN
            if (code === grpc.status.DEADLINE_EXCEEDED) ask(peer, client)
            done(Exit.fail(failure(peer, call, code, error?.details ?? "no answer", context.key, sentAt)))
          }
        )
        return () => {
          cancelled = true
          cancel(sent)
        }
      } catch (cause) {
        // A closed channel throws where it should call back.
        done(Exit.fail(failure(peer, call, grpc.status.UNAVAILABLE, closedDetails(cause), context.key)))
        return constVoid
      }
    }

    const send = <Response>(
      peer: Peer,
      call: Written<Response>,
      request: Buffer,
      context: CallContext
    ): Effect.Effect<Response, EtcdError> =>
      Effect.async<Response, EtcdError>((resume) => {
        const giveUp = startAt(peer, call, request, context, resume)
        return Effect.sync(giveUp)
      })

    const start: Channel["start"] = (call, request, context, done) =>
      isReady(current) ? startAt(current, call, request, context, done) : undefined

    const connectDeadline = (millis: number): number => deadlineIn(Math.min(millis, options.connectTimeoutMillis))

    /** While `others` could be asked as well, waiting for the connection leaves time for them. */
    const attempt = <Response>(
      peer: Peer,
      call: Written<Response>,
      request: Buffer,
      context: CallContext,
      others: number
    ): Effect.Effect<Response, EtcdError> =>
      isReady(peer)
        ? send(peer, call, request, context)
        : Effect.zipRight(
          connected(peer, call, connectDeadline((context.deadline - Date.now()) / (others + 1)), context.key),
          send(peer, call, request, context)
        )

    /** Where nothing was sent, the next member is asked at once. */
    const failOver = <Response>(
      call: Written<Response>,
      request: Buffer,
      context: CallContext,
      others: number
    ): Effect.Effect<Response, EtcdError> =>
      Effect.suspend(() => {
        const first = attempt(current, call, request, context, others)
        return others === 0 ? first : Effect.catchIf(
          first,
          (error) => error.reason === "Unavailable" && !error.mayBeApplied && Date.now() < context.deadline,
          () => failOver(call, request, context, others - 1)
        )
      })

    const unary: Channel["unary"] = (call, request, context) => {
      if (context.endpoint === undefined) return failOver(call, request, context, peers.length - 1)
      const peer = peers.find(({ endpoint }) => endpoint.name === context.endpoint)
      return peer === undefined
        ? Effect.dieMessage(`no such endpoint: ${context.endpoint}`)
        : Effect.suspend(() => attempt(peer, call, request, context, 0))
    }

    const duplex = <Request, Response>(
      call: Method<Request, Response>,
      handlers: StreamHandlers<Response>,
      metadata: grpc.Metadata
    ): Effect.Effect<DuplexStream<Request>, EtcdError, Scope.Scope> =>
      Effect.gen(function*() {
        const peer = current
        if (!isReady(peer)) {
          // Whoever gives up earlier than this does shall find another member when it tries again.
          yield* Effect.onInterrupt(
            connected(peer, call, deadlineIn(options.connectTimeoutMillis), undefined),
            () => Effect.sync(() => leave(peer))
          )
        }
        const stream = yield* Effect.acquireRelease(
          Effect.try({
            try: () => {
              const stream = openStream(
                peer.client,
                call,
                handlers,
                metadata,
                (code, details) => failure(peer, call, code, details, undefined)
              )
              peer.streams.add(stream)
              return stream
            },
            catch: (cause) => failure(peer, call, grpc.status.UNAVAILABLE, closedDetails(cause), undefined)
          }),
          (stream) =>
            Effect.sync(() => {
              peer.streams.delete(stream)
              stream.cancel()
            })
        )
        return {
          endpoint: peer.endpoint.name,
          send: stream.send,
          suspect: (why) => {
            if (why === "unauthenticated") return
            leave(peer)
            ask(peer, stream.client)
            // Another stream of the old connection may have said so before.
            if (peer.client === stream.client) reconnect(peer)
          }
        }
      })

    return { unary, start, duplex }
  })

/** In the moment in which a call is started, grpc-js ends it for us and sends it all the same: so once more after that. */
const cancel = (call: { readonly cancel: () => void }): void => {
  call.cancel()
  setImmediate(() => call.cancel())
}

const written = (request: Buffer): Buffer => request

const closedDetails = (cause: unknown): string =>
  `No connection established: ${cause instanceof Error ? cause.message : String(cause)}`

const openStream = <Request, Response>(
  client: grpc.Client,
  call: Method<Request, Response>,
  handlers: StreamHandlers<Response>,
  metadata: grpc.Metadata,
  failure: (code: number, details: string) => EtcdError
): OpenStream & { readonly send: (request: Request) => void; readonly cancel: () => void } => {
  const stream = client.makeBidiStreamRequest(call.path, call.serialize, call.deserialize, metadata)
  let ended = false
  const end = (code: number, details: string): void => {
    if (ended) return
    ended = true
    handlers.onEnd(failure(code, details))
  }
  stream.on("data", (response: Response) => {
    if (!ended) handlers.onMessage(response)
  })
  stream.on("error", (error: grpc.ServiceError) => end(error.code, error.details))
  stream.on("end", () => end(grpc.status.UNAVAILABLE, "the server ended the stream"))
  return {
    client,
    end,
    send: (request) => {
      if (!ended) stream.write(request)
    },
    cancel: () => {
      ended = true
      cancel(stream)
    }
  }
}
