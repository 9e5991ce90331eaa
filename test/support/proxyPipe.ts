/**
 * One direction of one connection through the proxy: a queue between two sockets that a shared state holds up.
 */
import type { Socket } from "node:net"
import type { FrameReader } from "./http2Frames.js"

/** The direction of bytes: `up` from client to server, `down` from server to client. */
export type Way = "up" | "down"

/** What happens to the bytes of one direction, for all connections. */
export interface WayState {
  stalled: boolean
  swallow: boolean
  /** Milliseconds by which everything comes later. */
  latency: number
  bytesPerSecond: number
  /** How many more bytes may pass before all connections are cut. */
  budget: number
  /** How many more frames of HTTP/2 may pass before all connections are cut. */
  frameBudget: number
  /** How many bytes have passed. */
  bytes: number
}

export const initialState = (): WayState => ({
  stalled: false,
  swallow: false,
  latency: 0,
  bytesPerSecond: Infinity,
  budget: Infinity,
  frameBudget: Infinity,
  bytes: 0
})

/** The source's bytes, its regular end, or its loss. */
type Item = { readonly due: number; readonly content: Buffer | "end" | "close" }

/** Bytes that may wait in a queue before the source is no longer read. */
const maxQueued = 1024 * 1024

/** Longest time, in milliseconds, that one slowed write stands for. */
const slice = 50

/** Forwards what `source` sends to `sink`. */
export class Pipe {
  private queue: Array<Item> = []
  private queued = 0
  private timer: NodeJS.Timeout | undefined
  private blocked = false
  /** Nothing more passes: a cut is due. */
  private stopped = false
  private readonly source: Socket
  private readonly sink: Socket
  private readonly state: WayState
  private readonly frames: FrameReader
  private readonly exhausted: () => void

  constructor(source: Socket, sink: Socket, state: WayState, frames: FrameReader, exhausted: () => void) {
    this.source = source
    this.sink = sink
    this.state = state
    this.frames = frames
    this.exhausted = exhausted
    source.on("data", (chunk: Buffer) => this.push(chunk))
    source.on("end", () => this.push("end"))
    source.on("error", () => this.push("close"))
    source.on("close", () => this.push("close"))
    sink.on("drain", () => {
      this.blocked = false
      this.pump()
    })
    sink.on("close", () => {
      clearTimeout(this.timer)
      this.queue = []
    })
  }

  private push(content: Item["content"]): void {
    this.queue.push({ due: Date.now() + this.state.latency, content })
    this.queued += content.length
    if (this.queued > maxQueued) {
      this.source.pause()
    }
    this.pump()
  }

  /** Forwards what may be forwarded now; called again whenever the state changes. */
  pump(): void {
    clearTimeout(this.timer)
    this.timer = undefined
    while (!this.stopped && !this.state.stalled && !this.blocked && this.queue.length > 0 && !this.sink.destroyed) {
      const { content, due } = this.queue[0]
      const wait = due - Date.now()
      if (wait > 0) {
        this.timer = setTimeout(() => this.pump(), wait)
        return
      }
      this.queue.shift()
      if (typeof content === "string") {
        this.finish(content)
      } else if (!this.write(content, due)) {
        return
      }
    }
    if (this.queued <= maxQueued && this.source.isPaused()) {
      this.source.resume()
    }
  }

  private finish(how: "end" | "close"): void {
    this.queued -= how.length
    if (this.state.swallow) {
      return
    }
    if (how === "end") {
      this.sink.end()
    } else {
      this.sink.destroy()
    }
  }

  /** Writes a chunk or its first part; `false` when the rest has to wait. */
  private write(chunk: Buffer, due: number): boolean {
    if (this.state.swallow) {
      this.queued -= chunk.length
      return true
    }
    const rate = this.state.bytesPerSecond
    const allowed = Math.min(chunk.length, this.state.budget, Math.max(1, Math.floor(rate * slice / 1000)))
    const { size, stop } = this.frames.read(chunk.subarray(0, allowed))
    if (size < chunk.length) {
      this.queue.unshift({ due, content: chunk.subarray(size) })
    }
    this.queued -= size
    this.state.bytes += size
    this.state.budget -= size
    const cut = stop ?? (this.state.budget <= 0 ? this.exhausted : undefined)
    if (cut !== undefined) {
      this.stopped = true
      // Not before the bytes are on their way: a cut throws away what is still in this process.
      if (size > 0) {
        this.sink.write(chunk.subarray(0, size), cut)
      } else {
        cut()
      }
      return false
    }
    this.blocked = !this.sink.write(chunk.subarray(0, size))
    if (rate < Infinity) {
      this.timer = setTimeout(() => this.pump(), size / rate * 1000)
      return false
    }
    return true
  }
}
