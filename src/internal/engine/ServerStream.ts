/**
 * One stream between a client and the engine. Messages travel in turns, each way in order; a stall holds them back, an
 * end loses what is on its way.
 */
import type { EtcdError } from "../../EtcdError.js"
import type { Status } from "../etcdErrors.js"
import type { StreamHandlers } from "../transport.js"
import type { Link } from "./Link.js"
import type { Turns } from "./Turns.js"

export interface ServerStreamOptions<Request, Response> {
  readonly turns: Turns
  readonly link: Link
  readonly handlers: StreamHandlers<Response>
  /** The server's side of the stream. */
  readonly receive: (request: Request) => void
  /** The server forgets the stream. Called once. */
  readonly onClose: () => void
  readonly toError: (status: Status) => EtcdError
}

export class ServerStream<Request, Response> {
  readonly #options: ServerStreamOptions<Request, Response>
  readonly #requests: Array<Request> = []
  readonly #responses: Array<Response> = []
  #open = true
  #closedByClient = false

  constructor(options: ServerStreamOptions<Request, Response>) {
    this.#options = options
  }

  /** The client sends. */
  send(request: Request): void {
    if (this.#open) {
      this.#requests.push(request)
      this.#options.turns.post(() => this.#passRequest())
    }
  }

  /** The server sends. */
  emit(response: Response): void {
    if (this.#open) {
      this.#responses.push(response)
      this.#options.turns.post(() => this.#passResponse())
    }
  }

  /** The stream breaks, or the server ends it. */
  end(status: Status): void {
    if (this.#shut()) {
      this.#options.turns.post(() => {
        if (!this.#closedByClient) {
          this.#options.handlers.onEnd(this.#options.toError(status))
        }
      })
    }
  }

  /** The client has no more use for it. */
  close(): void {
    this.#closedByClient = true
    this.#shut()
  }

  /** One turn for each message that waits: others may have been posted since, and order counts. */
  resume(): void {
    this.#requests.forEach(() => this.#options.turns.post(() => this.#passRequest()))
    this.#responses.forEach(() => this.#options.turns.post(() => this.#passResponse()))
  }

  #shut(): boolean {
    if (!this.#open) {
      return false
    }
    this.#open = false
    this.#requests.length = 0
    this.#responses.length = 0
    this.#options.onClose()
    return true
  }

  #passRequest(): void {
    const request = this.#options.link.holdsStreamRequests ? undefined : this.#requests.shift()
    if (request !== undefined) {
      this.#options.receive(request)
    }
  }

  #passResponse(): void {
    const response = this.#options.link.holdsStreamResponses ? undefined : this.#responses.shift()
    if (response !== undefined) {
      this.#options.handlers.onMessage(response)
    }
  }
}
