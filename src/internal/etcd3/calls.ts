/**
 * Calls over the service clients of an `Etcd3` instance.
 *
 * Left to itself, etcd3 gives each call to a host that it draws by chance, repeats what failed (writes too), closes its
 * connections to a host after a cancel or a deadline, and keeps the text of an error alone. All that is put right from
 * outside, by an interceptor, which etcd3 passes on to gRPC among the options of a call: it sees which host was drawn and
 * may refuse it, lets a call out only once, cancels it, reads its status as it came, and decides what etcd3 hears of it.
 */
import * as grpc from "@grpc/grpc-js"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import type * as Scope from "effect/Scope"
import type { IDuplexStream } from "etcd3"
import { EtcdError } from "../../EtcdError.js"
import { classify, mayBeApplied, type Status, Statuses } from "../etcdErrors.js"
import { firstOf } from "../firstOf.js"
import type { DuplexStream, StreamHandlers } from "../transport.js"

/** How a service client of etcd3 is called: its request is bound already. */
type Begin<A> = (options: grpc.CallOptions) => Promise<A>

export interface UnaryCall<Response> {
  /** The name used in errors. */
  readonly operation: string
  readonly readOnly: boolean
  readonly timeoutMillis: number
  /** Shown in errors. */
  readonly key?: string | undefined
  /** This host and no other. */
  readonly host?: string | undefined
  readonly begin: Begin<Response>
}

export interface StreamCall<Request, Response> {
  readonly operation: string
  /** How long etcd3 may take to open it, which includes asking for a token. */
  readonly timeoutMillis: number
  readonly begin: Begin<IDuplexStream<Request, Response>>
}

export interface Calls {
  readonly unary: <Response>(call: UnaryCall<Response>) => Effect.Effect<Response, EtcdError>
  readonly duplex: <Request, Response>(
    call: StreamCall<Request, Response>,
    handlers: StreamHandlers<Response>
  ) => Effect.Effect<DuplexStream<Request>, EtcdError, Scope.Scope>
}

interface Host {
  readonly name: string
  /** The number of its last failure; 0 for none. */
  lastFailure: number
  /** The moment in which it last sent something. */
  answeredAt: number
}

/** What a call of ours makes of the calls that etcd3 begins for it. */
interface Observer {
  /** What is not admitted is not sent: etcd3 sees it fail with {@link notSent}. */
  readonly admits: (host: Host) => boolean
  readonly onStart: (host: Host, cancel: (code: grpc.status, details: string) => void) => void
  /** Returns what etcd3 is told. */
  readonly onStatus: (host: Host, status: grpc.StatusObject) => grpc.StatusObject
}

/** A class of its own: etcd3 makes other errors of plain ones. */
class NotSent extends Error {}

/**
 * What a call that is not admitted fails with. It passes through etcd3 as it is, which neither repeats it nor holds it
 * against a host; one for all, as it may be needed several times a call.
 */
const notSent = new NotSent("not sent")

/** How often a host that will not do is drawn before any other is taken instead, or the call fails. */
const maxDraws = 64

/** gRPC wants deadlines by the wall clock of the machine, whatever `Clock` the program runs under. */
const deadlineIn = (millis: number): number => Date.now() + millis

/** As errors and `endpoints` show it: what etcd3 was given, without the scheme. */
export const hostName = (target: string): string => target.replace(/^dns:\/*/, "")

/**
 * etcd3 closes its connections to a host, and may stop calling it for a while, after failures with most codes. This is
 * one after which it does neither.
 */
const hidden = (status: grpc.StatusObject): grpc.StatusObject => ({ ...status, code: grpc.status.FAILED_PRECONDITION })

/** The one status after which etcd3 asks for a new token. */
const staleToken = (metadata: grpc.Metadata): grpc.StatusObject => ({ ...Statuses.invalidAuthToken, metadata })

/** What etcd3 fails with before it has sent anything. */
const notBegun = (operation: string, key: string | undefined, cause: unknown): EtcdError => {
  const text = cause instanceof Error ? cause.message : String(cause)
  const [, code, details] = /^(\d+) [A-Z_]+: ([^]*)$/.exec(text) ?? []
  const isStatus = code !== undefined && details !== undefined
  return new EtcdError({
    // Only its request for a token ends with a status; the rest is a policy of the instance, or the instance is closed.
    operation: isStatus ? "authenticate" : operation,
    reason: isStatus ? classify(Number(code), details) : "Unavailable",
    code: isStatus ? Number(code) : grpc.status.UNAVAILABLE,
    ...(key === undefined ? {} : { key }),
    mayBeApplied: false,
    detail: isStatus ? details : text,
    cause
  })
}

const notBegunInTime = (operation: string, key: string | undefined, timeoutMillis: number): EtcdError =>
  new EtcdError({
    operation,
    reason: "DeadlineExceeded",
    code: grpc.status.DEADLINE_EXCEEDED,
    ...(key === undefined ? {} : { key }),
    mayBeApplied: false,
    detail: `etcd3 did not begin the call within ${timeoutMillis} ms: it waits for a token, or for one of its policies`
  })

const warning =
  "This Etcd3 instance repeats calls by itself, and may stop calling a host for seconds: construct it with " +
  "the `instanceOptions` of effect-coord/etcd3"

/** Has etcd3 begin the call, again and again while the host that it draws will not do. */
const draw = <A>(
  begin: () => Promise<A>,
  mayDraw: () => boolean,
  onSuccess: (value: A) => void,
  onFailure: (cause: unknown) => void
): void => {
  const once = async (): Promise<void> => {
    try {
      onSuccess(await begin())
    } catch (cause) {
      if (cause === notSent && mayDraw()) return once()
      onFailure(cause)
    }
  }
  void once()
}

/**
 * @param anyCall any unary call: it is begun to have etcd3 renew its token, and never sent
 */
export const make = (anyCall: Begin<unknown>): Calls => {
  const hosts = new Map<string, Host>()
  let failures = 0
  /** Counts beginnings and answers: only their order matters. */
  let moment = 0
  /** The token was not accepted for a stream, which etcd3 does not notice by itself. */
  let tokenIsStale = false
  let repeats: "no" | "seen" | "told" = "no"

  const hostOf = (target: string): Host => {
    const name = hostName(target)
    const known = hosts.get(name)
    if (known !== undefined) return known
    const host: Host = { name, lastFailure: 0, answeredAt: -Infinity }
    hosts.set(name, host)
    return host
  }

  const leave = (host: Host): void => {
    host.lastFailure = ++failures
  }

  /** Whether the last failure of no other host is longer ago. */
  const isBest = (host: Host): boolean => {
    for (const other of hosts.values()) if (other.lastFailure < host.lastFailure) return false
    return true
  }

  const failure = (
    host: Host,
    operation: string,
    { code, details }: Status,
    key: string | undefined,
    readOnly: boolean
  ): EtcdError => {
    const reason = classify(code, details)
    if (reason === "Unavailable" || reason === "DeadlineExceeded") leave(host)
    return new EtcdError({
      operation,
      reason,
      code,
      endpoint: host.name,
      ...(key === undefined ? {} : { key }),
      mayBeApplied: mayBeApplied(code, details, readOnly),
      // grpc-js ends some texts with a note that it has nothing to say about.
      detail: details.replace(/\.? Resolution note: $/, "")
    })
  }

  /**
   * Whether the failure speaks against the connection, so that etcd3 shall make a new one: not if it came over the
   * connection, and not if a call had too little time while others were answered.
   */
  const speaksAgainstConnection = (host: Host, reason: string, { details }: Status, begunAt: number): boolean =>
    (reason === "Unavailable" && !details.startsWith("etcdserver:")) ||
    (reason === "DeadlineExceeded" && host.answeredAt < begunAt)

  const intercept = (observer: Observer, withLeader: boolean): grpc.Interceptor => (options, nextCall) => {
    const call = nextCall(options)
    const host = hostOf(call.getPeer())
    if (!observer.admits(host)) {
      // It was never started; this ends its timer.
      call.cancelWithStatus(grpc.status.CANCELLED, "not sent")
      throw notSent
    }
    return new grpc.InterceptingCall(call, {
      start: (given, _, next) => {
        observer.onStart(host, (code, details) => {
          call.cancelWithStatus(code, details)
          // In the moment in which it is started, gRPC ends a call for us and sends it all the same.
          setImmediate(() => call.cancelWithStatus(code, details))
        })
        let metadata = given
        if (withLeader) {
          // A member cut off from its leader ends the stream instead of feeding it silence. The object is etcd3's own.
          metadata = given.clone()
          metadata.set("hasleader", "true")
        }
        next(metadata, {
          onReceiveMessage: (message: unknown, forward) => {
            // gRPC makes up an absent message for a unary call that fails.
            if (message !== null) host.answeredAt = ++moment
            forward(message)
          },
          onReceiveStatus: (status, forward) => forward(observer.onStatus(host, status))
        })
      }
    })
  }

  /** What is set here is not the instance's to say. */
  const callOptions = (interceptor: grpc.Interceptor, deadline: number): grpc.CallOptions => ({
    deadline,
    interceptors: [interceptor],
    interceptor_providers: []
  })

  const attempt = <Response>(call: UnaryCall<Response>, timeoutMillis: number): Effect.Effect<Response, EtcdError> =>
    Effect.suspend(() => {
      const { key, operation, readOnly } = call
      const begunAt = ++moment
      let phase: "ready" | "sent" | "failed" | "over" = "ready"
      let sentTo: Host | undefined
      let cancel: ((code: grpc.status, details: string) => void) | undefined
      let renewed = false
      let draws = 0

      const answer = Deferred.unsafeMake<Response, EtcdError>(FiberId.none)
      const end = (next: typeof phase, result: Effect.Effect<Response, EtcdError>): void => {
        phase = next
        Deferred.unsafeDone(answer, result)
      }

      // gRPC keeps the deadline of what was sent; this is for what is not.
      const lateBegin = Effect.zipRight(
        Effect.sleep(timeoutMillis),
        Effect.suspend(() =>
          phase === "ready" ? Effect.fail(notBegunInTime(operation, key, call.timeoutMillis)) : Effect.never
        )
      )

      const observer: Observer = {
        admits: (host) => {
          if (phase === "failed" && repeats === "no") repeats = "seen"
          if (phase !== "ready") return false
          draws++
          return call.host === undefined ? draws > maxDraws || isBest(host) : host.name === call.host
        },
        onStart: (host, cancelCall) => {
          phase = "sent"
          sentTo = host
          cancel = cancelCall
        },
        onStatus: (host, status) => {
          // Its end is known to the caller already.
          if (phase !== "sent") return hidden(status)
          if (status.code === grpc.status.OK) return status
          const reason = classify(status.code, status.details)
          if (reason === "Unauthenticated" && !renewed) {
            // A token may have expired, or been forgotten by a restarted member. The refusal was definite: with a new
            // token etcd3 may send the call once more.
            renewed = true
            phase = "ready"
            return staleToken(status.metadata)
          }
          end("failed", Effect.fail(failure(host, operation, status, key, readOnly)))
          return speaksAgainstConnection(host, reason, status, begunAt) ? status : hidden(status)
        }
      }
      const options = callOptions(intercept(observer, false), deadlineIn(timeoutMillis))

      draw(
        () => call.begin(options),
        () => phase === "ready" && draws <= maxDraws,
        (response) => {
          if (phase === "sent") end("over", Effect.succeed(response))
        },
        (cause) => {
          if (phase === "ready") {
            const missed = cause === notSent && call.host !== undefined
            const problem = missed ? `etcd3 did not draw ${call.host}, which may be none of its hosts` : cause
            end("failed", Effect.fail(notBegun(operation, key, problem)))
          } else if (phase === "sent" && sentTo !== undefined) {
            // A policy of the instance gave the call up.
            const details = cause instanceof Error ? cause.message : String(cause)
            const status: Status = { code: grpc.status.UNAVAILABLE, details }
            end("failed", Effect.fail(failure(sentTo, operation, status, key, readOnly)))
            cancel?.(grpc.status.CANCELLED, details)
          }
        }
      )

      return firstOf(Deferred.await(answer), lateBegin).pipe(
        Effect.ensuring(Effect.sync(() => {
          // Nobody waits for it any more.
          if (phase === "ready" || phase === "sent") cancel?.(grpc.status.CANCELLED, "interrupted")
          if (phase !== "failed") phase = "over"
        }))
      )
    })

  /** Where nothing was sent, the next host is asked at once, in the time that is left. */
  const failOver = <Response>(
    call: UnaryCall<Response>,
    left: () => number,
    others: number
  ): Effect.Effect<Response, EtcdError> => {
    const first = attempt(call, Math.max(0, left()))
    return others === 0 ? first : Effect.catchIf(
      first,
      // Without an endpoint it was etcd3 itself that failed.
      ({ endpoint, mayBeApplied, reason }) =>
        reason === "Unavailable" && !mayBeApplied && endpoint !== undefined && left() > 0,
      () => failOver(call, left, others - 1)
    )
  }

  const tellOfRepeats = Effect.suspend(() => {
    if (repeats !== "seen") return Effect.void
    repeats = "told"
    return Effect.logWarning(warning)
  })

  const unary: Calls["unary"] = (call) =>
    Effect.clockWith((clock) => {
      const others = call.host === undefined ? Math.max(0, hosts.size - 1) : 0
      const begun = clock.unsafeCurrentTimeNanos()
      const left = () => call.timeoutMillis - Number(clock.unsafeCurrentTimeNanos() - begun) / 1e6
      return failOver(call, left, others)
    }).pipe(Effect.tapError(() => tellOfRepeats))

  /** Tells etcd3 that a call was refused for its token, which has it ask for another one. Nothing else is sent. */
  const renewToken = (timeoutMillis: number): Effect.Effect<void, EtcdError> =>
    Effect.async<void, EtcdError>((resume) => {
      let told = false
      const interceptor: grpc.Interceptor = (options, nextCall) => {
        const call = nextCall(options)
        call.cancelWithStatus(grpc.status.CANCELLED, "not sent")
        // The second time it has its token.
        if (told) throw notSent
        told = true
        return new grpc.InterceptingCall(call, {
          start: (metadata, listener) => listener.onReceiveStatus(staleToken(metadata))
        })
      }
      const failed = (cause: unknown): void => {
        if (cause !== notSent) return resume(Effect.fail(notBegun("authenticate", undefined, cause)))
        tokenIsStale = false
        resume(Effect.void)
      }
      const options = callOptions(interceptor, deadlineIn(timeoutMillis))
      draw(() => anyCall(options), () => false, () => failed(notSent), failed)
    }).pipe(
      Effect.interruptible,
      Effect.timeoutFail({
        duration: timeoutMillis,
        onTimeout: () => notBegunInTime("authenticate", undefined, timeoutMillis)
      })
    )

  const duplex = <Request, Response>(
    call: StreamCall<Request, Response>,
    handlers: StreamHandlers<Response>
  ): Effect.Effect<DuplexStream<Request>, EtcdError, Scope.Scope> =>
    Effect.gen(function*() {
      if (tokenIsStale) yield* renewToken(call.timeoutMillis)
      const begunAt = ++moment
      let phase: "ready" | "sent" | "open" | "over" = "ready"
      let ended: EtcdError | undefined
      let cancel: ((code: grpc.status, details: string) => void) | undefined
      let silent = false
      let draws = 0
      let openedAt: Host | undefined

      // Before the stream is there: whatever happens, it does not stay open.
      yield* Effect.addFinalizer(() =>
        Effect.suspend(() => {
          phase = "over"
          if (ended !== undefined || cancel === undefined) return Effect.void
          cancel(silent ? grpc.status.UNAVAILABLE : grpc.status.CANCELLED, "closed")
          if (!silent) return Effect.void
          // By this status etcd3 makes a new connection, in a moment: the next stream shall be on that.
          return Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))
        })
      )

      const observer: Observer = {
        admits: (host) => phase === "ready" && (++draws > maxDraws || isBest(host)),
        onStart: (host, cancelCall) => {
          phase = "sent"
          openedAt = host
          cancel = cancelCall
        },
        onStatus: (host, status) => {
          if (phase === "over") return silent ? status : { ...status, code: grpc.status.OK }
          const wasOpen = phase === "open"
          const isEnd = status.code === grpc.status.OK
          const told: Status = isEnd
            ? { code: grpc.status.UNAVAILABLE, details: "the server ended the stream" }
            : status
          phase = "over"
          ended = failure(host, call.operation, told, undefined, true)
          if (ended.reason === "Unauthenticated") tokenIsStale = true
          if (wasOpen) handlers.onEnd(ended)
          return isEnd || speaksAgainstConnection(host, ended.reason, status, begunAt) ? status : hidden(status)
        }
      }
      const options = callOptions(intercept(observer, true), Infinity)

      const stream = yield* Effect.async<IDuplexStream<Request, Response>, EtcdError>((resume) => {
        draw(
          () => call.begin(options),
          () => phase === "ready",
          (opened) => {
            if (ended !== undefined) return resume(Effect.fail(ended))
            if (phase !== "sent") return
            phase = "open"
            opened.on("data", (response) => {
              if (phase === "open") handlers.onMessage(response)
            })
            resume(Effect.succeed(opened))
          },
          (cause) => {
            phase = "over"
            resume(Effect.fail(notBegun(call.operation, undefined, cause)))
          }
        )
        return Effect.sync(() => {
          phase = "over"
          cancel?.(grpc.status.CANCELLED, "interrupted")
        })
      }).pipe(
        Effect.interruptible,
        Effect.timeoutFail({
          duration: call.timeoutMillis,
          onTimeout: () => notBegunInTime(call.operation, undefined, call.timeoutMillis)
        })
      )

      return {
        endpoint: openedAt?.name ?? "etcd3",
        send: (request) => {
          if (phase === "open") stream.write(request)
        },
        suspect: (why) => {
          if (why === "unauthenticated") {
            tokenIsStale = true
            return
          }
          silent = true
          if (openedAt !== undefined) leave(openedAt)
        }
      }
    })

  return { unary, duplex }
}
