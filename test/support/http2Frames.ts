/**
 * Finds the frames of HTTP/2 in the bytes of one direction of a connection, and the streams on which a unary call is
 * answered. Only the 9 bytes before each frame are read; bytes that are not HTTP/2 are let be.
 */
import type { Way } from "./proxyPipe.js"

/** The types of frames that tests ask about; others have their number. */
export const frameTypes = { data: 0, headers: 1, resetStream: 3, settings: 4, ping: 6, goAway: 7, windowUpdate: 8 }

/** One frame of a connection. */
export interface Frame {
  /** The connection's number, from 1 in the order in which they were accepted. */
  readonly connection: number
  readonly way: Way
  readonly type: number
  readonly flags: number
  /** The HTTP/2 stream; 0 for the connection itself. */
  readonly stream: number
  /** Where the frame begins and where the next one does, among the connection's bytes of this direction. */
  readonly start: number
  readonly end: number
}

/** What is done instead of forwarding more; `undefined` to go on. */
type Stop = (() => void) | undefined

/** Hears of every frame on its way. */
export interface FrameObserver {
  /** Its header has come: what this returns is done before any of it is forwarded. */
  readonly before: (frame: Frame) => Stop
  /** Its last byte has come: what this returns is done once that is forwarded. */
  readonly after: (frame: Frame) => Stop
}

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1")
const headerLength = 9
const endStream = 1

/** Reads the bytes of one direction as they are forwarded. */
export class FrameReader {
  private readonly connection: number
  private readonly way: Way
  private readonly observer: FrameObserver
  /** How many bytes were read. */
  private offset = 0
  private readonly header = Buffer.alloc(headerLength)
  private headerRead = 0
  private frame: Frame | undefined
  private readonly start: number
  private isHttp2 = true

  constructor(connection: number, way: Way, observer: FrameObserver) {
    this.connection = connection
    this.way = way
    this.observer = observer
    this.start = way === "up" ? preface.length : 0
  }

  /** How many of the bytes may be forwarded, and what is done then. */
  read(bytes: Buffer): { readonly size: number; readonly stop: Stop } {
    let at = 0
    while (this.isHttp2 && at < bytes.length) {
      if (this.offset < this.start) {
        this.isHttp2 = bytes[at++] === preface[this.offset++]
      } else if (this.frame === undefined) {
        const part = Math.min(headerLength - this.headerRead, bytes.length - at)
        bytes.copy(this.header, this.headerRead, at, at + part)
        this.headerRead += part
        this.offset += part
        at += part
        if (this.headerRead < headerLength) break
        this.headerRead = 0
        const stop = this.begin()
        if (stop !== undefined) return { size: Math.max(0, at - headerLength), stop }
        const ended = this.endIfWhole()
        if (ended !== undefined) return { size: at, stop: ended }
      } else {
        const part = Math.min(this.frame.end - this.offset, bytes.length - at)
        this.offset += part
        at += part
        const ended = this.endIfWhole()
        if (ended !== undefined) return { size: at, stop: ended }
      }
    }
    return { size: bytes.length, stop: undefined }
  }

  private begin(): Stop {
    const type = this.header[3]
    const start = this.offset - headerLength
    // Either side begins with its settings.
    this.isHttp2 = start > this.start || type === frameTypes.settings
    if (!this.isHttp2) return undefined
    this.frame = {
      connection: this.connection,
      way: this.way,
      type,
      flags: this.header[4],
      stream: this.header.readUInt32BE(5) & 0x7fffffff,
      start,
      end: this.offset + this.header.readUIntBE(0, 3)
    }
    return this.observer.before(this.frame)
  }

  private endIfWhole(): Stop {
    const { frame } = this
    if (frame === undefined || this.offset < frame.end) return undefined
    this.frame = undefined
    return this.observer.after(frame)
  }
}

/**
 * Tells the first answer to a unary call from everything else: the client of a unary call ends its half of the stream
 * with the request, before any answer; one that watches or keeps leases alive leaves its half open.
 */
export class UnaryCalls {
  /** Streams whose client has ended its half, without an answer yet. */
  private readonly asked = new Set<number>()
  /** Streams that are answered and go on. */
  private readonly answered = new Set<number>()

  /** Takes note of a frame. Says whether it begins the answer to a unary call. */
  notice({ flags, stream, type, way }: Frame): boolean {
    if (type === frameTypes.resetStream) {
      this.asked.delete(stream)
      this.answered.delete(stream)
      return false
    }
    if (type !== frameTypes.headers && type !== frameTypes.data) return false
    const ends = (flags & endStream) !== 0
    if (way === "up") {
      if (ends && !this.answered.has(stream)) this.asked.add(stream)
      return false
    }
    const begins = type === frameTypes.headers && this.asked.delete(stream)
    if (ends) this.answered.delete(stream)
    else this.answered.add(stream)
    return begins
  }
}
