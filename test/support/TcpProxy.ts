/**
 * A TCP proxy for tests that hurt connections: it cuts, refuses, stalls, swallows and slows what passes through it.
 */
import { Data, Deferred, Effect, FiberId } from "effect"
import type { Scope } from "effect"
import * as Net from "node:net"
import type { Frame } from "./http2Frames.js"
import { FrameReader, UnaryCalls } from "./http2Frames.js"
import { freePort } from "./ports.js"
import type { Way, WayState } from "./proxyPipe.js"
import { initialState, Pipe } from "./proxyPipe.js"

/** The proxy could not listen. */
export class TcpProxyError extends Data.TaggedError("TcpProxyError")<{
  readonly message: string
  readonly cause: unknown
}> {}

/** `up` is from client to server, `down` from server to client. */
export type Direction = Way | "both"

/** A proxy and what tests can do with it. Every change concerns open connections and later ones alike. */
export interface TcpProxy {
  /** Where clients connect: `127.0.0.1:port`. */
  readonly endpoint: string
  readonly port: number
  /** How many connections were accepted in all. */
  readonly accepted: Effect.Effect<number>
  /** How many connections are open. */
  readonly open: Effect.Effect<number>
  /** How many bytes were forwarded in all. */
  readonly bytes: Effect.Effect<{ readonly up: number; readonly down: number }>
  /** Cuts all connections; new ones are accepted. With `reset`, the peers see a reset instead of an end. */
  readonly cut: (options?: { readonly reset?: boolean | undefined }) => Effect.Effect<void>
  /** Refuses new connections; open ones go on. */
  readonly refuse: Effect.Effect<void>
  /** Accepts connections again. */
  readonly accept: Effect.Effect<void, TcpProxyError>
  /** Holds back everything, ends of connections too, and keeps it until {@link TcpProxy.resume}. */
  readonly stall: (direction?: Direction) => Effect.Effect<void>
  /** Swallows everything; new connections are accepted and lead nowhere. */
  readonly blackHole: Effect.Effect<void>
  /** Delays everything by `latency` milliseconds, and limits its rate. */
  readonly slow: (options: {
    readonly latency?: number | undefined
    readonly bytesPerSecond?: number | undefined
    readonly direction?: Direction | undefined
  }) => Effect.Effect<void>
  /** Lets so many more bytes pass, and then cuts all connections, once. */
  readonly cutAfterBytes: (count: number, direction: Way) => Effect.Effect<void>
  /** Lets so many more frames of HTTP/2 pass, and then cuts all connections, once. */
  readonly cutAfterFrame: (count: number, direction: Way) => Effect.Effect<void>
  /** Notes the frames of HTTP/2 that are forwarded from now on; those of one direction in their order. */
  readonly recordFrames: Effect.Effect<{ readonly frames: Effect.Effect<ReadonlyArray<Frame>> }>
  /**
   * Loses the next answer to a unary call, after letting `after` others pass: the server has carried the call out, and
   * instead of its answer the client gets the end of the connection. `lost` succeeds when that has happened. Several of
   * these wait for one another.
   */
  readonly loseResponse: (
    options?: { readonly after?: number | undefined }
  ) => Effect.Effect<{ readonly lost: Effect.Effect<void> }>
  /** Ends stall, black hole, slowness, pending cuts and losses. Bytes that were swallowed are lost. */
  readonly resume: Effect.Effect<void>
  /** Sends new connections to another server. */
  readonly retarget: (endpoint: string) => Effect.Effect<void>
}

/** An answer that is to be lost. */
interface Loss {
  after: number
  readonly lost: Deferred.Deferred<void>
}

interface Connection {
  readonly client: Net.Socket
  readonly server: Net.Socket
  readonly pipes: ReadonlyArray<Pipe>
}

const parse = (endpoint: string): { readonly host: string; readonly port: number } => {
  const [, host, port] = /^(?:https?:\/\/)?\[?(.+?)\]?:(\d+)$/.exec(endpoint) ?? []
  if (port === undefined) {
    throw new TypeError(`"${endpoint}" is not host:port`)
  }
  return { host, port: Number(port) }
}

class Proxy {
  readonly states: Record<Way, WayState> = { up: initialState(), down: initialState() }
  readonly connections = new Set<Connection>()
  readonly recordings = new Set<Array<Frame>>()
  losses: Array<Loss> = []
  accepted = 0
  target: { readonly host: string; readonly port: number }
  private listener: Net.Server | undefined
  private readonly port: number

  constructor(port: number, target: string) {
    this.port = port
    this.target = parse(target)
  }

  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.listener !== undefined) {
        return resolve()
      }
      const listener = Net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.connect(socket))
      listener.once("error", reject)
      listener.listen(this.port, "127.0.0.1", () => {
        this.listener = listener
        resolve()
      })
    })
  }

  close(): void {
    this.listener?.close()
    this.listener = undefined
  }

  private connect(client: Net.Socket): void {
    this.accepted++
    const server = new Net.Socket({ allowHalfOpen: true }).setNoDelay(true)
    const cutAll = () => this.cut(false)
    const calls = new UnaryCalls()
    const frames = (way: Way) =>
      new FrameReader(this.accepted, way, {
        before: (frame) => {
          if (this.states[way].frameBudget <= 0) return cutAll
          const loss = calls.notice(frame) ? this.takeLoss() : undefined
          return loss === undefined ? undefined : () => {
            this.cutOne(connection)
            Deferred.unsafeDone(loss.lost, Effect.void)
          }
        },
        after: (frame) => {
          for (const recording of this.recordings) {
            recording.push(frame)
          }
          return --this.states[way].frameBudget <= 0 ? cutAll : undefined
        }
      })
    const connection: Connection = {
      client,
      server,
      pipes: [
        new Pipe(client, server, this.states.up, frames("up"), cutAll),
        new Pipe(server, client, this.states.down, frames("down"), cutAll)
      ]
    }
    this.connections.add(connection)
    const closed = () => {
      if (client.destroyed && server.destroyed) {
        this.connections.delete(connection)
      }
    }
    client.on("close", closed)
    server.on("close", closed)
    if (!this.states.up.swallow) {
      server.connect(this.target)
    }
  }

  /** Called for the answer to a unary call: the loss that it falls to, if it does. */
  private takeLoss(): Loss | undefined {
    const next = this.losses.at(0)
    return next === undefined || next.after-- > 0 ? undefined : this.losses.shift()
  }

  private cutOne(connection: Connection): void {
    connection.client.destroy()
    connection.server.destroy()
    this.connections.delete(connection)
  }

  cut(reset: boolean): void {
    for (const { client, server } of this.connections) {
      for (const socket of [client, server]) {
        if (reset) {
          socket.resetAndDestroy()
        } else {
          socket.destroy()
        }
      }
    }
    this.connections.clear()
    for (const state of [this.states.up, this.states.down]) {
      state.budget = Infinity
      state.frameBudget = Infinity
    }
  }

  change(direction: Direction, changes: Partial<WayState>): void {
    for (const way of direction === "both" ? ["up", "down"] as const : [direction]) {
      Object.assign(this.states[way], changes)
    }
    for (const { pipes } of this.connections) {
      for (const pipe of pipes) {
        pipe.pump()
      }
    }
  }
}

/** Starts a proxy before the server at `target` (`host:port`); the end of the scope closes it and all connections. */
export const make = (target: string): Effect.Effect<TcpProxy, TcpProxyError, Scope.Scope> =>
  Effect.gen(function*() {
    const port = yield* Effect.promise(freePort)
    const proxy = new Proxy(port, target)
    const accept = Effect.tryPromise({
      try: () => proxy.listen(),
      catch: (cause) => new TcpProxyError({ message: `the proxy cannot listen on port ${port}`, cause })
    })
    yield* Effect.acquireRelease(accept, () =>
      Effect.sync(() => {
        proxy.close()
        proxy.cut(false)
      }))
    return {
      endpoint: `127.0.0.1:${port}`,
      port,
      accepted: Effect.sync(() => proxy.accepted),
      open: Effect.sync(() => proxy.connections.size),
      bytes: Effect.sync(() => ({ up: proxy.states.up.bytes, down: proxy.states.down.bytes })),
      cut: (options) => Effect.sync(() => proxy.cut(options?.reset === true)),
      refuse: Effect.sync(() => proxy.close()),
      accept,
      stall: (direction = "both") => Effect.sync(() => proxy.change(direction, { stalled: true })),
      blackHole: Effect.sync(() => proxy.change("both", { swallow: true })),
      slow: ({ bytesPerSecond = Infinity, direction = "both", latency = 0 }) =>
        Effect.sync(() => proxy.change(direction, { latency, bytesPerSecond })),
      cutAfterBytes: (count, direction) => Effect.sync(() => proxy.change(direction, { budget: count })),
      cutAfterFrame: (count, direction) => Effect.sync(() => proxy.change(direction, { frameBudget: count })),
      recordFrames: Effect.sync(() => {
        const frames: Array<Frame> = []
        proxy.recordings.add(frames)
        return { frames: Effect.sync(() => frames.slice()) }
      }),
      loseResponse: ({ after = 0 } = {}) =>
        Effect.sync(() => {
          const lost = Deferred.unsafeMake<void>(FiberId.none)
          proxy.losses.push({ after, lost })
          return { lost: Deferred.await(lost) }
        }),
      resume: Effect.sync(() => {
        proxy.losses = []
        proxy.change("both", {
          stalled: false,
          swallow: false,
          latency: 0,
          bytesPerSecond: Infinity,
          budget: Infinity,
          frameBudget: Infinity
        })
      }),
      retarget: (endpoint) => Effect.sync(() => void (proxy.target = parse(endpoint)))
    }
  })
