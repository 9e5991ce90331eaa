/**
 * A client's connection to the engine: the `Transport` that everything above stands on.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { toText } from "../bytes.js"
import type { Status } from "../etcdErrors.js"
import type {
  CallOptions,
  DuplexStream,
  KeepAliveResponse,
  StreamHandlers,
  Transport,
  WatchRequest,
  WatchResponse
} from "../transport.js"
import { firstKey, isReadOnly } from "../txnShape.js"
import { Calls } from "./Calls.js"
import { cancelReason, closed, dropped, endpoint, gone, notConnected, toError } from "./errors.js"
import type { Endpoint, Link } from "./Link.js"
import type { Member } from "./Member.js"
import type { Operation, Request } from "./model.js"
import { txnKeys } from "./requestKeys.js"
import { ServerStream } from "./ServerStream.js"
import type { Turns } from "./Turns.js"
import { WatchServer } from "./WatchServer.js"

/** What a connection needs of the engine. */
export interface Server {
  readonly turns: Turns
  readonly member: Member
  readonly watchServers: Set<WatchServer>
  readonly fragmentEvents: number | undefined
}

export class Connection implements Endpoint {
  readonly #server: Server
  readonly #link: Link
  readonly #calls: Calls
  readonly #watches = new Map<ServerStream<WatchRequest, WatchResponse>, WatchServer>()
  readonly #leases = new Set<ServerStream<bigint, KeepAliveResponse>>()
  /** What calls and streams are told, once it is closed. */
  #closed: Status | undefined

  constructor(server: Server, link: Link) {
    this.#server = server
    this.#link = link
    this.#calls = new Calls(server.turns, link)
  }

  readonly callsInFlight = () => this.#calls.size

  readonly watchStreams = () => this.#watches.size

  readonly leaseStreams = () => this.#leases.size

  readonly watchers = () => [...this.#watches.values()].reduce((total, server) => total + server.size, 0)

  readonly cut = (calls: Status, streams: Status) => {
    this.#calls.cut(calls)
    this.#streams().forEach((stream) => stream.end(streams))
  }

  readonly resume = () => {
    this.#calls.resume()
    this.#streams().forEach((stream) => stream.resume())
  }

  /** The client is done: its calls fail, its streams end in silence. */
  readonly close = () => {
    this.#closed ??= closed
    this.#calls.cut(dropped)
    this.#streams().forEach((stream) => stream.close())
  }

  /** The engine is gone: nobody may wait for it. */
  readonly abandon = () => {
    this.#closed ??= gone
    this.cut(dropped, gone)
  }

  readonly transport: Transport = {
    endpoints: [endpoint],
    identified: false,
    range: (request, options) =>
      this.#call("range", options, () => this.#server.member.range(request), {
        isRead: true,
        keys: [toText(request.key)]
      }),
    put: (request, options) =>
      this.#call("put", options, () => this.#server.member.put(request), { keys: [toText(request.key)] }),
    del: (request, options) =>
      this.#call("delete", options, () => this.#server.member.del(request), { keys: [toText(request.key)] }),
    txn: (request, options) =>
      this.#call("txn", options, () => this.#server.member.txn(request), {
        isRead: isReadOnly(request),
        key: firstKey(request),
        keys: txnKeys(request)
      }),
    leaseGrant: (request, options) =>
      this.#call("leaseGrant", options, () => this.#server.member.leaseGrant(request), { lease: request.id }),
    leaseRevoke: (id, options) =>
      this.#call("leaseRevoke", options, () => this.#server.member.leaseRevoke(id), { lease: id }),
    leaseTimeToLive: (request, options) =>
      this.#call("leaseTimeToLive", options, () => this.#server.member.leaseTimeToLive(request), {
        isRead: true,
        lease: request.id
      }),
    compact: (revision, _physical, options) =>
      this.#call("compact", options, () => this.#server.member.compact(revision), {}),
    status: (_endpoint, options) => this.#call("status", options, () => this.#server.member.status(), { isRead: true }),
    openWatch: (handlers) => this.#openWatch(handlers),
    openLease: (handlers) => this.#openLease(handlers)
  }

  #streams() {
    return [...this.#watches.keys(), ...this.#leases]
  }

  #call<A>(
    operation: Operation,
    options: CallOptions,
    apply: () => A,
    about: {
      readonly isRead?: boolean
      /** The key that stands for the request in errors. Default: the first of `keys`. */
      readonly key?: string | undefined
      readonly keys?: ReadonlyArray<string>
      readonly lease?: bigint
    }
  ) {
    const request: Request = { operation, keys: about.keys ?? [], lease: about.lease }
    const key = "key" in about ? about.key : request.keys[0]
    return Effect.suspend(() =>
      this.#closed !== undefined
        ? Effect.fail(toError(operation, this.#closed, about.isRead ?? false, key))
        : this.#calls.run({
          request,
          key,
          isRead: about.isRead ?? false,
          timeoutMillis: options.timeoutMillis,
          apply: () => {
            // a lease that is over must not be seen, however late the clock's fibre runs
            this.#server.member.expireLeases()
            return apply()
          }
        })
    )
  }

  #openWatch(handlers: StreamHandlers<WatchResponse>) {
    const { fragmentEvents, member, turns, watchServers } = this.#server
    return this.#open((): ServerStream<WatchRequest, WatchResponse> => {
      const server = new WatchServer(member, {
        emit: (response) => stream.emit(response),
        later: turns.post,
        fragmentEvents
      })
      const stream = new ServerStream<WatchRequest, WatchResponse>({
        turns,
        link: this.#link,
        handlers,
        receive: (request) => this.#receiveWatch(server, request),
        onClose: () => {
          this.#watches.delete(stream)
          watchServers.delete(server)
        },
        toError: (status) => toError("watch", status, true)
      })
      this.#watches.set(stream, server)
      watchServers.add(server)
      return stream
    })
  }

  #receiveWatch(server: WatchServer, request: WatchRequest): void {
    this.#server.member.expireLeases()
    if (request._tag !== "Create") {
      return server.handle(request)
    }
    this.#link.count("watch")
    const fault = this.#link.takeFault(
      { operation: "watch", keys: [toText(request.key)], lease: undefined },
      ({ _tag }) => _tag !== "LoseResponse"
    )
    if (fault?._tag === "Refuse") {
      return server.refuse(cancelReason(fault.status))
    }
    if (fault === undefined) {
      server.handle(request)
    }
  }

  #openLease(handlers: StreamHandlers<KeepAliveResponse>) {
    const { member, turns } = this.#server
    return this.#open((): ServerStream<bigint, KeepAliveResponse> => {
      const stream = new ServerStream<bigint, KeepAliveResponse>({
        turns,
        link: this.#link,
        handlers,
        receive: (id) => {
          this.#link.count("leaseKeepAlive")
          const fault = this.#link.takeFault({ operation: "leaseKeepAlive", keys: [], lease: id })
          if (fault?._tag === "Refuse") {
            return stream.end(fault.status)
          }
          if (fault?._tag === "LoseRequest") {
            return
          }
          member.expireLeases()
          const response = member.keepAlive(id)
          if (fault === undefined) {
            stream.emit(response)
          }
        },
        onClose: () => {
          this.#leases.delete(stream)
        },
        toError: (status) => toError("leaseKeepAlive", status, true)
      })
      this.#leases.add(stream)
      return stream
    })
  }

  #open<Request, Response>(
    make: () => ServerStream<Request, Response>
  ): Effect.Effect<DuplexStream<Request>, never, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.sync(() => {
        const stream = make()
        if (this.#closed !== undefined || this.#link.isDown) {
          stream.end(this.#closed ?? notConnected)
        }
        return stream
      }),
      (stream) => Effect.sync(() => stream.close())
    ).pipe(
      Effect.map((stream) => ({
        endpoint,
        send: (request) => stream.send(request),
        // there is no other endpoint to try
        suspect: () => {}
      }))
    )
  }
}
