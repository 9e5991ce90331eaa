/** A response whose body is accounted for while it is read. */
import type { ResponseError } from "@effect/platform/HttpClientError"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as HttpIncomingMessage from "@effect/platform/HttpIncomingMessage"
import * as Effect from "effect/Effect"
import * as Inspectable from "effect/Inspectable"
import * as Stream from "effect/Stream"

/** What is done around each reading of the body. */
export interface Reading {
  readonly begin: Effect.Effect<void>
  readonly end: Effect.Effect<void>
  readonly failed: (error: ResponseError) => Effect.Effect<void>
}

class AccountedResponse extends Inspectable.Class implements HttpClientResponse.HttpClientResponse {
  readonly [HttpClientResponse.TypeId]: HttpClientResponse.TypeId = HttpClientResponse.TypeId
  readonly [HttpIncomingMessage.TypeId]: HttpIncomingMessage.TypeId = HttpIncomingMessage.TypeId
  readonly #original: HttpClientResponse.HttpClientResponse
  readonly #reading: Reading

  constructor(original: HttpClientResponse.HttpClientResponse, reading: Reading) {
    super()
    this.#original = original
    this.#reading = reading
  }

  #read<A>(effect: Effect.Effect<A, ResponseError>): Effect.Effect<A, ResponseError> {
    const { begin, end, failed } = this.#reading
    return Effect.acquireUseRelease(begin, () => Effect.tapError(effect, failed), () => end)
  }

  get request() {
    return this.#original.request
  }

  get status() {
    return this.#original.status
  }

  get headers() {
    return this.#original.headers
  }

  get cookies() {
    return this.#original.cookies
  }

  get remoteAddress() {
    return this.#original.remoteAddress
  }

  get formData() {
    return this.#read(this.#original.formData)
  }

  get text() {
    return this.#read(this.#original.text)
  }

  get json() {
    return this.#read(this.#original.json)
  }

  get urlParamsBody() {
    return this.#read(this.#original.urlParamsBody)
  }

  get arrayBuffer() {
    return this.#read(this.#original.arrayBuffer)
  }

  get stream() {
    const { begin, end, failed } = this.#reading
    return Stream.acquireRelease(begin, () => end).pipe(
      Stream.flatMap(() => Stream.tapError(this.#original.stream, failed))
    )
  }

  toJSON(): unknown {
    return this.#original.toJSON()
  }

  override toString(): string {
    return this.#original.toString()
  }

  override [Inspectable.NodeInspectSymbol](): unknown {
    return this.#original[Inspectable.NodeInspectSymbol]()
  }
}

export const accounted = (
  response: HttpClientResponse.HttpClientResponse,
  reading: Reading
): HttpClientResponse.HttpClientResponse => new AccountedResponse(response, reading)
